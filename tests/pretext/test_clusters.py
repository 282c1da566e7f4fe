"""Heads that tell clusters: their loss from the definition, their start, and batches without pseudo-labels."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from advss_tf.errors import InvalidInput
from advss_tf.pretext.clusters import ClusterHeads

FEATURES = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
LABELS = np.stack([np.arange(6) % 2, np.arange(6) % 5], 1)


def test_the_loss_is_the_mean_of_the_heads():
    heads = ClusterHeads(4, (2, 5))
    losses, hits = [], []
    for head, labels in zip(heads.heads, LABELS.T, strict=True):
        logits = FEATURES @ head.kernel.numpy() + head.bias.numpy()
        log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        losses.append(-log_p[np.arange(6), labels])
        hits.append(logits.argmax(1) == labels)
    terms = heads.terms(tf.constant(FEATURES), heads.targets(tf.constant(LABELS)))
    np.testing.assert_allclose(terms["pseudo"], np.mean(losses, 0), rtol=1e-5)
    np.testing.assert_allclose(terms["pseudo_accuracy"], np.mean(hits, 0))


def test_heads_start_by_the_seed_and_their_size():
    one, same, other = (ClusterHeads(4, (2, 5), seed=seed).heads[1].kernel.numpy() for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0.1


@pytest.mark.parametrize("labels", [None, np.array([0, 1]), LABELS[:, :1], LABELS[..., np.newaxis]])
def test_what_is_no_column_for_each_head_is_refused(labels):
    with pytest.raises(InvalidInput, match="do not fit the heads"):
        ClusterHeads(4, (2, 5)).targets(None if labels is None else tf.constant(labels))
