"""Fields of a recipe that another field leaves without any effect.

Synopsis:

    settled(one) == settled(other)             # whether two recipes do the same, whatever their idle fields say

A recipe keeps what was written: this is for comparing, not for running.
"""

from __future__ import annotations

from typing import TypeVar

from .contrastive_tasks import DualStream, Multiview
from .kinds import Data
from .parts import Part
from .schema import Finetune, Pretrain, Recipe, Refine
from .tasks import Auxiliary, EnsembleTask, Task

AUGMENTATION = ("flip", "crop_padding")
"""What `pretrain` may say for itself, else as `data` says."""

_Section = TypeVar("_Section", bound=Part)


def settled(recipe: Recipe) -> Recipe:
    """The recipe with its idle fields at their defaults.

    Idle are `finetune.preset`, whose values are all in the recipe; `finetune.beta` unless `how` is trades;
    `finetune.freeze_random`, which allows what `start` and `train` say; in the mode plain of `finetune.auxiliary`,
    where the task is neither learned nor climbed, its `weight` and `copies`, in other modes what says the same as null,
    and the `diversity_weight` of an ensemble there;
    in pretraining without an attack `clean_weight`, as the clean loss is then the whole, and an ensemble's
    `diversity_weight`, as the diversity is of the attacked losses; an ensemble's `own_norms` without Selfie, whose they
    would be; `pretrain.flip` and `pretrain.crop_padding` where `data` says the same; in every training
    `micro_batch_norm`, which allows what `micro_batches` says. Of contrastive methods `invariance` where no invariance
    has a weight, `pseudo_weight` and `perturbation` without pseudo-labels, `tau_plus` without hard negatives, and
    `cache`, as the gradient is the same.

    `pretrain.probe` is not: it changes no weight, but a run that took over another's pretraining would have numbers in
    its history that are not those of its own probe.
    """
    pretrain, refine, finetune = recipe.pretrain, recipe.refine, recipe.finetune
    changes = {
        "pretrain": _settled_pretrain(pretrain, recipe.data) if pretrain is not None else None,
        "refine": _settled_refine(refine) if refine is not None else None,
        "finetune": _settled_finetune(finetune) if finetune is not None else None,
    }
    return recipe.model_copy(update=changes)


def _settled_pretrain(part: Pretrain, data: Data) -> Pretrain:
    task = part.task if part.attack is not None else _clean_task(part.task)
    part = _reset(
        part, "micro_batch_norm", *(name for name in AUGMENTATION if getattr(part, name) == getattr(data, name))
    )
    return part.model_copy(update={"task": _settled_task(task)})


def _settled_task(task: Task) -> Task:
    if isinstance(task, EnsembleTask) and not any(member.kind == "selfie" for member in task.members):
        return _reset(task, "own_norms")
    asymmetry = getattr(task, "asymmetry", None)
    if asymmetry is not None and asymmetry.beta is None:
        task = task.model_copy(update={"asymmetry": _reset(asymmetry, "tau_plus")})
    if isinstance(task, DualStream) and not task.sir_weight and not task.air_weight:
        return _reset(task, "invariance")
    if isinstance(task, Multiview):
        return _reset(task, "cache", *(("pseudo_weight", "perturbation") if task.pseudo_labels is None else ()))
    return task


def _clean_task(task: Task) -> Task:
    if isinstance(task, EnsembleTask):
        members = task.tasks and tuple(_reset(member, "clean_weight") for member in task.tasks)
        return _reset(task.model_copy(update={"tasks": members}), "diversity_weight")
    # Of the contrastive methods that are clean none has a weight of attacked images.
    return _reset(task, "clean_weight") if "clean_weight" in type(task).model_fields else task


def _settled_refine(part: Refine) -> Refine:
    return part.model_copy(
        update={name: _reset(getattr(part, name), "micro_batch_norm") for name in ("linear", "full")}
    )


def _settled_finetune(part: Finetune) -> Finetune:
    part = _reset(part, "preset", "freeze_random", "micro_batch_norm", *(("beta",) if part.how != "trades" else ()))
    return part.model_copy(update={"auxiliary": part.auxiliary and _settled_auxiliary(part.auxiliary)})


def _settled_auxiliary(part: Auxiliary) -> Auxiliary:
    part = part.model_copy(update={"task": _clean_task(part.task)})
    if part.mode == "plain":
        return _reset(part, "weight", "copies")
    null = {"attack_weight": part.weight, "attack_class_weight": 1, "auxiliary_at": "attacked"}
    return _reset(part, *(name for name, meaning in null.items() if getattr(part, name) == meaning))


def _reset(section: _Section, *names: str) -> _Section:
    fields = type(section).model_fields
    return section.model_copy(update={name: fields[name].default for name in names})
