"""SLF, ALF and AFF, the finetuning of contrastive encoders, and how `refine` trains: one set of values for all.

Synopsis:

    filled({"preset": "slf", "start": "encoder", "epochs": 5})     # what is written stays, what is missing is SLF's

Public code tunes some of these values for single methods and data sets. Here they are the same for all, so that what a
table compares is the encoders. A recipe that is saved has every value written out, beside the name of the preset.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BeforeValidator

from .parts import Fault

if TYPE_CHECKING:
    from . import schema

_ATTACK = {"norm": "linf", "epsilon": "8/255", "step_size": "2/255", "num_steps": 10}


def _stage(learning_rate: float, batch_size: int) -> dict[str, Any]:
    schedule = {"kind": "piecewise", "milestones": [15, 20], "factor": 0.1}
    optimizer = {
        "kind": "sgd", "learning_rate": learning_rate, "momentum": 0.9, "weight_decay": 2e-4, "decay": "all",
        "schedule": schedule,
    }  # fmt: skip
    return {"epochs": 25, "batch_size": batch_size, "optimizer": optimizer}


PRESETS: dict[str, dict[str, Any]] = {
    "slf": {
        "train": "linear", "how": "standard", "attack": None, "eval_attack": _ATTACK, "select": "accuracy",
        **_stage(0.01, 512),
    },
    "alf": {"train": "linear", "how": "adversarial", "attack": _ATTACK, **_stage(0.01, 512)},
    "aff": {"train": "full", "how": "trades", "beta": 6.0, "attack": _ATTACK, **_stage(0.1, 128)},
}  # fmt: skip
"""What each preset says of a section `finetune`: standard linear, adversarial linear, adversarial full finetuning.

The values are those that public finetuning code of this family has for CIFAR-10 most often, AdvCL's for linear heads.
SLF is picked by clean accuracy, the others by robust accuracy, all of them on held-out images.
"""

REFINEMENT: dict[str, dict[str, Any]] = {
    "linear": {"optimizer": {"kind": "sgd", "learning_rate": 0.01, "weight_decay": 1e-4, "decay": "all"}},
    "full": {
        "optimizer": {
            "kind": "sgd", "learning_rate": 0.1, "weight_decay": 1e-4, "decay": "all",
            "schedule": {"kind": "piecewise", "milestones": [10, 20]},
        }
    },
}  # fmt: skip
"""The optimizers of the trainings of `refine`, those of DynACL++'s code."""


def filled(written: Any) -> Any:
    """A section `finetune` with what its preset says where it says nothing itself; anything else as it came.

    Inside of sections the same holds, key by key, with two exceptions: an optimizer or a schedule of another kind is
    the recipe's own, and an attack with an `epsilon` of its own does not get the preset's step. Where `eval_attack` is
    written and `attack` is not, a preset that trains under attack trains in the ball that is measured: its `attack` is
    the written one, over the preset's.

    >>> filled({"preset": "aff", "optimizer": {"learning_rate": 0.05}})["optimizer"]["momentum"]
    0.9
    """
    if not isinstance(written, Mapping) or written.get("preset") is None:
        return written
    word = written["preset"]
    # A word that is not known is a fault by itself; with any preset's values it is the only one that is told.
    preset = PRESETS[word if isinstance(word, str) and word in PRESETS else "slf"]
    measured = written.get("eval_attack")
    if isinstance(measured, Mapping) and preset["attack"] is not None and "attack" not in written:
        written = {**written, "attack": measured}
    return _over(written, preset)


def refilled(name: str) -> BeforeValidator:
    """What gives `refine.linear` or `refine.full` all that it does not say of its optimizer, key by key as `filled`.

    >>> refilled("linear").func({"optimizer": {"learning_rate": 0.05}})["optimizer"]["weight_decay"]
    0.0001
    """
    return BeforeValidator(
        lambda written: _over(written, REFINEMENT[name]) if isinstance(written, Mapping) else written
    )


def preset_is_kept(finetune: schema.Finetune) -> Iterator[Fault]:
    """A preset is a name for what is trained and how; values beside these may be changed."""
    for name in ("train", "how") if finetune.preset else ():
        value, wanted = getattr(finetune, name), PRESETS[str(finetune.preset)][name]
        if value != wanted:
            what = f"is not what the preset {finetune.preset} means"
            yield Fault(name, what, f"{name}: {wanted}, or preset: null", f"{name}={value!r}")


def presets_stand_in(json_schema: dict[str, Any]) -> None:
    """Tells editors that what a section `finetune` must hold may come from a preset."""
    needed = [name for name in json_schema["required"] if all(name in preset for preset in PRESETS.values())]
    json_schema["required"] = [name for name in json_schema["required"] if name not in needed]
    with_preset = {"required": ["preset"], "properties": {"preset": {"type": "string"}}}
    json_schema["anyOf"] = [{"required": needed}, with_preset]


def _over(written: Mapping[str, Any], preset: Mapping[str, Any]) -> dict[str, Any]:
    """`written` over the preset's values, section by section."""
    if "kind" in preset and written.get("kind", preset["kind"]) != preset["kind"]:
        return dict(written)
    values = {**copy.deepcopy(dict(preset)), **written}
    for name, value in written.items():
        if isinstance(value, Mapping) and isinstance(preset.get(name), Mapping):
            values[name] = _over(value, preset[name])
    if "epsilon" in written and "step_size" not in written:
        values.pop("step_size", None)  # a step belongs to its ball
    return values
