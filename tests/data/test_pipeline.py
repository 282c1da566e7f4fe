"""Tests of `advss_tf.data.pipeline`: order, steps, workers and passes, with images that are their own numbers."""

from __future__ import annotations

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.data.memory import ArrayStore, all_of
from advss_tf.data.pipeline import Part, TrainingPlan, ordered_batches, ordered_sizes, steps_per_epoch, training_batches
from advss_tf.errors import InvalidInput
from advss_tf.randomness import seed_for


@pytest.fixture
def numbered():
    """`numbered(n)`: n images of one pixel, image k holding the value k / 255 and the label k."""

    def make(count):
        values = np.arange(count, dtype=np.uint8)
        return all_of(ArrayStore(values.reshape(count, 1, 1, 1), values.astype(np.int64)), count)

    return make


def _labels(dataset):
    return [labels.tolist() for _, labels in dataset.as_numpy_iterator()]


def _stream(part, **plan):
    return _labels(training_batches(part, TrainingPlan(**plan)))


def test_each_epoch_of_the_stream_holds_every_image_once_in_an_order_of_its_own(numbered):
    stream = np.concatenate(_stream(numbered(10), batch_size=4, num_steps=10))
    epochs = stream.reshape(4, 10)  # batches straddle the epochs: 4 does not divide 10
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_images_and_labels_belong_together_and_are_float32_and_int64(numbered):
    for images, labels in training_batches(numbered(10), TrainingPlan(4, num_steps=3)):
        assert images.dtype == tf.float32 and labels.dtype == tf.int64
        np.testing.assert_array_equal(images[:, 0, 0, 0] * 255, labels)


@pytest.mark.parametrize("start", [1, 2, 5, 9])
def test_a_step_is_the_same_whatever_the_start(numbered, start):
    whole = _stream(numbered(10), batch_size=4, num_steps=10)
    assert _stream(numbered(10), batch_size=4, num_steps=10 - start, start_step=start) == whole[start:]


def test_augmentation_belongs_to_the_step_and_not_to_the_start(numbered):
    def add_noise(images, step, plan):
        noise = tf.random.stateless_uniform([plan.batch_size, 1, 1, 1], seed_for(plan.seed, step, "noise"))
        return tf.cast(images, tf.float32) / 255 + noise[plan.rows]

    def stream(**plan):
        batches = training_batches(numbered(10), TrainingPlan(batch_size=4, **plan), augment=add_noise, labelled=False)
        return np.stack(list(batches.as_numpy_iterator()))

    whole = stream(num_steps=6)
    np.testing.assert_array_equal(stream(num_steps=3, start_step=3), whole[3:])
    assert len(np.unique(whole)) == whole.size


def test_the_slices_of_all_workers_are_the_global_batch(numbered):
    whole = _stream(numbered(10), batch_size=6, num_steps=4)
    workers = [_stream(numbered(10), batch_size=6, num_steps=4, worker=worker, num_workers=3) for worker in range(3)]
    assert [[*a, *b, *c] for a, b, c in zip(*workers, strict=True)] == whole


def test_pseudo_labels_go_by_record_number_and_take_the_place_of_labels(numbered):
    part = Part(numbered(10).store, np.array([1, 2, 4, 7, 8]))
    pseudo_labels = np.stack([np.arange(10) ** 2, np.arange(10) % 3], axis=1).astype(np.int32)
    plan = TrainingPlan(4, num_steps=6, worker=1, num_workers=2)
    training = training_batches(part, plan, pseudo_labels=pseudo_labels)
    ordered = ordered_batches(part, 2, pseudo_labels=pseudo_labels)
    seen = set()
    for images, found in [*training, *ordered]:
        numbers = np.round(images[:, 0, 0, 0] * 255).astype(int)
        assert found.dtype == tf.int64
        np.testing.assert_array_equal(found, pseudo_labels[numbers])
        seen |= set(numbers)
    assert seen == {1, 2, 4, 7, 8}


def test_a_set_smaller_than_a_batch_fills_it_from_several_epochs(numbered):
    batch = np.array(_stream(numbered(3), batch_size=9, num_steps=1)[0])
    assert all(sorted(epoch) == [0, 1, 2] for epoch in batch.reshape(3, 3))


def test_another_seed_is_another_order(numbered):
    assert _stream(numbered(10), batch_size=5, num_steps=2, seed=1) != _stream(numbered(10), batch_size=5, num_steps=2)


def test_without_num_steps_each_pass_is_the_next_epoch_of_the_same_stream(numbered):
    dataset = training_batches(numbered(8), TrainingPlan(4))
    assert dataset.cardinality() == 2
    passes = [_labels(dataset) for _ in range(3)]
    assert [batch for batches in passes for batch in batches] == _stream(numbered(8), batch_size=4, num_steps=6)
    assert sorted(np.concatenate(passes[1])) == list(range(8))


