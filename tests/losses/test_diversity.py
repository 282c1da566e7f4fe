"""The diversity of gradients by hand, against the formula in NumPy, and its derivative by finite differences."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf

from advss_tf.errors import InvalidInput
from advss_tf.losses import diversity

RNG = np.random.default_rng(0)


def reference(gradients):
    """log det(GᵀG + 1e-5 I) of each example in float64, columns divided by their length plus 1e-10."""
    found = []
    for columns in zip(*gradients, strict=True):
        flat = np.stack([np.ravel(column).astype(np.float64) for column in columns], axis=1)
        flat = flat / (np.linalg.norm(flat, axis=0) + 1e-10)
        found.append(np.linalg.slogdet(flat.T @ flat + 1e-5 * np.eye(flat.shape[1]))[1])
    return np.array(found)


def vectors(*rows):
    """One example each."""
    return [tf.constant([row], tf.float32) for row in rows]


@pytest.mark.parametrize(
    ("rows", "expected", "tolerance"),
    [
        (([3, 0, 0], [0, 5, 0]), 2e-5, 1e-6),  # orthogonal: 2 log(1 + 1e-5)
        (([3, 0, 0], [0, 5, 0], [0, 0, -7]), 3e-5, 1e-6),
        (([1, 0], [1, np.sqrt(3)]), np.log(0.75 + 2e-5), 1e-5),  # 60 degrees: 1 - cos² = 3/4
        (([1, 2], [2, 4]), np.log(2e-5), 0.01),  # aligned: -10.8
        (([1, 2], [-1, -2]), np.log(2e-5), 0.01),  # opposite gradients are one line as well
        (([1, 2], [1, 2], [1, 2]), np.log(3e-10), 0.05),  # -21.9
    ],
)
def test_the_value_by_hand(rows, expected, tolerance):
    np.testing.assert_allclose(diversity(vectors(*rows)), [expected], atol=tolerance)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_it_is_the_formula_for_every_example(count):
    gradients = [RNG.normal(size=(5, 4, 4, 3)).astype(np.float32) for _ in range(count)]
    gradients[1] += 2 * gradients[0]
    found = diversity([tf.constant(gradient) for gradient in gradients])
    assert found.shape == (5,) and found.dtype == tf.float32
    np.testing.assert_allclose(found, reference(gradients), rtol=1e-4)


def test_its_derivative_is_that_of_finite_differences():
    gradients = [RNG.normal(size=(2, 5)) + 1.0 for _ in range(3)]
    tensors = [tf.constant(gradient, tf.float32) for gradient in gradients]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = tf.reduce_sum(diversity(tensors))
    for number, derivative in enumerate(tape.gradient(value, tensors)):
        for place in np.ndindex(2, 5):
            sides = []
            for by in (1e-5, -1e-5):
                moved = [gradient.copy() for gradient in gradients]
                moved[number][place] += by
                sides.append(reference(moved).sum())
            assert float(derivative[place]) == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-2, abs=1e-3)


def test_ascending_it_turns_aligned_gradients_until_they_are_orthogonal():
    columns = [tf.Variable([[1.0, 0.2, 0.0]]), tf.Variable([[1.0, 0.0, 0.3]])]
    heights = []
    for _ in range(50):
        with tf.GradientTape() as tape:
            height = diversity(columns)
        heights.append(float(height[0]))
        for column, slope in zip(columns, tape.gradient(height, columns), strict=True):
            column.assign_add(0.05 * slope)
    assert heights[0] < -2 and heights[-1] > -0.01
    assert all(later > earlier for earlier, later in itertools.pairwise(heights[:20]))


def test_lengths_do_not_matter_and_examples_do_not_mix():
    one, other = (tf.constant(RNG.normal(size=(3, 6)), tf.float32) for _ in range(2))
    scaled = one * tf.constant([[1e-4], [1.0], [1e4]])
    np.testing.assert_allclose(diversity([scaled, other]), diversity([one, other]), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(diversity([one, other])[1:], diversity([one[1:], other[1:]]), rtol=1e-6)


def test_a_gradient_of_zeros_has_a_finite_value_and_no_derivative():
    """det [[1 + 1e-5, 0], [0, 1e-5]]."""
    columns = vectors([3.0, 4.0], [0.0, 0.0])
    with tf.GradientTape() as tape:
        tape.watch(columns)
        value = diversity(columns)
    np.testing.assert_allclose(value, [np.log(1e-5)], rtol=1e-4)
    for derivative in tape.gradient(value, columns):
        np.testing.assert_array_equal(derivative, [[0.0, 0.0]])


def test_half_precision_is_computed_in_float32():
    gradients = [tf.constant(RNG.normal(size=(2, 8)), tf.float16) for _ in range(2)]
    found = diversity(gradients)
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, reference([gradient.numpy() for gradient in gradients]), rtol=1e-4)


def test_xla_computes_the_same():
    gradients = [tf.constant(RNG.normal(size=(4, 9)), tf.float32) for _ in range(3)]
    compiled = tf.function(lambda *columns: diversity(columns), jit_compile=True)
    np.testing.assert_allclose(compiled(*gradients), diversity(gradients), rtol=1e-4)


@pytest.mark.parametrize("shapes", [[(2, 3)], [(2, 3), (2, 4)], [(2,), (2,)], []])
def test_what_cannot_be_compared_is_refused(shapes):
    with pytest.raises(InvalidInput, match="`gradients` cannot be compared"):
        diversity([tf.zeros(shape) for shape in shapes])
