"""Plasma fractals: the published algorithm on one array, with the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from advss_tf.data.corruptions.plasma import plasma_fractal, plasma_side


def _fractal(side, numbers, decay):
    """Diamond and square, point by point, on a map whose sides meet."""
    heights, step, wobble, numbers = np.zeros((side, side)), side, 100.0, iter(numbers)
    while step >= 2:
        half = step // 2
        corners = [(y, x) for y in range(0, side, step) for x in range(0, side, step)]

        def mean(y, x, *offsets):
            return sum(heights[(y + a) % side, (x + b) % side] for a, b in offsets) / 4

        for y, x in corners:
            around = mean(y, x, (0, 0), (step, 0), (0, step), (step, step))
            heights[y + half, x + half] = around + wobble**2 * next(numbers)
        crossed = ((half, 0), (-half, 0), (0, half), (0, -half))
        for y, x in corners:
            heights[y, x + half] = mean(y, x + half, *crossed) + wobble**2 * next(numbers)
        for y, x in corners:
            heights[y + half, x] = mean(y + half, x, *crossed) + wobble**2 * next(numbers)
        step, wobble = half, wobble / decay
    heights -= heights.min()
    return heights / heights.max()


@pytest.mark.parametrize("decay", [3.0, 1.75])
def test_a_map_is_that_of_the_published_algorithm(decay):
    numbers = np.random.default_rng(0).uniform(-1, 1, (3, 16 * 16 - 1))
    expected = [_fractal(16, each, decay) for each in numbers]
    np.testing.assert_allclose(plasma_fractal(tf.constant(numbers), decay=decay), expected, atol=1e-12)


def test_the_map_covers_the_longer_side():
    assert [plasma_side(*size) for size in ((32, 32), (33, 8), (8, 65), (4, 4))] == [32, 64, 128, 4]
