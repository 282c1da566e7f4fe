"""Optimizers against the papers' equations, schedules at their corners."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.errors import InvalidInput
from advss_tf.training import SGD, AdamW, Piecewise, cosine
from advss_tf.training.strategy import get_strategy


def two_steps(optimizer, kernel, bias, gradients):
    variables = [keras.Variable(np.float32(start), name=name) for name, start in (("kernel", kernel), ("bias", bias))]
    for gradient in gradients:
        optimizer.apply([tf.constant(part, tf.float32) for part in gradient], variables)
    return [variable.numpy() for variable in variables]


@pytest.mark.parametrize("decay", ["kernels", "all"])
@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_decays_in_the_gradient_as_the_papers_code(decay, nesterov):
    """v = m v + (g + wd w); w = w - lr v, and with Nesterov w = w - lr (g + wd w + m v)."""
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(2, 3)), rng.normal(size=3)
    gradients = [(rng.normal(size=(2, 3)), rng.normal(size=3)) for _ in range(2)]
    expected = []
    for index, start in enumerate((kernel, bias)):
        weight, velocity = start.copy(), np.zeros_like(start)
        strength = 0.1 if index == 0 or decay == "all" else 0.0
        for gradient in gradients:
            total = gradient[index] + strength * weight
            velocity = 0.9 * velocity + total
            weight = weight - 0.5 * (total + 0.9 * velocity if nesterov else velocity)
        expected.append(weight)
    optimizer = SGD(0.5, momentum=0.9, nesterov=nesterov, weight_decay=0.1, decay=decay)
    for ours, theirs in zip(two_steps(optimizer, kernel, bias, gradients), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_adamw_spares_vectors_unless_all_decay():
    zero = [(np.zeros((1, 1)), np.zeros(1))]
    kernel, bias = two_steps(AdamW(0.1, weight_decay=0.5), np.ones((1, 1)), np.ones(1), zero)
    np.testing.assert_allclose([kernel[0, 0], bias[0]], [0.95, 1.0], rtol=1e-6)
    _, bias = two_steps(AdamW(0.1, weight_decay=0.5, decay="all"), np.ones((1, 1)), np.ones(1), zero)
    np.testing.assert_allclose(bias, 0.95, rtol=1e-6)


def test_clip_norm_is_of_the_global_gradient():
    """A gradient (3, 4) has norm 5; clipped to 1 it is (0.6, 0.8)."""
    optimizer = SGD(1.0, clip_norm=1.0)
    kernel, bias = two_steps(optimizer, np.zeros((1, 1)), np.zeros(1), [(np.full((1, 1), 3.0), np.full(1, 4.0))])
    np.testing.assert_allclose([kernel[0, 0], bias[0]], [-0.6, -0.8], rtol=1e-5)


def test_clip_norm_on_two_replicas_is_that_of_the_sum():
    strategy = get_strategy("mirrored")
    with strategy.scope():
        optimizer, weight = SGD(1.0, clip_norm=1.0), keras.Variable(np.zeros((1, 2), np.float32))
        optimizer.build([weight])
    gradients = tf.constant([[3.0, 0.0], [0.0, 4.0]])

    @tf.function
    def step():
        strategy.run(
            lambda: optimizer.apply(
                [gradients[tf.distribute.get_replica_context().replica_id_in_sync_group][None]], [weight]
            )
        )

    step()
    np.testing.assert_allclose(weight.numpy(), [[-0.6, -0.8]], rtol=1e-5)


def test_piecewise_at_its_corners():
    schedule = Piecewise(1.0, boundaries=[10, 20], factor=0.1, warmup_steps=4)
    values = [float(schedule(step)) for step in (0, 3, 4, 9, 10, 19, 20, 100)]
    np.testing.assert_allclose(values, [0.2, 0.8, 1.0, 1.0, 0.1, 0.1, 0.01, 0.01], rtol=1e-5)


def test_cosine_at_its_corners():
    schedule = cosine(0.4, num_steps=110, warmup_steps=10, final_learning_rate=0.1)
    values = [float(schedule(step)) for step in (0, 5, 10, 60, 110, 500)]
    np.testing.assert_allclose(values, [0.0, 0.2, 0.4, 0.25, 0.1, 0.1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("make", [lambda: SGD(0.1, decay="all", clip_norm=2.0, nesterov=True), lambda: AdamW(0.1)])
def test_an_optimizer_is_its_config(make):
    optimizer = make()
    copy = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert copy.get_config() == optimizer.get_config()


def test_impossible_settings_are_refused():
    with pytest.raises(InvalidInput, match="`decay` is not known"):
        SGD(0.1, decay="kernel")
    with pytest.raises(InvalidInput, match="`clip_norm` is not a norm"):
        SGD(0.1, clip_norm=0.0)
