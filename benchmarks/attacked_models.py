"""The networks that are attacked: trained here in under a minute, always in the same way, on handwritten digits.

Synopsis:

    subject = digits_resnet("small")            # ResNet-20, width 16, digits drawn at 32 x 32 x 3
    subject = digits_cnn("small")               # two convolutions, the digits as they are, 8 x 8 x 1
    subject.model, subject.images, subject.labels           # a Keras model to logits, and the test images

Both learn on attacked images, so that an attack neither fools them everywhere nor nowhere. Under the name "tiny" they
are not trained at all: that only shows that a row runs.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

import advss_tf as advss
from benchmarks.contestants import EPSILON, NETWORKS, NUM_CLASSES

# `digits_cnn` learns in the first ball, and is attacked in the others: there, about half of the images are robust.
_LEARNING_RADIUS = 0.1
DIGITS_RADII = {"linf": 0.15, "l2": 0.7}


class Subject(NamedTuple):
    """A Keras model from images to logits, test images `(n, h, w, c)` float32 in [0, 1] and their labels `(n,)`."""

    model: keras.Model
    images: np.ndarray
    labels: np.ndarray

    def first(self, count: int | None) -> Subject:
        """The same with the first `count` images."""
        return self._replace(images=self.images[:count], labels=self.labels[:count])

    def copied(self) -> Subject:
        """The same with another model of the same weights, which nothing has been compiled for."""
        model = keras.models.clone_model(self.model)
        model.set_weights(self.model.get_weights())
        return self._replace(model=model)


@functools.cache
def digits_resnet(name: str, *, epochs: int = 5) -> Subject:
    """The network `name` of `NETWORKS`, trained with the fast gradient sign method at the radius 8/255."""
    network, data = NETWORKS[name], advss.load_data("digits")
    attack = advss.FastGradient(advss.Linf(EPSILON), random_start=True)
    classifier = advss.RobustClassifier(network.encoder(), NUM_CLASSES, how="adversarial", attack=attack)
    batches = data.train(batch_size=64, augment=False)
    larger = batches.map(lambda images, labels: (_drawn_larger(images, network.size), labels))
    _train(classifier, larger, epochs=_epochs(name, epochs))
    images, labels = _arrays(data.test(batch_size=64))
    return Subject(_functional(classifier), _drawn_larger(images, network.size).numpy(), labels)


@functools.cache
def digits_cnn(name: str, *, epochs: int = 15) -> Subject:
    """Two convolutions of 16 and 32 filters and a linear layer, trained with five steps at the radius 0.1."""
    data = advss.load_data("digits")
    attack = advss.ProjectedGradientDescent(advss.Linf(_LEARNING_RADIUS), num_steps=5)
    classifier = advss.RobustClassifier(_convolutions(data.image_shape), NUM_CLASSES, how="adversarial", attack=attack)
    _train(classifier, data.train(batch_size=64, augment=False), epochs=_epochs(name, epochs))
    return Subject(_functional(classifier), *_arrays(data.test(batch_size=64)))


def cnn_weights(model: keras.Model) -> dict[str, np.ndarray]:
    """The weights of `digits_cnn` by name: kernels `(3, 3, in, out)`, biases, and the linear layer `(in, out)`."""
    names = ("kernel1", "bias1", "kernel2", "bias2", "kernel3", "bias3")
    return dict(zip(names, (weight.numpy() for weight in model.weights), strict=True))


def _epochs(name: str, epochs: int) -> int:
    return 0 if name == "tiny" else epochs


def _convolutions(image_shape: tuple[int, ...]) -> keras.Model:
    def convolution(filters: int) -> keras.layers.Layer:
        start = keras.initializers.GlorotUniform(seed=filters)
        return keras.layers.Conv2D(filters, 3, padding="same", activation="relu", kernel_initializer=start)

    images = keras.Input(image_shape)
    return keras.Model(images, keras.layers.Flatten()(convolution(32)(convolution(16)(images))), name="convolutions")


def _train(classifier: keras.Model, batches: tf.data.Dataset, *, epochs: int) -> None:
    classifier.compile(advss.SGD(0.05))
    if epochs:
        classifier.fit(batches, epochs=epochs, verbose=0)


def _functional(classifier: keras.Model) -> keras.Model:
    """The classifier as a plain Keras model, which is what any library attacks."""
    encoder = classifier.encoder
    return keras.Model(encoder.inputs[0], classifier.head(encoder.outputs[0]), name=encoder.name)


def _arrays(batches: tf.data.Dataset) -> tuple[np.ndarray, np.ndarray]:
    images, labels = zip(*batches.as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels).astype(np.int64)


def _drawn_larger(images: np.ndarray | tf.Tensor, size: int) -> tf.Tensor:
    larger = tf.image.resize(images, (size, size), method="bilinear")
    return tf.repeat(tf.clip_by_value(larger, 0.0, 1.0), 3, axis=-1)
