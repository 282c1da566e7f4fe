"""Angles between student and teacher by hand, their bounds, and who moves."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from advss_tf.errors import InvalidInput
from advss_tf.losses import cosine_distillation, negative_cosine

RNG = np.random.default_rng(3)


def test_the_cosine_by_hand():
    """Same, opposite, orthogonal, 60 degrees, and a row of zeros."""
    ones = tf.constant([[2.0, 0.0], [1.0, 1.0], [3.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    others = tf.constant([[5.0, 0.0], [-2.0, -2.0], [0.0, 1.0], [1.0, np.sqrt(3.0)], [1.0, 0.0]])
    np.testing.assert_allclose(negative_cosine(ones, others), [-1.0, 1.0, 0.0, -0.5, 0.0], atol=1e-6)


def test_the_terms_of_deacl_add_up():
    clean, attacked, teacher = RNG.normal(size=(3, 7, 5))

    def cosine(one, other):
        return np.sum(one * other, axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)

    found = cosine_distillation(*(tf.constant(rows, tf.float32) for rows in (clean, attacked, teacher)), beta=3.0)
    assert found.shape == (7,) and found.dtype == tf.float32
    np.testing.assert_allclose(found, -cosine(clean, teacher) - 3.0 * cosine(attacked, clean), rtol=1e-5, atol=1e-6)


def test_the_minimum_is_a_student_that_is_its_teacher_under_attack_as_well():
    rows = tf.constant(RNG.normal(size=(4, 5)), tf.float32)
    np.testing.assert_allclose(cosine_distillation(rows, 2.0 * rows, 3.0 * rows), np.full(4, -3.0), rtol=1e-6)


def test_the_teacher_stands_still_and_both_students_move():
    rows = [tf.constant(RNG.normal(size=(4, 5)), tf.float32) for _ in range(3)]
    with tf.GradientTape() as tape:
        tape.watch(rows)
        loss = cosine_distillation(*rows)
    clean, attacked, teacher = tape.gradient(loss, rows)
    assert teacher is None and float(tf.norm(clean)) > 0.1 and float(tf.norm(attacked)) > 0.1


def test_the_gradient_of_the_cosine_is_that_of_its_formula():
    """`(b̂ - â cos) / |a|` for the cosine by `a`."""
    one, other = RNG.normal(size=(2, 4, 5))
    moved = tf.constant(one, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(moved)
        loss = negative_cosine(moved, tf.constant(other, tf.float32))
    length = np.linalg.norm(one, axis=1, keepdims=True)
    a, b = one / length, other / np.linalg.norm(other, axis=1, keepdims=True)
    expected = -(b - a * np.sum(a * b, axis=1, keepdims=True)) / length
    np.testing.assert_allclose(tape.gradient(loss, moved), expected, rtol=1e-4, atol=1e-6)


def test_half_precision_is_computed_in_float32():
    rows = tf.cast(RNG.normal(size=(4, 5)), tf.float16)
    assert negative_cosine(rows, rows).dtype == tf.float32
    np.testing.assert_allclose(negative_cosine(rows, rows), -np.ones(4), rtol=1e-6)


def test_what_does_not_fit_is_refused():
    with pytest.raises(InvalidInput, match="differ in shape"):
        negative_cosine(tf.ones((2, 3)), tf.ones((2, 4)))
    with pytest.raises(InvalidInput, match=r"`beta` is out of range.*beta=-1.0"):
        cosine_distillation(tf.ones((2, 3)), tf.ones((2, 3)), tf.ones((2, 3)), beta=-1.0)
