"""What goes through a training step: the batch that the data bring, and the puzzle that is made of it.

Synopsis:

    puzzle = Puzzle({"images": batch.images}, targets=batch.labels)
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import tensorflow as tf

Terms: TypeAlias = dict[str, tf.Tensor]


class Batch(NamedTuple):
    """What the data brings: `images` `(batch, height, width, channels)` in [0, 1]; `labels` `(batch,)` or None."""

    images: tf.Tensor
    labels: tf.Tensor | None = None


class Puzzle(NamedTuple):
    """What one batch asks, after every random choice has been made.

    Attributes:
        inputs: `{name: (batch, height, width, channels)}`, the images that the attack may move, in [0, 1].
        targets: What is to be answered, such as labels `(batch,)`; None if nothing is.
        fixed: Tensors by name that neither the attack nor the weights move; None if there are none.
    """

    inputs: dict[str, tf.Tensor]
    targets: Any = None
    fixed: dict[str, tf.Tensor] | None = None
