"""What each group of a grid gains over its baseline, seed by seed.

Synopsis:

    for found in differences(outcomes):
        found.group, found.baseline             # "rotation-P3-F4", "P1-F4"
        found.clean, found.robust               # (0.05, 0.02, …), fractions in [-1, 1], one for each pair of runs
        found.reached, found.asked              # (11, 12, …), 10: the epochs to the best of the baseline's run
    table = differences_table(outcomes, axes=["task", "pretraining", "finetuning"])

A pair is a run and the one that its `baseline` names, which has the same seed and so the same data, both finished. The
interval is that of the mean of the differences: what a seed does to both runs of a pair is in none of them.

References:
    Chen et al., CVPR 2020 (arXiv 2003.12862): the epochs that finetuning takes to the best robust accuracy, as what
    pretraining saves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from advss_tf.evaluation.records.record import WORST
from advss_tf.evaluation.report.figures import is_number
from advss_tf.evaluation.report.grid_numbers import summary
from advss_tf.evaluation.report.grid_table import (
    Outcome,
    balls,
    capital,
    grouped,
    judged_epsilons,
    mean_text,
    measured_runs,
    plain,
)
from advss_tf.evaluation.report.tables import Cell, Table

Pair = tuple[Outcome, Outcome]


@dataclass(frozen=True)
class Differences:
    """A group against its baseline.

    Attributes:
        group: The group.
        place: Its values on the axes.
        baseline: The group that it is compared with.
        pairs: Its finished runs, each with the finished run that it is compared with.
        ball: The ball that its runs are judged in, `Linf 0.1`.
        clean: Clean accuracy less that of the baseline's run, one number a pair.
        robust: The same in the worst case in that ball, of the pairs whose baseline was attacked in it.
        reached: The epochs, from 1, after which robust accuracy on held-out images first was at least the best of the
            baseline's run, of the pairs in which it was.
        asked: In how many pairs that can be told: those whose runs were both picked by that number, measured in one
            ball, and where the baseline's has reached more than 0.
        baseline_epochs: The epochs to the best of the baseline's runs of those pairs, `asked` numbers.
    """

    group: str
    place: Mapping[str, str | None]
    baseline: str
    pairs: tuple[Pair, ...]
    ball: str
    clean: tuple[float, ...]
    robust: tuple[float, ...]
    reached: tuple[float, ...]
    asked: int
    baseline_epochs: tuple[float, ...]


def differences(outcomes: Sequence[Outcome]) -> list[Differences]:
    """Every group that has a pair against its baseline, in the order of the runs."""
    finished, radii = {each.name: each for each, _ in measured_runs(outcomes)}, judged_epsilons(outcomes)
    found = []
    for same in grouped(list(finished.values())).values():
        pairs = [(each, finished[each.baseline]) for each in same if each.baseline in finished]
        if pairs:
            found.append(_differences(pairs, radii))
    return found


def differences_table(outcomes: Sequence[Outcome], *, axes: Sequence[str]) -> Table | None:
    """A row for each group that has a baseline, in percentage points; None where none has.

    Args:
        outcomes: The runs.
        axes: The axes that tell groups apart.

    Returns:
        Means with their 95 % t-interval where there are several pairs, else the one difference.
    """
    rows = differences(outcomes)
    several = len({row.ball for row in rows}) > 1
    heads = [*axes, "less", "pairs", "clean", "positive", *(["ε"] if several else []), "robust", "positive"]
    columns = [capital(head) for head in [*heads, "epochs to the baseline's best", "the baseline's own"]]
    groups = tuple((tuple(_row(row, axes=axes, several=several)),) for row in rows)
    return Table(tuple(columns), groups, text=tuple(range(len(axes) + 1))) if rows else None


def plain_differences(outcomes: Sequence[Outcome], axes: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """The same as plain text, `(columns, rows)`, for a terminal; no rows where no group has a baseline."""
    table = differences_table(outcomes, axes=axes)
    return plain(table) if table else ([], [])


def difference_values(found: Differences) -> dict[str, Any]:
    """The same as plain values, for JSON: differences of fractions, in the order of the runs."""
    return {
        "baseline": found.baseline,
        "runs": [[run.name, other.name] for run, other in found.pairs],
        "ball": found.ball,
        **{name: _signed(values) for name, values in (("clean", found.clean), ("robust", found.robust))},
        "epochs_to_baseline_best": {**(_summary(found.reached) or {}), "of": found.asked},
        "baseline_best_epoch": _summary(found.baseline_epochs),
    }


def _differences(pairs: Sequence[Pair], radii: Mapping[str, float]) -> Differences:
    runs, others = [run for run, _ in pairs], [other for _, other in pairs]
    told = [(run, other) for run, other in pairs if _comparable(run, other)]
    epochs = [_first_at_least(run, other.best_robust or 0.0) for run, other in told]
    robust = [_robust_difference(run, other, radii[run.name]) for run, other in pairs]
    cleans = zip(measured_runs(runs), measured_runs(others), strict=True)
    return Differences(
        group=runs[0].group,
        place=runs[0].place,
        baseline=others[0].group,
        pairs=tuple(pairs),
        ball=" or ".join(balls(runs, radii)),
        clean=tuple(own.clean_acc - its.clean_acc for (_, own), (_, its) in cleans),
        robust=tuple(each for each in robust if each is not None),
        reached=tuple(each for each in epochs if each is not None),
        asked=len(told),
        baseline_epochs=tuple(float(other.best_epoch) for _, other in told if other.best_epoch),
    )


def _robust_difference(run: Outcome, other: Outcome, eps: float) -> float | None:
    """Of both in the ball that the run is judged in; None where the baseline's was not attacked there."""
    own, its = run.record, other.record
    if own is None or its is None or own.threat != its.threat:
        return None
    if not any(math.isclose(eps, radius, abs_tol=1e-9) for radius in its.epsilons):
        return None
    return own.result(WORST, eps=eps).accuracy - its.result(WORST, eps=eps).accuracy


