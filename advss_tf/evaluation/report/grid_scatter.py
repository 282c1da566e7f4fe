"""The scatter of a grid, as SVG text: clean against robust accuracy.

Synopsis:

    for panel in clean_against_robust(outcomes, axes=["task", "pretraining", "finetuning"]):
        panel.name, panel.svg              # "", or a panel for each norm: "L2"

References:
    Chen et al., CVPR 2020 (arXiv 2003.12862), Fig. 1: clean against robust accuracy, the area of a marker as the number
    of epochs to the best robust accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from advss_tf.evaluation.records.record import WORST
from advss_tf.evaluation.records.statistics import mean_interval
from advss_tf.evaluation.report.figures import MARKERS, MAX_BANDS, draw_legend, legend_text
from advss_tf.evaluation.report.grid_figures import Panel, average
from advss_tf.evaluation.report.grid_table import Outcome, ball_text, by_norm, grouped, judged_epsilons, measured
from advss_tf.evaluation.report.svg import MUTED, SERIES, SETTINGS, panel, svg_text

_LARGEST_AREA, _SMALLEST_AREA = 170.0, 8.0


def clean_against_robust(outcomes: Sequence[Outcome], *, axes: Sequence[str]) -> list[Panel]:
    """A marker for each group at its mean clean and robust accuracy; its area is the mean number of epochs to the best.

    Where no run of a group was picked by its robust accuracy, or none has reached any, the marker is a small one. Few
    groups are drawn with the 95 % t-intervals over their runs.

    Colours tell the values of the first axis apart, shapes those of the last; what lies between is written beside.
    """
    radii, norms = judged_epsilons(outcomes), by_norm(outcomes)
    return [Panel(norm if len(norms) > 1 else "", _scatter(some, axes, radii)) for norm, some in norms.items()]


def _scatter(outcomes: Sequence[Outcome], axes: Sequence[str], radii: Mapping[str, float]) -> str:
    groups, ball = list(grouped(outcomes).values()), ball_text(outcomes, radii)
    epochs = [average([float(each.best_epoch) for each in same if each.best_epoch]) for same in groups]
    colours, shapes = _numbered(groups, axes[:1]), _numbered(groups, axes[-1:])
    spread = len(groups) <= MAX_BANDS and any(len(same) > 1 for same in groups)
    with mpl.rc_context(SETTINGS):
        figure, plot = panel(height=5.0)
        for same, epoch in zip(groups, epochs, strict=True):
            records = measured(same)
            cleans = [record.clean_acc for record in records]
            pairs = zip(records, same, strict=True)
            robusts = [record.result(WORST, eps=radii[each.name]).accuracy for record, each in pairs]
            clean, robust = average(cleans), average(robusts)
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
        for axis, label in ((plot.xaxis, "clean accuracy"), (plot.yaxis, f"robust accuracy in {ball}")):
            axis.set_major_formatter(lambda share, _: f"{100 * share:.4g} %")
            axis.set_label_text(label)
            axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
        plot.margins(0.12)
        plot.grid(axis="x")
        _key(plot, axes, colours, shapes, epochs, intervals=spread)
        return svg_text(figure)


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
    look: dict[str, Any] = {"bbox_to_anchor": (-0.1, 1.0), "columnspacing": 1.2, "handlelength": 1.6, "fontsize": 9.5}
    draw_legend(plot, columns=3, handles=handles, room=0.95, **look)


def _sample(label: str, **look: Any) -> Line2D:
    shape: dict[str, Any] = {"marker": "o", "linestyle": "none", "markeredgewidth": 0}
    return Line2D([], [], label=label, **shape | look)
