"""What a grid of runs came to, as a table of means over the runs of a group.

Synopsis:

    table = grid_table(outcomes, axes=["task", "pretraining", "finetuning"])     # a row for each group
    judged_epsilons(outcomes)["rotation-P3-F4-seed0"]                            # 0.1
    ball_text(outcomes)                                                          # "Linf 0.1"

A group holds the runs that differ in nothing but their seed. What counts in every mean are the runs that are finished.
Accuracies are fractions in [0, 1]. Robust ones are those at the epsilon of a run's training, see `judged_epsilons`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from advss_tf.evaluation.records.record import WORST, Record, epsilon_text
from advss_tf.evaluation.records.statistics import mean_interval
from advss_tf.evaluation.report.figures import History, is_number, trained_epsilons
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
        baseline: The name of the run of the same seed that it is compared with; None where there is none.
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
    baseline: str | None = None

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
    return [record for _, record in measured_runs(outcomes)]


def measured_runs(outcomes: Sequence[Outcome]) -> Iterator[tuple[Outcome, Record]]:
    """The runs that count, each with its record."""
    return ((each, each.record) for each in outcomes if each.record and each.status == "finished")


def grouped(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """The runs by group, groups in the order in which they are met."""
    found: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.group, []).append(outcome)
    return found


def by_norm(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """The runs that count by the norm that they are attacked in, `Linf` or `L2`: radii of two have no common axis."""
    found: dict[str, list[Outcome]] = {}
    for outcome, record in measured_runs(outcomes):
        found.setdefault(record.threat, []).append(outcome)
    return found


def grid_table(outcomes: Sequence[Outcome], *, axes: Sequence[str]) -> Table:
    """A row for each group, in the order of the axes: accuracies at its epsilon, epochs, and the mean of the seconds.

    Args:
        outcomes: The runs.
        axes: The axes that tell groups apart.

    Returns:
        Means with their 95 % t-interval where a group has several runs, else the one value.
    """
    attacks = attack_columns(measured(outcomes))
    radii = judged_epsilons(outcomes)
    several = len(balls(outcomes, radii)) > 1
    judged = [*attacks, *([WORST] if len(attacks) > 1 or several else [])]
    rows = [
        tuple(_row(same, axes=axes, judged=judged, radii=radii, several=several))
        for same in grouped(outcomes).values()
        if any(outcome.status != "not run" for outcome in same)
    ]
    heads = [*axes, "runs", "clean", *(["ε"] if several else []), *(attack_title(attack) for attack in judged)]
    columns = [capital(head) for head in [*heads, "epochs to best", "pretrain time", "finetune time"]]
    words = tuple(range(len(axes)))
    return Table(tuple(columns), tuple((row,) for row in rows), text=words or (0,))


def plain_table(outcomes: Sequence[Outcome], axes: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """The same as plain text, `(columns, rows)`, for a terminal."""
    return plain(grid_table(outcomes, axes=axes))


def plain(table: Table) -> tuple[list[str], list[list[str]]]:
    """The main texts of a table, `(columns, rows)`."""
    return list(table.columns), [[cell.text for cell in row] for group in table.groups for row in group]


def judged_epsilons(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """The epsilon that each finished run is judged at, by the run's name.

    It is that of the run's own training. A run of standard training that knows none is judged where all others of its
    norm are trained. A record that was not attacked there, or where others differ, stands for itself by its headline.
    What recipes say is known from the start, so that it does not change while a grid runs.
    """
    found, common = dict[str, float](), {norm: _common(outcomes, norm) for norm in by_norm(outcomes)}
    for outcome, record in measured_runs(outcomes):
        wanted = _trained(outcome) or common[record.threat]
        found[outcome.name] = next((eps for eps in record.epsilons if _same(eps, wanted)), record.eps)
    return found


def balls(outcomes: Sequence[Outcome], radii: Mapping[str, float]) -> list[str]:
    """The balls that finished runs are judged in, each once: `Linf 0.1`."""
    return list(dict.fromkeys(_ball(record, radii[each.name]) for each, record in measured_runs(outcomes)))


def ball_text(outcomes: Sequence[Outcome], radii: Mapping[str, float] | None = None) -> str:
    """The ball that runs are judged in, `Linf 0.1`; nothing before a run is finished.

    Where there are several it is `the ball of training` if that is so for every run, else `several balls`.

    Args:
        outcomes: The runs.
        radii: The epsilon of each run that is finished; those of `judged_epsilons` by default.
    """
    radii = judged_epsilons(outcomes) if radii is None else radii
    found = balls(outcomes, radii)
    if len(found) < 2:
        return found[0] if found else ""
    own = all(_same(radii[each.name], _trained(each)) for each, _ in measured_runs(outcomes))
    return "the ball of training" if own else "several balls"


def headline(outcome: Outcome, *, eps: float | None) -> str:
    """A run in a few words, `clean 80.0 %, worst case 50.0 % in Linf 0.1`; nothing where it is not finished.

    Args:
        outcome: The run.
        eps: The epsilon that it is judged at; None for the record's own.
    """
    words = ""
    for record in measured([outcome]):
        robust = record.result(WORST, eps=eps).accuracy
        words = f"clean {100 * record.clean_acc:.1f} %, worst case {100 * robust:.1f} % in {_ball(record, eps)}"
    return words


def _trained(outcome: Outcome) -> float | None:
    """The epsilon of a run's training in the norm that it is attacked in; None where it is not known."""
    known = trained_epsilons([outcome.record]) if outcome.record else set()
    return outcome.trained_eps or next(iter(known), None)


