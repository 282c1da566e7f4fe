"""What the tests of contrastive methods share: networks, attacks, and the loss from its definition."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.attacks import Linf, ProjectedGradientDescent
from advss_tf.encoders import BranchedBatchNormalization

# What a trained batch norm might hold, of which no two norms hold the same.
NORM_VALUES = {"gamma": (0.5, 1.5), "beta": (-0.5, 0.5), "moving_mean": (-0.5, 0.5), "moving_variance": (0.5, 2.0)}


def _scatter(model, rng):
    for variable in model.variables:
        if variable.name in NORM_VALUES:
            variable.assign(rng.uniform(*NORM_VALUES[variable.name], variable.shape))
    return model


@pytest.fixture
def small_attack():
    """A maker of attacks of two steps within 0.1: `small_attack(batch_norm="training")`."""
    return functools.partial(ProjectedGradientDescent, Linf(0.1), num_steps=2)


@pytest.fixture
def branched(two_stages):
    """A maker of small networks, each of whose branches says something else: `branched("clean", "adversarial")`."""

    def make(*branches):
        network = two_stages(functools.partial(BranchedBatchNormalization, branches))
        return _scatter(network, np.random.default_rng(2))

    return make


@pytest.fixture
def scattered():
    """A function that has every batch norm of a model, in each branch, say something else: `scattered(model)`."""
    return lambda model: _scatter(model, np.random.default_rng(3))


@pytest.fixture
def one_norm():
    """A maker of networks of one batch norm of pixels, each with other values, and what they compute, in NumPy.

    `encoder, features = one_norm("clean", "adversarial")`, and `features(images, training=…, branch="clean")` is
    `(rows, 192)`; `one_norm()` has no branches.
    """
    rng = np.random.default_rng(4)

    def make(*branches):
        norm = BranchedBatchNormalization(branches) if branches else keras.layers.BatchNormalization()
        inputs = keras.Input((8, 8, 3))
        encoder = _scatter(keras.Model(inputs, keras.layers.Flatten(dtype="float32")(norm(inputs))), rng)

        def features(images, *, training, branch=None):
            gamma, beta, mean, variance = (norm.norm(branch) if branches else norm).get_weights()
            pixels = np.asarray(images, np.float64)
            if training:
                mean, variance = pixels.mean(axis=(0, 1, 2)), pixels.var(axis=(0, 1, 2))
            return ((pixels - mean) / np.sqrt(variance + norm.epsilon) * gamma + beta).reshape(len(pixels), -1)

        return encoder, features

    return make


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
