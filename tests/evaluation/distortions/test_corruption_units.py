"""Units of work: every image under every type and severity, made when asked for, read once."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from advss_tf.data.corruptions import corrupt
from advss_tf.errors import InvalidInput
from advss_tf.evaluation.batches import Batches
from advss_tf.evaluation.distortions.corruption_units import (
    made_units,
    photographs,
    planned_keys,
    read_units,
    source_notes,
)

SEED = tf.constant([3, 4])


@pytest.fixture
def batches(tiny_images, tiny_labels):
    return Batches((tiny_images, tiny_labels), batch_size=3)


def test_keys_begin_with_clean_and_go_type_by_type():
    keys = planned_keys(("fog", "saturate"), (5, 1))
    assert keys == [("clean", 0), ("fog", 5), ("fog", 1), ("saturate", 5), ("saturate", 1)]


def test_a_unit_is_a_batch_under_every_key_with_the_numbers_of_its_images(batches, tiny_images):
    keys = [("clean", 0), ("gaussian_noise", 3)]
    units = [list(unit) for unit in made_units(batches, keys, seed=SEED)]
    assert [[row for row, _ in unit] for unit in units] == [[0, 1]] * 3
    assert [unit[0][1].num_real for unit in units] == [3, 3, 2]
    for row, expected in enumerate((tiny_images, corrupt(tiny_images, "gaussian_noise", 3, SEED))):
        found = np.concatenate([unit[row][1].images[: unit[row][1].num_real] for unit in units])
        np.testing.assert_array_equal(found, expected)


def test_a_unit_that_is_skipped_corrupts_nothing(batches, monkeypatch):
    def corrupt(*args, **options):
        raise AssertionError("corrupted")

    monkeypatch.setattr("advss_tf.evaluation.distortions.corruption_units.corrupt", corrupt)
    keys = [("clean", 0), ("fog", 1)]
    assert len(list(made_units(batches, keys, seed=SEED))) == 3
    with pytest.raises(AssertionError, match="corrupted"):
        list(next(iter(made_units(batches, keys, seed=SEED))))


def test_ready_made_sets_are_opened_one_after_the_other(batches, tiny_images, tiny_labels):
    opened = []

    class Sets(dict):
        def __getitem__(self, key):
            opened.append(key)
            return super().__getitem__(key)

    sets = Sets({("fog", 1): (1 - tiny_images, tiny_labels), ("fog", 2): (tiny_images / 2, tiny_labels)})
    units = read_units(batches, [("clean", 0), *sets], sets, limit=None)
    found = {0: [], 1: [], 2: []}
    for number, unit in enumerate(units):
        for row, batch in unit:
            found[row].append(batch.images[: batch.num_real])
        assert opened == list(sets)[: max(0, number - 2)]  # three batches of clean images come first
    for row, expected in enumerate((tiny_images, 1 - tiny_images, tiny_images / 2)):
        np.testing.assert_array_equal(np.concatenate(found[row]), expected)


@pytest.mark.parametrize(
    "change",
    [
        lambda images, labels: (images[:, :4], labels),
        lambda images, labels: (images[:7], labels[:7]),
        lambda images, labels: (images, np.zeros_like(labels)),
    ],
    ids=["size", "count", "classes"],
)
def test_a_set_of_other_images_is_refused(batches, tiny_images, tiny_labels, change):
    sets = {("fog", 2): change(tiny_images, tiny_labels)}
    with pytest.raises(InvalidInput, match=r"fog 2 is not one of the clean images.*8 images, classes \[3, 3, 2\]"):
        [list(unit) for unit in read_units(batches, [("clean", 0), *sets], sets, limit=None)]


def test_a_set_in_another_order_is_taken(batches, tiny_images, tiny_labels):
    sets = {("fog", 2): (tiny_images[::-1], tiny_labels[::-1])}
    units = [list(unit) for unit in read_units(batches, [("clean", 0), *sets], sets, limit=None)]
    assert len(units) == 3 + 1 and len(units[-1]) == 3


def test_photographs_are_kept_in_eight_bits():
    floats = np.random.default_rng(0).random((2, 9, 9, 3), dtype=np.float32)
    kept = photographs(floats, (8, 8, 3))
    np.testing.assert_array_equal(kept, np.round(floats.astype(np.float64) * 255).astype(np.uint8))
    assert photographs(None, (8, 8, 3)) is None
    with pytest.raises(InvalidInput, match="`frost_images` has the wrong shape"):
        photographs(floats, (16, 8, 3))


def test_notes_say_where_images_come_from(batches, tiny_images, tiny_labels):
    fog, frost = [("clean", 0), ("fog", 1)], [("clean", 0), ("frost", 1)]

    def notes(keys, source=None, frost_images=None, of=batches):
        return source_notes(keys, of, source=source, frost_images=frost_images)

    assert notes(fog) == {"source": "made on the fly"}
    assert notes(frost) == {"source": "made on the fly", "frost": "generated"}
    assert notes(frost, frost_images=np.zeros(3))["frost"] == "user's images"
    assert notes(frost, source={}) == {"source": "user's sets", "frost": "user's sets"}
    part = Batches((tiny_images, tiny_labels), limit=3)
    assert "by its own order" in notes(fog, source={}, of=part)["subset"] and "subset" not in notes(fog, of=part)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"corruptions": ("fog", "smog")}, r"`corruptions` is not known \(did you mean 'fog'\?\)"),
        ({"corruptions": ()}, "`corruptions` is empty or repeats itself"),
        ({"severities": (1, 1)}, r"`severities` is empty or repeats itself.*severities=\(1, 1\)"),
        ({"severities": (6,)}, "`severities` is not known"),
        ({"source": [1]}, "`source` is no mapping.*source=list"),
        ({"source": {("fog", 1): 0}, "severities": (1, 2)}, r"that it has: \[\('fog', 1\)\].*no fog 2"),
        ({"source": {("fog", 1): 0}, "frost_images": 0}, "made on the fly.*Received: both"),
    ],
)
def test_plans_that_cannot_be_carried_out_are_refused(options, words):
    with pytest.raises(InvalidInput, match=words):
        planned_keys(**{"corruptions": ("fog",), "severities": (1,)} | options)


def test_ready_made_types_may_have_any_name():
    assert planned_keys(("bit_error",), (7,), source={("bit_error", 7): 0}) == [("clean", 0), ("bit_error", 7)]
