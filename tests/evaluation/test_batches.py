"""The door of the evaluation, the choice of a subset, and batches that lose nothing."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import tensorflow as tf

from advss_tf.errors import InvalidInput
from advss_tf.evaluation.batches import Batches, chosen_images


def joined(batches: Batches) -> tuple[np.ndarray, np.ndarray]:
    parts = [(batch.images[: batch.num_real], batch.labels[: batch.num_real]) for batch in batches]
    return np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])


@pytest.mark.parametrize("source_batch", [1, 3, 8, 100])
def test_every_image_comes_once_in_order_in_batches_of_one_shape(tiny_images, tiny_labels, source_batch):
    dataset = tf.data.Dataset.from_tensor_slices((tiny_images, tiny_labels)).batch(source_batch)
    batches = Batches(dataset, batch_size=3)
    assert [batch.num_real for batch in batches] == [3, 3, 2]
    assert all(batch.images.shape == (3, 8, 8, 3) and batch.labels.shape == (3,) for batch in batches)
    images, labels = joined(batches)
    np.testing.assert_array_equal(images, tiny_images)
    np.testing.assert_array_equal(labels, tiny_labels)


def test_arrays_and_a_dataset_are_the_same_data(tiny_images, tiny_labels):
    dataset = tf.data.Dataset.from_tensor_slices((tiny_images, tiny_labels.astype(np.int32))).batch(5)
    of_arrays, of_dataset = Batches((tiny_images, tiny_labels)), Batches(dataset, batch_size=2)
    list(of_arrays), list(of_dataset)
    assert of_arrays.fingerprint == of_dataset.fingerprint
    assert of_arrays.fingerprint == hashlib.sha256(tiny_labels.tobytes() + tiny_images.tobytes()).hexdigest()


def test_a_batch_is_never_larger_than_the_data(tiny_images, tiny_labels):
    assert Batches((tiny_images, tiny_labels), batch_size=256).batch_size == 8


def test_a_subset_takes_the_first_of_each_class_in_proportion():
    labels = np.array([0] * 6 + [1] * 3 + [2] * 1)
    # shares of 5: 3, 1.5, 0.5; the largest remainder, the earlier class at a tie, gets the missing one
    assert np.flatnonzero(chosen_images(labels, 5)).tolist() == [0, 1, 2, 6, 7]
    assert chosen_images(labels, 10).all()
    assert chosen_images(labels, 99).all()
    assert chosen_images(labels, 1).tolist() == [True] + [False] * 9


def test_a_subset_says_in_words_what_it_is(tiny_images, tiny_labels):
    batches = Batches((tiny_images, tiny_labels), limit=3)
    images, labels = joined(batches)
    assert batches.subset == "3 of 8 images: the first of each class, in proportion"
    assert labels.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(images, tiny_images[:3])
    assert Batches((tiny_images, tiny_labels)).subset is None


@pytest.mark.parametrize(
    "change,sentence",
    [
        (lambda images: (images * 255).astype(np.uint8), "divide 8-bit pixels by 255"),
        (lambda images: images.astype(np.float64), "images of batch 0` has the wrong"),
        (lambda images: images[..., 0], "images of batch 0` has the wrong"),
        (lambda images: images * 255, "no pixel"),
        (lambda images: images - 0.5, "no pixel"),
        (lambda images: np.where(images > 0.5, np.nan, images).astype(np.float32), "no pixel"),
        (lambda images: images[:-1], "cannot be evaluated"),
    ],
)
def test_pixels_that_are_not_the_librarys_are_refused(tiny_images, tiny_labels, change, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        Batches((change(tiny_images), tiny_labels))


@pytest.mark.parametrize("labels", [np.eye(8, dtype=np.int64), np.zeros(8, np.float32)])
def test_labels_that_are_not_integers_are_refused(tiny_images, labels):
    with pytest.raises(InvalidInput, match=r"labels of batch 0` (must be class numbers|has the wrong shape)"):
        Batches((tiny_images, labels))


def test_unknown_labels_are_refused(tiny_images):
    with pytest.raises(InvalidInput, match="every label 0 or more"):
        Batches((tiny_images, np.full(8, -1)))


def test_empty_data_are_refused():
    with pytest.raises(InvalidInput, match="no image to evaluate"):
        Batches((np.zeros((0, 8, 8, 3), np.float32), np.zeros(0, np.int64)))


def test_an_endless_dataset_is_refused(tiny_images, tiny_labels):
    with pytest.raises(InvalidInput, match="finite, batched"):
        Batches(tf.data.Dataset.from_tensor_slices((tiny_images, tiny_labels)).batch(4).repeat())


def test_a_dataset_without_labels_is_refused(tiny_images):
    with pytest.raises(InvalidInput, match=r"tf.data.Dataset of \(images, labels\)"):
        Batches(tf.data.Dataset.from_tensor_slices(tiny_images).batch(4))


def test_a_dataset_that_is_not_batched_is_refused(tiny_images, tiny_labels):
    with pytest.raises(InvalidInput, match="images of batch 0` has the wrong"):
        Batches(tf.data.Dataset.from_tensor_slices((tiny_images, tiny_labels)))


def test_a_dataset_that_shuffles_is_refused(tiny_images):
    labels = np.arange(8)
    shuffled = tf.data.Dataset.from_tensor_slices((tiny_images, labels)).shuffle(8, seed=1).batch(4)
    with pytest.raises(InvalidInput, match="another order at the second pass"):
        list(Batches(shuffled))


@pytest.mark.parametrize("name", ["limit", "batch_size"])
def test_numbers_below_one_are_refused(tiny_images, tiny_labels, name):
    with pytest.raises(InvalidInput, match=f"`{name}` is too small"):
        Batches((tiny_images, tiny_labels), **{name: 0})
