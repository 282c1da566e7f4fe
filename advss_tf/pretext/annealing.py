"""DynACL's two schedules: augmentation that grows weaker, and attacked views that come to weigh more.

Synopsis:

    annealing = Annealing(epochs=1000, steps_per_epoch=98)          # the paper's, every 50 epochs
    annealing.strength(step), annealing.weight(step)                # 1.0, 1.0 at the first step

With epochs `e` counted from 1, `E` of them and a period of `K`,

    strength(e) = 1 - floor((e - 1) / K) · K / E            it first falls at epoch K + 1
    weight(e)   = 1 + growth · floor(e / K) · K / E         it first grows at epoch K

and the loss is `((2 - weight) · clean + weight · attacked) / 2`.

Reference: Luo et al., "Rethinking the Effect of Data Augmentation in Adversarial Contrastive Learning" (DynACL), ICLR
2023 (arXiv 2303.01289); that the two change one epoch apart is how its code has it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from advss_tf.errors import InvalidInput


@dataclass(frozen=True)
class Annealing:
    """The schedules of a pretraining, by the number of the step.

    Args:
        epochs: Epochs of the whole pretraining.
        steps_per_epoch: Steps of one.
        period: Epochs between two changes; at most `epochs` if anything is to change.
        growth: How much the attacked views' weight gains towards the end, in [0, 1]; 0 leaves it at 1.

    Raises:
        InvalidInput: if a number is out of its range.
    """

    epochs: int
    steps_per_epoch: int
    period: int = 50
    growth: float = 2.0 / 3.0

    def __post_init__(self) -> None:
        for name in ("epochs", "steps_per_epoch", "period"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidInput(f"`{name}` is no count.", expected="a whole number >= 1", received=f"{name}={value}")
        if not (np.isfinite(self.growth) and 0 <= self.growth <= 1):
            raise InvalidInput(
                "`growth` leaves clean views a negative weight, or attacked ones less than at the start.",
                expected="a number in [0, 1]",
                received=f"growth={self.growth}",
            )

    def strength(self, step: Any) -> tf.Tensor:
        """How strong annealed views are at a step, a float32 scalar in [0, 1]."""
        return 1.0 - self._part(self._epoch(step))

    def weight(self, step: Any) -> tf.Tensor:
        """The weight of attacked views at a step, a float32 scalar in [1, 2]."""
        return 1.0 + self.growth * self._part(self._epoch(step) + 1)

    def as_dict(self) -> dict[str, Any]:
        """The arguments, as JSON."""
        return asdict(self)

    def _epoch(self, step: Any) -> tf.Tensor:
        """The number of the epoch, from 0. The last one goes on, should the training do so."""
        epoch = tf.cast(step, tf.int64) // self.steps_per_epoch
        return tf.minimum(epoch, self.epochs - 1)

    def _part(self, epoch: tf.Tensor) -> tf.Tensor:
        return tf.cast(epoch // self.period * self.period, tf.float32) / self.epochs
