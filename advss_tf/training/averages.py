"""A copy of a network that follows it: its weights are a moving average, its running statistics its own.

Synopsis:

    slow = copied(encoder)
    follow(slow.trainable_variables, encoder.trainable_variables, momentum=0.99)     # in a step, after the optimizer
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from advss_tf.encoders.handoff import passed_on


def copied(network: keras.Model) -> keras.Model:
    """A network of the same layers, with variables of its own that begin as those of `network`."""
    copy = keras.models.clone_model(network)
    copy.set_weights(network.get_weights())
    return passed_on(network, copy)


def follow(slow: Sequence[Any], fast: Sequence[Any], *, momentum: float) -> None:
    """Moves each slow variable: `slow = momentum · slow + (1 - momentum) · fast`, on all replicas alike.

    Args:
        slow: Keras variables.
        fast: As many, of the same shapes; a step has updated them.
        momentum: The share that is kept, in [0, 1].
    """

    def moved(variable: tf.Variable, value: tf.Tensor) -> Any:
        return variable.assign(momentum * variable + (1.0 - momentum) * value)

    def move(strategy: tf.distribute.Strategy) -> None:
        for one, other in zip(slow, fast, strict=True):
            strategy.extended.update(one.value, moved, args=(other.value,), group=False)

    # As Keras' optimizers do: what all replicas have in common is updated once, where they meet.
    tf.__internal__.distribute.interim.maybe_merge_call(move, tf.distribute.get_strategy())
