"""The sections on what every image is taken for: confusion matrices and calibration, clean beside attacked.

Synopsis:

    for section in classes_section(records, names):        # none if no record has the outcome of every image
        ...
    for section in calibration_section(records, names):
        ...
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from advss_tf.evaluation.records.record import Record, epsilon_text
from advss_tf.evaluation.report import figures
from advss_tf.evaluation.report.calibration import NUM_BINS, Calibration, calibration
from advss_tf.evaluation.report.confusion import (
    confused_table,
    confusion_matrix,
    confusion_table,
    share_text,
    shares_of,
)
from advss_tf.evaluation.report.diagrams import heat_map, reliability_diagram
from advss_tf.evaluation.report.document import Block, Figure, Figures, Fold, Heading, Paragraph, Section
from advss_tf.evaluation.report.tables import Cell, Table

# With more classes the cells are too small for numbers, and with many more for a drawing.
MAX_NUMBERED, MAX_DRAWN = 12, 20
_CONFUSIONS = (
    "True class down, predicted class across, in percent of the images of the true class. Blue is right, orange wrong; "
    "shades follow the square root of the share, so that rare mistakes can be seen. "
    "Under attack an image has the prediction that the first successful attack left, or the last attack if none "
    "succeeded; an image that is wrong cleanly is not attacked and keeps its clean prediction."
)
_CALIBRATION = (
    f"How sure the model is of its predictions against how often they are right, in {NUM_BINS} bins of equal width. "
    "The expected calibration error (ECE; Guo et al. 2017, eq. 3) is the mean distance of the two over all images. "
    "Under attack, confidence is that in the prediction the attack left; an image that is wrong cleanly is not "
    "attacked and keeps its clean prediction and confidence."
)


@dataclass(frozen=True)
class _Outcomes:
    """What every image was taken for, clean or under attack; (n,) each."""

    what: str
    short: str
    labels: np.ndarray
    predictions: np.ndarray
    confidences: np.ndarray


def classes_section(records: Sequence[Record], names: Sequence[str]) -> Iterator[Section]:
    """The confusion matrices of the records that hold the outcome of every image."""
    known = [(record, name) for record, name in zip(records, names, strict=True) if record.examples is not None]
    if not known:
        return
    blocks: list[Block] = [Paragraph(_CONFUSIONS)]
    for number, (record, name) in enumerate(known, 1):
        parts = tuple(_confusions(record, name, number))
        if len(records) == 1:
            blocks += parts
        else:
            by_class = figures.class_accuracies(record)
            caption = f"{name}: accuracy of each class."
            figure = Figure(by_class, caption, f"classes-{number}.svg") if by_class else None
            blocks.append(Fold(name, (*parts, *([Figures((figure,))] if figure else []))))
    yield Section("What is taken for what", tuple(blocks))


def calibration_section(records: Sequence[Record], names: Sequence[str]) -> Iterator[Section]:
    """The reliability diagrams of the records that hold the outcome of every image."""
    known = [(record, name) for record, name in zip(records, names, strict=True) if record.examples is not None]
    found = {name: [(each, _calibrated(each)) for each in _outcomes(record)] for record, name in known}
    found = {name: some for name, some in found.items() if all(made is not None for _, made in some)}
    if not found:
        return
    blocks: list[Block] = [Paragraph(_CALIBRATION)]
    if len(records) > 1:
        blocks.append(_calibration_table(found))
    for number, (name, some) in enumerate(found.items(), 1):
        drawn = Figures(tuple(_reliability(each, made, name, number) for each, made in some if made is not None))
        blocks.append(drawn if len(records) == 1 else Fold(name, (drawn,)))
    yield Section("Calibration", tuple(blocks))


def _outcomes(record: Record) -> list[_Outcomes]:
    kept = record.examples
    if kept is None:
        return []
    ball = f"{record.threat} {epsilon_text(record.eps, record.threat)}"
    attacked = (kept.outcome_attacked_predictions, kept.outcome_attacked_confidences)
    return [
        _Outcomes("clean", "clean", kept.outcome_labels, kept.outcome_predictions, kept.outcome_confidences),
        _Outcomes(f"under attack at {ball}", "attacked", kept.outcome_labels, *attacked),
    ]


def _confusions(record: Record, name: str, number: int) -> Iterator[Block]:
    classes, outcomes = record.class_names, _outcomes(record)
    counts = [confusion_matrix(each.labels, each.predictions, num_classes=len(classes)) for each in outcomes]
    if len(classes) <= MAX_DRAWN:
        drawn = []
        for each, matrix in zip(outcomes, counts, strict=True):
            table = confusion_table(matrix, classes) if len(classes) <= MAX_NUMBERED else None
            caption = f"{name}, {each.what}.{_not_numbers(each)}"
            drawn.append(Figure(_map(matrix, classes), caption, f"confusion-{number}-{each.short}.svg", table))
        yield Figures(tuple(drawn))
    else:
        yield Paragraph(f"{len(classes)} classes are too many for a matrix: here are the pairs confused most.")
    if len(classes) > MAX_NUMBERED:
        for each, matrix in zip(outcomes, counts, strict=True):
            yield Heading(f"Confused most, {each.what}")
            yield confused_table(matrix, classes)


def _map(matrix: np.ndarray, classes: Sequence[str]) -> str:
    shares = shares_of(matrix)
    texts = [[share_text(share) for share in row] for row in shares] if len(classes) <= MAX_NUMBERED else None
    wrong = 1 - np.eye(len(classes), dtype=int)
    return heat_map(
        np.sqrt(shares),
        texts,
        rows=classes,
        columns=classes,
        series=wrong,
        row_title="true class",
        column_title="predicted class",
    )


def _calibrated(each: _Outcomes) -> Calibration | None:
    """None if no prediction was a number: -1 is not one, and has no confidence."""
    known = each.predictions >= 0
    if not known.any():
        return None
    right = each.predictions[known] == each.labels[known]
    # Softmax in float32 may end a rounding above 1.
    return calibration(np.clip(each.confidences[known], 0, 1), right)


def _reliability(each: _Outcomes, found: Calibration, name: str, number: int) -> Figure:
    caption = f"{name}, {each.what}: {_calibration_words(found)}{_not_numbers(each)}"
    return Figure(reliability_diagram(found), caption, f"reliability-{number}-{each.short}.svg")


def _calibration_words(found: Calibration) -> str:
    return (
        f"ECE {100 * found.ece:.1f} %, mean confidence {100 * found.confidence:.1f} %, accuracy "
        f"{100 * found.accuracy:.1f} %, {found.num_images:,} images."
    )


def _not_numbers(each: _Outcomes) -> str:
    lost = int((each.predictions < 0).sum())
    return f" {lost:,} images are left out: the model's output on them was not a number." if lost else ""


def _calibration_table(found: dict[str, list[tuple[_Outcomes, Calibration | None]]]) -> Table:
    rows: list[tuple[tuple[Cell, ...]]] = []
    keys: list[tuple[float | str | None, ...]] = []
    for name, some in found.items():
        both = [made for _, made in some if made is not None]
        cells = [Cell(f"{100 * made.ece:.1f} %", f"sure {100 * made.confidence:.1f} %") for made in both]
        rows.append(((Cell(name), *cells),))
        keys.append((name, *(made.ece for made in both)))
    columns = ("Model", "ECE, clean", "ECE, under attack")
    return Table(columns, tuple(rows), keys=tuple(keys), rising=(0, 1, 2))
