"""Confusion matrices: by hand, against a loop, and what no matrix can hold."""

from __future__ import annotations

import numpy as np
import pytest

from advss_tf.errors import InvalidInput
from advss_tf.evaluation.report.confusion import (
    Confused,
    confused_table,
    confusion_matrix,
    confusion_table,
    most_confused,
    share_text,
    shares_of,
)

LABELS = np.array([0, 0, 0, 1, 1, 2])
PREDICTIONS = np.array([0, 1, 1, 1, -1, 0])


def test_true_classes_are_rows_and_what_is_not_a_number_is_nowhere():
    counts = confusion_matrix(LABELS, PREDICTIONS, num_classes=4)
    assert counts.tolist() == [[1, 2, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(shares_of(counts)[0], [1 / 3, 2 / 3, 0, 0])
    assert shares_of(counts)[3].tolist() == [0, 0, 0, 0]


def test_it_is_what_a_loop_counts():
    random = np.random.default_rng(0)
    labels, predictions = random.integers(0, 7, 300), random.integers(-1, 7, 300)
    expected = np.zeros((7, 7), int)
    for label, prediction in zip(labels, predictions, strict=True):
        if prediction >= 0:
            expected[label, prediction] += 1
    np.testing.assert_array_equal(confusion_matrix(labels, predictions, num_classes=7), expected)


def test_the_pairs_that_are_confused_most_come_first():
    counts = np.array([[9, 2, 5], [5, 9, 0], [0, 0, 9]])
    assert most_confused(counts) == [Confused(0, 2, 5), Confused(1, 0, 5), Confused(0, 1, 2)]
    assert len(most_confused(counts, most=1)) == 1
    (first, *_) = confused_table(counts, ["cat", "dog", "car"]).groups[0]
    assert [cell.text for cell in first] == ["cat", "car", "5", "31.2 %"]


def test_the_table_says_percent_of_the_true_class():
    table = confusion_table(np.array([[999, 1], [300, 700]]), ["cat", "dog"])
    assert table.columns == ("True ↓, predicted →", "cat", "dog")
    assert [[cell.text for cell in row] for row in table.groups[0]] == [["cat", "100", "<1"], ["dog", "30", "70"]]
    assert [cell.strong for cell in table.groups[0][1]] == [False, False, True]


def test_a_share_that_is_there_is_never_written_as_none():
    assert [share_text(share) for share in (0, 0.001, 0.006, 1)] == ["", "<1", "1", "100"]


@pytest.mark.parametrize(
    "labels, predictions", [([0, 3], [0, 0]), ([0, 0], [0, 3]), ([-1, 0], [0, 0]), ([0, 0], [-2, 0]), ([0], [0, 1])]
)
def test_what_does_not_fit_the_classes_is_refused(labels, predictions):
    with pytest.raises(InvalidInput, match="do not fit the classes"):
        confusion_matrix(np.array(labels), np.array(predictions), num_classes=3)
