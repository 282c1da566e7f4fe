"""How a figure looks, and how it becomes SVG text that follows the colours of the page it stands in.

Synopsis:

    with mpl.rc_context(SETTINGS):
        figure, axes = panel()
        axes.plot(x, y, color=SERIES[0])
        svg = svg_text(figure)            # every colour is a CSS variable

Drawn with matplotlib's object API on no display. One panel is one narrow figure, so that a phone shows panels below
each other, readable.
"""

from __future__ import annotations

import hashlib
import io
import re
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# Colours that nobody would pick stand for CSS variables until the figure is text.
_VARIABLES = {
    "#010101": "--ink",
    "#020202": "--muted",
    "#030303": "--line",
    "#040400": "--series-0",
    "#040401": "--series-1",
    "#040402": "--series-2",
    "#040403": "--series-3",
    "#040404": "--series-4",
    "#040405": "--series-5",
}
INK, MUTED, LINE, *SERIES = _VARIABLES
_LIGHT = ("#1c1f24", "#5d6570", "#dfe2e6", "#1f5fd0", "#c2410c", "#0f766e", "#7c3aed", "#be185d", "#57534e")
_DARK = ("#e8eaed", "#a3abb6", "#343a43", "#7fb0ff", "#ff9d5c", "#4fd1c0", "#bda4ff", "#ff8fc0", "#c9c4bf")
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "advss_tf",
    "text.parse_math": False,
    "font.size": 10.5,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.9,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.handlelength": 2.6,
}


def css_variables(*, dark: bool) -> str:
    """The colours of the figures as CSS declarations, `--ink: #1c1f24; …`."""
    return " ".join(
        f"{name}: {value};" for name, value in zip(_VARIABLES.values(), _DARK if dark else _LIGHT, strict=True)
    )


def standalone(svg: str) -> str:
    """The same figure as a file of its own: it brings its colours, for light and for dark."""
    style = (
        f"<style>svg {{ {css_variables(dark=False)} }} "
        f"@media (prefers-color-scheme: dark) {{ svg {{ {css_variables(dark=True)} }} }}</style>"
    )
    return re.sub(r"(<svg[^>]*>)", lambda match: match.group(1) + style, svg, count=1)


def panel(*, width: float = 5.4, height: float = 3.9) -> tuple[Figure, Axes]:
    """An empty figure with one pair of axes, without a background; to be used inside `rc_context(SETTINGS)`."""
    figure = blank(width, height)
    axes = figure.add_subplot()
    axes.grid(axis="y")
    axes.spines["left"].set_visible(False)
    axes.patch.set_alpha(0)
    return figure, axes


def blank(width: float, height: float) -> Figure:
    """An empty figure of a size in inches, without axes and background; to be used inside `rc_context(SETTINGS)`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    figure.patch.set_alpha(0)
    return figure


def svg_text(figure: Figure) -> str:
    """The figure as SVG text without a size, in CSS variables, safe to stand beside others in one page."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    text = re.sub(
        r"<metadata>.*?</metadata>|<!--.*?-->|\n", lambda found: " " * (found[0] == "\n"), text, flags=re.DOTALL
    )
    # A thousandth of a point is finer than any screen; what is written, outside tags, stays as it is.
    text = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\.\d{3})\d+", r"\1", tag[0]), text)
    text = re.sub(r" {2,}", " ", text)
    # Sizes come from the page; the font is the reader's own.
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r"font-family: [^;\"]*", f"font-family: {_FONT}", text)
    # Several figures share a page: their names must not meet, and their style must not leak.
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r"<style.*?</style>", "", text, count=1, flags=re.DOTALL)
    mark = hashlib.sha256(text.encode()).hexdigest()[:8]
    return re.sub(r'(id="|href="#|url\(#)', rf"\g<1>f{mark}", text)
