"""How differently several losses pull at their inputs: the log determinant of the angles between their gradients.

Synopsis:

    diversity([gradient_of_rotation, gradient_of_jigsaw])       # (batch,): about 0 if they are orthogonal, else below

Reference: Chen et al., "Adversarial Robustness: From Self-Supervised Pre-Training to Fine-Tuning", CVPR 2020 (arXiv
2003.12862), the regulariser of its ensemble of pretext tasks. The numbers 1e-10 and 1e-5 are those of its code.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from advss_tf.errors import InvalidInput

_TINY = 1e-10
_RIDGE = 1e-5


def diversity(gradients: Sequence[tf.Tensor]) -> tf.Tensor:
    """`h = log det(GᵀG + 1e-5·I)`, where the columns of `G` are one example's gradients at unit length.

    Example by example. With `m` gradients, `h` is `m · log(1 + 1e-5)`, about 0, where they are orthogonal, and smallest
    where all are the same: `log((m + 1e-5) · 1e-5^(m - 1))`, which is -10.8 for two and -21.9 for three. What climbs
    `h` turns the gradients apart, what descends it aligns them. Near the smallest value rounding in float32 moves `h`
    by a few hundredths. A gradient of nothing but zeros stays zero, and has no derivative.

    Args:
        gradients: Two or more tensors `(batch, …)` of one shape, such as the gradients of the tasks' losses, each by
            the task's own images.

    Returns:
        `(batch,)` float32. Differentiable by the gradients, so also by what they were computed from.

    Raises:
        InvalidInput: if there are fewer than two gradients, or their shapes differ.
    """
    _check(gradients)
    units = [_unit(gradient) for gradient in gradients]
    # Not a matrix product: on a GPU that rounds its factors to ten bits (TF32), which is coarser than the ridge.
    rows = [[tf.reduce_sum(one * other, axis=1) for other in units[: number + 1]] for number, one in enumerate(units)]
    for number, row in enumerate(rows):
        row[number] += _RIDGE
    return _log_determinant(rows)


def _unit(gradient: tf.Tensor) -> tf.Tensor:
    """Each example's gradient as a vector, divided by its length plus 1e-10: `(batch, n)` float32."""
    flat = tf.cast(gradient, tf.float32)
    flat = tf.reshape(flat, (tf.shape(flat)[0], -1))
    squared = tf.reduce_sum(flat * flat, axis=1, keepdims=True)
    # The root has no derivative at zero, and infinity times zero would come out as NaN.
    length = tf.where(squared > 0, tf.sqrt(tf.where(squared > 0, squared, 1.0)), 0.0)
    return flat / (length + _TINY)


def _log_determinant(rows: list[list[tf.Tensor]]) -> tf.Tensor:
    """Of symmetric positive definite matrices, given as the lower triangle of `(batch,)` entries: Gauss, unrolled.

    For two or three columns this is a handful of operations on vectors, also where a library's decomposition would
    start a kernel for each example, or has none (XLA).
    """
    total = tf.zeros_like(rows[0][0])
    while rows:
        pivot, column = rows[0][0], [row[0] for row in rows[1:]]
        total += tf.math.log(pivot)
        rows = [
            [entry - column[i] * column[j] / pivot for j, entry in enumerate(row[1:])] for i, row in enumerate(rows[1:])
        ]
    return total


def _check(gradients: Sequence[tf.Tensor]) -> None:
    shapes = [tuple(gradient.shape) for gradient in gradients]
    fits = len(shapes) >= 2 and all(gradients[0].shape.is_compatible_with(shape) for shape in shapes)
    if not fits or len(shapes[0]) < 2:
        raise InvalidInput(
            "`gradients` cannot be compared.",
            expected="two or more tensors (batch, ...) of one shape",
            received=f"shapes {shapes}",
        )
