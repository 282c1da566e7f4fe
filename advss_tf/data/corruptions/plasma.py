"""Plasma fractals: the height maps that fog and generated frost are made of.

Synopsis:

    side = plasma_side(height, width)                                  # a power of two that covers the image
    clouds = plasma_fractal(draws.uniform("fog", (side * side - 1,), -1.0, 1.0), decay=2.0)    # (batch, side, side)

The diamond-square algorithm on a torus, as the script of Hendrycks & Dietterich 2019 (arXiv:1903.12261) has it.
"""

from __future__ import annotations

import math

import tensorflow as tf


def plasma_side(height: int, width: int) -> int:
    """The smallest power of two that is as large as both sides."""
    return 2 ** math.ceil(math.log2(max(height, width)))


def plasma_fractal(numbers: tf.Tensor, *, decay: float) -> tf.Tensor:
    """Height maps from 0 (the lowest point of each) to 1 (the highest).

    Each round doubles a grid that begins as one point: the middle of every square, then of every edge, is the mean of
    its four neighbours plus w² · u with u uniform in [-1, 1], w = 100 in the first round and divided by `decay` after
    each. (The script multiplies by w what it draws in [-w, w].)

    Args:
        numbers: The u's, float64 `(batch, side² - 1)` with `side` a power of two; a round with n² points takes n² for
            the middles of the squares, n² for those of the horizontal edges and n² for those of the vertical ones.
        decay: How much smoother each finer scale is.

    Returns:
        float64 `(batch, side, side)`.
    """
    side = math.isqrt(numbers.shape[1] + 1)
    grid = tf.zeros_like(numbers[:, :1, tf.newaxis])
    wobble, points = 100.0, 1
    while points < side:
        used = points * points - 1
        shifts = numbers[:, used : used + 3 * points * points] * wobble**2
        grid = _refined(grid, *tf.unstack(tf.reshape(shifts, (-1, 3, points, points)), axis=1))
        wobble, points = wobble / decay, 2 * points
    grid -= tf.reduce_min(grid, axis=(1, 2), keepdims=True)
    return grid / tf.reduce_max(grid, axis=(1, 2), keepdims=True)


def _refined(grid: tf.Tensor, *shifts: tf.Tensor) -> tf.Tensor:
    """The grid of twice the side: the old points and the middles of squares, horizontal edges and vertical edges."""
    beside = grid + tf.roll(grid, -1, axis=2)
    below = grid + tf.roll(grid, -1, axis=1)
    squares = (beside + tf.roll(beside, -1, axis=1)) / 4 + shifts[0]
    across = (squares + tf.roll(squares, 1, axis=1) + beside) / 4 + shifts[1]
    down = (squares + tf.roll(squares, 1, axis=2) + below) / 4 + shifts[2]
    even, odd = tf.stack([grid, across], axis=3), tf.stack([down, squares], axis=3)
    points = grid.shape[1]
    return tf.reshape(tf.stack([even, odd], axis=2), (-1, 2 * points, 2 * points))
