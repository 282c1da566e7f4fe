"""What replicas agree on at the end of a step: two of them hold the mean of what each has found by itself."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.attacks import Linf, ProjectedGradientDescent
from advss_tf.encoders import BranchedBatchNormalization
from advss_tf.errors import InvalidInput
from advss_tf.finetune import RobustClassifier
from advss_tf.pretext import ACL, DynACL, SimCLR
from advss_tf.training.replicas import mean_statistics
from advss_tf.training.strategy import get_strategy

ATTACK = ProjectedGradientDescent(Linf(0.1), num_steps=1)
MIRRORED = get_strategy("mirrored")


class OwnNorm(keras.layers.BatchNormalization):
    """A batch norm of a user's own, which Keras' code computes."""


def on_each_replica(variable):
    return [part.numpy() for part in MIRRORED.experimental_local_results(variable.value)]


def moved_apart_and_met(model, norms):
    """What each replica holds of the statistics of `norms` that were 0 on the first and 1 on the second."""
    found = [variable for norm in norms for variable in norm.non_trainable_variables]

    @tf.function
    def step():
        own = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.float32)
        for variable in found:
            variable.assign(tf.fill(variable.shape, own))
        mean_statistics(model)

    MIRRORED.run(step)
    return {variable.path: [float(part.mean()) for part in on_each_replica(variable)] for variable in found}


def norms_of(model):
    return [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]


@pytest.mark.parametrize("norm", [keras.layers.BatchNormalization, OwnNorm, BranchedBatchNormalization])
def test_running_statistics_meet_at_their_mean(norm, two_stages):
    with MIRRORED.scope():
        encoder = two_stages(norm)
        model = RobustClassifier(encoder, 3, how="standard", eval_attack=None)
    found = moved_apart_and_met(model, norms_of(model))
    assert len(found) == 4 * (2 if norm is BranchedBatchNormalization else 1)
    assert all(values == [0.5, 0.5] for values in found.values()), found


def test_those_of_a_slow_encoder_meet_too(two_stages):
    with MIRRORED.scope():
        annealing = {"epochs": 3, "steps_per_epoch": 2, "period": 1}
        model = DynACL(two_stages(BranchedBatchNormalization), attack=ATTACK, annealing=annealing, projection=(8,))
    slow = norms_of(model.delivered_encoder)
    assert len(slow) == 4 and model.delivered_encoder is not model.encoder
    assert set(map(tuple, moved_apart_and_met(model, slow).values())) == {(0.5, 0.5)}


def test_frozen_layers_are_left_alone(two_stages):
    with MIRRORED.scope():
        model = RobustClassifier(two_stages(OwnNorm), 3, train="linear", how="standard", eval_attack=None)
    assert set(map(tuple, moved_apart_and_met(model, norms_of(model)).values())) == {(0.0, 1.0)}


def test_after_a_step_both_replicas_hold_the_mean_of_what_each_saw(two_stages, tiny_images, tiny_labels):
    """Each half of the batch goes through a copy of the network, by Keras' own batch norm."""
    expected = []
    for half in (tiny_images[:4], tiny_images[4:]):
        alone = two_stages(OwnNorm)
        alone(half, training=True)
        expected.append([variable.numpy() for variable in alone.non_trainable_variables])
    with MIRRORED.scope():
        model = RobustClassifier(two_stages(keras.layers.BatchNormalization), 3, how="standard", eval_attack=None)
        model.compile(keras.optimizers.SGD(0.1))
    model.fit(tiny_images, tiny_labels, batch_size=8, shuffle=False, verbose=0)
    assert len(expected[0]) == 4
    for variable, one, other in zip(model.encoder.non_trainable_variables, *expected, strict=True):
        first, second = on_each_replica(variable)
        np.testing.assert_array_equal(first, second)
        np.testing.assert_allclose(first, (one + other) / 2, rtol=1e-5, atol=1e-7)
        assert np.abs(one - other).max() > 1e-4


