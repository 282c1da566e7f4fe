"""Records survive the disk, and nothing that is not one is read as one."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pydantic import ValidationError

from advss_tf.errors import InvalidInput
from advss_tf.evaluation import Record, Result
from advss_tf.evaluation.records.record import epsilon_text, examples_path


def test_what_is_saved_is_what_is_loaded(record, tmp_path):
    path = record.save(tmp_path / "new" / "record.json")
    assert Record.load(path) == record
    assert sorted(file.name for file in path.parent.iterdir()) == ["record.examples.npz", "record.json"]


def test_the_file_is_flat_json_with_the_names_of_robustbench(record, tmp_path):
    content = json.loads(record.save(tmp_path / "record.json").read_text())
    for name in ("name", "architecture", "dataset", "threat", "eps", "clean_acc", "autoattack_acc"):
        assert name in content
    assert content["threat"] == "Linf"
    assert content["clean_acc"] == content["results"][0]["correct"] / content["results"][0]["total"]
    assert "examples" not in content


def test_the_examples_are_read_without_pickle(record, tmp_path):
    path = record.save(tmp_path / "record.json")
    with np.load(examples_path(path), allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["outcome_robust"], record.examples.outcome_robust)
        assert arrays["outcome_robust"].sum() == record.result("worst").correct


def test_a_record_without_its_examples_can_be_read(record, tmp_path):
    path = record.save(tmp_path / "record.json")
    examples_path(path).unlink()
    assert Record.load(path).examples is None


def test_a_record_cannot_be_changed(record):
    with pytest.raises(ValidationError, match="frozen"):
        record.clean_acc = 1.0


@pytest.mark.parametrize(
    "change,sentence",
    [
        ({"schema_version": 2}, "schema_version"),
        ({"surprise": 1}, "surprise: Extra inputs"),
        ({"clean_acc": 0.123}, "headline of 'clean' is 0.123"),
        ({"eps": float("nan")}, "is not a record"),
        ({"threat": "L1"}, "threat: Input should be 'Linf' or 'L2'"),
        ({"class_names": ["only one"]}, "lists of classes"),
        ({"results": []}, "no such result"),
    ],
)
def test_a_file_that_is_not_a_record_is_refused(record, tmp_path, change, sentence):
    content = json.loads(record.model_dump_json()) | change
    (tmp_path / "record.json").write_text(json.dumps(content))
    with pytest.raises(InvalidInput, match=sentence):
        Record.load(tmp_path / "record.json")


@pytest.mark.parametrize("text", ["", "[]", "{not json", "{}"])
def test_other_files_are_refused(tmp_path, text):
    (tmp_path / "record.json").write_text(text)
    with pytest.raises(InvalidInput, match="is not a record"):
        Record.load(tmp_path / "record.json")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="no record at this path"):
        Record.load(tmp_path / "record.json")


def test_examples_that_lack_an_array_are_refused(record, tmp_path):
    path = record.save(tmp_path / "record.json")
    np.savez(examples_path(path), images=np.zeros(1))
    with pytest.raises(InvalidInput, match="does not hold the examples"):
        Record.load(path)


def test_examples_that_are_pickled_are_refused(record, tmp_path):
    path = record.save(tmp_path / "record.json")
    np.savez(examples_path(path), **record.examples.arrays() | {"images": np.array([object()], dtype=object)})
    with pytest.raises(InvalidInput, match="does not hold the examples"):
        Record.load(path)


@pytest.mark.parametrize(
    "change", [{"accuracy": 0.4}, {"low": 0.6}, {"high": 1.1}, {"class_correct": (5, 1)}, {"correct": 11}]
)
def test_a_result_whose_numbers_disagree_is_refused(change):
    result = Result.from_counts("clean", 5, 10, class_correct=(3, 2))
    with pytest.raises(ValidationError):
        Result(**result.model_dump() | change)


def test_a_row_is_found_by_attack_and_epsilon(record):
    assert record.attacks == ("pgd-5",)
    assert record.epsilons == pytest.approx((0.02, 8 / 255))
    assert record.result("worst").accuracy == record.robust_acc
    assert record.result("pgd-5", eps=0.02).correct >= record.result("pgd-5").correct
    with pytest.raises(InvalidInput, match="no such result"):
        record.result("pgd-5", eps=0.5)


def test_a_record_says_its_headline_in_one_line(record):
    row = record.result("worst")
    assert f"Linf 8/255 {100 * row.accuracy:.1f} % [" in str(record)
    assert str(record).endswith("(n=50)")


@pytest.mark.parametrize(
    "eps,threat,text",
    [(8 / 255, "Linf", "8/255"), (0.5, "L2", "0.5"), (0.1, "Linf", "0.1"), (1 / 255, "L2", "0.003922")],
)
def test_epsilons_are_written_as_people_write_them(eps, threat, text):
    assert epsilon_text(eps, threat) == text


@pytest.mark.parametrize("keep", [0, 1, 3, 400, -1], ids=str)
def test_examples_that_are_cut_or_damaged_are_refused(keep, record, tmp_path):
    path = record.save(tmp_path / "record.json")
    content = examples_path(path).read_bytes()
    # -1: of full length, but with other bytes in its first array.
    damaged = content[:keep] if keep >= 0 else content[:60] + b"\xff" * 60 + content[120:]
    examples_path(path).write_bytes(damaged)
    with pytest.raises(InvalidInput, match="does not hold the examples"):
        Record.load(path)
