"""One replica with B rows is two replicas with B/2, in losses and gradients; the parts may be of unequal size."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from advss_tf.errors import InvalidInput
from advss_tf.losses import HardNegatives, adversarial_invariance, inferior_positives, nt_xent, standard_invariance
from advss_tf.losses.replicas import gathered
from advss_tf.training.strategy import get_strategy

WEIGHTS, HELD = inferior_positives(4, adversarial=(0,), share=0.2, weight=1.3)
LOSSES = {
    "nt_xent": nt_xent,
    "asymmetric": lambda values: nt_xent(values, weights=WEIGHTS, held=HELD),
    "hard": lambda values: nt_xent(values, hard_negatives=HardNegatives()),
    "sir": lambda values: standard_invariance(values[0], values[1], values[2]),
    "air": lambda values: adversarial_invariance(values[0], values[1], values[2], values[3], values[0]),
}


def on_two_replicas(loss, embeddings, cut):
    """Losses and the gradient of the global mean, of rows before `cut` on one replica and after it on the other."""
    strategy, count = get_strategy("mirrored"), embeddings.shape[1]

    def replica():
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        rows = embeddings[:, number * cut : cut + number * (count - cut)]
        with tf.GradientTape() as tape:
            tape.watch(rows)
            values = loss(rows)
            share = tf.reduce_sum(values) / count
        return values, tape.gradient(share, rows)

    values, slopes = tf.function(lambda: strategy.run(replica))()
    joined = [tf.concat(strategy.experimental_local_results(part), axis) for part, axis in ((values, 0), (slopes, 1))]
    return [part.numpy() for part in joined]


@pytest.mark.parametrize("cut", [4, 3])
@pytest.mark.parametrize("name", LOSSES)
def test_two_replicas_are_one(name, cut):
    """In float32 only the order of additions differs."""
    embeddings = tf.constant(np.random.default_rng(4).normal(size=(4, 8, 6)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(embeddings)
        values = LOSSES[name](embeddings)
        mean = tf.reduce_mean(values)
    slope = tape.gradient(mean, embeddings)
    found, slopes = on_two_replicas(LOSSES[name], embeddings, cut)
    np.testing.assert_allclose(found, values, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(slopes, slope, rtol=1e-4, atol=1e-7)
    assert np.abs(slopes).max() > 1e-5


def test_local_negatives_are_those_of_the_replica():
    embeddings = tf.constant(np.random.default_rng(5).normal(size=(2, 8, 6)), tf.float32)
    found, _ = on_two_replicas(lambda values: nt_xent(values, negatives="local"), embeddings, 4)
    expected = np.concatenate([nt_xent(embeddings[:, :4]), nt_xent(embeddings[:, 4:])])
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.abs(found - nt_xent(embeddings)).min() > 0.1


def test_one_image_a_replica_is_enough():
    embeddings = tf.constant(np.random.default_rng(6).normal(size=(2, 2, 6)), tf.float32)
    found, _ = on_two_replicas(nt_xent, embeddings, 1)
    np.testing.assert_allclose(found, nt_xent(embeddings), rtol=1e-5)


def test_one_replica_has_all_the_rows():
    rows = tf.ones((3, 2))
    everyone, first = gathered(rows)
    assert everyone is rows and first == 0
    with pytest.raises(InvalidInput, match="`negatives` is not known"):
        gathered(rows, negatives="world")
