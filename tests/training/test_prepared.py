"""Prepared models give their own numbers, with the weights of the moment at which they were prepared."""

from __future__ import annotations

from contextlib import contextmanager

import keras
import numpy as np
import tensorflow as tf

from advss_tf.encoders import norm_branch, resnet20
from advss_tf.training import RobustModel
from advss_tf.training.prepared import prepared


class Headless(RobustModel):
    """A robust model that gives its features, through the branch that surrounds the call."""

    def call(self, inputs, training=False):
        return self.encode(inputs, training=training, stream=self.delivered_branch or "clean")


def branched():
    encoder = resnet20((8, 8, 3), width=2, branches=("clean", "adversarial"))
    rng = np.random.default_rng(0)
    for variable in encoder.non_trainable_variables:
        if "moving_mean" in variable.path:
            variable.assign(rng.normal(size=variable.shape))
    return encoder


def overwrite(model):
    for variable in model.trainable_variables:
        variable.assign(tf.zeros_like(variable))


def test_a_functional_model_is_hoisted(tiny_encoder, tiny_images):
    expected = tiny_encoder(tiny_images).numpy()
    with prepared(tiny_encoder) as function:
        overwrite(tiny_encoder)
        np.testing.assert_allclose(function(tf.constant(tiny_images)), expected, atol=1e-5)


def test_a_robust_model_goes_through_the_branch_that_it_delivers_with_a_hoisted_encoder(tiny_images):
    encoder = branched()
    model = Headless(encoder, loss_weights={"loss": 1.0})
    with norm_branch("clean"):
        expected = encoder(tiny_images).numpy()
    with norm_branch("adversarial"):
        assert np.abs(encoder(tiny_images) - expected).max() > 0.01
        with prepared(model) as function:
            overwrite(encoder)
            np.testing.assert_allclose(function(tf.constant(tiny_images)), expected, atol=1e-4)
    assert np.abs(model(tiny_images) - expected).max() > 0.01


def test_two_models_are_prepared_one_inside_the_other(tiny_images):
    models = [Headless(branched(), loss_weights={"loss": 1.0}) for _ in range(2)]
    expected = [model(tiny_images).numpy() for model in models]
    with prepared(models[0]) as one, prepared(models[1]) as other:
        for model in models:
            overwrite(model.encoder)
        np.testing.assert_allclose(one(tf.constant(tiny_images)), expected[0], atol=1e-4)
        np.testing.assert_allclose(other(tf.constant(tiny_images)), expected[1], atol=1e-4)


def test_a_model_may_prepare_itself(tiny_images):
    class Own(keras.Model):
        @contextmanager
        def prepared(self):
            yield lambda images: images + 1.0

    with prepared(Own()) as function:
        np.testing.assert_array_equal(function(tiny_images), tiny_images + 1.0)
