"""The random numbers of one corruption: one stream for each image and each choice.

Synopsis:

    draws = Draws(seed, first=0, rows=32)                    # seed: int32 (2,)
    angles = draws.uniform("angle", (), -45.0, 45.0)         # float64, (32,)
    flakes = draws.normal("flakes", (height, width))         # float64, (32, height, width)

What an image is given depends on the seed, the image's number and the choice's name; not on who stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from advss_tf.randomness import batch_normal, batch_uniform, fold, role_number, seed_each


class Draws:
    """The numbers drawn for the images `first … first + rows - 1`, float64.

    Args:
        seed: A stateless seed, int32 `(2,)`.
        first: The number of the first image, an integer or a scalar integer tensor.
        rows: How many images there are, an integer or a scalar integer tensor.
    """

    def __init__(self, seed: tf.Tensor, *, first: Any, rows: Any) -> None:
        self._seed = seed
        self._numbers = tf.cast(first, tf.int32) + tf.range(tf.cast(rows, tf.int32))

    def seeds(self, role: str) -> tf.Tensor:
        """The stateless seeds of the choice called `role`, one an image: int32 `(rows, 2)`."""
        return seed_each(fold(self._seed, role_number(role)), self._numbers)

    def uniform(self, role: str, shape: Sequence[int], minval: float = 0.0, maxval: float = 1.0) -> tf.Tensor:
        """Uniform numbers in [minval, maxval), `(rows, *shape)`."""
        # Images lie along the first axis, which the seeds have already; a whole batch's size is not needed.
        numbers = batch_uniform(self.seeds(role), (None, *shape), 0.0, 1.0)
        return minval + (maxval - minval) * tf.cast(numbers, tf.float64)

    def normal(self, role: str, shape: Sequence[int]) -> tf.Tensor:
        """Standard normal numbers, `(rows, *shape)`."""
        return tf.cast(batch_normal(self.seeds(role), (None, *shape)), tf.float64)

    def below(self, role: str, shape: Sequence[int], end: Any) -> tf.Tensor:
        """Whole numbers in [0, end), each as likely as another up to 2⁻²³ · end: int32 `(rows, *shape)`."""
        scaled = tf.floor(self.uniform(role, shape) * tf.cast(end, tf.float64))
        return tf.minimum(tf.cast(scaled, tf.int32), tf.cast(end, tf.int32) - 1)
