"""What the options of a joint classifier may be, and what its pretext model has to be able to do.

Synopsis:

    options = checked_options(mode="sum", weight=0.5, copies="drawn")            # attack_weight 0.5, the rest as well
    place_of(**options)                                                          # "attacked": where the task is learned
    checked_auxiliary(Rotation(encoder), encoder, mode="sum", copies="drawn")    # or says what is wrong
"""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import keras

from advss_tf.data.view_kinds import view_of
from advss_tf.errors import InvalidInput, one_of
from advss_tf.training import RobustModel

MODES = ("plain", "clean", "attacked", "own", "sum", "stronger")
"""T0 to T5 of `JointClassifier`, in this order."""
CLIMBING = ("sum", "stronger")
"""The modes whose attack looks at the loss of the pretext task beside that of the classes."""
COPIES = ("drawn", "stack")
OPTIONS = ("mode", "weight", "class_weight", "attack_weight", "attack_class_weight", "auxiliary_at", "copies")
"""What `checked_options` takes and gives."""
PLACES = ("clean", "attacked")
"""Where the task of a mode of `CLIMBING` may be learned."""

_RENDERING = ("attacked", *CLIMBING)


def checked_options(
    *,
    mode: str,
    weight: float,
    copies: str,
    class_weight: float = 1.0,
    attack_weight: float | None = None,
    attack_class_weight: float | None = None,
    auxiliary_at: str | None = None,
) -> dict[str, Any]:
    """The options by name, those of the attack and the place resolved in the modes that have them, else None.

    Raises:
        InvalidInput: if one is not what it may be, or does not go with the mode.
    """
    one_of("mode", mode, MODES)
    one_of("copies", copies, COPIES)
    if auxiliary_at is not None:
        one_of("auxiliary_at", auxiliary_at, PLACES)
    weights = {"weight": weight, "attack_weight": attack_weight, "attack_class_weight": attack_class_weight}
    for name, value in weights.items():
        if value is not None and not (_is_finite(value) and value >= 0):
            raise InvalidInput(f"`{name}` is no weight.", expected="a number >= 0", received=f"{name}={value!r}")
    if not (_is_finite(class_weight) and class_weight > 0):
        expected = "a number > 0: without their loss the head of the classes would never be trained"
        raise InvalidInput("`class_weight` is no weight.", expected=expected, received=f"class_weight={class_weight!r}")
    _check_copies(mode, copies, auxiliary_at)
    options = {"mode": mode, "weight": float(weight), "class_weight": float(class_weight), "copies": copies}
    given: dict[str, Any] = {
        "attack_weight": attack_weight,
        "attack_class_weight": attack_class_weight,
        "auxiliary_at": auxiliary_at,
    }
    if mode in CLIMBING:
        return options | _climbing(mode, weight, **given)
    _refuse_in_vain(mode, given)
    return options | given


def place_of(*, mode: str, auxiliary_at: str | None, **others: Any) -> str:
    """Where the task is learned: `"clean"`, `"attacked"`, `"own"`, or `"plain"` for nowhere."""
    del others
    return (auxiliary_at or "attacked") if mode in CLIMBING else mode


def _climbing(
    mode: str,
    weight: float,
    *,
    attack_weight: float | None,
    attack_class_weight: float | None,
    auxiliary_at: str | None,
) -> dict[str, Any]:
    """The options that are resolved where the attack looks at both losses."""
    if not weight and (attack_weight or mode == "stronger"):
        raise InvalidInput(
            "The attack would climb the loss of a head that is never trained.",
            expected="weight > 0, or mode='sum' with attack_weight=None or 0",
            received=f"{weight=}, {attack_weight=}, {mode=}",
        )
    of_task = float(weight if attack_weight is None else attack_weight)
    of_classes = 1.0 if attack_class_weight is None else float(attack_class_weight)
    if not of_task and not of_classes:
        raise InvalidInput(
            f"The attack of {mode=} has nothing to climb.",
            expected="attack_class_weight > 0 or attack_weight > 0",
            received=f"attack_class_weight={of_classes:g}, attack_weight={of_task:g}",
        )
    return {"attack_weight": of_task, "attack_class_weight": of_classes, "auxiliary_at": auxiliary_at or "attacked"}


def _refuse_in_vain(mode: str, given: dict[str, Any]) -> None:
    """Refuses what only the modes of `CLIMBING` heed."""
    for name, value in given.items():
        if value is not None:
            raise InvalidInput(
                f"`{name}` means nothing to {mode=}, whose attack climbs no sum.",
                expected=f"{name}=None, or a mode of {list(CLIMBING)}",
                received=f"{name}={value!r}",
            )


def _check_copies(mode: str, copies: str, auxiliary_at: str | None) -> None:
    if copies == "stack" and (mode not in ("plain", "sum") or auxiliary_at == "clean"):
        raise InvalidInput(
            "A stack is attacked as one, and learned as it was attacked.",
            expected="mode='sum' (or 'plain', which has no copies) and auxiliary_at=None or 'attacked', "
            "or copies='drawn'",
            received=f"copies='stack', mode={mode!r}, auxiliary_at={auxiliary_at!r}",
        )


def _is_finite(value: Any) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


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
    if auxiliary.attack is not None and hasattr(auxiliary, "views"):
        _refuse(
            "is an attack on views by definition, and beside the classes one attack moves both heads",
            "without one, such as SimCLR(encoder); or pretrain with it, and start from its encoder",
            f"a {type(auxiliary).__name__}",
        )
    for name in ("attack", "eval_attack"):
        if getattr(auxiliary, name) is not None:
            _refuse(
                "has an attack",
                f"with {name}=None: the classifier's moves both",
                f"{name}={getattr(auxiliary, name)!r}",
            )
    _check_what_is_ignored(auxiliary, copies)
    if mode == "own" and any(view_of(view).kind == "high_frequency" for view in getattr(auxiliary, "views", ())):
        _refuse(
            "has a view of high frequencies, which are no pixels, and mode='own' attacks the views themselves",
            "of other views, or another mode",
            f"views={auxiliary.views}",
        )
    lacking = [verb for verb in _verbs(mode, copies) if not hasattr(auxiliary, verb)]
    if lacking:
        _refuse(f"lacks what mode={mode!r}, copies={copies!r} needs", f"with {lacking}", type(auxiliary).__name__)
    if mode != "plain" and encoder.variables and not _teaches(auxiliary, encoder):
        _refuse("would teach the encoder nothing", "that reads layers which are trained", "all of them frozen")


def _teaches(auxiliary: RobustModel, encoder: keras.Model) -> bool:
    """Whether some of what the task goes through is a part of the encoder that is trained."""
    trained = {id(variable) for variable in encoder.trainable_variables}
    return any(id(variable) in trained for network in auxiliary.networks for variable in network.variables)


def _check_what_is_ignored(auxiliary: Any, copies: str) -> None:
    """Refuses options of the task, or of those that it consists of, that would silently do nothing."""
    for task in getattr(auxiliary, "puzzles", {None: auxiliary}).values():
        if getattr(task, "clean_weight", 0.5) != 0.5:
            _refuse(
                "has a `clean_weight`, which has no meaning beside the classes",
                "with the default: `mode` says which images the task is learned on",
                f"clean_weight={task.clean_weight:g}",
            )
    if getattr(auxiliary, "diversity_weight", 0.0) not in (0.0, 0.1):
        _refuse(
            "has a `diversity_weight`, which is of an attack of its own",
            "with the default or 0: there is no diversity beside the classes",
            f"diversity_weight={auxiliary.diversity_weight:g}",
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
