"""The features of many images: what a probe, a clustering or a plot reads of an encoder.

Synopsis:

    features, labels = features_of(encoder, data.test())            # (n, F) float32, (n,) int64
    features, _ = features_of(encoder, batches, branch="clean")     # through one of its batch-norm branches
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from advss_tf.encoders import branches, norm_branch
from advss_tf.errors import InvalidInput, one_of
from advss_tf.training.inference import encode


def features_of(
    encoder: keras.Model, batches: Iterable[Any], *, branch: str | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """The features of every image, in inference mode and in the order of the batches.

    Args:
        encoder: A Keras model images -> features.
        batches: Batches of images `(batch, height, width, channels)` in [0, 1], or of `(images, labels)`.
        branch: The batch-norm branch that is used, of an encoder that has branches; None for its first.

    Returns:
        `(n, F)` float32, and the labels `(n,)` int64, or None where the batches bring none.

    Raises:
        InvalidInput: if there is no batch, or the encoder has no such branch.
    """
    return collected(feature_function(encoder, branch=branch), batches)


def feature_function(encoder: keras.Model, *, branch: str | None = None) -> Callable[[tf.Tensor], tf.Tensor]:
    """The compiled function images -> features, float32, for what asks more than once: it is traced once.

    Raises:
        InvalidInput: if the encoder has no such branch.
    """
    if branch is not None:
        one_of("branch", branch, branches(encoder))

    # Weights are read when it runs, so what it returns is that of the encoder as it is now.
    @tf.function(reduce_retracing=True)
    def features(images: tf.Tensor) -> tf.Tensor:
        with norm_branch(branch):
            return tf.cast(encode(encoder, images, training=False), tf.float32)

    return features


def collected(
    features: Callable[[tf.Tensor], tf.Tensor], batches: Iterable[Any]
) -> tuple[np.ndarray, np.ndarray | None]:
    """What a `feature_function` gives for every image, with the labels; see `features_of`."""
    found: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    for batch in batches:
        images, own, _ = keras.utils.unpack_x_y_sample_weight(batch)
        found.append(features(tf.convert_to_tensor(images)).numpy())
        labels += [] if own is None else [np.asarray(own)]
    if not found:
        raise InvalidInput("There are no images.", expected="one batch or more", received="0 batches")
    if len(labels) < len(found):
        return np.concatenate(found), None
    return np.concatenate(found), np.concatenate(labels).astype(np.int64).reshape(-1)
