"""What several attacks are tested on: a small network, a wavy margin, and the size of a perturbation."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf


@pytest.fixture
def network(tiny_encoder):
    """Three logits from the tiny encoder."""
    logits = keras.layers.Dense(3, kernel_initializer=keras.initializers.GlorotUniform(seed=4))(tiny_encoder.output)
    return keras.Model(tiny_encoder.input, logits)


@pytest.fixture(scope="session")
def size():
    """`size(threat, perturbation)`: the norm of each row, in NumPy."""

    def norm(threat, perturbation):
        flat = np.reshape(perturbation, (len(perturbation), -1))
        return np.abs(flat).max(1) if threat.norm == "linf" else np.linalg.norm(flat, axis=1)

    return norm


class Wavy:
    """Six images, and a margin that is not linear: a sum over pixels of weighted sines, and a bias."""

    @staticmethod
    def pictures(*shape):
        return np.random.default_rng(1).random((6, *(shape or (8, 8, 3))), dtype=np.float32)

    @staticmethod
    def waves(images, module=np):
        weights = np.random.default_rng(2).normal(size=images.shape[1:]).astype(np.float32)
        return module.sin(3 * images) * weights

    def margin_of(self, bias=0.0):
        """The closure that the attack raises."""
        return lambda inputs: tf.reduce_sum(self.waves(inputs["images"], tf), [1, 2, 3]) + bias

    def clean_margin(self, images):
        """The margin without a bias, in NumPy."""
        return np.sum(self.waves(images), axis=(1, 2, 3))

    def hard_and_easy(self, images, reach):
        """Biases with which the first image is fooled as it is, the next sooner or later, and the last never."""
        return (np.array([0.5, -0.1, -0.4, -0.8, -1.6, -30]) * reach - self.clean_margin(images)).astype(np.float32)


@pytest.fixture(scope="session")
def wavy():
    return Wavy()
