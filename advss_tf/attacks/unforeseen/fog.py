"""Fog: a plasma fractal whose every random number is an adversary's.

Synopsis:

    attack = FogAttack(512.0)
    attacked = attack(climb, {"images": images}, seed)["images"]

Reference: Kang et al. 2019 (arXiv 1908.08016), after a corruption of Hendrycks and Dietterich 2019 (arXiv 1903.12261).
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from advss_tf.attacks.arguments import number
from advss_tf.attacks.batches import shape_of
from advss_tf.attacks.unforeseen.ascent import PUBLISHED_STEPS, Box, Fixed, UnforeseenAttack, across
from advss_tf.randomness import batch_uniform


@keras.saving.register_keras_serializable(package="advss_tf")
class FogAttack(UnforeseenAttack):
    """Ascent over the numbers of the diamond-square algorithm, each in [0, 1].

    `epsilon` is the weight of the fog in 8-bit levels: with fog from 0 to 1 an image of levels x becomes
    `255 (x + epsilon * fog) / (max x + epsilon)`, with the largest level of each channel. It does not bound the
    parameters, and nothing scales with the size of the image: the smallest power of two above its longer side decides
    how many rounds the fractal has. With `epsilon` 0 the images come back with each channel stretched to its full
    range, as in the published code: unchanged only where the channel reaches 1.

    One difference: the published code stretches all fogs of a batch by the extremes of the whole batch, here each image
    has its own. The start is always random, as it is there: without it there would be no fog to stretch.

    Args:
        epsilon: The size.
        num_steps: Number of steps; 200 in the published evaluation.
        step_size: Length of a step. Default: 0.002236 at 200 steps, the published one.
        decay: How much smoother each finer round is.

    Raises:
        InvalidInput: if a number is out of its range.
    """

    scales_with_epsilon = False

    def __init__(
        self,
        epsilon: float,
        *,
        num_steps: int = PUBLISHED_STEPS,
        step_size: float | None = None,
        decay: float = 2.0,
    ) -> None:
        super().__init__(Box("fog", epsilon, low=0.0, high=1.0), num_steps=num_steps, step_size=step_size)
        self.decay = number("decay", decay, least=1.0)

    def draw(self, seed: tf.Tensor, images: tf.Tensor, epsilon: tf.Tensor) -> tuple[tf.Tensor, Fixed]:
        del epsilon
        return batch_uniform(seed, (shape_of(images)[0], plasma_side(*images.shape[1:3]) ** 2 - 1)), ()

    def render(self, images: tf.Tensor, parameters: tf.Tensor, fixed: Fixed, epsilon: tf.Tensor) -> tf.Tensor:
        del fixed
        height, width = images.shape[1:3]
        side = plasma_side(height, width)
        top, left = (side - height) // 2, (side - width) // 2
        fog = plasma(parameters, side=side, decay=self.decay)[:, top : top + height, left : left + width, tf.newaxis]
        weight = across(epsilon / 255.0, images)
        brightest = tf.reduce_max(images, axis=(1, 2), keepdims=True)
        return tf.clip_by_value(tf.math.divide_no_nan(images + weight * fog, brightest + weight), 0.0, 1.0)


def plasma_side(height: int, width: int) -> int:
    """The smallest power of two above the longer side: 64 for 32 pixels and 256 for 224, as published."""
    return 2 ** max(height, width).bit_length()


def plasma(numbers: tf.Tensor, *, side: int, decay: float) -> tf.Tensor:
    """Height maps by the diamond-square algorithm, each from 0 to 1.

    Args:
        numbers: `(batch, side² - 1)` in [0, 1]: round after round, those of the squares' middles, then of the middles
            of horizontal edges, then of vertical ones.
        side: A power of two.
        decay: By what the random share is divided after each round.

    Returns:
        `(batch, side, side)`.
    """
    grid = tf.zeros_like(numbers[:, :1, tf.newaxis])
    wobble, points = 100.0, 1
    while points < side:
        used = points * points - 1
        shifts = (numbers[:, used : used + 3 * points * points] * 2 - 1) * wobble
        grid = _refined(grid, tf.reshape(shifts, (-1, 3, points, points)))
        wobble, points = wobble / decay, 2 * points
    lowest, highest = (reduce(grid, axis=(1, 2), keepdims=True) for reduce in (tf.reduce_min, tf.reduce_max))
    return tf.math.divide_no_nan(grid - lowest, highest - lowest)


def _refined(grid: tf.Tensor, shifts: tf.Tensor) -> Any:
    """The grid of twice the side, on a torus.

    The published code rolls the middles of squares by two places where the algorithm wants the neighbour, one place
    away. The edges are therefore less smooth than they could be; it is kept, as what was published was measured so.
    """
    beside = grid + tf.roll(grid, -1, axis=2)
    below = grid + tf.roll(grid, -1, axis=1)
    squares = (below + tf.roll(below, -1, axis=2)) / 4 + shifts[:, 0]
    across_edges = (squares + tf.roll(squares, 2, axis=1) + beside) / 4 + shifts[:, 1]
    down_edges = (squares + tf.roll(squares, 2, axis=2) + below) / 4 + shifts[:, 2]
    even, odd = tf.stack([grid, across_edges], axis=3), tf.stack([down_edges, squares], axis=3)
    points = grid.shape[1]
    return tf.reshape(tf.stack([even, odd], axis=2), (-1, 2 * points, 2 * points))
