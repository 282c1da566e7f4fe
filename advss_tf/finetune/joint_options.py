"""What the options of a joint classifier may be, and what its pretext model has to be able to do.

Synopsis:

    options = checked_options(mode="sum", weight=0.5, attack_weight=None, copies="drawn")    # attack_weight 0.5
    checked_auxiliary(Rotation(encoder), encoder, mode="sum", copies="drawn")                # or says what is wrong
"""

from __future__ import annotations

import math
from typing import Any

import keras

from advss_tf.errors import InvalidInput, one_of
from advss_tf.training import RobustModel

MODES = ("plain", "clean", "attacked", "own", "sum", "stronger")
"""T0 to T5 of `JointClassifier`, in this order."""
CLIMBING = ("sum", "stronger")
"""The modes whose attack looks at the loss of the pretext task beside that of the classes."""
COPIES = ("drawn", "stack")

_RENDERING = ("attacked", *CLIMBING)


def checked_options(*, mode: str, weight: float, attack_weight: float | None, copies: str) -> dict[str, Any]:
    """The options by name; an attack weight that is not given is the weight of training, where there is one.

    Raises:
        InvalidInput: if one is not what it may be, or does not go with the mode.
    """
    one_of("mode", mode, MODES)
    one_of("copies", copies, COPIES)
    for name, value in (("weight", weight), ("attack_weight", attack_weight)):
        if value is not None and not (value >= 0 and math.isfinite(value)):
            raise InvalidInput(f"`{name}` is no weight.", expected="a number >= 0", received=f"{name}={value!r}")
    if attack_weight is not None and mode not in CLIMBING:
        raise InvalidInput(
            f"The attack of mode={mode!r} has no term for `attack_weight`.",
            expected=f"attack_weight=None, or a mode of {list(CLIMBING)}",
            received=f"attack_weight={attack_weight!r}",
        )
    if copies == "stack" and mode not in ("plain", "sum"):
        raise InvalidInput(
            "A stack is attacked as one: it has one mode.",
            expected="mode='sum' (or 'plain', which has no copies), or copies='drawn'",
            received=f"copies='stack', mode={mode!r}",
        )
    if not weight and attack_weight:
        raise InvalidInput(
            "The attack would climb the loss of a head that is never trained.",
            expected="weight > 0, or attack_weight=None or 0",
            received=f"weight={weight!r}, attack_weight={attack_weight!r}",
        )
    climbed = float(weight if attack_weight is None else attack_weight) if mode in CLIMBING else None
    return {"mode": mode, "weight": float(weight), "attack_weight": climbed, "copies": copies}


def checked_auxiliary(auxiliary: Any, encoder: keras.Model, *, mode: str, copies: str) -> None:
    """Refuses a pretext model that cannot stand beside a classifier on `encoder`.

    Raises:
        InvalidInput: if it is no robust model, is on another encoder, has an attack or an option that means nothing
            here, lacks a verb that the mode needs, or if nothing that it reads is trained.
    """
    if not isinstance(auxiliary, RobustModel):
        _refuse("is not a pretext model", "such as Rotation(encoder)", f"a {type(auxiliary).__name__}")
    if auxiliary.encoder is not encoder:
        _refuse("is on another encoder", "made with the classifier's own `encoder`", f"{auxiliary.encoder.name!r}")
    for name in ("attack", "eval_attack"):
        if getattr(auxiliary, name) is not None:
            _refuse(
                "has an attack",
                f"with {name}=None: the classifier's moves both",
                f"{name}={getattr(auxiliary, name)!r}",
            )
    _check_what_is_ignored(auxiliary, copies)
    lacking = [verb for verb in _verbs(mode, copies) if not hasattr(auxiliary, verb)]
    if lacking:
        _refuse(f"lacks what mode={mode!r}, copies={copies!r} needs", f"with {lacking}", type(auxiliary).__name__)
    network = auxiliary.network
    if mode != "plain" and network.variables and not network.trainable_variables:
        _refuse("would teach the encoder nothing", "that reads layers which are trained", "all of them frozen")


def _check_what_is_ignored(auxiliary: Any, copies: str) -> None:
    """Refuses options of the task that would silently do nothing."""
    if getattr(auxiliary, "clean_weight", 0.5) != 0.5:
        _refuse(
            "has a `clean_weight`, which has no meaning beside the classes",
            "with the default: `mode` says which images the task is learned on",
            f"clean_weight={auxiliary.clean_weight:g}",
        )
    for name, stacked in (("identity_share", 0.0), ("balanced", True)) if copies == "stack" else ():
        found = getattr(auxiliary, name, stacked)
        if found != stacked:
            _refuse("draws puzzles, and a stack has each once", f"with {name}={stacked}", f"{name}={found}")


def _verbs(mode: str, copies: str) -> tuple[str, ...]:
    if mode == "plain":
        return ()
    stack = ("head", "num_answers") if copies == "stack" else ()
    return ("solve", *stack, *(("render",) if mode in _RENDERING else ()))


def _refuse(what: str, expected: str, received: str) -> None:
    raise InvalidInput(
        f"`auxiliary` {what}.", expected=f"a pretext model {expected}", received=f"auxiliary: {received}"
    )
