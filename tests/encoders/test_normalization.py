"""Branches of batch norm: which one is used, that others stay, and the reduction to one."""

from __future__ import annotations

import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.encoders import (
    BranchedBatchNormalization,
    branches,
    current_branch,
    norm_branch,
    single_branch,
    wide_resnet,
)
from advss_tf.encoders.normalization import in_current_branch
from advss_tf.errors import InvalidInput


def randomise(model: keras.Model, seed: int = 0) -> keras.Model:
    """Every variable gets values of its own, variances and gammas around one."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        center = 1.0 if variable.path.endswith(("gamma", "moving_variance")) else 0.0
        variable.assign(center + rng.uniform(-0.4, 0.4, variable.shape))
    return model


@pytest.fixture
def encoder() -> keras.Model:
    return randomise(wide_resnet((8, 8, 3), depth=10, width=1, branches=("clean", "adversarial")))


@pytest.fixture
def layer() -> BranchedBatchNormalization:
    """Branch `clean` multiplies by 1, `adversarial` by 2, `other` by 3 (in inference mode, up to epsilon)."""
    layer = BranchedBatchNormalization(("clean", "adversarial", "other"), name="norm")
    layer.build((None, 4))
    for factor, branch in enumerate(layer.branches, start=1):
        layer.norm(branch).gamma.assign(np.full(4, factor, np.float32))
    return layer


def factor_of(layer: BranchedBatchNormalization) -> float:
    return round(float(layer(tf.ones((1, 4)))[0, 0]), 3)


def test_outside_of_every_context_the_first_branch_is_used(layer):
    assert current_branch() is None
    assert factor_of(layer) == 1


def test_contexts_nest_and_are_restored_by_errors_too(layer):
    with norm_branch("adversarial"):
        assert factor_of(layer) == 2
        with pytest.raises(RuntimeError), norm_branch("other"):
            assert factor_of(layer) == 3
            raise RuntimeError
        assert (factor_of(layer), current_branch()) == (2, "adversarial")
        with norm_branch(None):
            assert factor_of(layer) == 1
    assert (factor_of(layer), current_branch()) == (1, None)


def test_a_function_is_bound_to_the_branch_that_is_chosen_then(layer):
    with norm_branch("other"):
        bound = in_current_branch(lambda inputs: round(float(layer(inputs)[0, 0]), 3))
    with norm_branch("adversarial"):
        assert bound(tf.ones((1, 4))) == 3 and factor_of(layer) == 2


def test_a_branch_that_a_layer_lacks_is_refused_when_the_layer_is_called(layer):
    with (
        norm_branch("adversarail"),
        pytest.raises(InvalidInput, match=r"layer 'norm'.*'clean', 'adversarial', 'other'.*branch='adversarail'"),
    ):
        layer(tf.ones((1, 4)))
    model = keras.Sequential([keras.Input((4,)), layer])
    with norm_branch("dirty"), pytest.raises(InvalidInput, match=r"layer 'norm'.*branch='dirty'"):
        model(tf.ones((1, 4)))


@pytest.mark.parametrize("names", [(), ("a", "a"), "clean", ("a/b",), ("",), (1,)])
def test_branches_must_be_distinct_words(names):
    with pytest.raises(InvalidInput, match=r"`branches` must name each branch once"):
        BranchedBatchNormalization(names)


def test_the_chosen_branch_normalises_as_plain_batch_norm_does(layer):
    x = np.random.default_rng(0).normal(2, 3, (16, 4)).astype(np.float32)
    with norm_branch("adversarial"):
        y = layer(x, training=True)
    np.testing.assert_allclose(y, 2 * (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer.norm("adversarial").moving_mean, 0.1 * x.mean(0), rtol=1e-4)
    np.testing.assert_allclose(layer.norm("adversarial").moving_variance, 0.9 + 0.1 * x.var(0), rtol=1e-4)


def test_statistics_and_gradients_of_other_branches_stay_untouched(encoder):
    before = {variable.path: keras.ops.convert_to_numpy(variable) for variable in encoder.variables}
    images = tf.random.stateless_uniform((4, 8, 8, 3), (0, 1))
    with tf.GradientTape() as tape, norm_branch("adversarial"):
        loss = tf.reduce_sum(encoder(images, training=True) ** 2)
    gradients = tape.gradient(loss, [variable.value for variable in encoder.trainable_variables])
    moved = {path for path, value in before.items() if np.any(value != encoder_variable(encoder, path))}
    used = {v.path for v, g in zip(encoder.trainable_variables, gradients, strict=True) if g is not None}
    statistics = {path for path in before if "/adversarial/moving_" in path}
    assert moved == statistics
    assert used == {v.path for v in encoder.trainable_variables if "/clean/" not in v.path}


def encoder_variable(encoder: keras.Model, path: str) -> np.ndarray:
    return keras.ops.convert_to_numpy(next(variable for variable in encoder.variables if variable.path == path))


def test_the_branch_is_chosen_when_a_function_is_traced_also_in_a_loop(layer):
    @tf.function
    def looped(x):
        with norm_branch("adversarial"):
            return tf.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, layer(x)), (0, x))[1]

    assert float(looped(tf.ones((1, 4)))[0, 0]) == pytest.approx(8, rel=1e-3)
    assert factor_of(layer) == 1


def test_the_branch_holds_in_the_threads_of_a_distribution_strategy():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        layer = BranchedBatchNormalization(("clean", "adversarial"), momentum=0.5)
        layer.build((None, 1))
    threads = []

    @tf.function
    def step():
        def replica():
            threads.append(threading.current_thread())
            with norm_branch("adversarial"):
                return layer(tf.constant([[1.0], [3.0]]), training=True)

        return strategy.run(replica)

    step()
    assert threads[0] is not threading.current_thread()
    assert float(layer.norm("adversarial").moving_mean.numpy()[0]) == 1.0
    assert float(layer.norm("clean").moving_mean.numpy()[0]) == 0.0


def test_the_layer_is_saved_and_loaded_with_all_its_options(tmp_path):
    options = {"axis": 1, "momentum": 0.7, "epsilon": 0.01, "center": False, "scale": False, "synchronized": True}
    layer = BranchedBatchNormalization(("a", "b"), name="norm", **options)
    config = layer.get_config()
    assert keras.saving.serialize_keras_object(layer)["registered_name"] == "advss_tf>BranchedBatchNormalization"
    assert BranchedBatchNormalization.from_config(config).get_config() == config
    assert {key: config[key] for key in options} == options
    model = randomise(keras.Sequential([keras.Input((3, 2)), layer]))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x = np.random.default_rng(0).normal(size=(2, 3, 2)).astype(np.float32)
    for branch in ("a", "b"):
        with norm_branch(branch):
            np.testing.assert_array_equal(loaded(x), model(x))


def test_a_frozen_layer_keeps_its_statistics(layer):
    layer.trainable = False
    layer(tf.random.stateless_normal((8, 4), (0, 1)), training=True)
    np.testing.assert_array_equal(layer.norm("clean").moving_mean, np.zeros(4))
    assert layer.trainable_weights == []


@pytest.mark.parametrize("branch", ["clean", "adversarial"])
@pytest.mark.parametrize("training", [False, True])
def test_a_single_branch_is_the_same_function_with_plain_batch_norm(encoder, branch, training):
    images = tf.random.stateless_uniform((4, 8, 8, 3), (0, 1))
    single = single_branch(encoder, branch)
    with norm_branch(branch):
        expected = encoder(images, training=training)
    np.testing.assert_array_equal(single(images, training=training), expected)
    assert branches(single) == ()
    plain = wide_resnet((8, 8, 3), depth=10, width=1)
    assert [variable.path for variable in single.variables] == [variable.path for variable in plain.variables]
    for layer in single.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            assert (layer.momentum, layer.epsilon) == (0.9, 1e-5)


def test_a_single_branch_has_weights_of_its_own(encoder):
    single = single_branch(encoder, "clean")
    images = np.ones((1, 8, 8, 3), np.float32)
    before = np.array(single(images))
    randomise(encoder, seed=1)
    np.testing.assert_array_equal(single(images), before)
    assert np.abs(encoder(images) - before).max() > 1e-3


def test_branches_are_read_from_all_layers():
    assert branches(wide_resnet((4, 4, 3), depth=10, width=1, branches=("a", "b", "c"))) == ("a", "b", "c")
    assert branches(wide_resnet((8, 8, 3), depth=10, width=1)) == ()
    x = images = keras.Input((2,))
    for names in (("a", "b"), ("b", "c")):
        x = BranchedBatchNormalization(names)(x)
    assert branches(keras.Model(images, x)) == ("b",)


def test_what_cannot_be_reduced_is_refused(encoder):
    with pytest.raises(InvalidInput, match=r"has no such batch-norm branch.*branch='dirty'"):
        single_branch(encoder, "dirty")
    with pytest.raises(InvalidInput, match=r"has no batch-norm branches to choose from"):
        single_branch(wide_resnet((8, 8, 3), depth=10, width=1), "clean")
    outer = keras.Sequential([keras.Input((8, 8, 3)), encoder])
    with pytest.raises(InvalidInput, match=r"inside another layer cannot be reduced.*'wide_resnet'"):
        single_branch(outer, "clean")

    class Subclassed(keras.Model):
        pass

    with pytest.raises(InvalidInput, match=r"Only a Functional or Sequential model.*Subclassed"):
        single_branch(Subclassed(), "clean")
