"""Elastic against SciPy's interpolation and filters."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf

from advss_tf.attacks.unforeseen.elastic import ElasticAttack, smoothing_matrix, warp
from advss_tf.errors import InvalidInput
from advss_tf.randomness import seed_for

RANDOM = np.random.default_rng(3)


@pytest.mark.parametrize("shape", [(2, 9, 12, 3), (1, 8, 8, 1)], ids=str)
def test_the_warp_is_scipy_s_with_black_outside(shape):
    images = RANDOM.random(shape).astype(np.float32)
    shifts = RANDOM.uniform(-4, 4, (*shape[:3], 2)).astype(np.float32)
    rows, columns = np.mgrid[: shape[1], : shape[2]]
    expected = np.empty(shape)
    for image in range(shape[0]):
        places = [rows + shifts[image, ..., 0].astype(float), columns + shifts[image, ..., 1].astype(float)]
        for channel in range(shape[3]):
            expected[image, ..., channel] = scipy.ndimage.map_coordinates(
                images[image, ..., channel].astype(float), places, order=1, mode="grid-constant", cval=0.0
            )
    assert np.mean(expected == 0) > 0.005
    np.testing.assert_allclose(warp(tf.constant(images), tf.constant(shifts)), expected, atol=1e-5)


def test_whole_and_half_shifts_by_hand():
    image = np.zeros((1, 8, 8, 1), np.float32)
    image[0, 3, 4, 0] = 1.0
    shift = np.zeros((1, 8, 8, 2), np.float32)
    shift[..., 0], shift[..., 1] = 1.0, -2.0
    moved = warp(tf.constant(image), tf.constant(shift)).numpy()[0, ..., 0]
    assert moved[2, 6] == 1.0 and moved.sum() == 1.0
    shift[..., 0], shift[..., 1] = 0.25, 0.5
    mixed = warp(tf.constant(image), tf.constant(shift)).numpy()[0, ..., 0]
    assert [mixed[3, 4], mixed[3, 3], mixed[2, 4], mixed[2, 3]] == [0.375, 0.375, 0.125, 0.125]


@pytest.mark.parametrize("side, std, size", [(32, 3 / 7, 5), (224, 3.0, 25), (9, 1.0, 9)])
def test_smoothing_is_a_gaussian_filter_on_a_mirrored_field(side, std, size):
    field = RANDOM.normal(size=(side, side))
    offsets = np.arange(size) - (size - 1) / 2
    kernel = np.exp(-(offsets[:, None] ** 2 + offsets[None, :] ** 2) / (2 * std**2))
    expected = scipy.ndimage.correlate(field, kernel / kernel.sum(), mode="mirror")
    matrix = smoothing_matrix(side, std, size=size).astype(float)
    np.testing.assert_allclose(matrix @ field @ matrix.T, expected, atol=1e-6)


def test_the_whole_distortion_against_the_paper_s_operations():
    """Flow in units of half the image's side, smoothed, added to a grid from -1 to 1, read bilinearly."""
    images = RANDOM.random((2, 32, 32, 3)).astype(np.float32)
    flow = RANDOM.uniform(-2, 2, (2, 32, 32, 2)).astype(np.float32)
    offsets = np.arange(-2, 3)
    kernel = np.exp(-(offsets[:, None] ** 2 + offsets[None, :] ** 2) / (2 * (3 * 32 / 224) ** 2))
    grid = np.linspace(-1, 1, 32)
    expected = np.empty_like(images)
    for image in range(2):
        unit = [
            scipy.ndimage.correlate(flow[image, ..., axis] * 2.0 / 32, kernel / kernel.sum(), mode="mirror")
            for axis in (0, 1)
        ]
        places = [(grid[:, None] + unit[0] + 1) / 2 * 31, (grid[None, :] + unit[1] + 1) / 2 * 31]
        for channel in range(3):
            expected[image, ..., channel] = scipy.ndimage.map_coordinates(
                images[image, ..., channel].astype(float), places, order=1, mode="grid-constant"
            )
    found = ElasticAttack(2.0).render(tf.constant(images), tf.constant(flow), (), tf.constant([2.0, 2.0]))
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_with_size_0_and_with_0_shifts_the_images_come_back_as_they_were(images, climb):
    found = ElasticAttack(0.0, num_steps=2)(climb, {"images": images}, seed_for(0, 0, "attack"))["images"]
    np.testing.assert_array_equal(found, images)
    one_step = ElasticAttack(1.0, num_steps=1, step_size=0.0, random_start=False)
    np.testing.assert_array_equal(one_step(climb, {"images": images}, seed_for(0, 0, "attack"))["images"], images)


def test_shifts_begin_uniformly_in_the_ball_and_step_by_signs(images, seeds):
    attack = ElasticAttack(2.0, num_steps=1, step_size=0.5)
    start, _ = attack.draw(seeds, tf.constant(images), tf.fill([16], 2.0))
    assert abs(start.numpy().mean()) < 0.05 and abs(np.abs(start).mean() - 1.0) < 0.05
    slope = tf.where(start > 0, 3.0, -0.1)
    moved = attack.move(start, slope, (), tf.fill([16], 2.0), tf.constant(0))
    np.testing.assert_allclose(moved, np.clip(start + 0.5 * np.sign(start), -2, 2), atol=1e-6)


def test_gradients_reach_every_shift(images):
    shifts = tf.constant(
        RANDOM.uniform(0.1, 0.4, (16, 16, 16, 2)) * RANDOM.choice([-1, 1], (16, 16, 16, 2)), tf.float32
    )
    weights = RANDOM.normal(size=images.shape).astype(np.float32)
    with tf.GradientTape() as tape:
        tape.watch(shifts)
        found = ElasticAttack(1.0).render(tf.constant(images), shifts, (), tf.fill([16], 1.0))
        score = tf.reduce_sum(found * weights)
    assert np.all(tape.gradient(score, shifts) != 0)


def test_a_kernel_that_is_larger_than_the_image_is_refused(images, climb):
    with pytest.raises(InvalidInput, match="The kernel is larger than the image"):
        ElasticAttack(1.0, kernel_size=33)(climb, {"images": images}, seed_for(0, 0, "attack"))
