"""DynACL: ACL whose augmentation grows weaker, whose attacked pair comes to weigh more, and whose second view is slow.

Synopsis:

    encoder = resnet18(input_shape=(32, 32, 3), branches=("clean", "adversarial"))
    pretext = DynACL(encoder, annealing=Annealing(epochs=1000, steps_per_epoch=98), attack=attack)
    pretext.fit(data.unlabelled(512, views=pretext.views, strength=pretext.strength))
    export_encoder(pretext, "encoder")                  # the slow encoder

The second view of each pair, clean and attacked, goes through a momentum encoder: a copy of encoder and projection
that no gradient reaches and that follows them after each step, `slow = momentum · slow + (1 - momentum) · weights`.
Its running statistics are its own. The attack's gradient flows through both. It is what is evaluated and handed over.

Reference: Luo et al., "Rethinking the Effect of Data Augmentation in Adversarial Contrastive Learning" (DynACL), ICLR
2023 (arXiv 2303.01289); the momentum encoder is that of its code, which lets it follow before each step, one step later
than here. The schedules are in annealing.py. DynACL++ is the stage `refine`.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from advss_tf.errors import InvalidInput
from advss_tf.pretext.acl import ACL
from advss_tf.pretext.annealing import Annealing
from advss_tf.training.averages import copied, follow
from advss_tf.training.inference import encode


@keras.saving.register_keras_serializable(package="advss_tf")
class DynACL(ACL):
    """ACL with schedules and a momentum encoder.

    With `momentum=None` and both weights of `ACLAIR` it is close to DynACL-AIR of Xu et al. 2023, whose attacked views
    gain weight where their augmentation weakens, an epoch later than here.

    Views that a data set makes follow the schedule only if it is given along:
    `data.unlabelled(512, views=pretext.views, strength=pretext.strength)`. Those that the step makes always do.

    Validation takes the schedules as they are at that moment, so its loss is not one number to follow over the epochs.

    Args:
        encoder: See `ACL`, as what is not named here.
        annealing: The schedules; an `Annealing`, or its arguments by name.
        momentum: The share of itself that the slow encoder keeps at each step, in [0, 1); None for no slow encoder:
            both views go through the one that is trained, and that is handed over.
        name: The model's name.

    Raises:
        InvalidInput: if there are no schedules, the momentum is out of its range, or as `ACL`.
    """

    def __init__(
        self,
        encoder: keras.Model,
        *,
        annealing: Annealing | dict[str, Any],
        momentum: float | None = 0.99,
        name: str | None = "dynacl",
        **options: Any,
    ) -> None:
        _check(annealing, momentum)
        super().__init__(encoder, annealing=annealing, name=name, **options)
        self.momentum = None if momentum is None else float(momentum)
        self.slow = () if momentum is None else (copied(self.encoder), copied(self.projector))

    @property
    def delivered_encoder(self) -> keras.Model:
        """The slow encoder, or the one that is trained if there is none."""
        return self.slow[0] if self.slow else self.encoder

    @property
    def networks(self) -> tuple[keras.Model, ...]:
        return (*super().networks, *self.slow)

    @property
    def trainable_variables(self) -> list[Any]:
        """Those that a gradient reaches. The slow ones are not frozen, as their running statistics are to move."""
        slow = {id(variable) for network in self.slow for variable in network.trainable_variables}
        return [variable for variable in super().trainable_variables if id(variable) not in slow]

    @property
    def provenance(self) -> dict[str, Any]:
        return {**super().provenance, "momentum": self.momentum}

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """The step of every method; then the slow encoder follows."""
        logs = super().train_step(data)
        for slow, fast in zip(self.slow, super().networks, strict=False):
            follow(slow.trainable_variables, fast.trainable_variables, momentum=self.momentum or 0.0)
        return logs

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        stream = self.delivered_branch or "clean"
        return self._slowly(inputs, stream, training=training) if self.slow else super().call(inputs, training=training)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "momentum": self.momentum}

    def _pair(self, inputs: dict[str, tf.Tensor], stream: str, *, training: bool) -> tf.Tensor:
        if not self.slow:
            return super()._pair(inputs, stream, training=training)
        first = self.embed(inputs["first"], training=training, stream=stream)
        return tf.stack([first, self._slowly(inputs["second"], stream, training=training)])

    def _slowly(self, images: tf.Tensor, stream: str, *, training: bool) -> tf.Tensor:
        with self.stream(stream):
            for network in self.slow:
                images = encode(network, images, training=training)
        return images


def _check(annealing: Any, momentum: float | None) -> None:
    if annealing is None:
        raise InvalidInput("DynACL is ACL with schedules.", expected="an Annealing, or ACL", received="annealing=None")
    if momentum is not None and not 0 <= momentum < 1:
        raise InvalidInput(
            "`momentum` is out of range.", expected="a number in [0, 1), or None", received=f"{momentum=}"
        )
