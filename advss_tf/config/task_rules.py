"""The conditions between the fields of a puzzle, and between a puzzle and the rest of the recipe; see rules.py.

What depends on the sizes of images and on the stages of the network is in fitting_rules.py.

Synopsis:

    class SelfieTask(Part):
        rules = (task_rules.patches_are_seen,)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .parts import Fault

if TYPE_CHECKING:
    from . import schema, tasks


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


_SUMMING = ("sum", "stronger")


def attack_weighs_a_sum(auxiliary: tasks.Auxiliary) -> Iterator[Fault]:
    """Only two modes look at the task's loss together with that of the classes; the others say where it is learned."""
    mode, expected = auxiliary.mode, "null, or mode: sum or stronger"
    whats = {
        "attack_weight": f"weighs nothing in the attack of mode {mode}",
        "attack_class_weight": f"weighs nothing in the attack of mode {mode}",
        "auxiliary_at": f"is what mode {mode} says by itself",
    }
    for name, what in whats.items():
        value = getattr(auxiliary, name)
        if value is not None and mode not in _SUMMING:
            yield Fault(name, what, expected, f"{name}={value!r}, mode={mode!r}")


def attack_climbs_what_is_trained(auxiliary: tasks.Auxiliary) -> Iterator[Fault]:
    """A head whose loss has no weight in training stays random, and the attack would climb noise."""
    if auxiliary.weight:
        return
    if auxiliary.attack_weight:
        expected, received = "null or 0, or weight above 0", f"attack_weight={auxiliary.attack_weight:g}, weight=0"
        yield Fault("attack_weight", "would climb the loss of a head that is never trained", expected, received)
    elif auxiliary.mode == "stronger":
        what, expected = "leaves one of two adversaries a head that is never trained", "above 0, or another mode"
        yield Fault("weight", what, expected, "weight=0, mode='stronger'")


def attack_climbs_something(auxiliary: tasks.Auxiliary) -> Iterator[Fault]:
    """Of the two weights in the attack one is above 0; that of the task is by default that of training."""
    of_task = auxiliary.weight if auxiliary.attack_weight is None else auxiliary.attack_weight
    if auxiliary.mode in _SUMMING and auxiliary.attack_class_weight == 0 and not of_task:
        received = f"attack_class_weight=0, attack_weight={auxiliary.attack_weight}, weight={auxiliary.weight:g}"
        expected = "null or above 0, or attack_weight above 0"
        yield Fault("attack_class_weight", "leaves the attack nothing to climb", expected, received)


def stack_suits_mode(auxiliary: tasks.Auxiliary) -> Iterator[Fault]:
    """The copies of a stack are attacked together with the image, and learned as they were attacked."""
    if auxiliary.copies == "stack" and auxiliary.mode not in ("plain", "sum"):
        received = f"copies='stack', mode={auxiliary.mode!r}"
        yield Fault("copies", "stacks are attacked together with the image", "mode: sum, or copies: drawn", received)
    if auxiliary.copies == "stack" and auxiliary.mode == "sum" and auxiliary.auxiliary_at == "clean":
        received = "auxiliary_at='clean', copies='stack'"
        yield Fault("auxiliary_at", "would leave a stack attacked in vain", "null, or copies: drawn", received)
    if auxiliary.copies == "stack" and auxiliary.task.kind not in ("rotation", "jigsaw"):
        received = f"copies='stack', task.kind={auxiliary.task.kind!r}"
        yield Fault(
            "copies", "needs a task whose puzzles can be counted", "rotation or jigsaw, or copies: drawn", received
        )


def stack_has_each_puzzle_once(auxiliary: tasks.Auxiliary) -> Iterator[Fault]:
    """How puzzles are drawn would silently do nothing where none is drawn."""
    task = auxiliary.task
    if auxiliary.copies != "stack" or task.kind != "jigsaw":
        return
    share = task.identity_share if task.identity_share is not None else 0.1 * task.faithful
    if share:
        received = f"identity_share={share:g}, copies='stack'"
        yield Fault(
            "task.identity_share", "is drawn, and a stack has each puzzle once", "0, or copies: drawn", received
        )
    if not (task.balanced if task.balanced is not None else not task.faithful):
        received = "balanced=false, copies='stack'"
        yield Fault(
            "task.balanced", "is of what is drawn, and a stack has each puzzle once", "true, or copies: drawn", received
        )


MOST_PERMUTATIONS = 10_000
"""Orders that a puzzle may have: made in a minute or two, and ten times those of the papers' largest sets."""


def permutations_exist(task: tasks.JigsawTask) -> Iterator[Fault]:
    """A grid has no more orders than its patches have permutations, of which one is the image as it was."""
    # From 4 x 4 patches on there are more than are made, and the number fills lines.
    most = MOST_PERMUTATIONS if task.grid > 3 else min(math.factorial(task.grid**2) - 1, MOST_PERMUTATIONS)
    if task.num_permutations > most:
        what = "is more than the patches have" if most < MOST_PERMUTATIONS else "is more orders than are made"
        expected = f"at most {most} for grid={task.grid}, the image as it was not counted"
        yield Fault("num_permutations", what, expected, f"num_permutations={task.num_permutations}")


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


def boundary_ends_a_trunk(task: tasks.EnsembleTask) -> Iterator[Fault]:
    """Where all layers are shared there is no trunk, and the boundary would silently do nothing."""
    if task.shared == "encoder" and task.boundary is not None:
        expected, received = "null (Selfie has one of its own), or shared: trunk", f"boundary={task.boundary!r}"
        yield Fault("boundary", "ends a trunk, and with shared: encoder there is none", expected, received)


def input_gradients_do_not_underflow(recipe: schema.Recipe) -> Iterator[Fault]:
    """The diversity looks at gradients by pixels, which no loss scale lifts: float16 underflows, bfloat16 does not."""
    part = recipe.pretrain
    if part is None or part.task.kind != "ensemble" or part.attack is None or not part.task.diversity_weight:
        return
    if recipe.precision == "mixed_float16":
        expected = "float32 or mixed_bfloat16, or pretrain.task.diversity_weight: 0"
        received = f"precision='mixed_float16', diversity_weight={part.task.diversity_weight:g}"
        yield Fault("precision", "lets the gradients underflow that the diversity looks at", expected, received)


def average_is_kept(recipe: schema.Recipe) -> Iterator[Fault]:
    """Keras wraps the optimizer for float16, and what is wrapped averages no weights that anyone reads."""
    refine = recipe.refine and {"refine.linear": recipe.refine.linear, "refine.full": recipe.refine.full}
    trainings = {"pretrain": recipe.pretrain, **(refine or {}), "finetune": recipe.finetune}
    for name, part in trainings.items():
        if part is not None and part.optimizer.ema_momentum is not None and recipe.precision == "mixed_float16":
            received = f"ema_momentum={part.optimizer.ema_momentum:g}, precision='mixed_float16'"
            expected = "null, or precision: float32 or mixed_bfloat16"
            yield Fault(f"{name}.optimizer.ema_momentum", "would be averaged in vain", expected, received)
