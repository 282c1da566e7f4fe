"""Hard negatives against a loop over the paper's equation; which side of a pair of views moves, and how far."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf

from advss_tf.errors import InvalidInput
from advss_tf.losses import HardNegatives, inferior_positives, nt_xent

RNG = np.random.default_rng(1)


def reference(embeddings, temperature, beta, tau_plus):
    """Robinson et al. 2021, an anchor at a time, with the mean of the positives: `(batch,)` in float64."""
    views, batch, _ = embeddings.shape
    unit = embeddings / np.linalg.norm(embeddings, axis=-1, keepdims=True)
    found = np.zeros(batch)
    for view, image in itertools.product(range(views), range(batch)):
        scores = np.exp(np.einsum("vbf,f->vb", unit, unit[view, image]) / temperature)
        positives = np.array([scores[other, image] for other in range(views) if other != view])
        negatives = np.delete(scores, image, axis=1).ravel()
        importance = negatives**beta / np.mean(negatives**beta)
        estimate = np.sum(importance * negatives) - tau_plus * len(negatives) * positives.mean()
        estimate = max(estimate / (1 - tau_plus), len(negatives) * np.exp(-1 / temperature))
        losses = -np.log(positives / (positives.mean() + estimate))
        found[image] += losses.mean() / views
    return found


@pytest.mark.parametrize("views", [2, 4])
@pytest.mark.parametrize(("beta", "tau_plus"), [(1.0, 0.1), (0.0, 0.0), (2.0, 0.0), (0.5, 0.3)])
def test_hard_negatives_are_the_equation(views, beta, tau_plus):
    embeddings = RNG.normal(size=(views, 6, 4))
    for temperature in (0.2, 0.5, 1.0):
        found = nt_xent(
            tf.constant(embeddings, tf.float32), temperature=temperature, hard_negatives=HardNegatives(beta, tau_plus)
        )
        np.testing.assert_allclose(found, reference(embeddings, temperature, beta, tau_plus), rtol=2e-5, atol=1e-6)


def test_the_lower_bound_is_reached_and_right():
    """Two images opposite to each other, tau_plus near one: `N exp(-1/T)` with N = 2."""
    embeddings = tf.constant([[[1.0, 0.0], [-1.0, 0.0]]] * 2)
    found = nt_xent(embeddings, temperature=1.0, hard_negatives=HardNegatives(0.0, 0.9))
    np.testing.assert_allclose(found, [np.log(1 + 2 * np.exp(-2.0))] * 2, rtol=1e-5)


def test_without_weights_and_correction_two_views_are_plain_nt_xent():
    embeddings = tf.constant(RNG.normal(size=(2, 6, 4)), tf.float32)
    np.testing.assert_allclose(
        nt_xent(embeddings, hard_negatives=HardNegatives(0.0, 0.0)), nt_xent(embeddings), rtol=1e-5
    )


def test_the_gradient_of_hard_negatives_is_that_of_finite_differences():
    embeddings = RNG.normal(size=(2, 4, 3))
    moved = tf.constant(embeddings, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(moved)
        loss = nt_xent(moved, hard_negatives=HardNegatives(1.0, 0.1))
    found = tape.gradient(loss, moved).numpy()
    for place in np.ndindex(embeddings.shape):
        step = np.zeros(embeddings.shape)
        step[place] = 1e-5
        sides = [reference(embeddings + sign * step, 0.5, 1.0, 0.1).sum() for sign in (1, -1)]
        assert found[place] == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-3, abs=1e-4)


def test_the_weights_of_an_inferior_positive_by_hand():
    """View 0 attacked, share 0.2, weight 1.5: clean anchors 2 · 0.2 · 1.5, the attacked anchor 2 · 0.8 · 1.5."""
    weights, held = inferior_positives(3, adversarial=(0,), share=0.2, weight=1.5)
    others = ~np.eye(3, dtype=bool)
    np.testing.assert_allclose(weights[others], [2.4, 2.4, 0.6, 1.0, 0.6, 1.0], rtol=1e-6)
    np.testing.assert_array_equal(held, [[False, True, True], [True, False, False], [True, False, False]])


def test_half_a_share_has_the_value_of_the_symmetric_loss():
    embeddings = tf.constant(RNG.normal(size=(4, 6, 4)), tf.float32)
    weights, held = inferior_positives(4, adversarial=(0,), share=0.5)
    np.testing.assert_allclose(nt_xent(embeddings, weights=weights, held=held), nt_xent(embeddings), rtol=1e-5)


@pytest.mark.parametrize(("share", "still"), [(0.0, 1), (1.0, 0)])
def test_a_share_of_nothing_leaves_that_side_where_it_is(share, still):
    """Of one clean view (place 1) and one attacked (place 0)."""
    embeddings = tf.constant(RNG.normal(size=(2, 6, 4)), tf.float32)
    weights, held = inferior_positives(2, adversarial=(0,), share=share)
    with tf.GradientTape() as tape:
        tape.watch(embeddings)
        loss = nt_xent(embeddings, weights=weights, held=held)
    moved = np.abs(tape.gradient(loss, embeddings)).max(axis=(1, 2))
    assert moved[still] == 0 and moved[1 - still] > 1e-3


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"adversarial": ()}, r"`adversarial` does not part the views. Expected: places in \[0, 3\)"),
        ({"adversarial": (0, 1, 2)}, "`adversarial` does not part the views"),
        ({"adversarial": (3,)}, r"`adversarial` does not part the views.*adversarial=\(3,\), views=3"),
        ({"adversarial": (0,), "share": 1.1}, r"`share` is out of range. Expected: a number in \[0, 1\]"),
        ({"adversarial": (0,), "weight": -1.0}, "`weight` is out of range"),
    ],
)
def test_impossible_parts_are_refused(options, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        inferior_positives(3, **options)


@pytest.mark.parametrize("hard", [HardNegatives(-1.0, 0.1), HardNegatives(1.0, 1.0), HardNegatives(float("inf"), 0)])
def test_impossible_weights_of_negatives_are_refused(hard):
    with pytest.raises(InvalidInput, match="`hard_negatives` is out of range"):
        nt_xent(tf.ones((2, 3, 4)), hard_negatives=hard)
