"""Elastic: every pixel is taken from somewhere near by, and the shifts vary smoothly.

Synopsis:

    attack = ElasticAttack(2.0)                                  # shifts of two pixels at most
    attacked = attack(climb, {"images": images}, seed)["images"]

Reference: Kang et al. 2019 (arXiv 1908.08016), after Xiao et al., "Spatially Transformed Adversarial Examples", 2018.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from advss_tf.attacks.arguments import number, whole
from advss_tf.attacks.batches import shape_of
from advss_tf.attacks.unforeseen.ascent import PUBLISHED_STEPS, Ball, Fixed, UnforeseenAttack, across
from advss_tf.errors import InvalidInput
from advss_tf.randomness import batch_uniform


class FlowBall(Ball):
    """Each component of each pixel's shift, before smoothing, is at most `epsilon` pixels: an Linf ball."""

    def project(self, parameters: tf.Tensor, epsilon: Any) -> tf.Tensor:
        bound = across(epsilon, parameters)
        return tf.clip_by_value(parameters, -bound, bound)


@keras.saving.register_keras_serializable(package="advss_tf")
class ElasticAttack(UnforeseenAttack):
    """Ascent over a field of shifts in an Linf ball, smoothed by a Gaussian kernel.

    `epsilon` is in pixels of the image, per axis and before smoothing. As in the published code a shift of `u` pixels
    moves a pixel by `u * (side - 1) / side`. Positions between pixels are interpolated bilinearly, what lies outside of
    the image is black. With `epsilon` 0 the images come back as they were.

    Args:
        epsilon: The size.
        num_steps: Number of steps; 200 in the published evaluation.
        step_size: Length of a step in pixels. Default: `epsilon / sqrt(num_steps)`.
        random_start: Whether to begin at shifts drawn uniformly from the ball, or without a shift.
        smoothing: Standard deviation of the Gaussian kernel in pixels. Default: 3/224 of the shorter side.
        kernel_size: Side of the kernel, odd. Default: out to four standard deviations. With both defaults that is the
            published 25 at 224 pixels and 5 at 32.

    Raises:
        InvalidInput: if a number is out of its range.
    """

    scales_with_epsilon = True

    def __init__(
        self,
        epsilon: float,
        *,
        num_steps: int = PUBLISHED_STEPS,
        step_size: float | None = None,
        random_start: bool = True,
        smoothing: float | None = None,
        kernel_size: int | None = None,
    ) -> None:
        super().__init__(FlowBall("elastic", epsilon), num_steps=num_steps, step_size=step_size)
        self.random_start = bool(random_start)
        self.smoothing = None if smoothing is None else number("smoothing", smoothing, least=1e-3)
        self.kernel_size = None if kernel_size is None else whole("kernel_size", kernel_size, odd=True)

    def draw(self, seed: tf.Tensor, images: tf.Tensor, epsilon: tf.Tensor) -> tuple[tf.Tensor, Fixed]:
        shape = (shape_of(images)[0], *images.shape[1:3], 2)
        if not self.random_start:
            return tf.zeros(shape), ()
        shifts = batch_uniform(seed, shape, -1.0, 1.0)
        return self.threat.project(across(epsilon, shifts) * shifts, epsilon), ()

    def render(self, images: tf.Tensor, parameters: tf.Tensor, fixed: Fixed, epsilon: tf.Tensor) -> tf.Tensor:
        del fixed, epsilon
        height, width = images.shape[1:3]
        std = self.smoothing or 3 * min(height, width) / 224
        size = self.kernel_size or 2 * math.ceil(4 * std) + 1
        down, along = (smoothing_matrix(side, std, size=size) for side in (height, width))
        smooth = tf.einsum("hi,bijc,wj->bhwc", down, parameters, along)
        return warp(images, smooth * tf.constant([(height - 1) / height, (width - 1) / width], tf.float32))


def smoothing_matrix(side: int, std: float, *, size: int) -> np.ndarray:
    """Gaussian smoothing of `side` numbers, continued by reflection, as a float32 matrix (side, side).

    Raises:
        InvalidInput: if the kernel is so large that a reflection does not reach far enough.
    """
    radius = size // 2
    if radius >= side:
        raise InvalidInput(
            "The kernel is larger than the image.",
            expected=f"an odd kernel_size < {2 * side}",
            received=f"kernel_size={size}",
        )
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / std) ** 2)
    sources = np.pad(np.arange(side), radius, mode="reflect")
    matrix = np.zeros((side, side))
    for row in range(side):
        np.add.at(matrix[row], sources[row : row + size], kernel / kernel.sum())
    return matrix.astype(np.float32)


def warp(images: tf.Tensor, shifts: tf.Tensor) -> tf.Tensor:
    """Each pixel (i, j) from position (i, j) + shift, bilinear, black outside.

    Args:
        images: `(batch, height, width, channels)`.
        shifts: `(batch, height, width, 2)`, in pixels: down, then to the right. Gradients reach them.
    """
    height, width = images.shape[1:3]
    rows = tf.range(height, dtype=tf.float32)[:, tf.newaxis] + shifts[..., 0]
    columns = tf.range(width, dtype=tf.float32) + shifts[..., 1]
    top, left = tf.floor(rows), tf.floor(columns)
    down, right = rows - top, columns - left
    mixed = tf.zeros_like(images)
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        weight = (down if i else 1 - down) * (right if j else 1 - right)
        mixed += weight[..., tf.newaxis] * _pixels_at(images, top + i, left + j)
    return tf.clip_by_value(mixed, 0.0, 1.0)  # rounding may leave [0, 1] by one bit


def _pixels_at(images: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    height, width, channels = images.shape[1:]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    row = tf.cast(tf.clip_by_value(rows, 0.0, height - 1.0), tf.int32)
    column = tf.cast(tf.clip_by_value(columns, 0.0, width - 1.0), tf.int32)
    flat = tf.reshape(images, (-1, height * width, channels))
    return tf.where(inside[..., tf.newaxis], tf.gather(flat, row * width + column, batch_dims=1), 0.0)
