"""What a grid of runs came to as plain values, for programs: every run by itself, and the means over groups.

Synopsis:

    rows = run_rows(outcomes)           # a row for each run, for CSV
    values = summaries(outcomes)        # the means with their intervals, for JSON

Accuracies are fractions in [0, 1], those of every attack at every epsilon.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from advss_tf.evaluation.records.record import CLEAN, Result, epsilon_text
from advss_tf.evaluation.records.statistics import mean_interval
from advss_tf.evaluation.report.grid_table import Outcome, grouped


def run_rows(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """A flat dict for each run, all with the same keys: its place, its status and every number that it came to."""
    rows = [_run_row(outcome) for outcome in outcomes]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    return [{key: row.get(key) for key in keys} for row in rows]


def summaries(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """A dict for each group: every number with its values, their mean, and the half width of its 95 % t-interval."""
    found = []
    for group, same in grouped(outcomes).items():
        numbers: dict[str, list[float]] = {}
        counted = [each for each in same if each.status == "finished"]
        for row in map(_numbers, counted):
            for key, value in row.items():
                numbers.setdefault(key, []).extend([] if value is None else [value])
        place = {"group": group, "place": dict(same[0].place), "runs": len(counted)}
        found.append({**place, "numbers": {key: summary(values) for key, values in numbers.items() if values}})
    return found


def result_key(result: Result) -> str:
    """Names an accuracy in a flat row: `clean`, `pgd-20 at 0.1`."""
    return CLEAN if result.attack == CLEAN else f"{result.attack} at {epsilon_text(result.eps, result.threat)}"


def summary(values: Sequence[float]) -> dict[str, Any]:
    """One value or more with their mean and the half width of its 95 % t-interval, None for one value."""
    mean, half = mean_interval(values) if len(values) > 1 else (values[0], None)
    return {"mean": mean, "half_width": half, "values": list(values)}


def _run_row(outcome: Outcome) -> dict[str, Any]:
    head = {"run": outcome.name, **outcome.place, "group": outcome.group, "status": outcome.status}
    tail = {"shared_from": outcome.shared_from, "error": outcome.error}
    return {**head, **_numbers(outcome), **tail}


def _numbers(outcome: Outcome) -> dict[str, float | None]:
    record = outcome.record
    accuracies = {result_key(result): result.accuracy for result in record.results} if record else {}
    return {
        **accuracies,
        "best_epoch": outcome.best_epoch,
        "best_held_out_robust_accuracy": outcome.best_robust,
        "pretrain_seconds": outcome.pretrain_seconds,
        "finetune_seconds": outcome.finetune_seconds,
    }
