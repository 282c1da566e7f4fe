"""What puzzles ask of the size of the images and of the stages of the network; see rules.py.

Synopsis:

    class Recipe(Part):
        rules = (fitting_rules.boundaries_exist, fitting_rules.puzzles_fit)

A recipe knows the size of its images where it resizes them, and that of the digits. Of others the tasks themselves
refuse what does not fit, when they are built. It knows the stages of its own encoder, not their blocks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from .contrastive_rules import views_of
from .parts import Fault

if TYPE_CHECKING:
    from . import schema, tasks

STAGE_BEFORE_LAST = {"resnet20": "stage2", "wide_resnet": "stage2", "resnet18": "stage3", "resnet50v2": "stage3"}
"""The last stage but one of each network."""

_BESIDE_STAGES = ("images", "normalization", "stem", "final", "features")
"""What the names of layers outside of the stages begin with."""


class _Posed(NamedTuple):
    """A puzzle of a recipe: where it stands, and the last stage that reads its patches, if that is said."""

    path: str
    task: tasks.Member
    boundary: str | None


def boundaries_exist(recipe: schema.Recipe) -> Iterator[Fault]:
    """A network is cut at one of its stages, or at a layer whose name tells where it stands."""
    for path, boundary in _boundaries(recipe):
        if boundary is not None and not _stands_in(boundary, recipe.encoder.kind):
            stages = _stages_of(recipe.encoder.kind)
            expected = f"one of {stages}, a block such as '{stages[-1]}_block1', a layer, or null for {stages[-2]!r}"
            what = f"is no part of {recipe.encoder.kind}"
            yield Fault(path, what, expected, f"{path.rpartition('.')[2]}={boundary!r}")


def puzzles_fit(recipe: schema.Recipe) -> Iterator[Fault]:
    """Rotation turns squares; a grid divides the images, and leaves Selfie's patch network pixels to halve."""
    sides = _sides(recipe)
    if sides is None:
        return
    for path, task, boundary in _puzzles(recipe):
        if task.kind == "rotation":
            yield from _turns_fit(sides, path=path)
            continue
        # Of the tasks that an ensemble has unless told otherwise none is written.
        grid = path if path.endswith(".tasks") else f"{path}.grid"
        if task.kind == "jigsaw":
            yield from _pieces_fit(task, sides, path=grid)
            continue
        last = boundary or STAGE_BEFORE_LAST[recipe.encoder.kind]
        if _stands_in(last, recipe.encoder.kind):  # else the boundary is at fault, not the grid
            yield from _patches_fit(task, last, sides, path=grid)


def padding_fits(recipe: schema.Recipe) -> Iterator[Fault]:
    """A shift of a whole side leaves a black image."""
    sides, parts = _sides(recipe), [("data", recipe.data), ("pretrain", recipe.pretrain)]
    for where, task in _tasks(recipe):
        parts += [(f"{where}.{place}", view) for place, view in views_of(task)]
    for path, part in parts:
        padding = getattr(part, "crop_padding", None)
        if sides is not None and padding is not None and padding >= min(sides):
            expected, received = f"below {min(sides)}, the shorter side of the images", f"crop_padding={padding}"
            yield Fault(f"{path}.crop_padding", "may shift the whole image away", expected, received)


def auxiliary_reads_what_is_trained(recipe: schema.Recipe) -> Iterator[Fault]:
    """A patch network, or a trunk, that ends where partial finetuning begins to train would learn nothing."""
    part = recipe.finetune
    if part is None or part.train != "partial" or part.auxiliary is None or part.auxiliary.mode == "plain":
        return
    task = part.auxiliary.task
    # Without a trunk, one task of an ensemble at least reads the whole encoder.
    if task.kind not in ("selfie", "ensemble") or (task.kind == "ensemble" and task.shared == "encoder"):
        return
    if _all_frozen(task.boundary, part, recipe.encoder.kind):
        expected = "a stage after the last frozen one, or train: full"
        received = f"boundary={_written(task.boundary)}, finetune.boundary={_written(part.boundary)}, train='partial'"
        what = f"ends the {'trunk' if task.kind == 'ensemble' else 'patch network'} among the layers that are frozen"
        yield Fault("finetune.auxiliary.task.boundary", what, expected, received)


def _all_frozen(reads: str | None, finetune: schema.Finetune, encoder: str) -> bool:
    """Whether finetuning freezes every layer through the boundary `reads`; False where a recipe cannot know it."""
    if reads == finetune.boundary:
        return True  # null is the same stage for both
    if None in (reads, finetune.boundary) and finetune.start not in ("pretrained", "scratch"):
        return False  # another encoder may have other stages
    default = STAGE_BEFORE_LAST[encoder]
    last, frozen = (re.match(r"stage(\d+)(_|$)", boundary or default) for boundary in (reads, finetune.boundary))
    # A layer inside of a stage leaves the rest of that stage to be trained.
    return last is not None and frozen is not None and int(last[1]) <= int(frozen[1]) - (frozen[2] == "_")


