"""The difference of logits ratio by hand, and what must leave it unchanged."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from advss_tf.errors import InvalidInput
from advss_tf.losses.ratios import difference_of_logits_ratio, targeted_difference_of_logits_ratio

# Sorted: 5, 3, 2, 1.
LOGITS = [[3.0, 5.0, 1.0, 2.0]]


@pytest.mark.parametrize(
    ("label", "ratio"),
    [
        (1, -2 / 3),  # right: -(5 - 3) / (5 - 2)
        (0, 2 / 3),  # wrong by one place: -(3 - 5) / 3
        (3, 1.0),  # -(2 - 5) / 3
        (2, 4 / 3),  # -(1 - 5) / 3
    ],
)
def test_the_ratio_by_hand(label, ratio):
    np.testing.assert_allclose(difference_of_logits_ratio(LOGITS, [label]), [ratio], rtol=1e-6)


@pytest.mark.parametrize(
    ("label", "target", "ratio"),
    [
        (1, 0, -4 / 7),  # -(5 - 3) / (5 - (2 + 1) / 2)
        (1, 2, -8 / 7),  # -(5 - 1) / 3.5
        (0, 1, 4 / 7),  # -(3 - 5) / 3.5
        (3, 3, 0.0),
    ],
)
def test_the_targeted_ratio_by_hand(label, target, ratio):
    np.testing.assert_allclose(targeted_difference_of_logits_ratio(LOGITS, [label], [target]), [ratio], rtol=1e-6)


def _both(logits):
    labels, targets = np.arange(6) % 5, (np.arange(6) + 2) % 5
    return [
        difference_of_logits_ratio(logits, labels).numpy(),
        targeted_difference_of_logits_ratio(logits, labels, targets).numpy(),
    ]


def test_the_ratios_equal_their_references():
    logits = np.random.default_rng(0).normal(size=(6, 5))
    labels, targets, rows = np.arange(6) % 5, (np.arange(6) + 2) % 5, np.arange(6)
    first, _, third, fourth, _ = np.sort(logits, axis=1)[:, ::-1].T
    others = np.where(np.eye(5, dtype=bool)[labels], -np.inf, logits).max(1)
    of_label, of_target = logits[rows, labels], logits[rows, targets]
    untargeted, targeted = _both(logits)
    np.testing.assert_allclose(untargeted, -(of_label - others) / (first - third), rtol=1e-5)
    np.testing.assert_allclose(targeted, -(of_label - of_target) / (first - (third + fourth) / 2), rtol=1e-5)


def test_no_shift_and_no_positive_scale_changes_the_ratios():
    logits = np.random.default_rng(1).normal(size=(6, 5)).astype(np.float32)
    for changed in (logits + 3.0, 1e4 * logits, 1e-4 * logits, 100 * logits - 50.0):
        for before, after in zip(_both(logits), _both(changed), strict=True):
            np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4)


def test_a_negative_scale_does_change_them():
    logits = np.random.default_rng(1).normal(size=(6, 5))
    for before, after in zip(_both(logits), _both(-logits), strict=True):
        assert np.abs(before - after).max() > 0.1


def test_the_sign_says_whether_the_prediction_is_right():
    logits = np.random.default_rng(2).normal(size=(50, 4))
    labels = np.arange(50) % 4
    wrong = difference_of_logits_ratio(logits, labels).numpy() > 0
    np.testing.assert_array_equal(wrong, logits.argmax(1) != labels)
    assert 0 < wrong.sum() < 50


def test_the_ratio_still_has_a_gradient_where_the_cross_entropy_has_none():
    logits = tf.Variable([[1e4, -1e4, 0.0, 5e3]])
    with tf.GradientTape(persistent=True) as tape:
        ratios = [difference_of_logits_ratio(logits, [0]), targeted_difference_of_logits_ratio(logits, [0], [1])]
        entropy = tf.nn.sparse_softmax_cross_entropy_with_logits([0], logits)
    assert not np.any(tape.gradient(entropy, logits))
    for ratio in ratios:
        gradient = tape.gradient(ratio, logits).numpy()
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 1e-5


def test_equal_logits_give_finite_numbers_and_gradients():
    logits = tf.Variable(tf.zeros((2, 4)))
    with tf.GradientTape(persistent=True) as tape:
        ratios = [
            difference_of_logits_ratio(logits, [0, 3]),
            targeted_difference_of_logits_ratio(logits, [0, 3], [1, 0]),
        ]
    for ratio in ratios:
        np.testing.assert_array_equal(ratio, [0, 0])
        assert np.isfinite(tape.gradient(ratio, logits)).all()


@pytest.mark.parametrize("options", [{}, {"jit_compile": True}], ids=["graph", "xla"])
def test_compiled_and_half_precision_ratios_are_float32(options):
    def ratios(logits):
        return difference_of_logits_ratio(logits, [1]), targeted_difference_of_logits_ratio(logits, [1], [2])

    for logits in (tf.constant(LOGITS), tf.constant(LOGITS, tf.bfloat16)):
        one, targeted = tf.function(ratios, **options)(logits)
        assert one.dtype == targeted.dtype == tf.float32
        np.testing.assert_allclose([one[0], targeted[0]], [-2 / 3, -8 / 7], rtol=1e-5)


def test_too_few_classes_are_refused():
    with pytest.raises(InvalidInput, match=r"at least 3 classes; or `margin` as the loss. Received: classes=2"):
        difference_of_logits_ratio(tf.zeros((1, 2)), [0])
    with pytest.raises(InvalidInput, match=r"at least 4 classes; or `difference_of_logits_ratio` .*classes=3"):
        targeted_difference_of_logits_ratio(tf.zeros((1, 3)), [0], [1])
