"""Tests of `advss_tf.data.checks`."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.data.checks import check_images, check_labels, check_pseudo_labels
from advss_tf.errors import InvalidInput

GOOD = np.full((2, 4, 5, 3), 0.5, np.float32)


@pytest.mark.parametrize("convert", [np.asarray, tf.constant])
def test_good_images_and_labels_pass(convert):
    check_images(convert(GOOD), image_shape=(4, 5, 3))
    check_labels(convert(np.array([0, 2])), num_classes=3, count=2)


def test_the_borders_of_the_range_are_pixels():
    check_images(np.stack([np.zeros((2, 2, 1), np.float32), np.ones((2, 2, 1), np.float32)]))


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        ([[1.0]], "`x` is not an array.*Received: list"),
        (GOOD.astype(np.float64), "`x` has the wrong dtype.*float32.*Received: dtype=float64"),
        ((GOOD * 255).astype(np.uint8), "divide 8-bit pixels by 255"),
        (GOOD[0], r"`x` has the wrong shape.*batch, height, width, channels.*shape=\(4, 5, 3\)"),
        (GOOD.astype(object), "`x` is an array of Python objects"),
    ],
)
def test_wrong_images_are_refused_in_words(images, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        check_images(images, "x")


@pytest.mark.parametrize("value", [1.5, -0.01, np.nan, np.inf])
@pytest.mark.parametrize("convert", [np.asarray, tf.constant])
def test_a_value_that_is_no_pixel_is_refused_with_its_index(value, convert):
    images = GOOD.copy()
    images[1, 2, 3, 0] = value
    with pytest.raises(InvalidInput, match=rf"images\[1\] holds {value}"):
        check_images(convert(images))


def test_images_of_another_shape_than_the_model_are_refused():
    with pytest.raises(InvalidInput, match=r"Expected: \(batch, 8, 8, 3\).*Received: shape=\(2, 4, 5, 3\)"):
        check_images(GOOD, image_shape=(8, 8, 3))


def test_static_checks_work_in_a_graph_and_on_symbolic_keras_tensors():
    check_images(keras.Input((4, 5, 3)), image_shape=(4, 5, 3))
    with pytest.raises(InvalidInput, match="wrong shape"):
        check_images(keras.Input((4, 5)))

    @tf.function(input_signature=[tf.TensorSpec([None, 4, 5, 3], tf.uint8)])
    def graph(images):
        check_images(images)
        return images

    with pytest.raises(Exception, match="`images` has the wrong dtype"):  # AutoGraph wraps it in a type of its own
        graph.get_concrete_function()


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (np.array([0.0, 1.0]), "`labels` must be class numbers.*dtype=float64"),
        (np.array(["a", "b"]), "must be class numbers.*dtype=string"),
        (np.array([0, 1], "datetime64[s]"), "no array of numbers.*datetime64"),
        (np.array([True, False]), "must be class numbers.*dtype=bool"),
        (np.array([[0], [1]]), r"wrong shape.*shape=\(2, 1\)"),
        (np.array([0, 1, 2]), r"wrong shape.*Expected: \(2,\).*shape=\(3,\)"),
        (np.array([0, -1]), r"every label in \[0, 3\).*labels\[1\]=-1"),
        (np.array([3, 0]), r"every label in \[0, 3\).*labels\[0\]=3"),
    ],
)
def test_wrong_labels_are_refused_in_words(labels, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        check_labels(labels, num_classes=3, count=2)


def test_pseudo_labels_are_looked_at_where_they_are_used():
    pseudo_labels = np.array([[0, 4], [-1, 2], [7, 1]])
    check_pseudo_labels(pseudo_labels, count=3, used=np.array([0, 2]))
    with pytest.raises(InvalidInput, match=r"lacks a record that is used.*pseudo_labels\[1\]=\[-1, 2\]"):
        check_pseudo_labels(pseudo_labels, count=3, used=np.array([0, 1]))
    with pytest.raises(InvalidInput, match=r"lacks a record that is used"):
        check_pseudo_labels(pseudo_labels, count=3)


@pytest.mark.parametrize(
    ("pseudo_labels", "sentence"),
    [
        (np.zeros((3, 2)), "must be class numbers.*dtype=float64"),
        (np.zeros((4, 2), int), r"wrong shape.*\(3, heads\).*shape=\(4, 2\)"),
        (np.zeros(3, int), r"wrong shape.*shape=\(3,\)"),
        (np.zeros((3, 0), int), r"wrong shape.*shape=\(3, 0\)"),
    ],
)
def test_pseudo_labels_of_another_kind_are_refused(pseudo_labels, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        check_pseudo_labels(pseudo_labels, count=3)
