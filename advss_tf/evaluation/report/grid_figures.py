"""The figures of a grid, as SVG text: accuracies against each other, over the epochs, and over the radius of the ball.

Synopsis:

    svg = clean_against_robust(outcomes, axes=["task", "pretraining", "finetuning"])     # None while nothing is there
    for panel in robust_by_epoch(outcomes, axes=axes):
        panel.name, panel.svg              # "F4", one panel for each way of finetuning

What panels do not tell apart, as a baseline that an axis does not reach, is drawn in each of them.

A curve is the mean over the runs of a group, its band reaches from the lowest run to the highest.

References:
    Chen et al., CVPR 2020 (arXiv 2003.12862), Fig. 1: clean against robust accuracy, the area of a marker as the number
    of epochs to the best robust accuracy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from advss_tf.evaluation.records.record import CLEAN, WORST, epsilon_text
from advss_tf.evaluation.records.statistics import mean_interval
from advss_tf.evaluation.report.figures import (
    MARKERS,
    MAX_BANDS,
    band_look,
    curve_look,
    draw_legend,
    is_number,
    legend_text,
    mark_training,
    percent_axis,
)
from advss_tf.evaluation.report.grid_table import Outcome, grouped, judged_epsilon, measured
from advss_tf.evaluation.report.svg import MUTED, SERIES, SETTINGS, panel, svg_text

# More curves than this are drawn in several panels.
_MOST_CURVES = 9
_LARGEST_AREA, _SMALLEST_AREA = 170.0, 8.0
_SPLITS = "finetuning"


class Panel(NamedTuple):
    """One of several drawings of a kind: the value of the axis that tells them apart ("" if it is alone)."""

    name: str
    svg: str


Points = Mapping[float, Sequence[float]]
"""What the runs of a group have at each place of the x axis."""


def clean_against_robust(outcomes: Sequence[Outcome], *, axes: Sequence[str]) -> str | None:
    """A marker for each group at its mean clean and robust accuracy; its area is the mean number of epochs to the best.

    Where no run of a group was picked by its robust accuracy, or none has reached any, the marker is a small one. Few
    groups are drawn with the 95 % t-intervals over their runs.

    Colours tell the values of the first axis apart, shapes those of the last; what lies between is written beside.
    """
    groups = [[each for each in same if measured([each])] for same in grouped(outcomes).values()]
    groups = [same for same in groups if same]
    if not groups:
        return None
    eps = judged_epsilon(outcomes)
    epochs = [_average([float(each.best_epoch) for each in same if each.best_epoch]) for same in groups]
    colours, shapes = _numbered(groups, axes[:1]), _numbered(groups, axes[-1:])
    spread = len(groups) <= MAX_BANDS and any(len(same) > 1 for same in groups)
    with mpl.rc_context(SETTINGS):
        figure, plot = panel(height=4.6 + 0.2 * (len(colours) + len(shapes)) / 2)
        for same, epoch in zip(groups, epochs, strict=True):
            records = measured(same)
            cleans = [record.clean_acc for record in records]
            robusts = [record.result(WORST, eps=eps).accuracy for record in records]
            clean, robust = _average(cleans), _average(robusts)
            look = _look(same[0], axes, colours, shapes)
            if spread and len(records) > 1:
                upright, level = _whiskers(robusts), _whiskers(cleans)
                plot.errorbar(clean, robust, upright, level, fmt="none", ecolor=look["color"], elinewidth=1, alpha=0.45)
            plot.scatter([clean], [robust], s=_area(epoch, max(epochs)), alpha=0.75, linewidths=0, **look)
            between = " ".join(filter(None, (same[0].place.get(axis) for axis in axes[1:-1])))
            plot.annotate(
                legend_text(between, longest=18), (clean, robust), xytext=(5, 4), textcoords="offset points",
                fontsize=7.5, color=MUTED,
            )  # fmt: skip
        for axis, label in ((plot.xaxis, "clean accuracy"), (plot.yaxis, "robust accuracy")):
            axis.set_major_formatter(lambda share, _: f"{100 * share:.4g} %")
            axis.set_label_text(label)
            axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
        plot.margins(0.12)
        plot.grid(axis="x")
        _key(plot, axes, colours, shapes, epochs, intervals=spread)
        return svg_text(figure)


def robust_by_epoch(outcomes: Sequence[Outcome], *, axes: Sequence[str]) -> list[Panel]:
    """Robust accuracy on held-out images over the epochs of finetuning."""
    return list(_panels(outcomes, axes, _by_epoch, _dress_epochs))


def accuracy_by_epsilon(outcomes: Sequence[Outcome], *, axes: Sequence[str]) -> list[Panel]:
    """Worst-case accuracy on test images over the radius of the ball; empty where there is one radius alone.

    The curves begin at clean accuracy. Where it is known, the radius that was trained with is marked.
    """
    return list(_panels(outcomes, axes, _by_epsilon, _dress_epsilons))


def _panels(
    outcomes: Sequence[Outcome],
    axes: Sequence[str],
    points_of: Callable[[Outcome], dict[float, float]],
    dress: Callable[[Axes, Sequence[Outcome]], None],
) -> Iterator[Panel]:
    """Draws what `points_of` says of each run, a curve for each group."""
    curves = {name: [each for each in same if points_of(each)] for name, same in grouped(outcomes).items()}
    curves = {name: same for name, same in curves.items() if same}
    split = _SPLITS if _SPLITS in axes else axes[-1] if len(axes) > 1 and len(curves) > _MOST_CURVES else None
    values = dict.fromkeys(same[0].place.get(split or "") for same in curves.values())
    parted = {value: None for value in values if value is not None}
    # One scale for all panels, which are looked at side by side.
    highest = max((share for same in curves.values() for each in same for share in points_of(each).values()), default=1)
    for value in parted or values:
        chosen = [same for same in curves.values() if same[0].place.get(split or "") in (None, value)]
        rest = [axis for axis in axes if axis != split]
        yield Panel(value or "", _drawn(chosen, rest, value or "", points_of, dress, highest=highest))


def _drawn(
    curves: Sequence[Sequence[Outcome]],
    axes: Sequence[str],
    title: str,
    points_of: Callable[[Outcome], dict[float, float]],
    dress: Callable[[Axes, Sequence[Outcome]], None],
    *,
    highest: float,
) -> str:
    with mpl.rc_context(SETTINGS):
        figure, plot = panel(height=3.9 + 0.2 * max(0, len(curves) - 2))
        for number, same in enumerate(curves):
            points = _together([points_of(each) for each in same])
            places = sorted(points)
            if len(same) > 1:
                faint = {} if len(curves) <= MAX_BANDS else {"alpha": 0.07}
                lows, highs = ([pick(points[place]) for place in places] for pick in (min, max))
                plot.fill_between(places, lows, highs, **band_look(number) | faint)
            own = title if title in same[0].place.values() else same[0].group
            label = " ".join(filter(None, (same[0].place.get(axis) for axis in axes))) or own
            few = {} if len(places) <= 12 else {"markersize": 0}
            means = [_average(points[place]) for place in places]
            plot.plot(places, means, label=legend_text(label), **curve_look(number) | few)
        percent_axis(plot, highest=highest)
        if title:
            lines = -(-len(curves) // 2) if len(curves) > 1 else 0
            plot.set_title(legend_text(title), loc="left", fontsize=11.5, fontweight="bold", pad=10 + 16 * lines)
        dress(plot, [each for same in curves for each in same])
        draw_legend(plot, columns=2)
        return svg_text(figure)


def _by_epoch(outcome: Outcome) -> dict[float, float]:
    if not measured([outcome]):
        return {}
    lines = [line for line in outcome.history if is_number(line.get("val_robust_accuracy"))]
    return {float(line["epoch"]): line["val_robust_accuracy"] for line in lines}


def _dress_epochs(plot: Axes, outcomes: Sequence[Outcome]) -> None:
    plot.set_xlabel("epoch of finetuning")
    plot.set_ylabel("robust accuracy, held out")
    plot.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))


def _by_epsilon(outcome: Outcome) -> dict[float, float]:
    record = next(iter(measured([outcome])), None)
    if record is None or len(record.epsilons) < 2:
        return {}
    return {0.0: record.result(CLEAN).accuracy} | {
        eps: record.result(WORST, eps=eps).accuracy for eps in record.epsilons
    }


def _dress_epsilons(plot: Axes, outcomes: Sequence[Outcome]) -> None:
    records = [outcome.record for outcome in outcomes if outcome.record]
    threat = records[0].threat
    plot.set_xlabel(f"{threat} ε  (pixels in [0, 1])")
    plot.set_ylabel("worst-case accuracy, test")
    plot.set_xlim(left=0)
    if threat == "Linf" and all(epsilon_text(eps, threat).endswith("/255") for eps in records[0].epsilons):
        plot.set_xlabel("Linf ε  (grey levels of 255)")
        plot.xaxis.set_major_formatter(lambda place, _: f"{255 * place:.3g}")
        plot.xaxis.set_ticks([0.0, *records[0].epsilons])
    mark_training(plot, records, 1.0)


def _together(runs: Sequence[Mapping[float, float]]) -> Points:
    """What several runs have at the places that all of them have."""
    places = set.intersection(*(set(run) for run in runs))
    return {place: [run[place] for run in runs] for place in places}


# Scatter --------------------------------------------------------------------------------------------------------------


def _numbered(groups: Sequence[Sequence[Outcome]], axes: Sequence[str]) -> dict[str | None, int]:
    """The values that an axis has in the groups, numbered in order; None for what is the same for several."""
    values = dict.fromkeys(same[0].place.get(axis) for same in groups for axis in axes)
    return {value: number for number, value in enumerate(sorted(values, key=lambda value: value is None))}


def _look(
    outcome: Outcome, axes: Sequence[str], colours: Mapping[Any, int], shapes: Mapping[Any, int]
) -> dict[str, Any]:
    first, last = (outcome.place.get(axis) for axis in (axes[0], axes[-1])) if axes else (None, None)
    return {"color": _colour(first, colours), "marker": MARKERS[shapes.get(last, 0) % len(MARKERS)]}


def _colour(value: str | None, colours: Mapping[Any, int]) -> str:
    return MUTED if value is None and len(colours) > 1 else SERIES[colours.get(value, 0) % len(SERIES)]


def _whiskers(shares: Sequence[float]) -> list[list[float]]:
    """How far the t-interval of a mean reaches down and up, inside [0, 1]."""
    mean, width = mean_interval(shares)
    return [[min(width, mean)], [min(width, 1.0 - mean)]]


def _area(epoch: float, most: float) -> float:
    """An area in proportion to the epochs; what has none is a point."""
    return max(_LARGEST_AREA * epoch / most, _SMALLEST_AREA) if epoch else _SMALLEST_AREA


def _key(
    plot: Axes,
    axes: Sequence[str],
    colours: Mapping[Any, int],
    shapes: Mapping[Any, int],
    epochs: Sequence[float],
    *,
    intervals: bool,
) -> None:
    """What colours, shapes, areas and lines mean."""
    handles = [_sample(legend_text(v or f"any {axes[0]}"), color=_colour(v, colours)) for v in colours if axes]
    if len(axes) > 1:
        looks = {value: MARKERS[number % len(MARKERS)] for value, number in shapes.items()}
        handles += [_sample(legend_text(v or f"any {axes[-1]}"), color=MUTED, marker=m) for v, m in looks.items()]
    faint: dict[str, Any] = {"color": MUTED, "alpha": 0.4}
    if max(epochs):
        handles.append(_sample(f"best after {max(epochs):.3g} epochs", markersize=_LARGEST_AREA**0.5, **faint))
    if not min(epochs):
        handles.append(_sample("no best: picked by accuracy, or 0", markersize=_SMALLEST_AREA**0.5, **faint))
    if intervals:
        handles.append(Line2D([], [], label="95 % t-interval", color=MUTED, alpha=0.6, linewidth=1))
    plot.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(-0.1, 1.0), ncols=3, borderaxespad=0.2, columnspacing=1.2,
        handlelength=1.6, fontsize=9.5,
    )  # fmt: skip


def _sample(label: str, **look: Any) -> Line2D:
    shape: dict[str, Any] = {"marker": "o", "linestyle": "none", "markeredgewidth": 0}
    return Line2D([], [], label=label, **shape | look)


def _average(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
