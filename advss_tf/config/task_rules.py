"""The conditions between the fields of a puzzle, and between a puzzle and the rest of the recipe; see rules.py.

Synopsis:

    class SelfieTask(Part):
        rules = (task_rules.patches_are_seen,)
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .parts import Fault

if TYPE_CHECKING:
    from . import schema, tasks

STAGE_BEFORE_LAST = {"resnet20": "stage2", "wide_resnet": "stage2", "resnet18": "stage3", "resnet50v2": "stage3"}
"""The last stage but one of each network."""


def auxiliary_suits_training(finetune: schema.Finetune) -> Iterator[Fault]:
    """A task beside the classes belongs to adversarial training, and teaches the encoder."""
    if finetune.auxiliary is None:
        return
    if finetune.how != "adversarial":
        expected, received = "how: adversarial, or auxiliary: null", f"how={finetune.how!r}"
        yield Fault("auxiliary", "is a part of adversarial training", expected, received)
    if finetune.train == "linear":
        expected = "train: partial or full, or auxiliary: null"
        yield Fault("auxiliary", "would teach a frozen encoder nothing", expected, "train='linear'")


def attack_weight_suits_mode(auxiliary: tasks.Auxiliary) -> Iterator[Fault]:
    """Only two modes climb the task's loss together with that of the classes."""
    weight, mode = auxiliary.attack_weight, auxiliary.mode
    if weight is not None and mode not in ("sum", "stronger"):
        expected, received = "null, or mode: sum or stronger", f"attack_weight={weight:g}, mode={mode!r}"
        yield Fault("attack_weight", f"weighs nothing in the attack of mode {mode}", expected, received)


def stack_suits_mode(auxiliary: tasks.Auxiliary) -> Iterator[Fault]:
    """The copies of a stack are attacked together with the image."""
    if auxiliary.copies == "stack" and auxiliary.mode not in ("plain", "sum"):
        received = f"copies='stack', mode={auxiliary.mode!r}"
        yield Fault("copies", "stacks are attacked together with the image", "mode: sum, or copies: drawn", received)
    if auxiliary.copies == "stack" and auxiliary.task.kind == "selfie":
        received = "copies='stack', task.kind='selfie'"
        yield Fault("copies", "needs a task whose puzzles can be counted", "rotation, or copies: drawn", received)


def task_is_weighed_once(auxiliary: tasks.Auxiliary) -> Iterator[Fault]:
    """Clean or attacked is what `mode` says, so `clean_weight` would silently do nothing."""
    weight = getattr(auxiliary.task, "clean_weight", None)
    if weight not in (None, 0.5):
        expected = "no `clean_weight` here: `mode` says which images the task is learned on"
        yield Fault("task.clean_weight", "has no meaning beside the classes", expected, f"clean_weight={weight:g}")


def permutations_exist(task: tasks.JigsawTask) -> Iterator[Fault]:
    """A grid has no more orders than its patches have permutations, of which one is the image as it was."""
    # From 5 x 5 patches on there are more than any recipe asks for, and the number fills lines.
    if task.grid <= 4 and task.num_permutations >= math.factorial(task.grid**2):
        expected = f"at most {math.factorial(task.grid**2) - 1} for grid={task.grid}, the image as it was not counted"
        received = f"num_permutations={task.num_permutations}"
        yield Fault("num_permutations", "is more than the patches have", expected, received)


def patches_are_seen(task: tasks.SelfieTask) -> Iterator[Fault]:
    """Some patches are not masked."""
    if task.num_masked is not None and task.num_masked >= task.grid**2:
        expected = f"below {task.grid**2}, the patches of grid={task.grid}"
        yield Fault("num_masked", "leaves no patch to see", expected, f"num_masked={task.num_masked}")


def tasks_differ(task: tasks.EnsembleTask) -> Iterator[Fault]:
    """An ensemble has each kind of task once."""
    found = [member.kind for member in task.tasks or ()]
    if len(set(found)) < len(found):
        yield Fault("tasks", "have a kind twice", "tasks of different kinds", f"kinds={found}")


def patches_fit(recipe: schema.Recipe) -> Iterator[Fault]:
    """The grid divides the images, where a recipe can know their size, and leaves the patch network pixels to halve."""
    sides = (8, 8) if recipe.data.resize is None and recipe.data.kind == "digits" else recipe.data.resize
    if sides is None:
        return
    for path, task, boundary in _selfies(recipe):
        yield from _patches_fit(task, boundary, sides, path=path, encoder=recipe.encoder.kind)


def _selfies(recipe: schema.Recipe) -> Iterator[tuple[str, tasks.SelfieTask, str | None]]:
    """Every Selfie of a recipe: where it stands, and the last stage that reads its patches if that is said."""
    if recipe.pretrain is not None:
        yield from _selfies_in("pretrain.task", recipe.pretrain.task)
    if recipe.finetune is not None and recipe.finetune.auxiliary is not None:
        yield from _selfies_in("finetune.auxiliary.task", recipe.finetune.auxiliary.task)


def _selfies_in(path: str, task: tasks.Task) -> Iterator[tuple[str, tasks.SelfieTask, str | None]]:
    if task.kind == "selfie":
        yield path, task, task.boundary
    elif task.kind == "ensemble":
        for number, member in enumerate(task.tasks or ()):
            if member.kind == "selfie":
                yield f"{path}.tasks[{number}]", member, member.boundary or task.boundary


def _patches_fit(
    task: tasks.SelfieTask, boundary: str | None, sides: tuple[int, ...], *, path: str, encoder: str
) -> Iterator[Fault]:
    path, received = f"{path}.grid", f"grid={task.grid}, images of {sides[0]}x{sides[1]}"
    # Each stage but the first halves its map; unless it is said, the last stage but one is the last that reads patches.
    stage = re.fullmatch(r"stage(\d+)", boundary or STAGE_BEFORE_LAST[encoder])
    smallest = 2 ** (int(stage[1]) - 1) if stage else 1
    if any(side % task.grid for side in sides):
        yield Fault(path, "does not divide the images into whole patches", "a divisor of both sides", received)
    elif min(sides) // task.grid < smallest:
        expected = f"patches of {smallest} pixels a side or more, or an earlier `boundary`"
        yield Fault(path, "makes patches too small for the patch network", expected, received)
