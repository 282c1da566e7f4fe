"""The nearest linearised boundary, and the shortest way to it inside the box [0, 1], for a whole batch at once.

Synopsis:

    values, normals = nearest_hyperplane(differences, points, norm="linf")
    move = onto_hyperplane(points, normals, values, norm="linf")     # values + sum(normals * move) = 0
    size(move, norm="linf")                                          # (batch,): how far that is

A linear function has the value `v` at a point and the gradient `w`. The shortest move in the box to where it is zero
moves every pixel towards zero, as fast as the norm allows (all alike for Linf, in proportion to |w| for L2), until the
pixel meets the border of the box and stops. How long this takes is the root of a piecewise linear, concave, growing
function of one number. Newton's method, started at zero, climbs to that root from below and lands on it after finitely
many steps: no sorting, and no sums of differences that lose digits.

Reference: Croce and Hein, "Minimally distorted Adversarial Examples with a Fast Adaptive Boundary Attack", 2020 (arXiv
1907.02044): the box-constrained projections of their algorithm 1, for which they sort the pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from advss_tf.errors import one_of

NORMS = ("linf", "l2")


def size(vectors: tf.Tensor, *, norm: str) -> tf.Tensor:
    """The norm of each row: `(batch, n)` to `(batch,)`.

    Raises:
        InvalidInput: if the norm is neither `"linf"` nor `"l2"`.
    """
    if one_of("norm", norm, NORMS) == "linf":
        return tf.reduce_max(tf.abs(vectors), axis=1)
    return tf.sqrt(tf.reduce_sum(tf.square(vectors), axis=1))


def dual_size(vectors: tf.Tensor, *, norm: str) -> tf.Tensor:
    """The dual norm of each row, L1 for `"linf"` and L2 for `"l2"`: `(batch, n)` to `(batch,)`.

    `|value| / dual_size(gradient)` is the distance to the hyperplane where there is no box.

    Raises:
        InvalidInput: if the norm is neither `"linf"` nor `"l2"`.
    """
    if one_of("norm", norm, NORMS) == "linf":
        return tf.reduce_sum(tf.abs(vectors), axis=1)
    return size(vectors, norm=norm)


def onto_hyperplane(points: tf.Tensor, normals: tf.Tensor, values: tf.Tensor, *, norm: str) -> tf.Tensor:
    """The shortest move within [0, 1] that brings a linear function to zero.

    Args:
        points: `(batch, n)` float32 in [0, 1].
        normals: `(batch, n)`: gradient of the linear function. Where it is zero, a pixel does not move.
        values: `(batch,)`: value of the linear function at the points.
        norm: `"linf"` or `"l2"`: what is kept short.

    Returns:
        `(batch, n)`: the moves. Where no point of the box reaches the hyperplane, the move ends in the corner that
        comes nearest to it. The scale of a linear function does not matter, nor do the other rows.

    Raises:
        InvalidInput: if the norm is neither `"linf"` nor `"l2"`.
    """
    one_of("norm", norm, NORMS)
    scale = tf.reduce_max(tf.abs(normals), axis=1)
    weights = tf.math.divide_no_nan(tf.abs(normals), scale[:, None])
    direction = -tf.sign(normals) * tf.where(values < 0, -1.0, 1.0)[:, None]
    room = tf.where(direction > 0, 1 - points, points) * tf.abs(direction)
    speed = tf.ones_like(weights) if norm == "linf" else weights
    most = tf.reduce_sum(weights * room, axis=1)
    drop = tf.math.divide_no_nan(tf.abs(values), scale)
    reachable = drop < most
    time = _time_to_drop(tf.where(reachable, drop, 0.0), weights, room, speed)
    travelled = tf.where(reachable[:, None], tf.minimum(time[:, None] * speed, room), room)
    return direction * travelled


def nearest_hyperplane(
    differences: Callable[[tf.Tensor], tf.Tensor], points: tf.Tensor, *, norm: str
) -> tuple[tf.Tensor, tf.Tensor]:
    """The linearisation of a batch of functions, of which each row keeps the one whose zero is nearest.

    Args:
        differences: `differences(points) -> (batch, K)` float32, where a row depends on its own point alone.
        points: `(batch, n)` float32.
        norm: `"linf"` or `"l2"`: how distances are measured, without regard to the box.

    Returns:
        The value `(batch,)` and the gradient `(batch, n)` of the function with the smallest |value| / |gradient|, in
        the dual norm; the first of equals. One forward pass and one backward pass a column; neither the graph nor the
        memory for gradients grows with K.

    Raises:
        InvalidInput: if the norm is neither `"linf"` nor `"l2"`.
    """
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(points)
        values = differences(points)
    columns = tf.shape(values)[1]

    def consider(column: tf.Tensor, nearest: Any) -> tuple[tf.Tensor, Any]:
        pick = tf.ones_like(values) * tf.one_hot(column, columns)
        gradient = tape.gradient(values, points, pick, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        value = tf.reduce_sum(tf.where(pick > 0, values, 0.0), axis=1)
        distance = tf.abs(value) / (1e-12 + dual_size(gradient, norm=norm))
        wins = distance < nearest[0]
        gradient = tf.where(wins[:, None], gradient, nearest[2])
        return column + 1, (tf.where(wins, distance, nearest[0]), tf.where(wins, value, nearest[1]), gradient)

    zeros = tf.zeros_like(points[:, 0])
    state = (tf.constant(0), (zeros + float("inf"), zeros, tf.zeros_like(points)))
    if values.shape[1] == 1:
        return consider(*state)[1][1:]
    return tf.while_loop(lambda column, _: column < columns, consider, state, parallel_iterations=1)[1][1:]


def _time_to_drop(drop: tf.Tensor, weights: tf.Tensor, room: tf.Tensor, speed: tf.Tensor) -> tf.Tensor:
    """The root t of `sum(weights * min(t * speed, room)) = drop`, row by row: `(batch,)`."""

    def newton(time: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        moving = time[:, None] * speed < room
        stopped = tf.reduce_sum(tf.where(moving, 0.0, weights * room), axis=1)
        slope = tf.reduce_sum(tf.where(moving, weights * speed, 0.0), axis=1)
        # Time only grows, so the pixels that move only become fewer: a row that stands still has found its root, stays
        # there while others search on, and rounding cannot make the loop run for ever.
        later = tf.maximum(time, tf.math.divide_no_nan(drop - stopped, slope))
        return later, tf.reduce_any(later > time)

    start = (tf.zeros_like(drop), tf.constant(True))
    return tf.while_loop(lambda _, growing: growing, newton, start, parallel_iterations=1)[0]
