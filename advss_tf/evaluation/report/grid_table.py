"""What a grid of runs came to, as tables: means over the runs of a group, and every run by itself.

Synopsis:

    table = grid_table(outcomes, axes=["task", "pretraining", "finetuning"])     # a row for each group
    rows = run_rows(outcomes)                                                    # a row for each run, for CSV
    values = summaries(outcomes)                                                 # the means as plain values, for JSON

A group holds the runs that differ in nothing but their seed. What counts in every mean are the runs that are finished.
Accuracies are fractions in [0, 1]. Robust ones are those at the epsilon that the grid trains at, where every record has
it, else at the headline of each record.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from advss_tf.evaluation.records.record import CLEAN, WORST, Record, Result, epsilon_text
from advss_tf.evaluation.records.statistics import mean_interval
from advss_tf.evaluation.report.figures import History, is_number
from advss_tf.evaluation.report.tables import Cell, Table, attack_columns, attack_title


@dataclass(frozen=True)
class Outcome:
    """What one run of a grid came to.

    Attributes:
        name: The run's name.
        place: Its value on each axis, by the axis' name; None where it is the same for several.
        group: What it shares with the runs that only repeat it.
        record: Its record under attack; None while there is none.
        history: A dict for each epoch of finetuning, as in `history.jsonl`.
        pretrain_seconds: Seconds of the pretraining that it starts from; None where there is none, or where they are
            not known whole.
        finetune_seconds: Seconds of its finetuning; None as well.
        shared_from: Where the pretraining was done, if in another run's folder.
        error: Why it failed, in a line; None if it did not.
        picked_by: The number on held-out images that its epoch was picked by, `robust_accuracy` or `accuracy`.
        trained_eps: The epsilon, in the norm that is evaluated, that its recipe trains or measures with on the way;
            known before it runs. None where the recipe has none.
    """

    name: str
    place: Mapping[str, str | None]
    group: str
    record: Record | None = None
    history: History = ()
    pretrain_seconds: float | None = None
    finetune_seconds: float | None = None
    shared_from: str | None = None
    error: str | None = None
    picked_by: str = "robust_accuracy"
    trained_eps: float | None = None

    @property
    def best_epoch(self) -> int | None:
        """The epoch, from 1, with the highest robust accuracy on held-out images, the earliest at a tie.

        None where the run was picked by another number, since its model is then that of another epoch, and where no
        epoch has reached more than 0.
        """
        return _best(self.history)[0] if self.best_robust else None

    @property
    def best_robust(self) -> float | None:
        """That accuracy, a fraction in [0, 1]; None where the run was picked by another number."""
        return _best(self.history)[1] if self.picked_by == "robust_accuracy" else None

    @property
    def status(self) -> str:
        """`finished`, `failed` or `not run`."""
        return "failed" if self.error else "finished" if self.record else "not run"


def measured(outcomes: Sequence[Outcome]) -> list[Record]:
    """The records of the runs that count: those that are finished."""
    return [outcome.record for outcome in outcomes if outcome.record and outcome.status == "finished"]


def grouped(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """The runs by group, groups in the order in which they are met."""
    found: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.group, []).append(outcome)
    return found


def grid_table(outcomes: Sequence[Outcome], *, axes: Sequence[str]) -> Table:
    """A row for each group, in the order of the axes: accuracies at one epsilon, epochs, and the mean of the seconds.

    Args:
        outcomes: The runs.
        axes: The axes that tell groups apart.

    Returns:
        Means with their 95 % t-interval where a group has several runs, else the one value.
    """
    records = measured(outcomes)
    attacks = attack_columns(records)
    eps = judged_epsilon(outcomes)
    several = len({_ball(record, eps) for record in records}) > 1
    judged = [*attacks, *([WORST] if len(attacks) > 1 or several else [])]
    rows = [
        tuple(_row(same, axes=axes, judged=judged, eps=eps, several=several))
        for same in grouped(outcomes).values()
        if any(outcome.status != "not run" for outcome in same)
    ]
    heads = [*axes, "runs", "clean", *(["ε"] if several else []), *(attack_title(attack) for attack in judged)]
    columns = [_capital(head) for head in [*heads, "epochs to best", "pretraining took", "finetuning took"]]
    words = tuple(range(len(axes)))
    return Table(tuple(columns), tuple((row,) for row in rows), text=words or (0,))


def plain_table(outcomes: Sequence[Outcome], axes: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """The same as plain text, `(columns, rows)`, for a terminal."""
    table = grid_table(outcomes, axes=axes)
    return list(table.columns), [[cell.text for cell in row] for group in table.groups for row in group]


def judged_epsilon(outcomes: Sequence[Outcome]) -> float | None:
    """The one epsilon that the runs are trained at, if every record has it; None for that of each record.

    What recipes say of it is known from the start, so that it does not change while a grid runs. Records of standard
    training know none, and are judged where the others are.
    """
    records = measured(outcomes)
    said = [*(outcome.trained_eps for outcome in outcomes), *(record.training_eps for record in records)]
    trained = {eps for eps in said if eps}
    if len(trained) != 1 or len({record.threat for record in records}) != 1:
        return None
    (eps,) = trained
    fits = all(record.training_threat in (None, record.threat) for record in records)
    known = all(any(math.isclose(eps, other, abs_tol=1e-9) for other in record.epsilons) for record in records)
    return eps if fits and known else None


def ball_text(outcomes: Sequence[Outcome]) -> str:
    """The ball that runs are judged in, `Linf 0.1`, or `several balls`; nothing before a run is finished."""
    balls = list(dict.fromkeys(_ball(record, judged_epsilon(outcomes)) for record in measured(outcomes)))
    return balls[0] if len(balls) == 1 else "several balls" if balls else ""


def headline(outcome: Outcome, *, eps: float | None) -> str:
    """A run in a few words, `clean 80.0 %, worst case 50.0 % in Linf 0.1`; nothing where it is not finished.

    Args:
        outcome: The run.
        eps: The epsilon that the grid is judged at; None for the record's own.
    """
    words = ""
    for record in measured([outcome]):
        robust = record.result(WORST, eps=eps).accuracy
        words = f"clean {100 * record.clean_acc:.1f} %, worst case {100 * robust:.1f} % in {_ball(record, eps)}"
    return words


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
        found.append({**place, "numbers": {key: _summary(values) for key, values in numbers.items() if values}})
    return found


def result_key(result: Result) -> str:
    """Names an accuracy in a flat row: `clean`, `pgd-20 at 0.1`."""
    return CLEAN if result.attack == CLEAN else f"{result.attack} at {epsilon_text(result.eps, result.threat)}"


def _ball(record: Record, eps: float | None) -> str:
    return f"{record.threat} {epsilon_text(record.eps if eps is None else eps, record.threat)}"


def _row(
    same: Sequence[Outcome], *, axes: Sequence[str], judged: Sequence[str], eps: float | None, several: bool
) -> Iterator[Cell]:
    records, counted = measured(same), [outcome for outcome in same if outcome.status == "finished"]
    yield from (Cell(same[0].place.get(axis) or "–") for axis in axes)
    yield Cell(_runs(same))
    yield _percent([record.clean_acc for record in records])
    if several:
        yield Cell(" or ".join(dict.fromkeys(_ball(record, eps) for record in records)) or "–")
    for attack in judged:
        found = [record for record in records if attack in (*record.attacks, WORST)]
        yield _percent([record.result(attack, eps=eps).accuracy for record in found], strong=attack == judged[-1])
    epochs: list[float] = [outcome.best_epoch for outcome in counted if outcome.best_epoch is not None]
    yield Cell(_mean(epochs, lambda mean: f"{mean:.3g}"))
    for name in ("pretrain_seconds", "finetune_seconds"):
        seconds = [getattr(outcome, name) for outcome in counted if getattr(outcome, name) is not None]
        yield Cell(f"{text} s" if (text := _mean(seconds, lambda mean: f"{mean:.0f}", "0f")) != "–" else "–")


def _runs(same: Sequence[Outcome]) -> str:
    """`3`, `2 of 3`, or `2 of 3, 1 failed`."""
    done, failed = (sum(each.status == status for each in same) for status in ("finished", "failed"))
    words = str(done) if done == len(same) else f"{done} of {len(same)}"
    return words + (f", {failed} failed" if failed else "")


def _percent(values: Sequence[float], *, strong: bool = False) -> Cell:
    text = _mean([100 * value for value in values], lambda mean: f"{mean:.1f}")
    return Cell(text if text == "–" else f"{text} %", strong=strong)


def _mean(values: Sequence[float], text: Callable[[float], str], half_as: str = "1f") -> str:
    """The mean with its interval, the half width with as many digits as `half_as` says; one value as it is."""
    if len(values) < 2:
        return text(values[0]) if values else "–"
    mean, half = mean_interval(values)
    return f"{text(mean)} ± {half:.{half_as}}"


def _summary(values: Sequence[float]) -> dict[str, Any]:
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


def _best(history: History) -> tuple[int | None, float | None]:
    points = [(line["epoch"], line["val_robust_accuracy"]) for line in history if is_number(_robust(line))]
    return max(points, key=lambda point: (point[1], -point[0]), default=(None, None))


def _robust(line: Mapping[str, Any]) -> Any:
    return line.get("val_robust_accuracy")


def _capital(head: str) -> str:
    # A Greek letter stays: a capital epsilon reads as an E.
    return head[:1].upper() + head[1:] if head[:1].isascii() else head