@pytest.mark.parametrize("method", ["simclr", pytest.param("acl", marks=pytest.mark.slow)])
def test_with_synchronised_norms_two_replicas_learn_what_one_does(method, two_stages, tiny_images):
    """Weights are about 0.1. With norms of their own replicas compare views that each has normalised otherwise."""

    def trained(strategy, **options):
        with strategy.scope():
            if method == "simclr":
                model = SimCLR(two_stages(functools.partial(keras.layers.BatchNormalization, **options)))
            else:  # the attack, which sees its replica's negatives alone, moves nothing that counts
                norm = functools.partial(BranchedBatchNormalization, **options)
                model = ACL(two_stages(norm), attack=ProjectedGradientDescent(Linf(1e-8), num_steps=1))
            model.compile(optimizer=keras.optimizers.SGD(0.1))
        model.fit(tf.data.Dataset.from_tensor_slices(tiny_images).batch(8).repeat(3), verbose=0)
        return model

    one, two = (trained(where, synchronized=True) for where in (tf.distribute.get_strategy(), MIRRORED))
    assert all(norm.synchronized for norm in norms_of(one.projector))
    for ours, theirs in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    apart = trained(MIRRORED)
    assert not any(norm.synchronized for norm in norms_of(apart.projector))
    differences = [np.abs(a - b).max() for a, b in zip(one.get_weights(), apart.get_weights(), strict=True)]
    assert max(differences) > 1e-3


def test_replicas_that_would_meet_inside_a_loop_are_refused(two_stages, tiny_images, tiny_labels):
    norm = functools.partial(keras.layers.BatchNormalization, synchronized=True)
    attack = ProjectedGradientDescent(Linf(0.1), num_steps=1, batch_norm="training")

    def fit(*, parts=1, attack=ATTACK, **options):
        model = RobustClassifier(two_stages(norm), 3, attack=attack, **options)
        model.micro_batches, model.micro_batch_norm = parts, "per_part"
        model.compile(optimizer="sgd")
        return model.fit(tiny_images, tiny_labels, batch_size=8, verbose=0).history["loss"]

    with pytest.raises(InvalidInput, match=r"meet inside a loop.*Received: attack in training mode\."):
        fit(attack=attack)
    with pytest.raises(InvalidInput, match=r"Received: eval_attack in training mode, micro_batches=2\."):
        fit(eval_attack=attack, parts=2)
    assert np.isfinite(fit()) and np.isfinite(fit(attack=attack, parts=2, train="linear"))


def test_one_replica_has_nothing_to_agree_on(two_stages):
    model = RobustClassifier(two_stages(OwnNorm), 3, how="standard", eval_attack=None)
    graph = tf.function(lambda: mean_statistics(model)).get_concrete_function().graph
    assert not graph.get_operations()


def test_an_overflow_on_the_second_replica_is_skipped_by_both(tiny_images, tiny_labels):
    def data(weight_of_fifth):
        """A batch whose fifth image is the first of the second replica."""
        weights = np.ones(8, np.float32)
        weights[4] = weight_of_fifth
        return tf.data.Dataset.from_tensor_slices((tiny_images, tiny_labels, weights)).batch(8)

    keras.config.set_dtype_policy("mixed_float16")
    try:
        with MIRRORED.scope():
            encoder = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()])
            model = RobustClassifier(encoder, 3, how="standard", eval_attack=None)
            model.compile(keras.optimizers.SGD(0.1))
    finally:
        keras.config.set_dtype_policy("float32")
    optimizer = model.optimizer
    assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    before, scale = model.get_weights(), optimizer.initial_scale
    model.fit(data(np.inf), verbose=0)
    for variable, old in zip(model.weights, before, strict=True):
        for held in on_each_replica(variable):
            np.testing.assert_array_equal(held, old)
    assert on_each_replica(optimizer.dynamic_scale) == [scale / 2, scale / 2]
    assert optimizer.iterations.numpy() == 0
    model.fit(data(1.0), verbose=0)
    assert optimizer.iterations.numpy() == 1 and np.abs(model.get_weights()[0] - before[0]).max() > 0
    first, second = on_each_replica(model.trainable_variables[0])
    np.testing.assert_array_equal(first, second)
