"""Losses against NumPy references and literals worked by hand."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from advss_tf.losses import correct, cross_entropy, kl_divergence, margin


def _reference_log_softmax(logits):
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def test_cross_entropy_of_even_logits_is_the_log_of_the_classes():
    np.testing.assert_allclose(cross_entropy(tf.zeros((2, 4)), [0, 3]), np.log(4), rtol=1e-6)


def test_losses_equal_their_references():
    rng = np.random.default_rng(0)
    logits, reference, labels = rng.normal(size=(5, 3)), rng.normal(size=(5, 3)), np.array([0, 1, 2, 0, 1])
    p, q = _reference_log_softmax(reference), _reference_log_softmax(logits)
    np.testing.assert_allclose(cross_entropy(logits, labels), -q[range(5), labels], rtol=1e-5)
    np.testing.assert_allclose(kl_divergence(reference, logits), (np.exp(p) * (p - q)).sum(1), rtol=1e-4)


def test_kl_divergence_by_hand():
    """KL((1/2, 1/2) || (3/4, 1/4)) = ln(2/3)/2 + ln(2)/2."""
    np.testing.assert_allclose(kl_divergence([[0.0, 0.0]], [[np.log(3.0), 0.0]]), [np.log(4 / 3) / 2], rtol=1e-5)


def test_margin_is_positive_exactly_where_the_prediction_is_wrong():
    logits = tf.constant([[3.0, 1.0, 0.0], [3.0, 1.0, 0.0]])
    np.testing.assert_allclose(margin(logits, [0, 1]), [-2.0, 2.0])
    np.testing.assert_allclose(correct(logits, tf.constant([0, 1])), [1.0, 0.0])


def test_losses_and_gradients_are_finite_at_extreme_logits():
    logits = tf.Variable([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]])
    with tf.GradientTape(persistent=True) as tape:
        losses = [cross_entropy(logits, [1, 0]), kl_divergence(-logits, logits), margin(logits, [1, 0])]
    for loss in losses:
        assert loss.dtype == tf.float32 and np.isfinite(loss).all()
        assert np.isfinite(tape.gradient(loss, logits)).all()


def test_half_precision_logits_are_computed_in_float32():
    assert cross_entropy(tf.zeros((2, 3), tf.bfloat16), [0, 1]).dtype == tf.float32
