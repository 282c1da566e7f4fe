"""Fields of a recipe that another field leaves without any effect.

Synopsis:

    settled(one) == settled(other)             # whether two recipes do the same, whatever their idle fields say

A recipe keeps what was written: this is for comparing, not for running.
"""

from __future__ import annotations

from typing import TypeVar

from .parts import Part
from .schema import Finetune, Pretrain, Recipe
from .tasks import EnsembleTask, Task

_Section = TypeVar("_Section", bound=Part)


def settled(recipe: Recipe) -> Recipe:
    """The recipe with its idle fields at their defaults.

    Idle are `finetune.preset`, whose values are all in the recipe; `finetune.beta` unless `how` is trades; in the mode
    plain of `finetune.auxiliary`, where the task is neither learned nor climbed, its `weight` and `copies`; in
    pretraining without an attack `clean_weight`, as the clean loss is then the whole, and an ensemble's
    `diversity_weight`, as the diversity is of the attacked losses.
    """
    pretrain, finetune = recipe.pretrain, recipe.finetune
    changes = {
        "pretrain": _settled_pretrain(pretrain) if pretrain is not None else None,
        "finetune": _settled_finetune(finetune) if finetune is not None else None,
    }
    return recipe.model_copy(update=changes)


def _settled_pretrain(part: Pretrain) -> Pretrain:
    return part if part.attack is not None else part.model_copy(update={"task": _clean_task(part.task)})


def _clean_task(task: Task) -> Task:
    if isinstance(task, EnsembleTask):
        members = task.tasks and tuple(_reset(member, "clean_weight") for member in task.tasks)
        return _reset(task.model_copy(update={"tasks": members}), "diversity_weight")
    # Of the contrastive methods that are clean none has a weight of attacked images.
    return _reset(task, "clean_weight") if "clean_weight" in type(task).model_fields else task


def _settled_finetune(part: Finetune) -> Finetune:
    part = _reset(part, "preset", *(("beta",) if part.how != "trades" else ()))
    if part.auxiliary is not None and part.auxiliary.mode == "plain":
        part = part.model_copy(update={"auxiliary": _reset(part.auxiliary, "weight", "copies")})
    return part


def _reset(section: _Section, *names: str) -> _Section:
    fields = type(section).model_fields
    return section.model_copy(update={name: fields[name].default for name in names})
