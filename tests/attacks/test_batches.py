"""Numbers beside images, and images that are picked one by one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from advss_tf.attacks.batches import (
    as_float32,
    beside,
    choose,
    into_box,
    only_entry,
    shape_of,
    slopes,
    start_each,
    zero_each,
)
from advss_tf.errors import InvalidInput
from advss_tf.randomness import fold, seed_for

SEED = seed_for(0, 0, "attack")


def test_numbers_multiply_the_images_that_they_stand_beside():
    images = tf.ones((2, 3, 3, 1))
    np.testing.assert_array_equal((beside(tf.constant([2.0, 5.0])) * images)[:, 0, 0, 0], [2, 5])
    np.testing.assert_array_equal(beside(tf.constant(4.0)) * images, np.full((2, 3, 3, 1), 4))


def test_pixels_end_at_the_border_of_the_box():
    np.testing.assert_array_equal(into_box(tf.constant([-0.5, 0.25, 1.5])), [0, 0.25, 1])


class Found(NamedTuple):
    images: dict[str, tf.Tensor]
    value: tf.Tensor


def test_choices_are_made_example_by_example_in_tuples_and_dicts():
    one, other = (Found({"b": tf.fill((2, 1, 1, 1), v), "a": tf.fill((2, 3), v)}, tf.fill((2,), v)) for v in (1.0, 0.0))
    found = choose(tf.constant([True, False]), one, other)
    assert isinstance(found, Found)
    np.testing.assert_array_equal(found.images["b"][:, 0, 0, 0], [1, 0])
    np.testing.assert_array_equal(found.images["a"], [[1, 1, 1], [0, 0, 0]])
    np.testing.assert_array_equal(found.value, [1, 0])


def test_a_value_that_is_not_a_number_does_not_leak_into_what_is_chosen():
    found = choose(tf.constant([True, False]), tf.constant([1.0, np.nan]), tf.constant([np.nan, 2.0]))
    np.testing.assert_array_equal(found, [1, 2])


def test_each_entry_starts_from_a_seed_of_its_own_whatever_order_it_came_in():
    centers = {"two": tf.constant(2.0), "one": tf.constant(1.0)}
    found = start_each(centers, SEED, lambda center, seed: tf.concat([[center], tf.cast(seed, tf.float32)], 0))
    assert set(found) == {"one", "two"}
    for number, name in enumerate(("one", "two")):
        np.testing.assert_array_equal(found[name], [number + 1, *tf.cast(fold(SEED, number), tf.float32)])
    assert (found["one"] != found["two"]).numpy().any()


def test_a_batch_of_open_size_is_measured_when_the_graph_runs():
    @tf.function(input_signature=[tf.TensorSpec((None, 4, 5, 3))])
    def noise(images):
        assert shape_of(images)[1:] == [4, 5, 3]
        return tf.zeros(shape_of(images)), zero_each({"images": images})

    for rows in (2, 7):
        images, zeros = noise(tf.ones((rows, 4, 5, 3)))
        assert images.shape == (rows, 4, 5, 3) and zeros.shape == (rows,) and not zeros.numpy().any()
    assert shape_of(tf.ones((2, 4, 5, 3))) == [2, 4, 5, 3]


def _slopes(function, points):
    with tf.GradientTape() as tape:
        tape.watch(points)
        values = function(points)
    return slopes(tape, values, points)


def test_slopes_are_the_gradients_to_the_last_bit_and_zero_where_nothing_leads():
    points = {"a": tf.constant(np.random.default_rng(0).normal(size=(3, 2, 2, 1)), tf.float32), "b": tf.zeros((3, 1))}
    with tf.GradientTape() as tape:
        tape.watch(points)
        values = tf.reduce_sum(tf.sin(points["a"]) ** 3, [1, 2, 3])
    found = _slopes(lambda points: tf.reduce_sum(tf.sin(points["a"]) ** 3, [1, 2, 3]), points)
    np.testing.assert_array_equal(found["a"], tape.gradient(values, points["a"]))
    np.testing.assert_array_equal(found["b"], np.zeros((3, 1)))


def test_slopes_that_are_not_finite_are_zero_and_move_no_other_image():
    points = {"x": tf.constant([[0.0, 1.0], [4.0, 9.0]])}  # the slope of a square root at 0 is infinite
    found = _slopes(lambda points: tf.reduce_sum(tf.sqrt(points["x"]), 1), points)["x"]
    np.testing.assert_allclose(found, [[0, 1 / 2], [1 / 4, 1 / 6]], rtol=1e-6)


def test_slopes_of_a_sure_classifier_in_float16_are_not_lost():
    """A slope of 1e-6 by a mean of 64 pixels is 1.6e-8, below the smallest float16."""
    images = tf.ones((2, 8, 8, 1))

    def sure(points):
        return 1e-6 * tf.cast(tf.reduce_mean(tf.cast(points["x"], tf.float16), [1, 2, 3]), tf.float32)

    with tf.GradientTape() as tape:
        tape.watch(images)
        values = sure({"x": images})
    assert not tape.gradient(values, images).numpy().any()
    np.testing.assert_allclose(_slopes(sure, {"x": images})["x"], np.full(images.shape, 1e-6 / 64), rtol=0.01)


def test_images_become_float32(tiny_images):
    (images,) = as_float32({"images": tiny_images.astype(np.float64)}).values()
    assert images.dtype == tf.float32
    name, images = only_entry({"views": tiny_images.astype(np.float16)}, "There is one view.")
    assert name == "views" and images.dtype == tf.float32


@pytest.mark.parametrize(("inputs", "names"), [({}, r"\[\]"), ({"b": 1, "a": 2}, r"\['a', 'b'\]")])
def test_other_than_one_entry_is_refused(inputs, names):
    words = f"There is one view. Expected: `inputs` with exactly one entry. Received: inputs={names}"
    with pytest.raises(InvalidInput, match=words):
        only_entry(inputs, "There is one view.")
