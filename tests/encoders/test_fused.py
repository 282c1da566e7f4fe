"""An encoder in training mode with fused batch norm: the numbers of Keras, first and second derivatives included."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.encoders import build_encoder, fused, norm_branch

IMAGES = np.random.default_rng(0).random((6, 8, 8, 3), dtype=np.float32)


def _twins(make):
    one, other = make(), make()
    other.set_weights(one.get_weights())
    return one, other


def _network(norm=None, **options):
    source = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, kernel_initializer=keras.initializers.GlorotUniform(seed=1))(source)
    x = (norm or keras.layers.BatchNormalization)(**options)(x)
    return keras.Model(source, keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x)))


def _counted(monkeypatch):
    """How often Keras' own batch norm is called."""
    calls, call = [], keras.layers.BatchNormalization.call

    def counting(self, inputs, training=None, mask=None):
        calls.append(self.name)
        return call(self, inputs, training=training, mask=mask)

    monkeypatch.setattr(keras.layers.BatchNormalization, "call", counting)
    return calls


@pytest.mark.parametrize("options", [{}, {"center": False}, {"scale": False}, {"momentum": 0.5, "epsilon": 0.1}])
def test_outputs_and_running_statistics_are_those_of_keras(options):
    one, other = _twins(lambda: _network(**options))
    np.testing.assert_allclose(fused(other)(IMAGES), one(IMAGES, training=True), atol=1e-5)
    for mine, theirs in zip(other.get_weights(), one.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


def test_running_statistics_by_hand():
    """Two pixels 1 and 3: mean 2, variance 1 (not the unbiased 2); momentum 0.9 keeps 0.9 of (0, 1)."""
    source = keras.Input((1, 1, 1))
    model = keras.Model(source, keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(source))
    outputs = fused(model)(np.float32([[[[1]]], [[[3]]]]))
    np.testing.assert_allclose(outputs.numpy().ravel(), [-1, 1], atol=1e-4)
    *_, mean, variance = model.get_weights()
    np.testing.assert_allclose([mean[0], variance[0]], [0.2, 1.0], atol=1e-6)


def test_gradients_are_those_of_keras():
    one, other = _twins(lambda: build_encoder("resnet20", (8, 8, 3), width=4))

    def gradients(model, call):
        images = tf.constant(IMAGES)
        with tf.GradientTape() as tape:
            tape.watch(images)
            loss = tf.reduce_sum(call(images) ** 2)
        return tape.gradient(loss, [images, *(variable.value for variable in model.trainable_variables)])

    mine = gradients(other, fused(other))
    for got, expected in zip(mine, gradients(one, lambda x: one(x, training=True)), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-4 * max(1.0, float(tf.reduce_max(tf.abs(expected)))))


def test_second_derivatives_are_those_of_the_formula():
    """Not those of Keras: `tf.nn.moments` stops the gradient at the mean, which is right for first derivatives only."""
    rng = np.random.default_rng(1)
    source = keras.Input((3, 3, 2))
    model = keras.Model(source, keras.layers.BatchNormalization(epsilon=1e-3)(source))
    images, weights = rng.normal(size=(4, 3, 3, 2)), rng.normal(size=(4, 3, 3, 2))

    def formula(x):
        mean = tf.reduce_mean(x, (0, 1, 2))
        variance = tf.reduce_mean((x - mean) ** 2, (0, 1, 2))
        return (x - mean) / tf.sqrt(variance + 1e-3)

    def second(call, dtype):
        x, direction = tf.constant(images, dtype), tf.constant(weights, dtype)
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                loss = tf.reduce_sum(tf.sin(call(x)) * direction)
            steepness = tf.reduce_sum(inner.gradient(loss, x) ** 2)
        return outer.gradient(steepness, x)

    np.testing.assert_allclose(second(fused(model), "float32"), second(formula, "float64"), rtol=1e-3, atol=1e-4)


def test_the_chosen_branch_alone_moves():
    one, other = _twins(lambda: build_encoder("resnet20", (8, 8, 3), width=4, branches=("clean", "adversarial")))
    before = {variable.path: variable.numpy() for variable in other.variables}
    with norm_branch("adversarial"):
        np.testing.assert_allclose(fused(other)(IMAGES), one(IMAGES, training=True), atol=1e-5)
    moved = {path for variable in other.variables if not np.array_equal(before[path := variable.path], variable)}
    assert moved and all("/adversarial/moving" in path for path in moved)


def test_a_network_is_fused_throughout(monkeypatch):
    encoder = build_encoder("resnet18", (8, 8, 3), width=4)
    calls = _counted(monkeypatch)
    nested = keras.Sequential([keras.Input((8, 8, 3)), encoder, keras.layers.Dense(2)])
    assert fused(nested)(IMAGES).shape == (6, 2) and calls == []


class _Other(keras.layers.BatchNormalization):
    def call(self, inputs, training=None):
        return super().call(inputs, training=training) + 1.0


@pytest.mark.parametrize("norm, options", [(None, {"synchronized": True}), (None, {"axis": 1}), (_Other, {})])
def test_what_is_not_plain_batch_norm_is_left_to_keras(norm, options, monkeypatch):
    one, other = _twins(lambda: _network(norm, **options))
    calls = _counted(monkeypatch)
    np.testing.assert_allclose(fused(other)(IMAGES), one(IMAGES, training=True), atol=1e-6)
    assert len(calls) == 2


def test_a_frozen_layer_uses_and_keeps_its_running_statistics():
    one, other = _twins(_network)
    one.layers[2].trainable = other.layers[2].trainable = False
    before = other.get_weights()
    np.testing.assert_allclose(fused(other)(IMAGES), one(IMAGES, training=True), atol=1e-6)
    for old, new in zip(before, other.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_model_with_a_call_of_its_own_is_called():
    class Doubled(keras.Model):
        def call(self, images, training=False):
            return 2.0 * images if training else images

    np.testing.assert_array_equal(fused(Doubled())(IMAGES), 2.0 * IMAGES)


def test_mixed_precision_keeps_statistics_in_float32():
    one, other = _twins(lambda: _network(dtype="mixed_bfloat16"))
    got, expected = fused(other)(IMAGES), one(IMAGES, training=True)
    np.testing.assert_allclose(tf.cast(got, tf.float32), tf.cast(expected, tf.float32), atol=0.03)
    np.testing.assert_allclose(other.layers[2].moving_mean, one.layers[2].moving_mean, atol=1e-3)
    assert other.layers[2].moving_mean.dtype == "float32"
