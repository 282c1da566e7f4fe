"""The weights of one network in another of the same layers, which may have batch-norm branches.

Synopsis:

    copy_weights(teacher, student)        # every branch of the student's batch norms begins as the teacher's norm
"""

from __future__ import annotations

import keras

from advss_tf.encoders.handoff import assign_strictly, variables_by_path
from advss_tf.encoders.normalization import BranchedBatchNormalization


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Gives `target` the value of every variable of `source`, by path, or raises and changes nothing.

    Args:
        source: A built Keras model without batch-norm branches.
        target: Another of the same layers, by name. Where it has a `BranchedBatchNormalization` and `source` the plain
            norm of that name, each branch gets the values of that norm.

    Raises:
        InvalidInput: if a variable of either has no counterpart, or one of another shape; all are named.
    """
    values = {path: variable.numpy() for path, variable in variables_by_path(source).items()}
    plain = {path: _without_branch(path) for path in _branched_paths(target)}
    wanted = {path: plain.get(path, path) for path in variables_by_path(target)}
    taken = {path: values[name] for path, name in wanted.items() if name in values}
    unused = {path: value for path, value in values.items() if path not in wanted.values()}
    assign_strictly(target, {**taken, **unused})


def _branched_paths(model: keras.Model) -> list[str]:
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, BranchedBatchNormalization)]
    return [variable.path for layer in layers for norm in layer.norms for variable in norm.variables]


def _without_branch(path: str) -> str:
    """`stage1_norm/clean/gamma` as `stage1_norm/gamma`."""
    *layer, _, variable = path.split("/")
    return "/".join([*layer, variable])
