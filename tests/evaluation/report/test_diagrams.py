"""Heat maps and reliability diagrams: what is drawn, and that it can be read by day and by night."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest

from advss_tf.evaluation.report import diagrams
from advss_tf.evaluation.report.calibration import calibration
from advss_tf.evaluation.report.diagrams import STRONGEST, heat_map, reliability_diagram
from advss_tf.evaluation.report.svg import css_variables

VALUES = np.array([[1.0, 0.0], [0.25, np.nan]])


def texts(svg: str) -> list[str]:
    return [element.text for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")]


def test_every_cell_has_its_number_and_its_colour_as_strong_as_its_value():
    svg = heat_map(VALUES, [["100", ""], ["25", "–"]], rows=["a", "b"], columns=["c", "d"], series=np.eye(2, dtype=int))
    assert {"100", "25", "a", "b", "c", "d"} <= set(texts(svg))
    assert "–" not in texts(svg)  # there is no cell
    strengths = re.findall(r"fill: var\(--series-(\d)\); opacity: ([\d.]+)", svg)
    assert strengths == [("1", f"{STRONGEST:g}"), ("0", f"{STRONGEST / 4:g}")]
    assert not re.findall(r": ?#[0-9a-f]{3,6}\b", svg)


def test_cells_that_are_too_small_have_no_numbers():
    assert sorted(texts(heat_map(VALUES, None, rows=["a", "b"], columns=["c", "d"]))) == ["a", "b", "c", "d"]


def test_more_rows_make_a_higher_figure():
    def height(rows):
        svg = heat_map(np.ones((rows, 2)), None, rows=["r"] * rows, columns=["c", "d"])
        return float(re.search(r'viewBox="0 0 [\d.]+ ([\d.]+)"', svg).group(1))

    assert height(4) < height(8) < height(19)


def test_names_that_are_markup_or_long_are_text():
    svg = heat_map(VALUES, None, rows=["<b>", "$x$ & co"], columns=["_c", "a very long name of a class"])
    assert {"<b>", "$x$ & co", "_c", "a very long name of a…"} <= set(texts(svg))


def luminance(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def rgb(text):
    return np.array([int(text[place : place + 2], 16) for place in (1, 3, 5)]) / 255


@pytest.mark.parametrize("dark, card", [(False, "#ffffff"), (True, "#181c22")])
@pytest.mark.parametrize("series", [0, 1, 2])
def test_a_number_can_be_read_in_the_strongest_cell(dark, card, series):
    """WCAG 2.1, success criterion 1.4.3: contrast of at least 4.5."""
    colours = dict(re.findall(r"(--[\w-]+): (#\w{6});", css_variables(dark=dark)))
    cell = (1 - STRONGEST) * rgb(card) + STRONGEST * rgb(colours[f"--series-{series}"])
    ink, behind = sorted((luminance(rgb(colours["--ink"])), luminance(cell)), reverse=True)
    assert (ink + 0.05) / (behind + 0.05) >= 4.5


def test_a_reliability_diagram_says_the_error_and_the_counts():
    confidences = np.repeat([0.95, 0.35, 0.5], [12_345, 7, 20])
    found = calibration(confidences, np.arange(len(confidences)) % 2 == 0)
    said = texts(reliability_diagram(found))
    assert f"ECE {100 * found.ece:.1f} %" in said
    assert {"12k", "7", "20"} <= set(said)
    assert {"calibrated", "accuracy of the bin", "its mean confidence"} <= set(said)


def test_drawing_leaves_no_trace_and_repeats():
    before = dict(mpl.rcParams)
    found = calibration(np.array([0.5, 0.9]), np.array([True, False]))
    assert reliability_diagram(found) == reliability_diagram(found)
    first = heat_map(VALUES, None, rows=["a", "b"], columns=["c", "d"])
    assert first == heat_map(VALUES, None, rows=["a", "b"], columns=["c", "d"])
    assert dict(mpl.rcParams) == before


def test_rows_apart_have_a_gap_before_them():
    assert diagrams._places(4, (1, 3)) == pytest.approx([0, 1.3, 2.3, 3.6])
