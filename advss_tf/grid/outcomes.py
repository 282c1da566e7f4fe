"""What the folder of a cell says: whether it is finished, whose run it holds, and what that came to.

Synopsis:

    if finished(cell, workdir):
        outcome_of(cell, workdir).record
    other_recipe(cell, workdir)                 # None, or what tells the folder's recipe from the cell's
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from advss_tf import config
from advss_tf.evaluation import Record
from advss_tf.evaluation.report.grid_table import Outcome
from advss_tf.grid.cell_process import stages_of
from advss_tf.grid.forecast import stage_seconds
from advss_tf.grid.sharing import SHARED_FROM
from advss_tf.training.callbacks import read_history
from advss_tf.workdir import Workdir


def finished(cell: config.GridCell, workdir: Workdir) -> bool:
    """Whether every stage of a cell has left its result."""
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
        return f"{workdir.recipe} is no recipe: {' '.join(error.faults)}"
    changes = config.difference(config.settled(there), config.settled(cell.recipe))
    return f"{workdir.root} holds the run of another recipe: {'; '.join(changes)}" if changes else None


def error_file(workdir: Workdir) -> Path:
    """The file that says why a cell failed."""
    return workdir.root / "error.txt"


def reason(workdir: Workdir) -> str | None:
    """The last line of a cell's error, which says what it was; None where it has none."""
    path = error_file(workdir)
    lines = path.read_text().strip().splitlines() if path.is_file() else []
    return lines[-1] if lines else None


def outcome_of(cell: config.GridCell, workdir: Workdir, *, foreign: str | None = None) -> Outcome:
    """What a cell has come to so far.

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
    pretrained, finetuned = workdir.finished("pretrain"), workdir.finished("finetune")
    whole = finished(cell, workdir)
    return replace(
        nothing,
        record=Record.load(workdir.record) if whole else None,
        history=tuple(read_history(workdir.stage("finetune") / "history.jsonl")) if finetuned else (),
        pretrain_seconds=stage_seconds(workdir, "pretrain"),
        finetune_seconds=stage_seconds(workdir, "finetune"),
        shared_from=(pretrained or {}).get(SHARED_FROM),
        error=None if whole else reason(workdir),
    )


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
