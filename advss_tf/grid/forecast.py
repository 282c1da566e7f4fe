"""How long a grid still takes, from the seconds of the stages that are finished.

Synopsis:

    seconds = seconds_left(recipes_and_workdirs, stages_of=lambda recipe: runner.planned(recipe))

Each stage is judged by finished ones of its kind: the same settings at another seed, or else any of its name. Each
pretraining counts once, however many runs share it.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from advss_tf import config
from advss_tf.grid.sharing import SHARED_FROM, pretraining_key
from advss_tf.workdir import Workdir

_Kind = tuple[str, str]


def seconds_left(
    runs: Iterable[tuple[config.Recipe, Workdir]], *, stages_of: Callable[[config.Recipe], Sequence[str]]
) -> float:
    """Seconds that the unfinished stages of the runs will take; NaN where nothing is known of one of them.

    Args:
        runs: Every run, finished or not, with its folder.
        stages_of: The stages that a recipe has.
    """
    spent: dict[_Kind, list[float]] = defaultdict(list)
    due: dict[str, _Kind] = {}
    made: set[str | None] = set()
    for number, (recipe, workdir) in enumerate(runs):
        for stage in stages_of(recipe):
            kind, done = _kind(stage, recipe), workdir.finished(stage)
            one = pretraining_key(recipe) if stage == "pretrain" else f"{stage} {number}"
            if done is None:
                due[one or stage] = kind
                continue
            made.add(one)
            if SHARED_FROM not in done and "seconds" in done:
                spent[kind].append(done["seconds"])
    return math.fsum(_expected(kind, spent) for one, kind in due.items() if one not in made)


def _kind(stage: str, recipe: config.Recipe) -> _Kind:
    """The stage, and all that its seconds depend on; a classifier takes as long wherever it starts from."""
    dropped = (
        {"name", "seed", "pretrain"} if stage != "pretrain" else {"name", "seed", "finetune", "evaluate", "export"}
    )
    values = recipe.model_dump(mode="json", exclude=dropped)
    if values.get("finetune"):
        values["finetune"].pop("start")
    return stage, json.dumps(values, sort_keys=True)


def _expected(kind: _Kind, spent: dict[_Kind, list[float]]) -> float:
    seconds = spent.get(kind) or [each for (stage, _), several in spent.items() if stage == kind[0] for each in several]
    return math.fsum(seconds) / len(seconds) if seconds else math.nan
