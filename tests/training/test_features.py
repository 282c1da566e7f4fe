"""Features of many images: order, remainder, branches, labels, and what is refused."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.encoders import norm_branch, resnet20
from advss_tf.errors import InvalidInput
from advss_tf.training.features import collected, feature_function, features_of


@pytest.fixture
def encoder():
    keras.utils.set_random_seed(0)
    return resnet20((8, 8, 1), width=2, branches=("clean", "adversarial"))


@pytest.fixture
def images():
    return np.random.default_rng(0).random((10, 8, 8, 1), np.float32)


def test_every_image_once_in_order_with_the_remainder(encoder, images):
    batches = tf.data.Dataset.from_tensor_slices((images, np.arange(10))).batch(4)
    features, labels = features_of(encoder, batches)
    np.testing.assert_allclose(features, encoder(images, training=False), atol=1e-5)
    np.testing.assert_array_equal(labels, np.arange(10))
    assert labels.dtype == np.int64


def test_without_labels_there_are_none(encoder, images):
    features, labels = features_of(encoder, [images[:3], images[3:]])
    assert features.shape == (10, encoder.output_shape[1]) and labels is None


def test_the_branch_that_is_named_is_used(encoder, images):
    for layer in encoder.layers:
        if hasattr(layer, "branches"):
            layer.norms[1].moving_mean.assign_add(tf.ones_like(layer.norms[1].moving_mean))
    first, second = (features_of(encoder, [images], branch=branch)[0] for branch in ("clean", "adversarial"))
    assert np.abs(first - second).max() > 1e-3
    with norm_branch("adversarial"):
        np.testing.assert_allclose(second, encoder(images, training=False), atol=1e-5)


def test_no_batches_and_unknown_branches_are_refused(encoder, images):
    with pytest.raises(InvalidInput, match="no images"):
        features_of(encoder, [])
    with pytest.raises(InvalidInput, match="branch"):
        features_of(encoder, [images], branch="pseudo")


def test_a_function_is_traced_once_and_follows_the_weights(encoder, images):
    features = feature_function(encoder, branch="clean")
    first, _ = collected(features, [images])
    for variable in encoder.trainable_variables:
        variable.assign(2 * variable + 0.1)
    second, _ = collected(features, [images])
    np.testing.assert_allclose(second, features_of(encoder, [images], branch="clean")[0], rtol=1e-6)
    assert np.abs(first - second).max() > 1e-3 and features.experimental_get_tracing_count() == 1
