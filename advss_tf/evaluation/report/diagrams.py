"""The figures of a report that are made of cells and bins: heat maps and reliability diagrams, as SVG text.

Synopsis:

    svg = heat_map(shares, texts, rows=names, columns=names, series=np.eye(10, dtype=int))
    svg = reliability_diagram(calibration(confidences, right))

A cell is its series' colour, laid on as strongly as its value says, up to less than half: so its number can be read in
every cell by day and by night, and the same drawing serves both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter

from advss_tf.evaluation.report.calibration import Calibration
from advss_tf.evaluation.report.svg import INK, LINE, MUTED, SERIES, SETTINGS, blank, svg_text

STRONGEST = 0.46
_CELL, _GAP = 0.94, 0.3
_LONGEST_NAME = 22


def heat_map(
    values: np.ndarray,
    texts: Sequence[Sequence[str]] | None,
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    series: np.ndarray | None = None,
    row_title: str = "",
    column_title: str = "",
    apart_rows: Sequence[int] = (),
    apart_columns: Sequence[int] = (),
) -> str:
    """A matrix of cells, as SVG text.

    Args:
        values: (R, C) fractions in [0, 1]; where it is NaN there is no cell.
        texts: What stands in each cell; None for cells too small to be written in.
        rows: The names of the rows.
        columns: The names of the columns.
        series: (R, C) integers, the number of each cell's colour; default 0 everywhere.
        row_title: What the rows are.
        column_title: What the columns are.
        apart_rows: Rows with a gap before them, such as one of means.
        apart_columns: Columns with a gap before them.
    """
    colours = np.zeros(values.shape, int) if series is None else series
    down, across = _places(len(rows), apart_rows), _places(len(columns), apart_columns)
    with mpl.rc_context(SETTINGS):
        size = 0.36 if len(rows) <= 12 else 0.27
        figure = blank(5.4, 1.1 + size * (down[-1] + 1))
        axes = figure.add_subplot()
        for (row, column), value in np.ndenumerate(values):
            if not np.isnan(value):
                _cell(axes, across[column], down[row], float(value), SERIES[colours[row, column]])
                if texts is not None:
                    axes.text(across[column], down[row], texts[row][column], ha="center", va="center", fontsize=9)
        _name_cells(axes, across, down, rows=rows, columns=columns)
        axes.set_xlabel(column_title)
        axes.set_ylabel(row_title)
        return svg_text(figure)


def reliability_diagram(found: Calibration) -> str:
    """Accuracy by confidence with the diagonal, above how many images each bin holds, as SVG text."""
    bins = len(found.counts)
    middles = [(place + 0.5) / bins for place in range(bins)]
    with mpl.rc_context(SETTINGS):
        figure = blank(5.4, 4.6)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3.1, 1))
        for axes in (upper, lower):
            axes.patch.set_alpha(0)
            axes.spines["left"].set_visible(False)
        _draw_bins(upper, found, middles)
        lower.bar(middles, found.counts, width=0.9 / bins, color=MUTED, alpha=0.5, linewidth=0)
        for place, count in zip(middles, found.counts, strict=True):
            if count:
                lower.annotate(
                    _short_count(count), (place, count), (0, 2), textcoords="offset points", ha="center", fontsize=7
                )
        lower.set_yticks([])
        lower.set_ylim(0, 1.3 * max(found.counts))
        lower.set_ylabel("images")
        lower.set_xlabel("confidence in the prediction")
        return svg_text(figure)


def _draw_bins(axes: Axes, found: Calibration, middles: Sequence[float]) -> None:
    width = 0.9 / len(found.counts)
    axes.grid(axis="y")
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1.1, linestyle=(0, (4, 3)), label="calibrated")
    met = [place for place, count in enumerate(found.counts) if count]
    where = [middles[place] for place in met]
    right = [found.accuracies[place] or 0.0 for place in met]
    sure = [found.confidences[place] or 0.0 for place in met]
    axes.bar(where, right, width=width, color=SERIES[0], alpha=0.75, linewidth=0, label="accuracy of the bin")
    axes.hlines(
        sure,
        [place - width / 2 for place in where],
        [place + width / 2 for place in where],
        color=SERIES[1],
        linewidth=2.2,
        label="its mean confidence",
    )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks([0, 0.25, 0.5, 0.75, 1])
        axis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))
    axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=2, columnspacing=1.2, labelspacing=0.3)
    axes.set_title(f"ECE {100 * found.ece:.1f} %", loc="left", fontsize=11.5, fontweight="bold", pad=40)


def _places(count: int, apart: Sequence[int]) -> list[float]:
    """Where cells stand along an axis: one apart, and a gap more before those in `apart`."""
    return [place + _GAP * sum(place >= each for each in apart) for place in range(count)]


def _cell(axes: Axes, across: float, down: float, value: float, colour: str) -> None:
    corner = (across - _CELL / 2, down - _CELL / 2)
    strength = STRONGEST * min(value, 1) if value > 0 else 0.35
    face = colour if value > 0 else LINE
    axes.add_patch(Rectangle(corner, _CELL, _CELL, facecolor=face, alpha=strength, linewidth=0, clip_on=False))


def _name_cells(
    axes: Axes, across: Sequence[float], down: Sequence[float], *, rows: Sequence[str], columns: Sequence[str]
) -> None:
    axes.set_xlim(-0.5, across[-1] + 0.5)
    axes.set_ylim(down[-1] + 0.5, -0.5)
    long = max(map(len, columns)) > 4
    slant: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if long else {}
    axes.set_xticks(across, [_shortened(name) for name in columns], **slant)
    axes.set_yticks(down, [_shortened(name) for name in rows])
    axes.tick_params(length=0, labelcolor=INK)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"


def _short_count(count: int) -> str:
    return f"{count:,}" if count < 10_000 else f"{count / 1000:.0f}k"