def _comparable(run: Outcome, other: Outcome) -> bool:
    """Whether robust accuracies on held-out images are of one ball, and are what both runs were picked by."""
    return run.trained_eps == other.trained_eps and run.best_robust is not None and other.best_epoch is not None


def _first_at_least(run: Outcome, share: float) -> float | None:
    told = (line for line in run.history if is_number(line.get("val_robust_accuracy")))
    return next((float(line["epoch"]) for line in told if line["val_robust_accuracy"] >= share), None)


def _row(found: Differences, *, axes: Sequence[str], several: bool) -> Iterator[Cell]:
    yield from (Cell(found.place.get(axis) or "–") for axis in axes)
    yield Cell(found.baseline)
    yield Cell(str(len(found.pairs)))
    yield from _points(found.clean)
    if several:
        yield Cell(found.ball)
    yield from _points(found.robust, strong=True)
    mean = f"{math.fsum(found.reached) / len(found.reached):.3g}, " if found.reached else ""
    yield Cell(f"{mean}{len(found.reached)} of {found.asked}" if found.asked else "–")
    own = found.baseline_epochs
    yield Cell(f"{math.fsum(own) / len(own):.3g}" if own else "–")


def _points(values: Sequence[float], *, strong: bool = False) -> Iterator[Cell]:
    """The mean in percentage points, and how many are above 0."""
    yield Cell(mean_text([100 * value for value in values], lambda mean: f"{mean:+.1f}"), strong=strong)
    yield Cell(f"{_positive(values)} of {len(values)}" if values else "–")


def _positive(values: Sequence[float]) -> int:
    return sum(value > 0 for value in values)


def _signed(values: Sequence[float]) -> dict[str, Any] | None:
    found = _summary(values)
    return None if found is None else {**found, "positive": _positive(values)}


def _summary(values: Sequence[float]) -> dict[str, Any] | None:
    return summary(values) if values else None
