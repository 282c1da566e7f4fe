"""Snow against a slow painter of lines and SciPy's correlation."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf

from advss_tf.attacks.unforeseen.snow import FlakeBall, SnowAttack, flake_kernels, line, snowfall
from advss_tf.randomness import seed_for

RANDOM = np.random.default_rng(8)


def painted(down, along, width, reach):
    """Pixel by pixel: the longer way is walked, each pixel is as bright as it is near to the line."""
    canvas = np.zeros((reach + 1, reach + 1))
    longer, shorter = max(down, along), min(down, along)
    slope = shorter / longer
    width = width * np.sqrt(1 + slope) / 2
    for major in range(longer + 1):
        for minor in range(reach + 1):
            centre = slope * major
            value = np.clip(min(minor + 1 + width / 2 - centre, -minor + 1 + width / 2 + centre), 0, 1)
            canvas[(minor, major) if along >= down else (major, minor)] = value
    return canvas


@pytest.mark.parametrize("width", [1, 3, 5])
def test_every_line_is_the_painter_s(width):
    for down in range(2, 7):
        for along in range(2, 7):
            found = line(*map(tf.constant, (float(down), float(along), float(width))), reach=6)
            np.testing.assert_allclose(found, painted(down, along, width, 6), atol=1e-6)


def test_kernels_go_both_ways_are_blurred_and_mirrored():
    chances = RANDOM.random((6, 29)).astype(np.float32)
    chances[:, -1] = [0.1, 0.9, 0.4, 0.6, 0.49, 0.51]
    found = flake_kernels(tf.constant(chances), length=13).numpy()
    assert found.shape == (6, 7, 13, 13)
    for image in range(6):
        for kind in range(7):
            down, along, thick, soft = chances[image, :-1].reshape(4, 7)[:, kind]
            width = 1 if thick < 0.6 else 3 if thick < 0.9 else 5
            quarter = painted(2 + int(down * 5), 2 + int(along * 5), width, 6)
            canvas = np.zeros((13, 13))
            canvas[6:, 6:] = quarter
            canvas[:7, :7] = quarter[::-1, ::-1]
            if chances[image, -1] < 0.5:
                canvas = canvas[:, ::-1]
            offsets = np.array([-1, 0, 1])
            std = 0.41 + 0.19 * soft
            blur = np.exp(-(offsets[:, None] ** 2 + offsets[None, :] ** 2) / (2 * std**2))
            expected = scipy.ndimage.correlate(canvas, blur / blur.sum(), mode="constant")
            np.testing.assert_allclose(found[image, kind], expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(16, 24), (9, 10)], ids=str)
def test_snow_is_the_sum_of_each_kind_s_flakes_along_its_lines(shape):
    cells = [-(-side // 4) for side in shape]
    flakes = RANDOM.random((3, *cells, 7)).astype(np.float32)
    kernels = RANDOM.random((3, 7, 5, 5)).astype(np.float32)
    found = snowfall(tf.constant(flakes), tf.constant(kernels), shape)
    for image in range(3):
        expected = np.zeros(shape)
        for kind in range(7):
            grid = np.zeros((4 * cells[0], 4 * cells[1]))
            places = (
                (slice(None, None, 4), slice(kind, None, 4))
                if kind < 4
                else (slice(kind - 3, None, 4), slice(None, None, 4))
            )
            grid[places] = flakes[image, ..., kind].astype(float) ** 4
            expected += scipy.ndimage.correlate(grid[: shape[0], : shape[1]], kernels[image, kind], mode="constant")
        np.testing.assert_allclose(found[image, ..., 0], expected, atol=1e-4)


def test_the_budget_of_a_region_is_kept_by_dimming_it_alone():
    """16 x 16 flakes are four regions of 8 x 8; the mean of one is 0.8, its flakes are dimmed to a quarter."""
    flakes = np.full((1, 16, 16, 7), 0.1, np.float32)
    flakes[0, :8, 8:, 2] = 0.8
    kept = FlakeBall(1.0, budget=0.2).project(tf.constant(flakes), 1.0).numpy()
    expected = flakes.copy()
    expected[0, :8, 8:, 2] = 0.2
    np.testing.assert_allclose(kept, expected, atol=1e-6)
    np.testing.assert_allclose(FlakeBall(1.0, budget=0.2).project(tf.fill([1, 2, 2, 7], 4.0), 1.0), 0.2, atol=1e-6)
    np.testing.assert_allclose(FlakeBall(1.0, budget=0.2).project(tf.fill([1, 2, 2, 7], -4.0), 1.0), 1e-9)


def test_with_size_0_the_faded_image_comes_back(images, climb):
    found = SnowAttack(0.0, num_steps=2)(climb, {"images": images}, seed_for(0, 0, "attack"))["images"]
    luma = images @ np.array([0.2126, 0.7152, 0.0722])
    expected = 0.75 * images + 0.25 * np.maximum(images, luma[..., None] * 1.5 + 0.5)
    assert np.abs(expected - images).max() > 0.05
    np.testing.assert_allclose(found, np.clip(expected, 0, 1), atol=1e-6)
    clear = SnowAttack(0.0, num_steps=2, fading=0.0)
    np.testing.assert_array_equal(clear(climb, {"images": images}, seed_for(0, 0, "attack"))["images"], images)


def test_flakes_begin_with_the_logarithm_uniform_and_the_budget_kept(images, seeds):
    attack = SnowAttack(1.0)
    flakes, (kernels,) = attack.draw(seeds, tf.constant(images), tf.fill([16], 1.0))
    assert flakes.shape == (16, 4, 4, 7) and kernels.shape == (16, 7, 13, 13)
    assert np.all(flakes.numpy().mean(axis=(1, 2)) <= 0.2 + 1e-6)
    logarithms = np.log(flakes.numpy()) * -0.2
    assert logarithms.min() < 0.02 and 0.45 < logarithms.mean() < 0.56
    assert np.abs(kernels[0] - kernels[1]).max() > 0.1


def test_gradients_reach_every_flake(images, seeds):
    attack = SnowAttack(0.05)
    flakes, fixed = attack.draw(seeds, tf.constant(images * 0.5), tf.fill([16], 0.05))
    weights = RANDOM.normal(size=images.shape).astype(np.float32)
    with tf.GradientTape() as tape:
        tape.watch(flakes)
        score = tf.reduce_sum(attack.render(tf.constant(images * 0.5), flakes, fixed, tf.fill([16], 0.05)) * weights)
    assert np.all(tape.gradient(score, flakes) != 0)
