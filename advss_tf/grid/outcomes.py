"""What the folder of a cell says: whether it is finished, whose run it holds, and what that came to.

Synopsis:

    if finished(cell, workdir):
        outcome_of(cell, workdir).record
    other_recipe(cell, workdir)                 # None, or what tells the folder's recipe from the cell's
    unreadable(cell, workdir)                   # None, or which of its files cannot be read, and what to do
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from advss_tf import config
from advss_tf.errors import InvalidInput
from advss_tf.evaluation import Record
from advss_tf.evaluation.report.grid_table import Outcome
from advss_tf.grid.cell_process import stages_of
from advss_tf.grid.forecast import stage_seconds
from advss_tf.grid.sharing import SHARED_FROM
from advss_tf.training.callbacks import read_history
from advss_tf.workdir import Workdir


def finished(cell: config.GridCell, workdir: Workdir) -> bool:
    """Whether every stage of a cell has left its result.

    Raises:
        InvalidInput: if one of them cannot be read.
    """
    return all(workdir.finished(stage) is not None for stage in stages_of(cell.recipe))


def other_recipe(cell: config.GridCell, workdir: Workdir) -> str | None:
    """Why the run in a cell's folder is not this cell's; None where it is, or where there is none yet.

    Recipes that differ in idle fields alone do the same, see `config.settled`.
    """
    if not workdir.recipe.is_file():
        return None
    try:
        there = config.load_recipe(workdir.recipe)
    except config.RecipeError as error:
        return (
            f"{workdir.recipe} is no recipe: {' '.join(error.faults)} Without the folder {workdir.root} the next call "
            "runs the cell anew."
        )
    changes = config.difference(config.settled(there), config.settled(cell.recipe))
    return f"{workdir.root} holds the run of another recipe: {'; '.join(changes)}" if changes else None


def error_file(workdir: Workdir) -> Path:
    """The file that says why a cell failed."""
    return workdir.root / "error.txt"


def reason(workdir: Workdir) -> str | None:
    """The last line of a cell's error, which says what it was; None where it has none."""
    path = error_file(workdir)
    lines = path.read_text(errors="replace").strip().splitlines() if path.is_file() else []
    return lines[-1] if lines else None


def unreadable(cell: config.GridCell, workdir: Workdir) -> str | None:
    """Which file of what a cell has finished cannot be read, and what to do, in a line; None where all can be.

    Such a cell is not run again by itself: where a disk is away for a while, or a record is of another version of this
    library, that would take hours, and write over what was measured.
    """
    try:
        _results(cell, workdir)
    except InvalidInput as error:
        return _in_a_line(error)
    return None


def outcome_of(cell: config.GridCell, workdir: Workdir, *, foreign: str | None = None) -> Outcome:
    """What a cell has come to so far; it has failed where that cannot be read, see `unreadable`.

    Args:
        cell: The cell.
        workdir: Its folder.
        foreign: Why the folder's run is not this cell's: then nothing there is taken for the cell's.
    """
    nothing = Outcome(
        name=cell.name,
        place=cell.place,
        group=cell.group,
        error=foreign,
        picked_by=_picked_by(cell.recipe),
        trained_eps=_trained_eps(cell.recipe),
        baseline=cell.baseline,
    )
    if foreign is not None:
        return nothing
    try:
        return replace(nothing, **_results(cell, workdir))
    except InvalidInput as error:
        return replace(nothing, error=_in_a_line(error))


def _results(cell: config.GridCell, workdir: Workdir) -> dict[str, Any]:
    """What the finished stages of a cell have left, by the names of an `Outcome`; refuses what cannot be read."""
    pretrained, finetuned = workdir.finished("pretrain"), workdir.finished("finetune")
    whole = finished(cell, workdir)
    return {
        "record": _record(workdir) if whole else None,
        "history": tuple(read_history(workdir.stage("finetune") / "history.jsonl")) if finetuned else (),
        "pretrain_seconds": stage_seconds(workdir, "pretrain"),
        "finetune_seconds": stage_seconds(workdir, "finetune"),
        "shared_from": (pretrained or {}).get(SHARED_FROM),
        "error": None if whole else reason(workdir),
    }


def _record(workdir: Workdir) -> Record:
    try:
        return Record.load(workdir.record)
    except InvalidInput as error:
        remedy = f"without this file and {workdir.done('evaluate')} the next call evaluates anew"
        raise InvalidInput(
            f"{workdir.record} cannot be read: {error.what}",
            expected=f"{error.expected}; {remedy}",
            received=error.received,
        ) from error


def _in_a_line(error: InvalidInput) -> str:
    return " ".join(str(error).split())


def _picked_by(recipe: config.Recipe) -> str:
    """The number that finetuning picks its epoch by."""
    part = recipe.finetune
    if part is None or part.select != "auto":
        return "accuracy" if part is None else part.select
    return "robust_accuracy" if part.eval_attack or part.attack else "accuracy"


def _trained_eps(recipe: config.Recipe) -> float | None:
    """The radius of the ball of finetuning, or of its held-out images where it trains on clean ones."""
    part = recipe.finetune
    attack = None if part is None else part.attack or part.eval_attack
    return attack.epsilon if attack is not None and attack.norm == recipe.evaluate.norm else None
