"""Tests of `advss_tf.data.pixels`."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from advss_tf.data.pixels import as_float, as_stored, resized
from advss_tf.errors import InvalidInput


def test_grey_images_without_a_channel_get_one():
    assert as_stored(np.zeros((2, 4, 5), np.uint8), "images").shape == (2, 4, 5, 1)


def test_8_bit_images_stay_as_they_are_and_floats_become_float32():
    images = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
    assert as_stored(images, "images") is images
    assert as_stored(images / 255, "images").dtype == np.float32


def test_8_bit_values_are_divided_by_255_in_flight():
    np.testing.assert_array_equal(as_float(np.array([0, 51, 255], np.uint8)), np.array([0, 0.2, 1], np.float32))
    floats = tf.constant([0.0, 0.3])
    assert as_float(floats) is floats


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (np.zeros((2, 4, 4, 3), np.int64), "dtype that pixels cannot have.*dtype=int64"),
        (np.zeros((2, 4, 4, 3), bool), "dtype that pixels cannot have.*dtype=bool"),
        (np.array([None, "x"], object), "dtype that pixels cannot have.*dtype=object"),
        ([np.zeros((4, 4)), np.zeros((5, 4))], "its images may differ in size"),
        (np.zeros((4, 4), np.uint8), r"wrong shape.*shape=\(4, 4\)"),
        (np.zeros((2, 3, 32, 32), np.uint8), r"1 or 3 channels.*shape=\(2, 3, 32, 32\)"),
        (np.zeros((0, 4, 4, 3), np.uint8), r"holds no pixels.*shape=\(0, 4, 4, 3\)"),
        (np.full((2, 4, 4, 3), 255.0), r"in \[0, 1\].*images\[0\] holds 255"),
    ],
)
def test_what_is_no_image_is_refused(images, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        as_stored(images, "images")


def test_halving_a_checkerboard_of_blocks_gives_the_antialiased_means():
    image = np.kron(np.array([[0, 200], [100, 50]]), np.ones((4, 4))).astype(np.uint8)[None, ..., None]
    half = resized(image, (4, 4))
    assert half.dtype == np.uint8
    # Worked by hand: at scale 2 the triangle filter weighs source pixels 1, 3, 3, 1 (of 8) and is cut at the border.
    np.testing.assert_array_equal(half[0, 0, :, 0], [0, 25, 175, 200])


def test_resizing_keeps_float32_in_range_and_does_nothing_at_the_same_size(noise):
    images = noise(3) / np.float32(255)
    small = resized(images, (5, 3))
    assert small.shape == (3, 5, 3, 3) and small.dtype == np.float32
    assert small.min() >= 0 and small.max() <= 1
    assert resized(images, (8, 8)) is images and resized(images, None) is images
