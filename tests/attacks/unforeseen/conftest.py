"""A small network, images and a climb for the attacks over distortions."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.losses import cross_entropy
from advss_tf.randomness import seed_each, seed_for


@pytest.fixture
def seeds():
    """One seed for each of sixteen images."""
    return seed_each(seed_for(0, 0, "attack"), tf.range(16))


@pytest.fixture
def images() -> np.ndarray:
    """Sixteen images in [0.1, 0.9], (16, 16, 16, 3) float32: smooth, and nowhere flat."""
    random = np.random.default_rng(1)
    smooth = tf.image.resize(random.uniform(0.2, 0.8, (16, 4, 4, 3)).astype(np.float32), (16, 16)).numpy()
    return smooth + random.uniform(-0.1, 0.1, smooth.shape).astype(np.float32)


@pytest.fixture
def climb():
    """The cross-entropy of a small network of seeded weights: its gradient turns from step to step."""

    def start(number):
        return keras.initializers.GlorotUniform(seed=number)

    pixels = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, activation="tanh", kernel_initializer=start(1))(4 * pixels - 2)
    x = keras.layers.Conv2D(8, 3, activation="tanh", kernel_initializer=start(2))(x)
    logits = keras.layers.Dense(4, kernel_initializer=start(3))(keras.layers.Flatten()(x))
    network = keras.Model(pixels, 3 * logits)
    labels = np.arange(16) % 4
    return lambda inputs: cross_entropy(network(inputs["images"]), labels)
