"""What the tests of contrastive methods share: networks, attacks, and the loss from its definition."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import tensorflow as tf

from advss_tf.attacks import Linf, ProjectedGradientDescent
from advss_tf.encoders import BranchedBatchNormalization


@pytest.fixture
def small_attack():
    """A maker of attacks of two steps within 0.1: `small_attack(batch_norm="training")`."""
    return functools.partial(ProjectedGradientDescent, Linf(0.1), num_steps=2)


@pytest.fixture
def branched(two_stages):
    """A maker of small networks with the branches that it is told: `branched("clean", "adversarial")`."""
    return lambda *branches: two_stages(functools.partial(BranchedBatchNormalization, branches))


@pytest.fixture
def views():
    """A maker of batches of random views, `(8, count, 8, 8, 3)` in [0, 1]."""
    return lambda count: tf.constant(np.random.default_rng(1).random((8, count, 8, 8, 3), np.float32))


@pytest.fixture
def naive_nt_xent():
    """NT-Xent of `(views, rows, E)` from its definition, one pair after the other: `(rows,)`."""

    def loss(embeddings, temperature=0.5, weights=None):
        z = np.asarray(embeddings, np.float64)
        z = z / np.linalg.norm(z, axis=-1, keepdims=True)
        count, rows, _ = z.shape
        found = np.zeros(rows)
        for b in range(rows):
            for a in range(count):
                others = [np.exp(z[a, b] @ z[v, c] / temperature) for v in range(count) for c in range(rows)
                          if (v, c) != (a, b)]  # fmt: skip
                for p in range(count):
                    if p != a:
                        weight = 1.0 if weights is None else weights[a, p]
                        found[b] -= weight * np.log(np.exp(z[a, b] @ z[p, b] / temperature) / np.sum(others))
        return found / (count * (count - 1))

    return loss
