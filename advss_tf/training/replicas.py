"""What the replicas of a step agree on at its end, so that all of them go on as one; of a single replica, nothing.

Synopsis:

    gradients = same_verdict(gradients, optimizer)      # all replicas take the step, or none does
    optimizer.apply(gradients, variables)
    mean_statistics(model)                              # batch norm's running statistics are those of all replicas

Call them in the step itself, outside every loop of it: replicas cannot meet inside one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf


def same_verdict(gradients: Sequence[Any], optimizer: Any) -> list[Any]:
    """The gradients, spoilt on all replicas where they are not finite on one: then all skip the step.

    Keras' `LossScaleOptimizer`, of `mixed_float16`, looks at gradients before they are summed over the replicas, and
    takes the word of the first one: an overflow on another would reach the weights. Other optimizers skip nothing.

    Args:
        gradients: This replica's gradients; None for a variable that the loss does not depend on.
        optimizer: What they are for.

    Returns:
        The gradients: as they are on one replica and for other optimizers; else NaN is added to the first of them if
        any replica has one that is not finite.
    """
    replica = tf.distribute.get_replica_context()
    first = next((number for number, gradient in enumerate(gradients) if gradient is not None), None)
    skips = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    if replica.num_replicas_in_sync == 1 or first is None or not skips:
        return list(gradients)
    dense: list[Any] = [gradient if gradient is None else tf.convert_to_tensor(gradient) for gradient in gradients]
    bad = [tf.cast(~tf.reduce_all(tf.math.is_finite(one)), tf.float32) for one in dense if one is not None]
    count = replica.all_reduce(tf.distribute.ReduceOp.SUM, tf.add_n(bad))
    dense[first] += tf.cast(tf.where(count > 0, np.nan, 0.0), dense[first].dtype)
    return dense


def mean_statistics(model: keras.Model) -> None:
    """Sets batch norm's running statistics to their mean over the replicas, in one reduction; nothing on one replica.

    Each replica has moved them by its own images. A checkpoint or an export holds one replica's, so they must be the
    same everywhere. Concerned are the trained `keras.layers.BatchNormalization` of the model, also inside branches,
    nested networks and subclasses of it; synchronised ones agree already, and frozen ones do not move.

    Args:
        model: The model whose weights a step moves, called by each replica in the step.
    """
    replica = tf.distribute.get_replica_context()
    if replica.num_replicas_in_sync == 1:
        return
    by_dtype: dict[str, list[Any]] = {}
    for variable in _moving(model):
        by_dtype.setdefault(variable.dtype, []).append(variable)
    for variables in by_dtype.values():
        packed = tf.concat([tf.reshape(variable, (-1,)) for variable in variables], 0)
        means = replica.all_reduce(tf.distribute.ReduceOp.MEAN, packed)
        sizes = [variable.shape.num_elements() for variable in variables]
        for variable, mean in zip(variables, tf.split(means, sizes), strict=True):
            variable.assign(tf.reshape(mean, variable.shape))


def _moving(model: keras.Model) -> list[Any]:
    """The running statistics that each replica moves by itself."""
    layers = {id(layer): layer for layer in model._flatten_layers()}.values()
    norms = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    return [
        variable
        for norm in norms
        if norm.trainable and not norm.synchronized
        for variable in norm.non_trainable_variables
        if keras.backend.is_float_dtype(variable.dtype)
    ]
