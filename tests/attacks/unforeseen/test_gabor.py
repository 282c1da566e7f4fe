"""Gabor noise against direct sums and the published code's Fourier transforms."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf

from advss_tf.attacks.unforeseen.gabor import GaborAttack, gabor_kernels, gabor_noise
from advss_tf.randomness import seed_for

RANDOM = np.random.default_rng(9)


def direct_kernel(sides, deviation, frequency, turn, size):
    kernel = np.zeros((size, size))
    for row in range(size):
        for column in range(size):
            y, x = row / (size - 1) - 0.5, column / (size - 1) - 0.5
            for side in range(sides):
                angle = turn + np.pi * side / sides
                u, v = x * np.cos(angle) + y * np.sin(angle), -x * np.sin(angle) + y * np.cos(angle)
                bell = np.exp(-0.5 * (u**2 + v**2) / (deviation + 1e-3) ** 2)
                kernel[row, column] += bell * np.cos(2 * np.pi * frequency * u)
    return kernel


def test_a_kernel_is_the_direct_sum():
    chances = np.array([[0.0, 0.0, 0.0, 0.0], [0.34, 0.5, 0.25, 0.7], [0.999, 0.9, 0.99, 0.1]], np.float32)
    found = gabor_kernels(tf.constant(chances), size=23).numpy()
    settings = [
        (1, 0.1, 3.0, 0.0),
        (4, 0.25, 3 + 2.75 * 0.25, 0.7 * np.pi),
        (10, 0.37, 3 + 2.75 * 0.99, 0.1 * np.pi),
    ]
    for kernel, setting in zip(found, settings, strict=True):
        np.testing.assert_allclose(kernel, direct_kernel(*setting, 23), atol=2e-5)


def published_noise(impulses, kernel):
    noise = scipy.ndimage.correlate(impulses.astype(float), kernel.astype(float), mode="constant")
    mean = noise.mean()
    spectrum = np.fft.rfft2((noise - mean) ** 2)
    deviation = np.sqrt(np.abs(np.fft.irfft2(spectrum, s=noise.shape)))
    even = mean + (noise - mean) * 1.001 / (0.001 + deviation / deviation.max())
    return (even - even.min()) / (even.max() - even.min())


def test_the_noise_is_the_published_one_with_its_fourier_transforms():
    impulses = RANDOM.normal(size=(3, 20, 32)).astype(np.float32)
    kernels = RANDOM.normal(size=(3, 23, 23)).astype(np.float32)
    expected = np.stack([published_noise(*pair) for pair in zip(impulses, kernels, strict=True)])
    found = gabor_noise(tf.constant(impulses), tf.constant(kernels))
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert np.mean(np.abs(found - expected) < 1e-4) > 0.98


def test_noise_is_added_in_levels_alike_to_all_channels(images, seeds):
    attack = GaborAttack(1.0)
    sizes = tf.linspace(1.0, 30.0, 16)
    impulses, fixed = attack.draw(seeds, tf.constant(images), sizes)
    found = attack.render(tf.constant(images), impulses, fixed, sizes)
    noise = gabor_noise(impulses, fixed[0]).numpy()[..., None]
    expected = np.clip(images + sizes.numpy()[:, None, None, None] / 255 * noise, 0, 1)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert noise.min() == 0 and noise.max() == 1


def test_with_size_0_the_images_come_back_as_they_were(images, climb):
    found = GaborAttack(0.0, num_steps=2)(climb, {"images": images}, seed_for(0, 0, "attack"))["images"]
    np.testing.assert_array_equal(found, images)


def test_no_impulse_makes_no_noise():
    kernels = gabor_kernels(tf.constant(RANDOM.random((2, 4)), tf.float32), size=23)
    np.testing.assert_array_equal(gabor_noise(tf.zeros((2, 8, 8)), kernels), np.zeros((2, 8, 8)))


@pytest.mark.parametrize("moves", ["others", "sparse", "all"])
def test_one_pixel_in_fourteen_begins_and_the_named_ones_move(moves, images, seeds):
    attack = GaborAttack(1.0, moves=moves, step_size=0.1)
    start, fixed = attack.draw(seeds, tf.constant(images), tf.fill([16], 1.0))
    begun = start.numpy() != 0
    assert set(begun.sum(axis=(1, 2))) == {round(16 * 16 / 14)}
    assert np.abs(start).max() <= 1 and abs(start.numpy()[begun].mean()) < 0.1
    moved = attack.move(start, tf.ones_like(start), fixed, tf.fill([16], 1.0), tf.constant(0)).numpy()
    stepped = np.clip(start.numpy() + 0.1, -1, 1)
    expected = {"others": np.where(begun, 0, stepped), "sparse": np.where(begun, stepped, 0), "all": stepped}[moves]
    np.testing.assert_allclose(moved, expected, atol=1e-6)


def test_gradients_reach_every_impulse(images, seeds):
    attack = GaborAttack(5.0)
    impulses, fixed = attack.draw(seeds, tf.constant(images), tf.fill([16], 5.0))
    weights = RANDOM.normal(size=images.shape).astype(np.float32)
    with tf.GradientTape() as tape:
        tape.watch(impulses)
        score = tf.reduce_sum(attack.render(tf.constant(images), impulses, fixed, tf.fill([16], 5.0)) * weights)
    assert np.all(tape.gradient(score, impulses) != 0)
