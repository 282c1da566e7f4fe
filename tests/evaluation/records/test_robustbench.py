"""Records in RobustBench's field names, against a file of its `model_info` written out here."""

from __future__ import annotations

import pytest

from advss_tf.errors import InvalidInput
from advss_tf.evaluation.records.robustbench import model_info, percentage

# The fields of `ModelInfo` in robustbench/utils.py (commit 0132419).
FIELDS = {
    "link", "name", "authors", "additional_data", "number_forward_passes", "dataset", "venue", "architecture", "eps",
    "clean_acc", "reported", "corruptions_acc", "corruptions_acc_3d", "corruptions_mce", "corruptions_mce_3d",
    "autoattack_acc", "footnote",
}  # fmt: skip


@pytest.fixture
def attacked(record):
    row = record.result("worst").model_copy(update={"attack": "autoattack", "parameters": {"version": "standard"}})
    change = {"name": "Ours", "dataset": "cifar10", "architecture": "WideResNet-28-10", "clean_acc": 0.9478}
    return record.model_copy(update=change | {"autoattack_acc": 0.0, "results": (*record.results, row)})


def test_a_record_under_attack_is_a_file_of_the_leaderboard(attacked):
    paper = {"link": "https://example.org", "venue": "N/A", "additional_data": False, "number_forward_passes": 1}
    assert model_info(attacked, **paper) == {
        "link": "https://example.org",
        "name": "Ours",
        "additional_data": False,
        "number_forward_passes": 1,
        "dataset": "cifar10",
        "venue": "N/A",
        "architecture": "WideResNet-28-10",
        "eps": "8/255",
        "clean_acc": "94.78",
        "autoattack_acc": "0.0",
    }
    other = attacked.model_copy(update={"threat": "L2", "eps": 0.5})
    rows = tuple(row.model_copy(update={"eps": 0.5}) for row in other.results)
    assert model_info(other.model_copy(update={"results": rows}))["eps"] == "0.5"


def test_corruptions_have_no_radius(distorted):
    found = model_info(distorted(name="Ours", mce=0.7, baseline="AlexNet", architecture=None))
    assert found == {
        "name": "Ours", "dataset": "made", "eps": None, "clean_acc": "90.0", "corruptions_acc": "50.0",
        "corruptions_mce": "70.0",
    }  # fmt: skip
    assert "corruptions_mce" not in model_info(distorted(mce=0.7, baseline="standard"))


def test_every_field_is_one_of_theirs(attacked, distorted):
    subset = attacked.model_copy(update={"subset": "the first 10 of each class"})
    assert set(model_info(subset)) | set(model_info(distorted(mce=1.0, baseline="AlexNet"))) <= FIELDS
    assert model_info(subset)["footnote"] == "Measured on the first 10 of each class."


def test_only_the_standard_version_is_called_autoattack(record, attacked):
    assert "autoattack_acc" not in model_info(record)
    *rows, last = attacked.results
    rand = last.model_copy(update={"parameters": {"version": "rand"}})
    assert "autoattack_acc" not in model_info(attacked.model_copy(update={"results": (*rows, rand)}))


def test_percentages_are_written_as_they_write_them():
    assert [percentage(share) for share in (0.7371, 0.0, 1.0, 0.12346, 0.625)] == [
        "73.71",
        "0.0",
        "100.0",
        "12.35",
        "62.5",
    ]


def test_what_they_do_not_have_is_refused(record, distorted):
    with pytest.raises(InvalidInput, match="no leaderboard"):
        model_info(distorted(threat="unforeseen"))
    with pytest.raises(InvalidInput, match=r"did you mean 'footnote'"):
        model_info(record, footnotes="x")
