"""Tests of `advss_tf.data.records`, on a tiny prepared tfds folder."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from advss_tf.data.memory import all_of
from advss_tf.data.pipeline import Part, TrainingPlan, ordered_batches, training_batches
from advss_tf.data.records import RecordStore
from advss_tf.errors import InvalidInput


@pytest.fixture
def open_split(prepared_folder):
    """`open_split(split)`: a store whose window is the smallest there is, 256 of the 600 records."""
    info = tfds.builder("tiny", data_dir=prepared_folder).info

    def make(split="train", **options):
        return RecordStore(info.splits[split], info.features, keys=("image", "label"), **{"memory_limit": 1, **options})

    return make


def _rows(dataset):
    """The images of all batches, float32 in [0, 1], back as 8-bit rows."""
    images = np.concatenate([batch[0] for batch in dataset.as_numpy_iterator()])
    return np.round(images * 255).astype(np.uint8).reshape(len(images), -1)


def _numbers(dataset, images):
    """Which of `images` each image of the dataset is."""
    known = {image.tobytes(): number for number, image in enumerate(images.reshape(len(images), -1))}
    return [known[row.tobytes()] for row in _rows(dataset)]


def test_records_come_in_their_own_order_with_their_labels(open_split, noise):
    dataset = ordered_batches(all_of(open_split(), 600), 256)
    assert _numbers(dataset, noise(600, 4, 4)) == list(range(600))
    labels = np.concatenate([labels for _, labels in dataset.as_numpy_iterator()])
    np.testing.assert_array_equal(labels, np.arange(600) % 3)
    np.testing.assert_array_equal(open_split().labels(), labels)


def test_numbers_count_from_the_beginning_of_a_sliced_split(open_split, noise):
    store = open_split("train[150:550]")
    part = Part(store, np.array([0, 60, 399]))
    assert len(store) == 400
    assert _numbers(ordered_batches(part, 8), noise(600, 4, 4)) == [150, 210, 549]


def test_each_epoch_holds_every_wanted_record_once_in_an_order_of_its_own(open_split, noise):
    wanted = np.setdiff1d(np.arange(600), np.arange(0, 600, 7))  # 514 records: three windows, the last one short
    dataset = training_batches(Part(open_split(), wanted), TrainingPlan(257, num_steps=4))
    epochs = np.array(_numbers(dataset, noise(600, 4, 4))).reshape(2, 514)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), wanted)
        assert np.abs(np.corrcoef(epoch, wanted)[0, 1]) < 0.9  # shuffled, though not as well as in memory
    assert (epochs[0] != epochs[1]).mean() > 0.9


def test_a_step_is_the_same_whatever_the_start(open_split):
    part = all_of(open_split(), 600)
    whole = _rows(training_batches(part, TrainingPlan(100, num_steps=9))).reshape(9, 100, -1)
    for start in (1, 3, 8):  # 600 records by 100: inside the first and second window, and in the second epoch
        step = _rows(training_batches(part, TrainingPlan(100, num_steps=1, start_step=start)))
        np.testing.assert_array_equal(step, whole[start])


def test_every_record_carries_its_number_through_windows_epochs_and_starts(open_split, noise):
    wanted = np.setdiff1d(np.arange(400), np.arange(0, 400, 7))
    part = Part(open_split("train[150:550]"), wanted)  # two windows an epoch
    names = np.arange(400)[:, np.newaxis]  # each record's pseudo-label is its number
    for start in (0, 1, 3):
        plan = TrainingPlan(130, num_steps=4, start_step=start)
        found = np.concatenate([batch[1] for batch in training_batches(part, plan, pseudo_labels=names)])
        images = _numbers(training_batches(part, plan), noise(600, 4, 4))
        np.testing.assert_array_equal(found[:, 0], np.array(images) - 150)
    ordered = np.concatenate([batch[1] for batch in ordered_batches(part, 100, pseudo_labels=names)])
    np.testing.assert_array_equal(ordered[:, 0], wanted)


def test_a_small_part_is_read_once_kept_and_shuffled_as_a_whole(open_split, noise, monkeypatch):
    part, images = Part(open_split(memory_limit=2**20), np.arange(5, 600, 7)), noise(600, 4, 4)
    labelled = _numbers(training_batches(part, TrainingPlan(17, num_steps=10)), images)
    monkeypatch.setattr(RecordStore, "_records", lambda *args: pytest.fail("reads the files again"))
    again = training_batches(part, TrainingPlan(17, num_steps=10))
    assert _numbers(again, images) == labelled
    for epoch in np.reshape(labelled, (2, 85)):
        np.testing.assert_array_equal(np.sort(epoch), part.numbers)
        assert np.abs(np.corrcoef(epoch, part.numbers)[0, 1]) < 0.3  # of a whole shuffle, not of windows
    assert labelled[:85] != labelled[85:]
    assert _numbers(training_batches(part, TrainingPlan(17, num_steps=3, start_step=7)), images) == labelled[7 * 17 :]
    assert _numbers(ordered_batches(part, 32), images) == list(part.numbers)
    pairs = training_batches(part, TrainingPlan(17, num_steps=10), pseudo_labels=np.arange(600)[:, None])
    assert np.concatenate([numbers[:, 0] for _, numbers in pairs.as_numpy_iterator()]).tolist() == labelled


@pytest.mark.parametrize(("memory_limit", "count"), [(2**20, 600), (1, 85), (2 * 80 * 100, 101)])
def test_what_is_a_whole_split_or_has_no_room_is_not_kept(memory_limit, count, open_split):
    store = open_split(memory_limit=memory_limit)
    assert 80 < store._bytes_each < 200
    store.epoch(np.arange(count), None, 0)
    assert not store._kept


def test_a_damaged_record_is_met_where_images_are_read(open_split, monkeypatch):
    store, whole = open_split(memory_limit=2**20), RecordStore._records

    def broken(self, numbers, seed):
        return whole(self, numbers, seed).map(lambda number, record: (tf.debugging.check_numerics(np.nan, ""), record))

    monkeypatch.setattr(RecordStore, "_records", broken)
    epoch = store.epoch(np.arange(3), None, 0)
    with pytest.raises(tf.errors.OpError):
        list(epoch)


def test_files_are_read_side_by_side_in_the_order_of_one_after_the_other(open_split, monkeypatch):
    part, plan = all_of(open_split(), 600), TrainingPlan(100, num_steps=6)
    found = _rows(training_batches(part, plan))
    one = tf.data.Dataset.interleave
    monkeypatch.setattr(
        tf.data.Dataset, "interleave",
        lambda self, function, cycle_length, block_length, **_: one(self, function, cycle_length, block_length),
    )  # fmt: skip
    np.testing.assert_array_equal(_rows(training_batches(part, plan)), found)


def test_the_window_is_bounded_by_the_memory_limit(open_split):
    assert open_split()._window == 256
    assert open_split(memory_limit=2 * 48 * 1000)._window == 1000
    assert open_split(memory_limit=2**31)._window == 16384


def test_records_are_resized_on_demand(open_split):
    store = open_split(resize=(6, 2))
    assert store.image_shape == (6, 2, 3)
    assert _rows(ordered_batches(Part(store, np.arange(3)), 2)).shape == (3, 36)


def _prepare(data_dir, examples, **image):
    features = {"image": tfds.features.Image(**image), "label": tfds.features.ClassLabel(num_classes=2)}
    builder = tfds.dataset_builders.store_as_tfds_dataset(
        name="odd",
        version="1.0.0",
        features=tfds.features.FeaturesDict(features),
        split_datasets={"train": list(enumerate(examples))},
        data_dir=data_dir,
        disable_shuffling=True,
    )
    return builder.info


def test_records_of_different_sizes_are_refused_by_number_and_size(tmp_path):
    examples = [{"image": np.zeros((4, 4 + (i == 2), 3), np.uint8), "label": 0} for i in range(3)]
    info = _prepare(tmp_path, examples, shape=(None, None, 3))
    store = RecordStore(info.splits["train"], info.features, keys=("image", "label"))
    assert store.image_shape == (4, 4, 3)
    with pytest.raises(tf.errors.OpError, match="differ in size") as raised:
        list(store.epoch(np.arange(3), None, 0).map(store.read))
    refusal = store.refusal(raised.value)
    assert "record 0 is (4, 4, 3), record 2 is (4, 5, 3)" in str(refusal)


def test_labels_that_are_no_class_are_refused(tmp_path):
    examples = [{"image": np.zeros((4, 4, 3), np.uint8), "label": -1}]  # as tfds marks a test set without labels
    info = _prepare(tmp_path, examples, shape=(4, 4, 3))
    store = RecordStore(info.splits["train"], info.features, keys=("image", "label"))
    with pytest.raises(tf.errors.InvalidArgumentError, match="no valid label"):
        list(store.epoch(np.arange(1), None, 0).map(store.read))


def test_16_bit_images_are_refused(tmp_path):
    examples = [{"image": np.zeros((4, 4, 1), np.uint16), "label": 0}]
    info = _prepare(tmp_path, examples, shape=(4, 4, 1), dtype=np.uint16, encoding_format="png")
    with pytest.raises(InvalidInput, match=r"not 8-bit grey or RGB.*dtype=uint16"):
        RecordStore(info.splits["train"], info.features, keys=("image", "label"))
