"""Optimizers with the weight decay that the papers mean, and learning-rate schedules counted in steps.

Synopsis:

    optimizer = SGD(cosine(0.1, num_steps=1000, warmup_steps=100), momentum=0.9, weight_decay=5e-4, decay="kernels")

Keras' own `weight_decay` is decoupled (AdamW's), also for SGD. The papers' SGD adds `weight_decay * w` to the gradient,
before momentum; with momentum 0.9 the two differ by a factor of ten in effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from advss_tf.errors import InvalidInput, one_of


class _Choices:
    """Which variables decay, and clipping by the norm of the global gradient; shared by the optimizers below."""

    def __init__(self, *args: Any, decay: str = "kernels", clip_norm: float | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.decay = one_of("decay", decay, ("kernels", "all"))
        self.clip_norm = clip_norm
        if clip_norm is not None and not clip_norm > 0:
            raise InvalidInput("`clip_norm` is not a norm.", expected="a number > 0 or None", received=f"{clip_norm=}")

    def _use_weight_decay(self, variable: Any) -> bool:
        # Biases and the weights of normalisation are the vectors; kernels have at least two axes. So have the biases of
        # Keras' attention, (heads, size), which therefore go with its kernels.
        return self.decay == "all" or len(variable.shape) > 1

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
        summed = super()._all_reduce_sum_gradients(grads_and_vars)  # type: ignore[misc]
        if self.clip_norm is None:
            return summed
        gradients, variables = zip(*summed, strict=True)
        return list(zip(tf.clip_by_global_norm(gradients, self.clip_norm)[0], variables, strict=True))

    def finalize_variable_values(self, var_list: Any) -> None:
        """Nothing: with `use_ema`, weights and averages stay apart, so that a later `fit` can go on."""

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()  # type: ignore[misc]
        return {**config, "decay": self.decay, "clip_norm": self.clip_norm}


@keras.saving.register_keras_serializable(package="advss_tf")
class SGD(_Choices, keras.optimizers.SGD):
    """SGD whose weight decay is part of the gradient, `g + weight_decay * w`; momentum and the step are Keras'.

    The velocity holds each gradient times the rate of its own step. PyTorch's multiplies all of them by the present
    rate: where the rate changes, the two go apart for some 1 / (1 - momentum) steps.

    Args:
        learning_rate: Number or schedule.
        momentum: Momentum.
        nesterov: Whether to look ahead.
        weight_decay: Factor of the L2 term, as in the papers.
        decay: `"kernels"` spares biases and normalisation weights (but the biases of Keras' attention, which have two
            axes), `"all"` spares nothing (the papers' code).
        clip_norm: Largest norm of the global gradient (the sum over all replicas), or None.
        **kwargs: As for `keras.optimizers.SGD`, such as `use_ema`.
    """

    def update_step(self, gradient: tf.Tensor, variable: Any, learning_rate: Any) -> None:
        if self.weight_decay and self._use_weight_decay(variable):
            gradient = gradient + tf.cast(self.weight_decay, gradient.dtype) * variable
        super().update_step(gradient, variable, learning_rate)

    def _apply_weight_decay(self, variables: Any) -> None:
        """Nothing: the decay is in the gradient already."""


@keras.saving.register_keras_serializable(package="advss_tf")
class AdamW(_Choices, keras.optimizers.AdamW):
    """Keras' AdamW (decoupled decay) with `decay` and `clip_norm` as in `SGD`."""


@keras.saving.register_keras_serializable(package="advss_tf")
class Piecewise(keras.optimizers.schedules.LearningRateSchedule):
    """A constant rate that is multiplied by `factor` at each boundary, after a linear warm-up.

    Args:
        learning_rate: The rate after the warm-up.
        boundaries: Steps at which the rate changes, increasing; none for a constant rate.
        factor: What the rate is multiplied by at each boundary.
        warmup_steps: Steps in which the rate grows from 0 to `learning_rate`.
    """

    def __init__(
        self, learning_rate: float, *, boundaries: Sequence[int] = (), factor: float = 0.1, warmup_steps: int = 0
    ) -> None:
        self.learning_rate, self.boundaries = learning_rate, [int(step) for step in boundaries]
        self.factor, self.warmup_steps = factor, int(warmup_steps)

    def __call__(self, step: Any) -> tf.Tensor:
        step = tf.cast(step, tf.float32)
        passed = sum((tf.cast(step >= boundary, tf.float32) for boundary in self.boundaries), tf.constant(0.0))
        rate = self.learning_rate * self.factor**passed
        return rate * tf.minimum(1.0, (step + 1) / (self.warmup_steps + 1))

    def get_config(self) -> dict[str, Any]:
        names = ("learning_rate", "boundaries", "factor", "warmup_steps")
        return {name: getattr(self, name) for name in names}


def cosine(
    learning_rate: float, *, num_steps: int, warmup_steps: int = 0, final_learning_rate: float = 0.0
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Half a cosine from `learning_rate` to `final_learning_rate` at `num_steps`, after a linear warm-up from 0."""
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warmup_steps else learning_rate,
        decay_steps=max(1, num_steps - warmup_steps),
        alpha=final_learning_rate / learning_rate,
        warmup_target=learning_rate if warmup_steps else None,
        warmup_steps=warmup_steps,
    )
