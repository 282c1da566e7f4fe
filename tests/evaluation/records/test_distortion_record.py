"""Records of distortions survive the disk and agree with themselves."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from advss_tf.errors import InvalidInput
from advss_tf.evaluation import DistortionRecord, Record, Result, load_record


def row(kind, level, correct):
    return Result.from_counts(kind, correct, 10, threat="corruptions", level=level, class_correct=(correct, 0))


@pytest.fixture
def fields(record):
    header = {name: getattr(record, name) for name in type(record).__mro__[1].model_fields}
    rows = (row("clean", 0, 9), row("fog", 1, 8), row("fog", 2, 6), row("snow", 1, 4), row("snow", 2, 2))
    return header | {"threat": "corruptions", "clean_acc": 0.9, "corruptions_acc": 0.5, "results": rows}


def test_what_is_saved_is_what_is_loaded(fields, record, tmp_path):
    made = DistortionRecord(**fields)
    path = made.save(tmp_path / "record.corruptions.json")
    assert DistortionRecord.load(path) == load_record(path) == made
    attacked = record.save(tmp_path / "record.json")
    assert type(load_record(attacked)) is Record and load_record(attacked) == record


def test_means_by_hand(fields):
    made = DistortionRecord(**fields)
    assert made.kinds == ("fog", "snow") and made.levels == (1, 2)
    assert made.mean_accuracy("fog") == pytest.approx(0.7) and made.mean_accuracy() == pytest.approx(0.5)
    assert made.result("snow", 2).correct == 2
    assert str(made).endswith("clean 90.0%, corruptions 50.0% (mean of 2 types × 2 levels, n=50)")


def test_types_that_are_set_aside_count_only_where_there_are_no_others(fields):
    rows = (*fields["results"], row("saturate", 1, 0), row("saturate", 2, 1))
    made = DistortionRecord(**fields | {"results": rows})
    assert made.kinds == ("fog", "snow", "saturate") and made.counted_kinds == ("fog", "snow")
    assert made.mean_accuracy() == pytest.approx(0.5) and made.mean_accuracy("saturate") == 0.05
    assert "mean of 2 types" in str(made)
    alone = DistortionRecord(**fields | {"results": (rows[0], *rows[-2:]), "corruptions_acc": 0.05})
    assert alone.counted_kinds == ("saturate",)
    attacked = fields | {"threat": "unforeseen", "results": rows}
    with pytest.raises(ValidationError, match="not the mean of its 6 rows"):
        DistortionRecord(**attacked)
    assert DistortionRecord(**attacked | {"corruptions_acc": 2.1 / 6}).counted_kinds == ("fog", "snow", "saturate")


@pytest.mark.parametrize(
    "change, words",
    [
        ({"corruptions_acc": 0.6}, "not the mean of its 4 rows"),
        ({"clean_acc": 0.8}, "its row says otherwise"),
        ({"class_names": ("a",)}, "do not have num_classes=2"),
        ({"threat": "Linf"}, "threat"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_numbers_that_contradict_each_other_are_refused(fields, change, words):
    with pytest.raises(ValidationError, match=words):
        DistortionRecord(**(fields | change))


def test_a_row_that_is_not_there_is_refused(fields):
    with pytest.raises(InvalidInput, match=r"Received: rain 1"):
        DistortionRecord(**fields).result("rain", 1)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"threat": "corruptions"}', '{"threat": "Linf"}'])
def test_files_that_are_no_records_are_refused(tmp_path, content):
    path = tmp_path / "record.json"
    path.write_text(content)
    with pytest.raises(InvalidInput, match="is not a record"):
        load_record(path)
    with pytest.raises(InvalidInput, match="no record at this path"):
        load_record(tmp_path / "missing.json")


def test_the_file_has_robustbench_s_name(fields, tmp_path):
    content = json.loads(DistortionRecord(**fields).save(tmp_path / "r.json").read_text())
    assert content["corruptions_acc"] == 0.5 and content["threat"] == "corruptions"
