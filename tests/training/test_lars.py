"""LARS against its equation over several steps, at its corners, and on two replicas."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.errors import InvalidInput
from advss_tf.training import LARS, cosine
from advss_tf.training.strategy import get_strategy

RNG = np.random.default_rng(0)
STARTS = {"kernel": RNG.normal(size=(3, 2)), "bias": RNG.normal(size=2), "zeros": np.zeros((2, 2))}
GRADIENTS = [{name: RNG.normal(size=start.shape) for name, start in STARTS.items()} for _ in range(5)]


def stepped(optimizer, starts=STARTS, gradients=GRADIENTS):
    variables = [keras.Variable(np.float32(start), name=name) for name, start in starts.items()]
    for each in gradients:
        optimizer.apply([tf.constant(each[name], tf.float32) for name in starts], variables)
    return {name: variable.numpy() for name, variable in zip(starts, variables, strict=True)}


def reference(rate, momentum, decay, trust, *, decays, adapts, nesterov=False):
    """You et al. 2017, algorithm 1, in float64; Nesterov's variant goes `momentum · v` further."""
    found = {}
    for name, start in STARTS.items():
        weight, velocity = start.copy(), np.zeros_like(start)
        strength = decay if name in decays else 0.0
        for gradients in GRADIENTS:
            gradient, ratio = gradients[name], 1.0
            length = np.linalg.norm(weight)
            if name in adapts and length > 0:
                ratio = trust * length / (np.linalg.norm(gradient) + strength * length)
            step = rate * ratio * (gradient + strength * weight)
            velocity = momentum * velocity + step
            weight = weight - (momentum * velocity + step if nesterov else velocity)
        found[name] = weight
    return found


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay", ["kernels", "all"])
@pytest.mark.parametrize("adapt", ["kernels", "all"])
def test_it_is_the_algorithm_over_five_steps(adapt, decay, nesterov):
    names = {"kernels": {"kernel", "zeros"}, "all": set(STARTS)}
    expected = reference(0.5, 0.9, 0.1, 0.02, decays=names[decay], adapts=names[adapt], nesterov=nesterov)
    optimizer = LARS(0.5, weight_decay=0.1, decay=decay, adapt=adapt, trust_coefficient=0.02, nesterov=nesterov)
    found = stepped(optimizer)
    for name in STARTS:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_one_step_by_hand():
    """|w| = 5, |g| = 10, decay 0.1: ratio 0.001 · 5 / (10 + 0.5) at rate 2, times g + 0.1 w = (6.3, 8.4)."""
    starts, gradients = {"kernel": np.array([[3.0, 4.0]])}, [{"kernel": np.array([[6.0, 8.0]])}]
    found = stepped(LARS(2.0, weight_decay=0.1), starts, gradients)["kernel"]
    np.testing.assert_allclose(found, [[3.0 - 0.01 / 10.5 * 6.3, 4.0 - 0.01 / 10.5 * 8.4]], rtol=1e-6)


def test_the_length_of_a_kernel_s_gradient_does_not_matter_and_a_bias_takes_the_plain_step():
    longer = [{name: 1000.0 * gradient for name, gradient in each.items()} for each in GRADIENTS[:1]]
    once, again = stepped(LARS(0.1), gradients=GRADIENTS[:1]), stepped(LARS(0.1), gradients=longer)
    np.testing.assert_allclose(once["kernel"], again["kernel"], rtol=1e-5)
    np.testing.assert_allclose(once["bias"], STARTS["bias"] - 0.1 * GRADIENTS[0]["bias"], rtol=1e-5)


def test_no_gradient_is_no_step_and_no_nan():
    still = [{name: np.zeros_like(start) for name, start in STARTS.items()}] * 2
    for name, weight in stepped(LARS(1.0), gradients=still).items():
        np.testing.assert_allclose(weight, STARTS[name], rtol=1e-6)


def test_the_norm_is_that_of_the_sum_over_replicas():
    """Gradients (3, 0) and (0, 4) on a weight of length 2: ratio 0.001 · 2 / 5."""
    strategy = get_strategy("mirrored")
    with strategy.scope():
        optimizer, weight = LARS(1.0), keras.Variable(np.array([[2.0, 0.0]], np.float32))
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
    np.testing.assert_allclose(weight.numpy() - [[2.0, 0.0]], [[-0.0004 * 3, -0.0004 * 4]], rtol=1e-3)


def test_a_schedule_and_a_moving_average_work_as_with_sgd():
    optimizer = LARS(cosine(1.0, num_steps=10, warmup_steps=2), use_ema=True, ema_momentum=0.5)
    found = stepped(optimizer, gradients=GRADIENTS[:1])
    for name, start in STARTS.items():
        np.testing.assert_allclose(found[name], start, rtol=1e-6)  # the rate of the first step is 0
    assert len(optimizer._model_variables_moving_average) == len(STARTS)


def test_xla_takes_the_same_steps():
    optimizer = LARS(0.5, weight_decay=0.1)
    variables = [keras.Variable(np.float32(start)) for start in STARTS.values()]
    optimizer.build(variables)
    step = tf.function(lambda gradients: optimizer.apply(gradients, variables), jit_compile=True)
    for each in GRADIENTS:
        step([tf.constant(each[name], tf.float32) for name in STARTS])
    for name, variable in zip(STARTS, variables, strict=True):
        np.testing.assert_allclose(variable.numpy(), stepped(LARS(0.5, weight_decay=0.1))[name], rtol=1e-5, atol=1e-6)


def test_it_is_its_config():
    optimizer = LARS(0.1, trust_coefficient=0.01, adapt="all", decay="all", clip_norm=2.0, weight_decay=1e-6)
    copy = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(copy) is LARS and copy.get_config() == optimizer.get_config()


def test_impossible_settings_are_refused():
    with pytest.raises(InvalidInput, match="`adapt` is not known"):
        LARS(0.1, adapt="kernel")
    with pytest.raises(InvalidInput, match=r"`trust_coefficient` is out of range. Expected: a number > 0"):
        LARS(0.1, trust_coefficient=0.0)
