"""Which class is taken for which: counts, shares and the pairs that are confused most.

Synopsis:

    counts = confusion_matrix(labels, predictions, num_classes=10)      # true class down, predicted class across
    table = confusion_table(counts, class_names)
    most_confused(counts)[0]                                            # Confused(true=3, predicted=5, num_images=41)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from advss_tf.errors import InvalidInput
from advss_tf.evaluation.report.tables import Cell, Table


class Confused(NamedTuple):
    """How many images of a true class were taken for another class."""

    true: int
    predicted: int
    num_images: int


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, *, num_classes: int) -> np.ndarray:
    """Counts of images by true and predicted class.

    Args:
        labels: (n,) integers in [0, `num_classes`).
        predictions: (n,) integers; -1, a prediction that was not a number, is counted nowhere.
        num_classes: Number of classes.

    Returns:
        (num_classes, num_classes) int64; row i, column j: images of class i that were taken for class j.

    Raises:
        InvalidInput: if the lengths differ or a class is not one of `num_classes`.
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    lowest, highest = labels.min(initial=0), max(labels.max(initial=0), predictions.max(initial=0))
    if labels.shape != predictions.shape or lowest < 0 or highest >= num_classes or predictions.min(initial=0) < -1:
        raise InvalidInput(
            "Labels and predictions do not fit the classes.",
            expected=f"two arrays of one length with classes in [0, {num_classes}), and -1 for no prediction",
            received=f"{labels.shape} and {predictions.shape}, classes up to {highest}",
        )
    counts = np.zeros((num_classes, num_classes), np.int64)
    known = predictions >= 0
    np.add.at(counts, (labels[known], predictions[known]), 1)
    return counts


def shares_of(counts: np.ndarray) -> np.ndarray:
    """Counts as fractions of each row, of the images of the true class that have a prediction; 0 in an empty row."""
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def share_text(share: float) -> str:
    """`87`, a share as a whole number of percent; `<1` where it is smaller than half a percent; nothing for none."""
    whole = round(100 * share)
    return str(whole) if whole else "<1" if share > 0 else ""


def confusion_table(counts: np.ndarray, class_names: Sequence[str]) -> Table:
    """The matrix in percent of each true class, as a table; what is right is strong."""
    shares = shares_of(counts)
    rows = tuple(
        (Cell(name), *(Cell(share_text(share), strong=row == column) for column, share in enumerate(shares[row])))
        for row, name in enumerate(class_names)
    )
    return Table(("True ↓, predicted →", *class_names), (rows,))


def most_confused(counts: np.ndarray, *, most: int = 10) -> list[Confused]:
    """The pairs of classes that are confused most, by count; ties in the order of the classes."""
    pairs = [
        Confused(int(true), int(predicted), int(counts[true, predicted]))
        for true, predicted in zip(*np.nonzero(counts), strict=True)
        if true != predicted
    ]
    return sorted(pairs, key=lambda pair: (-pair.num_images, pair.true, pair.predicted))[:most]


def confused_table(counts: np.ndarray, class_names: Sequence[str], *, most: int = 10) -> Table:
    """`most_confused` in words: true class, predicted class, images, and their share of the true class."""
    shares = shares_of(counts)
    rows = tuple(
        (
            Cell(class_names[pair.true]),
            Cell(class_names[pair.predicted]),
            Cell(f"{pair.num_images:,}"),
            Cell(f"{100 * shares[pair.true, pair.predicted]:.1f} %"),
        )
        for pair in most_confused(counts, most=most)
    )
    return Table(("True class", "Taken for", "Images", "Of the true class"), (rows,), text=(0, 1))