def _common(outcomes: Sequence[Outcome], threat: str) -> float | None:
    """The one epsilon that all runs of a norm are trained at, those that were not run yet as well."""
    said = {_trained(each) for each in outcomes if each.record is None or each.record.threat == threat} - {None}
    return said.pop() if len(said) == 1 else None


def _same(eps: float, other: float | None) -> bool:
    return other is not None and math.isclose(eps, other, abs_tol=1e-9)


def _ball(record: Record, eps: float | None) -> str:
    return f"{record.threat} {epsilon_text(record.eps if eps is None else eps, record.threat)}"


def _row(
    same: Sequence[Outcome], *, axes: Sequence[str], judged: Sequence[str], radii: Mapping[str, float], several: bool
) -> Iterator[Cell]:
    found = list(measured_runs(same))
    yield from (Cell(same[0].place.get(axis) or "–") for axis in axes)
    yield Cell(_runs(same))
    yield _percent([record.clean_acc for _, record in found])
    if several:
        yield Cell(" or ".join(balls(same, radii)) or "–")
    for attack in judged:
        under = [(each, record) for each, record in found if attack in (*record.attacks, WORST)]
        shares = [record.result(attack, eps=radii[each.name]).accuracy for each, record in under]
        yield _percent(shares, strong=attack == judged[-1])
    epochs: list[float] = [outcome.best_epoch for outcome, _ in found if outcome.best_epoch is not None]
    yield Cell(mean_text(epochs, lambda mean: f"{mean:.3g}"))
    for name in ("pretrain_seconds", "finetune_seconds"):
        seconds = [getattr(outcome, name) for outcome, _ in found if getattr(outcome, name) is not None]
        yield Cell(f"{text} s" if (text := mean_text(seconds, lambda mean: f"{mean:.0f}", "0f")) != "–" else "–")


def _runs(same: Sequence[Outcome]) -> str:
    """`3`, `2 of 3`, or `2 of 3, 1 failed`."""
    done, failed = (sum(each.status == status for each in same) for status in ("finished", "failed"))
    words = str(done) if done == len(same) else f"{done} of {len(same)}"
    return words + (f", {failed} failed" if failed else "")


def _percent(values: Sequence[float], *, strong: bool = False) -> Cell:
    text = mean_text([100 * value for value in values], lambda mean: f"{mean:.1f}")
    return Cell(text if text == "–" else f"{text} %", strong=strong)


def mean_text(values: Sequence[float], text: Callable[[float], str], half_as: str = "1f") -> str:
    """The mean with its interval, the half width with as many digits as `half_as` says; one value as it is."""
    if len(values) < 2:
        return text(values[0]) if values else "–"
    mean, half = mean_interval(values)
    return f"{text(mean)} ± {half:.{half_as}}"


def _best(history: History) -> tuple[int | None, float | None]:
    points = [(line["epoch"], line["val_robust_accuracy"]) for line in history if is_number(_robust(line))]
    return max(points, key=lambda point: (point[1], -point[0]), default=(None, None))


def _robust(line: Mapping[str, Any]) -> Any:
    return line.get("val_robust_accuracy")


def capital(head: str) -> str:
    """The head of a column, its first letter a capital."""
    # A Greek letter stays: a capital epsilon reads as an E.
    return head[:1].upper() + head[1:] if head[:1].isascii() else head