def _written(boundary: str | None) -> str:
    """A boundary as a fault shows it."""
    return "null" if boundary is None else repr(boundary)


def _boundaries(recipe: schema.Recipe) -> Iterator[tuple[str, str | None]]:
    """Every place where the recipe's own encoder is cut, and at what; null stands for the last stage but one."""
    pretrain, part = recipe.pretrain, recipe.finetune
    if pretrain is not None:
        yield "pretrain.task.boundary", getattr(pretrain.task, "boundary", None)
        for number, member in enumerate(getattr(pretrain.task, "tasks", None) or ()):
            yield f"pretrain.task.tasks[{number}].boundary", getattr(member, "boundary", None)
    # Another encoder may have other stages.
    if part is not None and part.start in ("pretrained", "scratch"):
        if part.auxiliary is not None:
            yield "finetune.auxiliary.task.boundary", getattr(part.auxiliary.task, "boundary", None)
        if part.train == "partial" or part.reset_after_boundary:
            yield "finetune.boundary", part.boundary


def _stages_of(kind: str) -> list[str]:
    return [f"stage{number}" for number in range(1, int(STAGE_BEFORE_LAST[kind].removeprefix("stage")) + 2)]


def _stands_in(boundary: str, kind: str) -> bool:
    """Whether a network may have such a layer, or layers whose names begin so."""
    stage = re.fullmatch(r"(stage\d+)(_block\d+(_\w+)?)?", boundary)
    return stage[1] in _stages_of(kind) if stage else boundary.partition("_")[0] in _BESIDE_STAGES


def _sides(recipe: schema.Recipe) -> tuple[int, ...] | None:
    """The height and width of the images, where the recipe can know them."""
    return (8, 8) if recipe.data.resize is None and recipe.data.kind == "digits" else recipe.data.resize


def _puzzles(recipe: schema.Recipe) -> Iterator[_Posed]:
    """Every puzzle of a recipe that cuts or turns images."""
    for path, task in _tasks(recipe):
        yield from _puzzles_in(task, path)


def _tasks(recipe: schema.Recipe) -> Iterator[tuple[str, tasks.Task]]:
    """The tasks of a recipe, each after its path."""
    if recipe.pretrain is not None:
        yield "pretrain.task", recipe.pretrain.task
    if recipe.finetune is not None and recipe.finetune.auxiliary is not None:
        yield "finetune.auxiliary.task", recipe.finetune.auxiliary.task


def _puzzles_in(task: tasks.Task, path: str) -> Iterator[_Posed]:
    if task.kind in ("rotation", "jigsaw", "selfie"):
        yield _Posed(path, task, getattr(task, "boundary", None))
    elif task.kind == "ensemble":
        for number, member in enumerate(task.members):
            own = f"{path}.tasks" if task.tasks is None else f"{path}.tasks[{number}]"
            yield _Posed(own, member, getattr(member, "boundary", None) or task.boundary)


def _turns_fit(sides: tuple[int, ...], *, path: str) -> Iterator[Fault]:
    if sides[0] != sides[1]:
        expected, received = "images as high as wide, or another task", f"kind='rotation', {_shown(sides)}"
        yield Fault(path, "turns images by 90 degrees, which are not square", expected, received)


def _pieces_fit(task: tasks.JigsawTask, sides: tuple[int, ...], *, path: str) -> Iterator[Fault]:
    received = f"grid={task.grid}, {_shown(sides)}"
    if task.grid > min(sides):
        yield Fault(path, "has more patches along a side than pixels", f"at most {min(sides)}", received)
    elif any(side % task.grid for side in sides) and task.remainder == "refuse":
        expected = "a divisor of both sides, or remainder: crop"
        yield Fault(path, "does not divide the images into whole patches", expected, received)


def _patches_fit(task: tasks.SelfieTask, boundary: str, sides: tuple[int, ...], *, path: str) -> Iterator[Fault]:
    received = f"grid={task.grid}, {_shown(sides)}"
    stage = re.fullmatch(r"stage(\d+)", boundary)
    smallest = 2 ** (int(stage[1]) - 1) if stage else 1  # each stage but the first halves its map
    if any(side % task.grid for side in sides):
        yield Fault(path, "does not divide the images into whole patches", "a divisor of both sides", received)
    elif min(sides) // task.grid < smallest:
        expected = f"patches of {smallest} pixels a side or more, or an earlier `boundary`"
        yield Fault(path, "makes patches too small for the patch network", expected, received)


def _shown(sides: tuple[int, ...]) -> str:
    return f"images of {sides[0]}x{sides[1]}"
