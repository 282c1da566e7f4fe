"""Pseudo-labels on the disk: what was saved is what is read, and whatever else lies there is refused in words."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from advss_tf.data import PseudoLabels, load_data
from advss_tf.errors import InvalidInput

LABELS = np.array([[0, 2], [1, 0], [1, 1], [-1, -1], [0, 0], [1, 2]], np.int64)
SOURCE = {"data": {"name": "some", "fingerprint": "abc"}, "external": False, "seed": 3}


def _labels(**changes):
    return PseudoLabels(**{"labels": LABELS, "sizes": (2, 3), "source": SOURCE, **changes})


@pytest.fixture
def tiny():
    """Twenty records of two classes, of which four become a test split: `load_data` of arrays."""
    images = np.random.default_rng(0).random((20, 4, 4, 1), dtype=np.float32)
    return load_data((images, np.arange(20) % 2), held_out=4)


def _of(data, **changes):
    labels = np.arange(20, dtype=np.int64)[:, None] % 3
    labels[data.test_part.numbers] = -1
    source = {"data": {"name": data.name, "fingerprint": data.fingerprint}}
    return PseudoLabels(**{"labels": labels, "sizes": (3,), "source": source, **changes})


def test_what_was_saved_is_what_is_read(tmp_path):
    found = PseudoLabels.load(_labels().save(tmp_path / "deep" / "labels.npz"))
    assert found.labels.dtype == np.int64 and np.array_equal(found.labels, LABELS)
    assert found.sizes == (2, 3) and found.source == SOURCE
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["labels.npz"], "nothing half-written is left"


def test_counts_are_of_the_rows_that_have_labels():
    assert _labels().counts() == {2: (2, 3), 3: (1, 2)}
    assert _labels(sizes=(2, 4)).counts()[4] == (0, 2), "an empty cluster is the smallest"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": LABELS.astype(np.int32)}, r"another form.*Received: int32 \(6, 2\)"),
        ({"labels": LABELS[:, 0]}, r"another form.*int64 \(6,\)"),
        ({"sizes": (2, 3, 4)}, r"another form.*sizes=\(2, 3, 4\)"),
        ({"sizes": (2, 2)}, r"out of range.*labels of -1 to 2"),
        ({"sizes": (1, 3)}, "out of range.*each at least 2"),
        ({"labels": np.where(LABELS == 2, -1, LABELS)}, "out of range.*whole rows of -1"),
        ({"source": {"seed": 1}}, "does not say which images.*data=None"),
    ],
)
def test_what_are_no_labels_is_refused(changes, words):
    with pytest.raises(InvalidInput, match=words):
        _labels(**changes)


def test_a_source_that_is_no_json_is_refused_and_leaves_no_file(tmp_path):
    with pytest.raises(InvalidInput, match="`source` is not JSON"):
        _labels(source={**SOURCE, "what": object()}).save(tmp_path / "labels.npz")
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_missing_damaged_or_another_is_refused(tmp_path):
    path = _labels().save(tmp_path / "labels.npz")
    with pytest.raises(InvalidInput, match=r"There are no pseudo-labels.*other\.npz"):
        PseudoLabels.load(tmp_path / "other.npz")
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"nothing of the kind", whole[:60] + b"\0" * 40 + whole[100:]):
        path.write_bytes(damaged)
        with pytest.raises(InvalidInput, match=r"labels\.npz holds no pseudo-labels, or is damaged"):
            PseudoLabels.load(path)
    np.savez(path, labels=LABELS, source=np.array(json.dumps(SOURCE)))
    with pytest.raises(InvalidInput, match="Received: no sizes"):
        PseudoLabels.load(path)
    np.savez(path, labels=LABELS, sizes=np.array([2, 3]), source=np.array("[1]"))
    with pytest.raises(InvalidInput, match="a source that is no section"):
        PseudoLabels.load(path)
    np.savez(path, labels=np.array([{}], object), sizes=np.array([2, 3]), source=np.array("{}"))
    with pytest.raises(InvalidInput, match="allow_pickle"):
        PseudoLabels.load(path)


def test_labels_of_the_same_data_are_given_out(tiny):
    labels = _of(tiny)
    assert labels.of(tiny) is labels.labels


def test_labels_of_other_data_are_refused(tiny):
    source = {"data": {"name": "other", "fingerprint": "123"}}
    with pytest.raises(InvalidInput, match=rf"of other images than '{re.escape(tiny.name)}'.*'other', fingerprint 123"):
        _of(tiny, source=source).of(tiny)


def test_labels_of_another_number_of_records_are_refused(tiny):
    labels = _of(tiny).labels
    with pytest.raises(InvalidInput, match=r"a row for each of 20 records.*Received: 19 rows"):
        _of(tiny, labels=labels[:19]).of(tiny)


def test_labels_that_leave_out_a_training_or_a_held_out_image_are_refused(tiny):
    for part in (tiny.train_part, tiny.held_out_part):
        labels = _of(tiny).labels.copy()
        labels[part.numbers[0]] = -1
        with pytest.raises(InvalidInput, match=r"do not cover the train split.*20 rows, 15 with labels"):
            _of(tiny, labels=labels).of(tiny)


def test_a_digest_is_of_the_labels_and_not_of_where_they_come_from():
    one, other = _labels().labels, _labels().labels.copy()
    other[0, 0] = 1 - other[0, 0]
    digests = [_labels(labels=one), _labels(labels=one, source={**SOURCE, "seed": 9}), _labels(labels=other)]
    assert digests[0].digest == digests[1].digest != digests[2].digest and len(digests[0].digest) == 64


def test_what_is_external_is_said_in_words():
    assert _labels().external is None
    encoder = {"name": "simclr", "data": {"name": "imagenet"}}
    words = _labels(source={**SOURCE, "external": True, "encoder": encoder}).external
    assert words == "pseudo-labels are clusters of features of simclr, trained on imagenet"
    assert "trained on unknown data" in _labels(source={**SOURCE, "external": True}).external
    chained = {**encoder, "external": "pseudo-labels of another"}
    assert _labels(source={**SOURCE, "external": True, "encoder": chained}).external.endswith(
        "; pseudo-labels of another"
    )
    told = _labels(source={**SOURCE, "external": "it was trained on photographs", "encoder": encoder}).external
    assert told == "pseudo-labels are clusters of features of simclr: it was trained on photographs"
