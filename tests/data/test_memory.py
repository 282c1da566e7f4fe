"""Tests of `advss_tf.data.memory`."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from advss_tf.data.memory import ArrayStore, array_source, fingerprint, shuffled_numbers
from advss_tf.errors import InvalidInput
from advss_tf.randomness import seed_for


def test_a_store_reads_images_and_labels_by_number(noise):
    images = noise(5)
    read, labels = ArrayStore(images, np.arange(5)).read(np.array([3, 0, 3]))
    np.testing.assert_array_equal(read, images[[3, 0, 3]])
    np.testing.assert_array_equal(labels, [3, 0, 3])
    assert len(ArrayStore(images, None)) == 5
    assert ArrayStore(images, None).read(np.array([0]))[1] is None


def test_the_orders_of_a_small_set_are_as_many_as_they_should_be():
    # 400 draws of the 5040 orders of 7 things collide about 15 times; a poor shuffle knows few orders.
    epochs = tf.data.Dataset.range(400)
    drawn = epochs.flat_map(lambda epoch: shuffled_numbers(np.arange(7), seed_for(0, epoch, "order"), 0))
    assert len({tuple(order) for order in drawn.as_numpy_iterator()}) > 365


def test_the_fingerprint_changes_with_a_pixel_a_label_and_the_test_split(noise):
    images, labels = noise(6), np.array([0, 1, 0, 1, 0, 1])
    changed = images.copy()
    changed[3, 2, 1, 0] ^= 1
    pairs = [
        ((images, labels), None),
        ((changed, labels), None),
        ((images, labels[::-1].copy()), None),
        ((images, None), None),
        ((images, labels), (images[:2], labels[:2])),
    ]
    digests = [array_source("a", train, test, None).fingerprint for train, test in pairs]
    assert len(set(digests)) == 5 and all(len(digest) == 64 for digest in digests)
    assert digests[0] == array_source("b", (images.copy(), labels), None, None).fingerprint


def test_the_fingerprint_tells_shapes_apart_that_have_the_same_bytes():
    assert fingerprint([np.zeros((2, 3), np.uint8)]) != fingerprint([np.zeros((3, 2), np.uint8)])


def test_test_images_of_another_shape_are_refused(noise):
    with pytest.raises(InvalidInput, match=r"differ in shape.*train images \(8, 8, 3\), test images \(6, 6, 3\)"):
        array_source("a", (noise(2), None), (noise(2, 6, 6), None), None)
