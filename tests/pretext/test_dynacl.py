"""DynACL: its schedules in the loss and in the views, and the slow encoder that follows and is handed over."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.encoders import load_encoder, norm_branch
from advss_tf.errors import InvalidInput
from advss_tf.pretext import ACL, DynACL
from advss_tf.serving import export_encoder
from advss_tf.training import Batch
from advss_tf.training.strategy import get_strategy

SEED = tf.constant([0, 0])
SCHEDULE = {"epochs": 4, "steps_per_epoch": 2, "period": 1, "growth": 0.5}
OPTIONS = {"annealing": SCHEDULE, "projection": (5,), "projection_norms": "none"}


def test_dynacl_weighs_by_the_epoch(two_stages, small_attack):
    model = DynACL(two_stages(), attack=small_attack(), annealing=SCHEDULE, projection=(5,))
    model.compile(optimizer=keras.optimizers.SGD(0.1))
    terms = {"clean_contrast": tf.constant([1.0]), "adversarial_contrast": tf.constant([10.0])}
    # The weight of epoch 1 of 4 is 1 + 0.5 * 1/4, of the last 1 + 0.5.
    for step, weight in ((0, 1.125), (2, 1.25), (7, 1.5)):
        model.optimizer.iterations.assign(step)
        np.testing.assert_allclose(model.total(terms), [(2 - weight) / 2 + 10 * weight / 2], rtol=1e-6)
    np.testing.assert_allclose([model.strength(step) for step in (0, 2, 7)], [1, 0.75, 0.25])


def test_annealed_views_weaken_inside_the_step_as_well(two_stages, small_attack, tiny_images):
    model = DynACL(
        two_stages(), attack=small_attack(), annealing={**SCHEDULE, "epochs": 100}, projection=(5,), flip=False
    )
    model.compile(optimizer=keras.optimizers.SGD(0.1))
    moved = []
    for step in (0, 199):
        model.optimizer.iterations.assign(step)
        view = model.pose(Batch(tf.constant(tiny_images)), SEED).inputs["first"]
        moved.append(np.abs(view - tiny_images).mean())
    assert moved[0] > 0.1 and moved[1] < 0.5 * moved[0]


def test_dynacl_without_schedules_is_refused(two_stages, small_attack):
    with pytest.raises(InvalidInput, match="ACL with schedules"):
        DynACL(two_stages(), attack=small_attack(), annealing=None)


def test_the_slow_encoder_follows_the_weights(branched, small_attack, views):
    model = DynACL(branched("clean", "adversarial"), attack=small_attack(), **OPTIONS, momentum=0.75)
    model.compile(optimizer=keras.optimizers.SGD(1.0))
    before = [[v.numpy() for v in network.trainable_variables] for network in model.slow]
    model.train_on_batch(views(2))
    for network, fast, old in zip(model.slow, (model.encoder, model.projector), before, strict=True):
        for slow, trained, start in zip(network.trainable_variables, fast.trainable_variables, old, strict=True):
            np.testing.assert_allclose(slow, 0.75 * start + 0.25 * trained.numpy(), atol=1e-6)
            assert np.abs(trained.numpy() - start).max() > 0
    assert len(model.trainable_variables) == len(model.encoder.trainable_variables) + 2


def test_the_second_view_is_seen_slowly_by_statistics_of_its_own(
    branched, scattered, small_attack, views, naive_nt_xent
):
    """In both pairs, each through its own branch of both encoders."""
    model = DynACL(branched("clean", "adversarial"), attack=small_attack(), **{**OPTIONS, "projection_norms": "all"})
    scattered(model)
    for variable in model.slow[0].trainable_variables:
        variable.assign(variable * 0.7 + 0.05)
    puzzle = model.pose(Batch(views(2)), SEED)
    moved = {name: view**2 for name, view in puzzle.inputs.items()}
    expected = {}
    for branch, pair in (("clean", puzzle.inputs), ("adversarial", moved)):
        with norm_branch(branch):
            z = [model.projector(model.encoder(pair["first"])), model.slow[1](model.slow[0](pair["second"]))]
        expected[branch] = naive_nt_xent(np.stack(z))
    terms = model.descend(moved, puzzle, training=False)
    np.testing.assert_allclose(terms["clean_contrast"], expected["clean"], rtol=1e-4)
    np.testing.assert_allclose(terms["adversarial_contrast"], expected["adversarial"], rtol=1e-4)
    climbed = model.climb(moved, puzzle, None, training=False)
    np.testing.assert_allclose(climbed, expected["adversarial"], rtol=1e-4)
    buffers = [v for v in model.slow[0].non_trainable_variables if "/clean/moving" in v.path]
    before = [v.numpy() for v in buffers]
    model.descend(puzzle.inputs, puzzle, training=True)
    assert all((v.numpy() != old).any() for v, old in zip(buffers, before, strict=True))


def test_the_attack_moves_the_view_that_is_seen_slowly_as_well(branched, scattered, small_attack, views):
    """From the images, so that what no gradient reaches stays; either view alone makes the loss higher."""
    attack = small_attack(random_start=False)
    model = scattered(DynACL(branched("clean", "adversarial"), attack=attack, **OPTIONS))
    puzzle = model.pose(Batch(views(2)), SEED)
    moved = model._attack(attack, model.climb, puzzle, SEED).inputs
    start = model.climb(puzzle.inputs, puzzle, None, training=False)
    for name in ("first", "second"):
        assert np.mean(np.abs(moved[name] - puzzle.inputs[name]) > 0.09) > 0.25
        climbed = model.climb({**puzzle.inputs, name: moved[name]}, puzzle, None, training=False)
        assert (climbed > start).numpy().all()


def test_the_slow_encoder_is_handed_over(branched, small_attack, views, tmp_path):
    model = DynACL(branched("clean", "adversarial"), attack=small_attack(), **OPTIONS, momentum=0.5)
    model.compile(optimizer=keras.optimizers.SGD(1.0))
    model.train_on_batch(views(2))
    images = views(1)[:, 0]
    handed = load_encoder(export_encoder(model, tmp_path / "encoder"))(images)
    with norm_branch("adversarial"):
        np.testing.assert_allclose(handed, model.slow[0](images), atol=1e-5)
        assert np.abs(handed - model.encoder(images)).max() > 1e-2
    np.testing.assert_allclose(model(images), model.slow[1](handed), atol=1e-4)


def test_on_two_replicas_the_slow_encoder_is_that_of_one(two_stages, small_attack, views):
    def trained(strategy):
        with strategy.scope():
            model = DynACL(two_stages(), attack=small_attack(num_steps=1), **OPTIONS, momentum=0.5)
            model.attack = None  # of which each replica sees its own negatives
            model.compile(optimizer=keras.optimizers.SGD(0.1))
        model.fit(tf.data.Dataset.from_tensor_slices(views(2)).batch(8).repeat(2), verbose=0)
        return [v.numpy() for network in model.slow for v in network.trainable_variables]

    for one, two in zip(trained(tf.distribute.get_strategy()), trained(get_strategy("mirrored")), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)


def test_without_momentum_it_is_acl_with_schedules(two_stages, small_attack, views):
    model = DynACL(two_stages(), attack=small_attack(), **OPTIONS, momentum=None)
    acl = ACL(two_stages(), attack=small_attack(), **{**OPTIONS, "annealing": None})
    assert model.slow == () and model.delivered_encoder is model.encoder
    for one, other in zip((model, acl), (acl, model), strict=True):
        puzzle = one.pose(Batch(views(2)), SEED)
        np.testing.assert_allclose(
            one.descend(puzzle.inputs, puzzle, training=False)["clean_contrast"],
            other.descend(puzzle.inputs, puzzle, training=False)["clean_contrast"],
            rtol=1e-5,
        )


@pytest.mark.parametrize("momentum", [-0.1, 1.0, float("nan")])
def test_a_momentum_out_of_range_is_refused(momentum, two_stages, small_attack):
    with pytest.raises(InvalidInput, match="momentum"):
        DynACL(two_stages(), attack=small_attack(), **OPTIONS, momentum=momentum)