def test_a_pass_that_is_broken_off_does_not_count(numbered):
    dataset = training_batches(numbered(200), TrainingPlan(2))
    first = next(dataset.as_numpy_iterator())[1].tolist()
    assert _labels(dataset)[0] == first
    assert _labels(dataset)[0] != first


def test_repeat_walks_through_the_epochs(numbered):
    dataset = training_batches(numbered(8), TrainingPlan(4, start_step=3))
    assert _labels(dataset.repeat(2)) == _stream(numbered(8), batch_size=4, num_steps=4, start_step=3)


class _Recorder(keras.Model):
    """Notes the labels of every batch that `fit` trains on."""

    def __init__(self):
        super().__init__()
        self.scale = self.add_weight(shape=(), initializer="ones")
        self.seen = []

    def call(self, images):
        return images[:, 0, 0, :] * self.scale

    def train_step(self, data):
        tf.numpy_function(lambda labels: self.seen.append(labels.tolist()), [data[1]], [])
        return {"loss": self.scale}


def test_fit_sees_every_image_once_an_epoch_and_two_epochs_in_different_orders(numbered):
    model = _Recorder()
    model.compile()
    model.fit(training_batches(numbered(12), TrainingPlan(4)), epochs=3, verbose=0)
    epochs = np.array(model.seen).reshape(3, 12)
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert model.seen == _stream(numbered(12), batch_size=4, num_steps=9)


_TWO_REPLICAS = """
import numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
from advss_tf.data.memory import ArrayStore, all_of
from advss_tf.data.pipeline import TrainingPlan, training_batches

values = np.arange(40, dtype=np.uint8)
part = all_of(ArrayStore(values.reshape(40, 1, 1, 1), values.astype(np.int64)), 40)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    dataset = training_batches(part, TrainingPlan(4))
    distributed = strategy.experimental_distribute_dataset(dataset)
next(iter(distributed))  # Keras peeks like this before the first epoch
seen = [np.concatenate([x.numpy() for x in batch[1].values]).tolist() for _ in range(2) for batch in distributed]
stream = training_batches(part, TrainingPlan(4, num_steps=20))
print("SAME" if seen == [labels.tolist() for _, labels in stream.as_numpy_iterator()] else seen)
"""


def test_two_replicas_together_see_what_one_sees():
    # A process of its own: logical devices must be made before TensorFlow starts.
    result = subprocess.run([sys.executable, "-c", _TWO_REPLICAS], capture_output=True, text=True, check=False)
    assert result.stdout.strip().endswith("SAME"), result.stdout + result.stderr[-2000:]


def test_ordered_batches_are_ascending_finite_and_keep_the_remainder(numbered):
    dataset = ordered_batches(numbered(10), 4)
    assert dataset.cardinality() == 3
    assert _labels(dataset) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert _labels(dataset) == _labels(dataset)


def test_workers_take_turns_at_batches_and_not_at_files(numbered):
    options = ordered_batches(numbered(17), 8).options()
    assert options.experimental_distribute.auto_shard_policy == tf.data.experimental.AutoShardPolicy.DATA


def test_a_last_batch_of_a_few_images_shares_with_the_one_before(numbered):
    dataset = ordered_batches(numbered(17), 8)
    assert dataset.cardinality() == 3
    assert _labels(dataset) == [[0, 1, 2, 3, 4, 5, 6, 7], [8, 9, 10, 11, 12], [13, 14, 15, 16]]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8, 64, 256])
def test_batches_in_order_hold_every_image_and_the_last_is_not_small(batch_size):
    for count in range(1, 3 * batch_size + 2):
        sizes = ordered_sizes(count, batch_size)
        assert sum(sizes) == count and max(sizes) <= batch_size and len(sizes) == -(-count // batch_size)
        assert len(sizes) == 1 or min(sizes) >= min(64, batch_size // 2)
        assert sizes == sorted(sizes, reverse=True)
    assert ordered_sizes(359, 256) == [256, 103]  # what is large enough stays


def test_steps_per_epoch_rounds_up():
    assert [steps_per_epoch(count, 4) for count in (1, 4, 5, 8)] == [1, 1, 2, 2]


@pytest.mark.parametrize(
    ("plan", "sentence"),
    [
        ({"batch_size": 0}, "`batch_size` is too small"),
        ({"batch_size": 4, "num_steps": 0}, "`num_steps` is too small"),
        ({"batch_size": 4, "start_step": -1}, "`start_step` is too small"),
        ({"batch_size": 4, "num_workers": 3}, "cannot share a batch evenly.*num_workers=3.*batch_size=4"),
        ({"batch_size": 4, "num_workers": 2, "worker": 2}, r"no such worker.*\[0, 2\).*worker=2"),
    ],
)
def test_a_plan_that_cannot_be_kept_is_refused(plan, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        TrainingPlan(**plan)
