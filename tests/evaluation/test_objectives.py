"""What attacks on a classifier climb, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from advss_tf.evaluation.objectives import OBJECTIVES, predicted, rival

LOGITS = tf.constant([[4.0, 1.0, 3.0, 0.0, 2.0], [0.0, 5.0, 1.0, 4.0, 2.0]])
LABELS = tf.constant([0, 3], tf.int64)


def goal(name, run=0, logits=LOGITS):
    """The objective on a model that gives `logits` whatever the images are."""
    return OBJECTIVES[name](lambda images: logits, tf.zeros((2, 2, 2, 1)), LABELS, tf.constant(run))({"images": None})


@pytest.mark.parametrize("rank,expected", [(0, [2, 1]), (1, [4, 4]), (3, [3, 0]), (4, [2, 1])])
def test_rivals_are_ranked_by_their_logits_and_never_the_label(rank, expected):
    assert rival(LOGITS, LABELS, tf.constant(rank)).numpy().tolist() == expected


def test_margins_and_differences_by_hand():
    np.testing.assert_allclose(goal("margin"), [-1.0, 1.0])
    np.testing.assert_allclose(goal("targeted_difference", run=1), [[-2.0], [-2.0]])
    np.testing.assert_allclose(goal("differences"), [[-3.0, -1.0, -4.0, -2.0], [-2.0, -4.0, 1.0, -3.0]])
    values, won = goal("targeted_margin", run=1)
    np.testing.assert_allclose(values, [-2.0, -2.0])
    assert won.numpy().tolist() == [False, True]


def test_the_ratios_are_judged_by_the_prediction():
    for name in ("cross_entropy_judged", "dlr", "targeted_dlr", "margin_judged"):
        values, won = goal(name)
        assert values.shape == (2,) and won.numpy().tolist() == [False, True]
    # -(z_y - z_t) / (z_1 - (z_3 + z_4) / 2), with the rival 2 of the first image and 1 of the second.
    np.testing.assert_allclose(goal("targeted_dlr").values, [-1.0 / 2.5, 1.0 / 3.5], rtol=1e-6)


def test_logits_that_are_no_numbers_are_fooled():
    broken = tf.constant([[float("nan"), 1.0, 3.0, 0.0, 2.0], [0.0, 5.0, 1.0, 4.0, 2.0]])
    assert predicted(broken).numpy().tolist() == [-1, 1]
    assert goal("margin", logits=broken).numpy()[0] == float("inf")
    assert goal("dlr", logits=broken).won.numpy().all()
