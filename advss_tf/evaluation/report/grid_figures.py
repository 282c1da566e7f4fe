"""The curves of a grid, as SVG text: accuracies over the epochs, and over the radius of the ball.

Synopsis:

    for panel in robust_by_epoch(outcomes, axes=["task", "pretraining", "finetuning"]):
        panel.name, panel.svg              # "F4", one panel for each way of finetuning

Runs that are attacked in different norms are drawn in panels of their own, as their radii have no common axis. What
panels do not tell apart, as a baseline that an axis does not reach, is drawn in each of them.

A curve is the mean over the runs of a group, its band reaches from the lowest run to the highest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from advss_tf.evaluation.records.record import CLEAN, WORST, epsilon_text
from advss_tf.evaluation.report.figures import (
    MAX_BANDS,
    band_look,
    curve_look,
    draw_legend,
    is_number,
    legend_text,
    mark_training,
    percent_axis,
    trained_epsilons,
)
from advss_tf.evaluation.report.grid_table import Outcome, by_norm, grouped, measured
from advss_tf.evaluation.report.svg import MUTED, SETTINGS, panel, svg_text

# More curves than this are drawn in several panels.
_MOST_CURVES = 9
_SPLITS = "finetuning"
_RING: dict[str, Any] = {
    "marker": "o", "linestyle": "none", "markersize": 12, "markerfacecolor": "none", "clip_on": False,
}  # fmt: skip


class Panel(NamedTuple):
    """One of several drawings of a kind: the value and the norm that tell them apart ("" if it is alone)."""

    name: str
    svg: str


Points = Mapping[float, Sequence[float]]
"""What the runs of a group have at each place of the x axis."""
_PointsOf = Callable[[Outcome], dict[float, float]]
_Dress = Callable[[Axes, Sequence[Sequence[Outcome]]], None]


def robust_by_epoch(outcomes: Sequence[Outcome], *, axes: Sequence[str]) -> list[Panel]:
    """Robust accuracy on held-out images over the epochs of finetuning."""
    return list(_panels(outcomes, axes, _by_epoch, _dress_epochs))


def accuracy_by_epsilon(outcomes: Sequence[Outcome], *, axes: Sequence[str]) -> list[Panel]:
    """Worst-case accuracy on test images over the radius of the ball; empty where there is one radius alone.

    The curves begin at clean accuracy. Where it is known, the radius that was trained with is marked; if there are
    several, a ring on each curve marks its own.
    """
    return list(_panels(outcomes, axes, _by_epsilon, _dress_epsilons))


def _panels(outcomes: Sequence[Outcome], axes: Sequence[str], points_of: _PointsOf, dress: _Dress) -> Iterator[Panel]:
    """Draws what `points_of` says of each run, a curve for each group, the runs of each norm by themselves."""
    norms = by_norm([outcome for outcome in outcomes if points_of(outcome)])
    for norm, some in norms.items():
        yield from _parted(list(grouped(some).values()), axes, norm if len(norms) > 1 else "", points_of, dress)


def _parted(
    curves: Sequence[Sequence[Outcome]], axes: Sequence[str], norm: str, points_of: _PointsOf, dress: _Dress
) -> Iterator[Panel]:
    split = _SPLITS if _SPLITS in axes else axes[-1] if len(axes) > 1 and len(curves) > _MOST_CURVES else None
    values = dict.fromkeys(same[0].place.get(split or "") for same in curves)
    parted = {value: None for value in values if value is not None}
    # One scale for all panels, which are looked at side by side.
    highest = max(share for same in curves for each in same for share in points_of(each).values())
    for value in parted or values:
        chosen = [same for same in curves if same[0].place.get(split or "") in (None, value)]
        labels = [_label(same[0], [axis for axis in axes if axis != split], value or "") for same in chosen]
        name = ", ".join(filter(None, (value, norm)))
        yield Panel(name, _drawn(chosen, labels, name, points_of, dress, highest=highest))


def _label(outcome: Outcome, axes: Sequence[str], value: str) -> str:
    """What a curve is called in the panel of a value: its values on the other axes, or what it is as a whole."""
    own = value if value in outcome.place.values() else outcome.group
    return " ".join(filter(None, (outcome.place.get(axis) for axis in axes))) or own


def _drawn(
    curves: Sequence[Sequence[Outcome]],
    labels: Sequence[str],
    title: str,
    points_of: _PointsOf,
    dress: _Dress,
    *,
    highest: float,
) -> str:
    with mpl.rc_context(SETTINGS):
        figure, plot = panel()
        for number, (same, label) in enumerate(zip(curves, labels, strict=True)):
            points = _together([points_of(each) for each in same])
            places = sorted(points)
            if len(same) > 1:
                faint = {} if len(curves) <= MAX_BANDS else {"alpha": 0.07}
                lows, highs = ([pick(points[place]) for place in places] for pick in (min, max))
                plot.fill_between(places, lows, highs, **band_look(number) | faint)
            few = {} if len(places) <= 12 else {"markersize": 0}
            means = [average(points[place]) for place in places]
            plot.plot(places, means, label=legend_text(label), **curve_look(number) | few)
        percent_axis(plot, highest=highest)
        dress(plot, curves)
        height = draw_legend(plot, columns=2)
        if title:
            plot.set_title(legend_text(title), loc="left", fontsize=11.5, fontweight="bold", pad=8 + height)
        return svg_text(figure)


def _by_epoch(outcome: Outcome) -> dict[float, float]:
    lines = [line for line in outcome.history if is_number(line.get("val_robust_accuracy"))]
    return {float(line["epoch"]): line["val_robust_accuracy"] for line in lines}


def _dress_epochs(plot: Axes, curves: Sequence[Sequence[Outcome]]) -> None:
    plot.set_xlabel("epoch of finetuning")
    several = len({each.trained_eps for same in curves for each in same}) > 1
    plot.set_ylabel(f"robust accuracy, held out{', each in its ball' if several else ''}")
    plot.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))


def _by_epsilon(outcome: Outcome) -> dict[float, float]:
    record = next(iter(measured([outcome])), None)
    if record is None or len(record.epsilons) < 2:
        return {}
    return {0.0: record.result(CLEAN).accuracy} | {
        eps: record.result(WORST, eps=eps).accuracy for eps in record.epsilons
    }


def _dress_epsilons(plot: Axes, curves: Sequence[Sequence[Outcome]]) -> None:
    records = [record for same in curves for record in measured(same)]
    threat = records[0].threat
    plot.set_xlabel(f"{threat} ε  (pixels in [0, 1])")
    plot.set_ylabel("worst-case accuracy, test")
    plot.set_xlim(left=0)
    radii = sorted({eps for record in records for eps in record.epsilons})
    if threat == "Linf" and all(epsilon_text(eps, threat).endswith("/255") for eps in radii):
        plot.set_xlabel("Linf ε  (grey levels of 255)")
        plot.xaxis.set_major_formatter(lambda place, _: f"{255 * place:.3g}")
        plot.xaxis.set_ticks([0.0, *radii])
    trained = [trained_epsilons(measured(same)) for same in curves]
    if len(set().union(*trained)) > 1:
        _ring(plot, curves, trained)
    mark_training(plot, records, 1.0)


def _ring(plot: Axes, curves: Sequence[Sequence[Outcome]], trained: Sequence[set[float]]) -> None:
    """A ring on each curve where its runs were trained, if they were attacked there."""
    for number, (same, radii) in enumerate(zip(curves, trained, strict=True)):
        points = _together([_by_epsilon(each) for each in same])
        places = sorted(place for place in points if any(math.isclose(place, eps, abs_tol=1e-9) for eps in radii))
        means = [average(points[place]) for place in places]
        plot.plot(places, means, label="_ring", markeredgecolor=curve_look(number)["color"], **_RING)
    plot.plot([], [], label="the ε of training", markeredgecolor=MUTED, **_RING)


def _together(runs: Sequence[Mapping[float, float]]) -> Points:
    """What several runs have at the places that all of them have."""
    places = set.intersection(*(set(run) for run in runs))
    return {place: [run[place] for run in runs] for place in places}


def average(values: Sequence[float]) -> float:
    """The mean; 0 where there is nothing."""
    return sum(values) / len(values) if values else 0.0
