"""The figures of a report, as SVG text whose colours are CSS variables.

Synopsis:

    svg = accuracy_against_epsilon(records)       # inline in a page: follows the page's light and dark
    svg = class_accuracies(record)                # None if there are too many classes to draw
    svg = loss_curves(history)                    # None if the history holds no loss

Every curve differs from the others in its dashes or its marker as well as in its colour.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from advss_tf.evaluation.records.record import CLEAN, WORST, Record, epsilon_text
from advss_tf.evaluation.report.svg import MUTED, SERIES, SETTINGS, panel, svg_text

MARKERS, _DASHES = ("o", "s", "^", "D", "v", "P"), ("-", (0, (6, 2)), (0, (2, 1.5)), "-.", (0, (8, 2, 1, 2)), ":")
MAX_CLASSES = 20
# More bands than this hide each other.
MAX_BANDS = 4
_MAX_MARKED, _MAX_TRAINED = 12, 4
# A legend that figures have room for, in inches; the share of their width to the right of the labels of the y axis.
_SHORT, _ROOM = 0.5, 0.86
_LEGEND: dict[str, Any] = {"bbox_to_anchor": (-0.01, 1.0), "handletextpad": 0.6, "labelspacing": 0.3}

History = Sequence[Mapping[str, Any]]


def accuracy_against_epsilon(records: Sequence[Record], *, names: Sequence[str] | None = None) -> str:
    """Worst-case accuracy over the radius of the ball, with its Wilson 95 % band; the curve begins at clean accuracy.

    Bands are left out where there are more than `MAX_BANDS` curves, and markers are thinned out on long ones.

    Args:
        records: Records of one threat.
        names: One label per record; default: the records' names.

    Returns:
        SVG text.
    """
    threat = records[0].threat
    grey_levels = threat == "Linf"
    scale = 255 if grey_levels else 1
    with mpl.rc_context(SETTINGS):
        figure, axes = panel()
        for number, (record, name) in enumerate(zip(records, names or [r.name for r in records], strict=True)):
            rows = [record.result(CLEAN), *(record.result(WORST, eps=eps) for eps in record.epsilons)]
            places = [row.eps * scale for row in rows]
            few = {} if len(rows) <= _MAX_MARKED else {"markersize": 3.5, "markevery": -(-len(rows) // _MAX_MARKED)}
            if len(records) <= MAX_BANDS:
                axes.fill_between(places, [row.low for row in rows], [row.high for row in rows], **band_look(number))
            axes.plot(places, [row.accuracy for row in rows], label=legend_text(name), **curve_look(number) | few)
        axes.set_xlabel(f"{threat} ε  (grey levels of 255)" if grey_levels else f"{threat} ε  (pixels in [0, 1])")
        axes.set_xlim(left=0)
        percent_axis(axes)
        mark_training(axes, records, scale)
        draw_legend(axes, columns=1 if len(records) > 2 else len(records))
        return svg_text(figure)


def class_accuracies(record: Record) -> str | None:
    """Clean and worst-case accuracy of each class, joined by a line, as SVG text; None beyond 20 classes."""
    rows = [number for number, total in enumerate(record.class_totals) if total]
    if len(rows) > MAX_CLASSES:
        return None
    kinds = (("clean", CLEAN, 0), (f"worst case at {epsilon_text(record.eps, record.threat)}", WORST, 1))
    shares = [
        [record.result(attack).class_correct[row] / record.class_totals[row] for row in rows] for _, attack, _ in kinds
    ]
    with mpl.rc_context(SETTINGS):
        figure, axes = panel()
        places = list(range(len(rows)))
        axes.hlines(places, shares[1], shares[0], color=MUTED, alpha=0.45, linewidth=2.4, zorder=1)
        for (label, _, number), values in zip(kinds, shares, strict=True):
            axes.plot(
                values,
                places,
                label=label,
                **curve_look(number) | {"linestyle": "none", "markersize": 6.5},
                clip_on=False,
            )
        axes.set_yticks(places, [legend_text(record.class_names[row], longest=18) for row in rows])
        axes.tick_params(axis="y", pad=9)  # markers at 0 % stand clear of the names
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.grid(axis="x")
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
        axes.xaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))
        axes.set_xlabel("accuracy of each class")
        draw_legend(axes, columns=2)
        return svg_text(figure)


def loss_curves(history: History) -> str | None:
    """`loss` and `val_loss` over the epochs, as SVG text; None if the history holds neither."""
    curves = {"loss": ("training", 0, 1), "val_loss": ("held out", 0, 0)}
    return _history_panel(history, curves, title="Loss", percent=False)


def accuracy_curves(history: History) -> str | None:
    """Clean and robust accuracy over the epochs, training and held out, as SVG text; None if there are none."""
    curves = {
        "accuracy": ("clean, training", 0, 1),
        "val_accuracy": ("clean, held out", 0, 0),
        "robust_accuracy": ("robust, training", 1, 1),
        "val_robust_accuracy": ("robust, held out", 1, 0),
    }
    return _history_panel(history, curves, title="Accuracy", percent=True)


def _history_panel(
    history: History, curves: Mapping[str, tuple[str, int, int]], *, title: str, percent: bool
) -> str | None:
    drawn = {key: look for key, look in curves.items() if any(is_number(line.get(key)) for line in history)}
    if not drawn:
        return None
    with mpl.rc_context(SETTINGS):
        figure, axes = panel()
        for key, (label, colour, dashes) in drawn.items():
            points = [
                (line.get("epoch", place), line[key])
                for place, line in enumerate(history, 1)
                if is_number(line.get(key))
            ]
            few = len(points) <= 25
            look: dict[str, Any] = {
                "color": SERIES[colour],
                "linestyle": "-" if dashes == 0 else (0, (3, 1.6)),
                "alpha": 1,
            }
            marker: dict[str, Any] = {"marker": MARKERS[colour], "markersize": 4.2 if few else 0, "markeredgewidth": 0}
            axes.plot(*zip(*points, strict=True), label=label, **look, **marker)
        axes.set_xlabel("epoch")
        axes.set_title(title, loc="left", fontsize=11.5, fontweight="bold", pad=40 if len(drawn) > 2 else 26)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
        if percent:
            percent_axis(axes)
        draw_legend(axes, columns=2)
        return svg_text(figure)


def percent_axis(axes: Axes, *, highest: float = 1.0) -> None:
    """The y axis from 0, for fractions: to 25, 50 or 100 %, the first that holds the highest of them."""
    top, ticks = next((top, ticks) for top, ticks in ((0.25, 5), (0.5, 5), (1.0, 4)) if highest <= top or top == 1)
    axes.set_ylim(0, top)
    axes.set_yticks([top * number / ticks for number in range(ticks + 1)])
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0, symbol=" %"))
    # Points at exactly 0 % and 100 % would be cut in half by the frame.
    for line in axes.lines:
        line.set_clip_on(False)


def mark_training(axes: Axes, records: Sequence[Record], scale: float) -> None:
    """A line at each epsilon that models were trained with, where it is known and of this threat; none if many."""
    known = trained_epsilons(records)
    if not known or len(known) > _MAX_TRAINED:
        return
    for number, place in enumerate(sorted(known)):
        axes.axvline(place * scale, color=MUTED, linewidth=1.1, linestyle=(0, (4, 3)), zorder=1)
        axes.annotate(
            f"trained at {epsilon_text(place, records[0].threat)}",
            (place * scale, 0.985 - 0.06 * number),
            xycoords=axes.get_xaxis_transform(),
            xytext=(5, 0),
            textcoords="offset points",
            va="top",
            fontsize=9.5,
            color=MUTED,
        )
    axes.set_xlim(right=max(axes.get_xlim()[1], max(known) * scale * 1.35))


def trained_epsilons(records: Sequence[Record]) -> set[float]:
    """The epsilons that models were trained with, where they are known and of the threat that was evaluated."""
    return {
        record.training_eps
        for record in records
        if record.training_eps and record.training_threat in (None, record.threat)
    }


def curve_look(number: int) -> dict[str, Any]:
    """Colour, marker and dashes of the curve of a number, from 0: no two of 36 are alike."""
    # The seventh curve has the first one's colour, with another marker and in other dashes.
    again, index = divmod(number, len(SERIES))
    return {
        "color": SERIES[index],
        "marker": MARKERS[(index + 2 * again) % len(MARKERS)],
        "linestyle": _DASHES[(index + again) % len(_DASHES)],
        "markersize": 5.5,
        "markeredgewidth": 0,
    }


def band_look(number: int) -> dict[str, Any]:
    """How the band around the curve of a number is filled."""
    return {"color": SERIES[number % len(SERIES)], "alpha": 0.16, "linewidth": 0}


def draw_legend(
    axes: Axes, *, columns: int, handles: Sequence[Artist] | None = None, room: float = _ROOM, **look: Any
) -> float:
    """A legend above the axes, where there is something to tell apart; a long one makes the figure higher.

    Beside a legend that is wider than the figure the layout would leave no room for the axes, so it has as many columns
    as fit, up to `columns`.

    Args:
        axes: The only axes of their figure.
        columns: The most columns.
        handles: What is explained; default: what is drawn and has a label.
        room: The share of the figure's width that the legend may take.
        look: Further arguments of `Axes.legend`.

    Returns:
        Its height in points, 0 where there is none.
    """
    handles = axes.get_legend_handles_labels()[0] if handles is None else handles
    if len(handles) < 2:
        return 0.0
    figure = cast(Figure, axes.figure)
    for number in range(columns, 0, -1):
        legend = axes.legend(handles=handles, loc="lower left", ncols=number, borderaxespad=0.2, **_LEGEND | look)
        size = legend.get_window_extent()
        if size.width <= room * figure.bbox.width:
            break
    # A long legend takes no room from the curves.
    inches = size.height / figure.dpi
    figure.set_figheight(figure.get_figheight() + max(0.0, inches - _SHORT))
    return 72 * inches


def legend_text(name: str, *, longest: int = 40) -> str:
    """A name as a legend can show it: not too long, and not hidden."""
    short = name if len(name) <= longest else name[: longest - 1] + "…"
    # matplotlib hides labels that begin with an underscore.
    return "\u200b" + short if short.startswith("_") else short


def is_number(value: Any) -> bool:
    """Whether a value of a history is one: runs that diverge leave None."""
    return isinstance(value, int | float) and not math.isnan(value)
