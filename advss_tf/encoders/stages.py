"""Where an encoder can be cut: its stages, the default boundary, and the layers up to a mark.

Synopsis:

    stages(encoder)                       # ("stage1", "stage2", "stage3")
    boundary(encoder)                     # "stage2": the last but one
    layers_through(encoder, "stage2")     # the layers from the input to the end of stage 2
    fork_after(encoder, "stage2", role="rotation")      # a second encoder on the same first two stages

In partial finetuning the layers through the boundary are frozen, and in Chen et al. (CVPR 2020, arXiv 2003.12862)
they are the part that pretraining hands over.
"""

from __future__ import annotations

import re
from typing import Any

import keras

from advss_tf.encoders.handoff import passed_on
from advss_tf.encoders.normalization import BranchedBatchNormalization
from advss_tf.errors import InvalidInput, nearest
from advss_tf.randomness import derived_seed

_NORMS = (keras.layers.BatchNormalization, BranchedBatchNormalization)

_STAGE = re.compile(r"(stage\d+)(_|$)")


def stages(encoder: keras.Model) -> tuple[str, ...]:
    """The encoder's stages in order, read from layer names such as `stage1_block2_conv1`; empty if it has none."""
    found = [match[1] for layer in encoder.layers if (match := _STAGE.match(layer.name))]
    return tuple(dict.fromkeys(found))


def boundary(encoder: keras.Model) -> str:
    """The stage at which the encoder is split unless something else is asked for: the last but one.

    Raises:
        InvalidInput: if the encoder has fewer than two stages.
    """
    found = stages(encoder)
    if len(found) < 2:
        raise InvalidInput(
            f"The encoder {encoder.name!r} has no default boundary: it needs two stages or more.",
            expected="layers named `stage1_...`, `stage2_...`, or the name of a layer to split at",
            received=f"stages={list(found)!r}",
        )
    return found[-2]


def layers_through(encoder: keras.Model, mark: str) -> list[keras.layers.Layer]:
    """The layers of `encoder` in topological order, up to and including the last one that bears `mark`.

    Args:
        encoder: A Functional or Sequential model.
        mark: A layer's name, or what its name begins with before an underscore, such as a stage.

    Returns:
        The layers; each comes after those whose outputs it reads.

    Raises:
        InvalidInput: if the model's layers have no order, or none bears the mark.
    """
    if not isinstance(encoder, keras.Sequential | keras.Function):
        raise InvalidInput(
            "The layers of a subclassed model have no known order.",
            expected="a Functional or Sequential model",
            received=f"encoder={type(encoder).__name__}",
        )
    names = [layer.name for layer in encoder.layers]
    bearing = [i for i, name in enumerate(names) if name == mark or name.startswith(f"{mark}_")]
    if not bearing:
        _refuse_mark(encoder, mark, names)
    return encoder.layers[: bearing[-1] + 1]


def reset_after(encoder: keras.Model, mark: str) -> keras.Model:
    """A copy of the encoder whose layers after `mark` have fresh weights, as Chen et al. 2020 finetune.

    The layers through `mark` keep their weights and running statistics. The others start where the encoder itself once
    started: their initialisers carry its seed.

    Raises:
        InvalidInput: if no layer bears the mark.
    """
    kept = [layer.name for layer in layers_through(encoder, mark)]
    fresh = keras.models.clone_model(encoder)
    for name in kept:
        fresh.get_layer(name).set_weights(encoder.get_layer(name).get_weights())
    return passed_on(encoder, fresh)


def fork_after(encoder: keras.Model, mark: str, *, role: str, own_norms: bool = False) -> keras.Model:
    """A second encoder on the same trunk: the layers through `mark` are `encoder`'s own, those after it are new.

    Whoever trains one of the two moves the trunk of both, running statistics included (Chen et al. 2020: the pretext
    tasks of an ensemble share a trunk, and have last stages of their own).

    Args:
        encoder: A Functional or Sequential model.
        mark: See `layers_through`.
        role: What the fork is for. New layers start from the seeds of `encoder`'s and this word, so forks with
            different words start differently.
        own_norms: Whether batch norms before the mark are the fork's own as well, starting with `encoder`'s weights:
            for whoever shows the fork what has other statistics, such as patches.

    Raises:
        InvalidInput: if the model's layers have no order, or none bears the mark.
    """
    trunk = layers_through(encoder, mark)
    norms = [layer for layer in trunk if own_norms and isinstance(layer, _NORMS)]
    shared = {id(layer) for layer in trunk if layer not in norms}

    def of(layer: Any) -> Any:
        return layer if id(layer) in shared else type(layer).from_config(_reseeded(layer.get_config(), role))

    fork = keras.models.clone_model(encoder, clone_function=of)
    for norm in norms:
        fork.get_layer(norm.name).set_weights(norm.get_weights())
    return fork


def _reseeded(config: Any, role: str) -> Any:
    """A layer's configuration with every seed in it changed by `role`."""
    if isinstance(config, dict):
        whole = {key: _reseeded(value, role) for key, value in config.items()}
        return {**whole, "seed": derived_seed(config["seed"], role)} if isinstance(config.get("seed"), int) else whole
    return [_reseeded(entry, role) for entry in config] if isinstance(config, list) else config


def _refuse_mark(encoder: keras.Model, mark: str, names: list[str]) -> None:
    marks = list(dict.fromkeys([*stages(encoder), *names]))
    near = nearest(mark, marks)
    hint = f" (did you mean {near!r}?)" if near else ""
    shown = marks if len(marks) <= 12 else [*marks[:12], "..."]
    raise InvalidInput(
        f"No layer of {encoder.name!r} bears this mark{hint}.", expected=f"one of {shown}", received=f"mark={mark!r}"
    )
