"""Fog against the published diamond-square algorithm, written out point by point."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from advss_tf.attacks.unforeseen.fog import FogAttack, plasma, plasma_side
from advss_tf.randomness import seed_for

RANDOM = np.random.default_rng(6)


def height_map(numbers, side, decay):
    """One map, filled in place on a torus; the middles of squares are read two places back, as published."""
    grid, stride, wobble, used = np.zeros((side, side)), side, 100.0, 0

    def drawn(i, j, points):
        return (2 * numbers[used + i * points + j] - 1) * wobble

    while stride > 1:
        points, half = side // stride, stride // 2

        def corner(i, j, points=points, stride=stride):
            return grid[i % points * stride, j % points * stride]

        def middle(i, j, points=points, stride=stride, half=half):
            return grid[i % points * stride + half, j % points * stride + half]

        places = [(i, j) for i in range(points) for j in range(points)]
        for i, j in places:
            four = corner(i, j) + corner(i + 1, j) + corner(i, j + 1) + corner(i + 1, j + 1)
            grid[i * stride + half, j * stride + half] = four / 4 + drawn(i, j, points)
        used += points**2
        for i, j in places:
            four = middle(i, j) + middle(i - 2, j) + corner(i, j) + corner(i, j + 1)
            grid[i * stride, j * stride + half] = four / 4 + drawn(i, j, points)
        used += points**2
        for i, j in places:
            four = middle(i, j) + middle(i, j - 2) + corner(i, j) + corner(i + 1, j)
            grid[i * stride + half, j * stride] = four / 4 + drawn(i, j, points)
        used += points**2
        stride, wobble = half, wobble / decay
    assert used == len(numbers)
    return (grid - grid.min()) / (grid.max() - grid.min())


@pytest.mark.parametrize("side, decay", [(2, 2.0), (16, 2.0), (32, 1.75)])
def test_the_plasma_is_the_published_one(side, decay):
    numbers = RANDOM.random((2, side * side - 1)).astype(np.float32)
    expected = np.stack([height_map(each.astype(float), side, decay) for each in numbers])
    np.testing.assert_allclose(plasma(tf.constant(numbers), side=side, decay=decay), expected, atol=1e-5)


def test_the_first_round_by_hand():
    """Corner 0; the middle moves by 100; edges are the mean with the middle twice, moved by -100 and 0."""
    found = plasma(tf.constant([[1.0, 0.0, 0.5]]), side=2, decay=2.0)
    heights = np.array([[0.0, 50.0 - 100.0], [50.0, 100.0]])
    np.testing.assert_allclose(found[0], (heights + 50) / 150, atol=1e-6)


@pytest.mark.parametrize("longest, side", [(8, 16), (28, 32), (32, 64), (224, 256)])
def test_the_map_has_the_published_side(longest, side):
    assert plasma_side(longest, 8) == plasma_side(8, longest) == side


def test_an_image_in_fog_by_hand():
    """Levels x become 255 (x + size * fog) / (max + size), channel by channel, the fog cut from the map's middle."""
    images = RANDOM.uniform(0.1, 0.9, (2, 8, 10, 3)).astype(np.float32)
    numbers = RANDOM.random((2, 255)).astype(np.float32)
    size = np.array([64.0, 512.0], np.float32)
    found = FogAttack(1.0).render(tf.constant(images), tf.constant(numbers), (), tf.constant(size))
    for image, each, weight, shown in zip(images, numbers, size, found, strict=True):
        fog = height_map(each.astype(float), 16, 2.0)[4:12, 3:13, None]
        levels = image * 255.0
        expected = (levels + weight * fog) / (levels.max(axis=(0, 1)) + weight)
        np.testing.assert_allclose(shown, np.clip(expected, 0, 1), atol=1e-5)


def test_with_size_0_channels_are_stretched_to_their_full_range(images, climb):
    found = FogAttack(0.0, num_steps=2)(climb, {"images": images}, seed_for(0, 0, "attack"))["images"]
    np.testing.assert_allclose(found, images / images.max(axis=(1, 2), keepdims=True), atol=1e-6)
    bright = images.copy()
    bright[:, 3, 5] = 1.0
    found = FogAttack(0.0, num_steps=2)(climb, {"images": bright}, seed_for(0, 0, "attack"))["images"]
    np.testing.assert_array_equal(found, bright)
    black = np.zeros_like(images)
    np.testing.assert_array_equal(
        FogAttack(0.0, num_steps=1)(climb, {"images": black}, seed_for(0, 0, "attack"))["images"], black
    )


def test_gradients_reach_every_number():
    numbers = tf.constant(RANDOM.random((4, 1023)), tf.float32)
    weights = RANDOM.normal(size=(4, 32, 32)).astype(np.float32)
    with tf.GradientTape() as tape:
        tape.watch(numbers)
        score = tf.reduce_sum(plasma(numbers, side=32, decay=2.0) * weights)
    assert np.all(tape.gradient(score, numbers) != 0)
