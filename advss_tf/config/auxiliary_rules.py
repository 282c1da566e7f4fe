"""What a task beside the classes may be, and what a contrastive one asks of the batch; see rules.py.

Synopsis:

    class Auxiliary(Part):
        rules = (auxiliary_rules.task_is_not_attacked_by_itself,)

How its weights, its mode and its copies go together is in task_rules.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .contrastive_rules import views_of
from .parts import Fault

if TYPE_CHECKING:
    from . import schema, tasks

BESIDE_CLASSES = ("rotation", "jigsaw", "selfie", "ensemble", "simclr")
"""The tasks that can stand beside the classes."""


def task_is_not_attacked_by_itself(auxiliary: tasks.Auxiliary) -> Iterator[Fault]:
    """One attack moves both heads; the other methods are attacks on views of their own by definition."""
    kind = auxiliary.task.kind
    if kind not in BESIDE_CLASSES:
        what = "is an attack on views by definition, and beside the classes one attack moves both heads"
        expected = f"one of {list(BESIDE_CLASSES)} (simclr is what it attacks), or pretrain.task: {kind}"
        yield Fault("task.kind", what, expected, f"kind={kind!r}")


def attacked_views_are_pixels(auxiliary: tasks.Auxiliary) -> Iterator[Fault]:
    """A mode attacks the views themselves, and a ball of pixels has no meaning around high frequencies."""
    for place, view in views_of(auxiliary.task):
        if auxiliary.mode == "own" and view.kind == "high_frequency":
            what = "is no image, and mode own attacks the views themselves"
            yield Fault(f"task.{place}", what, "another view, or another mode", "kind='high_frequency', mode='own'")


def task_is_weighed_once(auxiliary: tasks.Auxiliary) -> Iterator[Fault]:
    """Clean or attacked is what `mode` says, and there is no diversity: such weights would silently do nothing."""
    task = auxiliary.task
    members = enumerate(getattr(task, "tasks", None) or ())
    for path, one in [("task", task), *((f"task.tasks[{number}]", member) for number, member in members)]:
        weight = getattr(one, "clean_weight", None)
        if weight not in (None, 0.5):
            expected = "no `clean_weight` here: `mode` says which images the task is learned on"
            received = f"clean_weight={weight:g}"
            yield Fault(f"{path}.clean_weight", "has no meaning beside the classes", expected, received)
    weight = getattr(task, "diversity_weight", None)
    if weight not in (None, 0.0, 0.1):
        expected, received = "no `diversity_weight` here, or 0", f"diversity_weight={weight:g}"
        yield Fault("task.diversity_weight", "is of an attack of the task's own", expected, received)


def batch_shows_negatives(finetune: schema.Finetune) -> Iterator[Fault]:
    """NT-Xent tells an image from the others of its batch: there are some, and none is in another part of it."""
    auxiliary = finetune.auxiliary
    if auxiliary is None or not learns(auxiliary) or auxiliary.task.kind != "simclr":
        return
    for name, found, wrong, what, expected in (
        ("batch_size", finetune.batch_size, finetune.batch_size < 2, "leaves an image no negatives", "2 or more"),
        (
            "micro_batches", finetune.micro_batches, finetune.micro_batches > 1,
            "would part an image from its negatives", "1; more replicas are exact",
        ),
    ):  # fmt: skip
        if wrong:
            yield Fault(name, what, expected, f"{name}={found}, auxiliary.task.kind='simclr'")


def learns(auxiliary: tasks.Auxiliary | None) -> bool:
    """Whether the task is learned at all."""
    return auxiliary is not None and auxiliary.mode != "plain" and auxiliary.weight > 0
