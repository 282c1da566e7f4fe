"""Confusions and calibration of records, with few and with many classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from advss_tf.evaluation import Result
from advss_tf.evaluation.report.classwise import calibration_section, classes_section
from advss_tf.evaluation.report.document import Figures, Fold, Heading, Paragraph
from advss_tf.evaluation.report.tables import Table


def of_classes(record, number):
    """A record of so many classes: 50 images, two of each class in turn, right cleanly, one class higher attacked."""
    labels = np.arange(50) % number
    examples = replace(
        record.examples,
        outcome_labels=labels,
        outcome_predictions=labels,
        outcome_confidences=np.full(50, 0.9, np.float32),
        outcome_attacked_predictions=(labels + 1) % number,
        outcome_attacked_confidences=np.full(50, 0.4, np.float32),
    )
    totals = np.bincount(labels, minlength=number).tolist()
    names = tuple(f"class {place}" for place in range(number))
    rows = tuple(
        Result.from_counts(row.attack, 50, 50, eps=row.eps, threat=row.threat, class_correct=tuple(totals))
        for row in record.results
    )
    change = {"num_classes": number, "class_names": names, "class_totals": tuple(totals), "results": rows}
    return record.model_copy(update=change | {"examples": examples})


def blocks_of(sections):
    (section,) = sections
    return section.blocks


def test_few_classes_are_drawn_with_their_numbers_clean_beside_attacked(record):
    (_, figures) = blocks_of(classes_section([of_classes(record, 10)], ["m"]))
    clean, attacked = figures.figures
    assert clean.caption == "m, clean." and attacked.caption == "m, under attack at Linf 8/255."
    assert [row[place + 1].text for place, row in enumerate(clean.table.groups[0])] == ["100"] * 10
    assert attacked.table.groups[0][0][2].text == "100" and attacked.table.groups[0][0][1].text == ""
    assert ">100</text>" in clean.svg


def test_more_classes_are_drawn_without_numbers_and_listed(record):
    blocks = blocks_of(classes_section([of_classes(record, 20)], ["m"]))
    assert [type(block) for block in blocks] == [Paragraph, Figures, Heading, Table, Heading, Table]
    assert ">100</text>" not in blocks[1].figures[0].svg and blocks[1].figures[0].table is None
    assert blocks[-1].groups[0][0][0].text == "class 0" and blocks[-1].groups[0][0][1].text == "class 1"


def test_a_hundred_classes_are_words_and_a_list(record):
    blocks = blocks_of(classes_section([of_classes(record, 100)], ["m"]))
    assert not any(isinstance(block, Figures) for block in blocks)
    assert blocks[1].text.startswith("100 classes are too many for a matrix")
    assert len(blocks[-1].groups[0]) == 10


def test_several_records_are_folded_and_compared_in_a_table(record):
    records = [of_classes(record, 10), of_classes(record, 10)]
    folds = blocks_of(classes_section(records, ["a", "b"]))[1:]
    assert [(type(fold), fold.title) for fold in folds] == [(Fold, "a"), (Fold, "b")]
    _, table, *_ = blocks_of(calibration_section(records, ["a", "b"]))
    assert [cell.text for cell in table.groups[0][0]] == ["a", "10.0 %", "40.0 %"]
    assert table.keys[0] == ("a", pytest.approx(0.1), pytest.approx(0.4))


def test_calibration_is_said_in_words(record):
    _, figures = blocks_of(calibration_section([of_classes(record, 10)], ["m"]))
    assert [figure.caption for figure in figures.figures] == [
        "m, clean: ECE 10.0 %, mean confidence 90.0 %, accuracy 100.0 %, 50 images.",
        "m, under attack at Linf 8/255: ECE 40.0 %, mean confidence 40.0 %, accuracy 0.0 %, 50 images.",
    ]


def test_images_without_a_prediction_are_left_out_and_counted(record):
    made = of_classes(record, 10)
    predictions = made.examples.outcome_attacked_predictions.copy()
    predictions[:3] = -1
    made = made.model_copy(update={"examples": replace(made.examples, outcome_attacked_predictions=predictions)})
    for section in (classes_section, calibration_section):
        attacked = blocks_of(section([made], ["m"]))[1].figures[1]
        assert attacked.caption.endswith("3 images are left out: the model's output on them was not a number.")
    none = replace(made.examples, outcome_attacked_predictions=np.full(50, -1))
    assert list(calibration_section([made.model_copy(update={"examples": none})], ["m"])) == []


def test_a_record_without_outcomes_has_neither_section(record):
    bare = record.model_copy(update={"examples": None})
    assert list(classes_section([bare], ["m"])) == [] == list(calibration_section([bare], ["m"]))
    assert len(blocks_of(classes_section([bare, record], ["m", "n"]))) == 2
