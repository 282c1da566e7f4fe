"""How long a grid still takes, from the seconds of the stages that are finished.

Synopsis:

    left = seconds_left(due, evidence=all_runs, stages_of=lambda recipe: runner.planned(recipe))
    left.seconds, left.whole                    # 420.0, False: at least that

Each stage is judged by finished ones of its kind: the same settings at another seed, or else any of its name. Each
pretraining counts once, however many runs share it. A stage that was interrupted and gone on with is no evidence: what
the kill cost of an epoch is in no file, so that its seconds are a lower bound.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from advss_tf import config
from advss_tf.errors import InvalidInput
from advss_tf.evaluation.report.figures import is_number
from advss_tf.grid.sharing import SHARED_FROM, finished_elsewhere, pretraining_key
from advss_tf.training.callbacks import read_history
from advss_tf.workdir import Workdir

_Kind = tuple[str, str]
_Run = tuple[config.Recipe, Workdir]
# Seconds are rounded, those of a stage to tenths.
_ROUNDING = 0.2


class Left(NamedTuple):
    """How long is left.

    Attributes:
        seconds: What the unfinished stages will take, as far as that is known.
        whole: Whether it is known of each of them.
    """

    seconds: float
    whole: bool


def seconds_left(
    due: Iterable[_Run], *, evidence: Iterable[_Run] | None = None, stages_of: Callable[[config.Recipe], Sequence[str]]
) -> Left:
    """What the unfinished stages of runs will take.

    Args:
        due: The runs that are to be finished, with their folders.
        evidence: Every run whose finished stages say how long one takes, those that are due among them; by default
            these alone.
        stages_of: The stages that a recipe has.
    """
    due = list(due)
    spent, made = _evidence(due if evidence is None else evidence, stages_of)
    waiting: dict[str, _Kind] = {}
    for number, (recipe, workdir) in enumerate(due):
        for stage in stages_of(recipe):
            one = _pretraining(stage, recipe) or f"{stage} {number}"
            if not workdir.done(stage).is_file() and one not in made:
                waiting[one] = _kind(stage, recipe)
    known = [seconds for kind in waiting.values() if (seconds := _expected(kind, spent)) is not None]
    return Left(math.fsum(known), len(known) == len(waiting))


def stage_seconds(workdir: Workdir, stage: str) -> float | None:
    """Seconds of a finished stage; None where it is not finished, or where it was gone on with after a kill.

    None as well where its epochs cannot be read, which would tell of that.

    Raises:
        InvalidInput: if the stage's result cannot be read.
    """
    result = workdir.finished(stage) or {}
    seconds = result.get("seconds")
    if seconds is None or not is_number(seconds) or result.get("resumed"):
        return None
    try:
        lines = read_history(workdir.stage(stage) / "history.jsonl")
    except InvalidInput:
        return None
    # A stage that says nothing of it was gone on with if its epochs took longer than its last part.
    epochs = math.fsum(line["seconds"] for line in lines if is_number(line.get("seconds")))
    return None if epochs > seconds + _ROUNDING else float(seconds)


def _evidence(
    runs: Iterable[_Run], stages_of: Callable[[config.Recipe], Sequence[str]]
) -> tuple[dict[_Kind, list[float]], set[str]]:
    """What finished stages took, by their kind, and which pretrainings are made."""
    spent: dict[_Kind, list[float]] = defaultdict(list)
    made: set[str] = set()
    for recipe, workdir in runs:
        for stage in stages_of(recipe):
            done = finished_elsewhere(workdir, stage)
            if done is None:
                continue
            made.update(filter(None, [_pretraining(stage, recipe)]))
            seconds = stage_seconds(workdir, stage)
            if SHARED_FROM not in done and seconds is not None:
                spent[_kind(stage, recipe)].append(seconds)
    return spent, made


def _pretraining(stage: str, recipe: config.Recipe) -> str | None:
    return pretraining_key(recipe) if stage == "pretrain" else None


def _kind(stage: str, recipe: config.Recipe) -> _Kind:
    """The stage, and all that its seconds depend on; a classifier takes as long wherever it starts from."""
    dropped = (
        {"name", "seed", "pretrain"}
        if stage != "pretrain"
        else {"name", "seed", "cluster", "refine", "finetune", "evaluate", "export"}
    )
    values = recipe.model_dump(mode="json", exclude=dropped)
    if values.get("finetune"):
        values["finetune"].pop("start")
    return stage, json.dumps(values, sort_keys=True)


def _expected(kind: _Kind, spent: dict[_Kind, list[float]]) -> float | None:
    seconds = spent.get(kind) or [each for (stage, _), several in spent.items() if stage == kind[0] for each in several]
    return math.fsum(seconds) / len(seconds) if seconds else None
