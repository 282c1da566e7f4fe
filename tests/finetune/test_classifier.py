"""The classifier: TRADES as its paper has it, frozen parts that stay, and settings that cannot be."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.attacks import Linf, ProjectedGradientDescent
from advss_tf.encoders import norm_branch
from advss_tf.errors import InvalidInput
from advss_tf.evaluation.models import Classifier
from advss_tf.finetune import RobustClassifier
from advss_tf.losses import kl_divergence
from advss_tf.training import Batch

ATTACK = ProjectedGradientDescent(Linf(0.1), num_steps=3)


def classifier(encoder, *, how="adversarial", **options):
    model = RobustClassifier(encoder, 3, how=how, attack=ATTACK, **options)
    model.compile(optimizer=keras.optimizers.SGD(0.1, momentum=0.9))
    return model


def test_trades_starts_its_kl_at_zero_and_climbs_it(tiny_encoder, tiny_images, tiny_labels):
    model = classifier(tiny_encoder, how="trades", beta=2.0)
    puzzle = model.pose(Batch(tf.constant(tiny_images), tf.constant(tiny_labels)), tf.constant([0, 0]))
    context = model.context(puzzle, training=False)
    np.testing.assert_allclose(model.climb(puzzle.inputs, puzzle, context, training=False), 0.0, atol=1e-6)
    attacked = ATTACK(lambda inputs: model.climb(inputs, puzzle, context, training=False), puzzle.inputs, [0, 1])
    terms = model.descend(attacked, puzzle, training=False)
    assert (terms["kl"] > 0).numpy().all()
    np.testing.assert_allclose(model.total(terms), terms["clean_loss"] + 2.0 * terms["kl"], rtol=1e-6)


def test_with_two_branches_trades_goes_through_both_and_is_measured_through_that_of_attacked_images(scattered_branches):
    encoder, images = scattered_branches(), tf.random.stateless_uniform((4, 8, 8, 3), [0, 0])
    model = classifier(encoder, how="trades")
    of_branch = {}
    for branch in ("clean", "adversarial"):
        with norm_branch(branch):
            of_branch[branch] = model.head(encoder(images, training=False))
    puzzle = model.pose(Batch(images, tf.constant([0, 1, 2, 0])), tf.constant([0, 0]))
    context = model.context(puzzle, training=False)
    np.testing.assert_allclose(context, of_branch["clean"], rtol=1e-4, atol=1e-5)
    kl = kl_divergence(of_branch["clean"], of_branch["adversarial"])
    np.testing.assert_allclose(model.climb(puzzle.inputs, puzzle, context, training=False), kl, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(model.descend(puzzle.inputs, puzzle, training=False)["kl"], kl, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(model(images), of_branch["adversarial"], rtol=1e-4, atol=1e-5)
    assert float(tf.reduce_min(kl)) > 1e-3


def test_only_what_is_asked_for_is_trained(tiny_encoder, tiny_images, tiny_labels):
    def changed(train):
        encoder = keras.models.clone_model(tiny_encoder)
        model = classifier(encoder, train=train)
        before = {variable.path: variable.numpy() for variable in model.encoder.variables}
        head = model.head.kernel.numpy()
        model.fit(tiny_images, tiny_labels, verbose=0)
        assert np.abs(model.head.kernel.numpy() - head).max() > 0
        return {v.path.split("/")[0] for v in encoder.variables if not np.array_equal(v.numpy(), before[v.path])}

    assert changed("linear") == set()
    assert changed("partial") == {"stage2_conv"}
    assert changed("full") == {"stem_conv", "stem_norm", "stage1_conv", "stage1_norm", "stage2_conv"}


def test_impossible_models_are_refused(tiny_encoder):
    weak = ProjectedGradientDescent(Linf(0.1), random_start=False)
    for make, words in (
        (lambda: RobustClassifier(tiny_encoder, 1, attack=ATTACK), "`num_classes` is too small"),
        (lambda: RobustClassifier(tiny_encoder, 3), "`attack` does not go with how='adversarial'"),
        (lambda: RobustClassifier(tiny_encoder, 3, how="standard", attack=ATTACK), "does not go with how='standard'"),
        (lambda: RobustClassifier(tiny_encoder, 3, how="trades", attack=weak), "it would never move"),
        (lambda: RobustClassifier(tiny_encoder, 3, train="head", attack=ATTACK), "`train` is not known"),
        (lambda: RobustClassifier(tiny_encoder, 3, train="partial", boundary="stage7", attack=ATTACK), "stage7"),
        (lambda: RobustClassifier(keras.layers.Dense(3), 3, attack=ATTACK), "`encoder` is not a model of images"),
        (lambda: RobustClassifier(tiny_encoder, 3, attack="pgd"), "`attack` is not an attack"),
    ):
        with pytest.raises(InvalidInput, match=re.escape(words)):
            make()


def test_a_classifier_without_labels_is_refused(tiny_encoder, tiny_images):
    with pytest.raises(InvalidInput, match="A classifier learns from labels"):
        classifier(tiny_encoder).fit(tiny_images, verbose=0)


def test_frozen_parts_run_in_inference_mode(tiny_encoder, tiny_images):
    """Batch norm of a frozen part normalises by its running statistics, in training too, and keeps them."""
    model = classifier(tiny_encoder, train="linear")
    before = model.encoder.get_weights()
    trained, served = (model.logits(tf.constant(tiny_images), training=training) for training in (True, False))
    np.testing.assert_allclose(trained, served, atol=1e-6)
    for one, other in zip(before, model.encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_evaluation_climbs_the_cross_entropy_whatever_training_climbs(tiny_encoder, tiny_images, tiny_labels):
    weak = ProjectedGradientDescent(Linf(0.1), num_steps=5, random_start=False)
    logs = []
    for how in ("trades", "adversarial"):
        model = RobustClassifier(tiny_encoder, 3, how=how, attack=ATTACK, eval_attack=weak)
        model.compile("sgd")
        logs.append(model.evaluate(tiny_images, tiny_labels, verbose=0, return_dict=True)["adversarial_loss"])
    assert logs[0] == pytest.approx(logs[1], rel=1e-5)


@pytest.mark.parametrize(
    "how, delivered", [("trades", "adversarial"), ("adversarial", "adversarial"), ("standard", "clean")]
)
def test_the_branch_that_was_trained_for_is_the_one_that_is_called_and_measured(
    how, delivered, scattered_branches, tiny_images, tiny_labels
):
    attack = None if how == "standard" else ATTACK
    eval_attack = ProjectedGradientDescent(Linf(0.1), num_steps=1, random_start=False)
    model = RobustClassifier(scattered_branches(), 3, how=how, attack=attack, eval_attack=eval_attack)
    other = {"clean": "adversarial", "adversarial": "clean"}[delivered]
    expected, rejected = (model.logits(tiny_images, training=False, stream=stream) for stream in (delivered, other))
    assert model.delivered_branch == delivered and np.abs(expected - rejected).max() > 0.01
    np.testing.assert_allclose(model(tiny_images), expected, atol=1e-6)
    with Classifier(model, tiny_images).prepared() as prepared:
        np.testing.assert_allclose(prepared(tf.constant(tiny_images)), expected, atol=1e-4)
    puzzle = model.pose(Batch(tf.constant(tiny_images), tf.constant(tiny_labels)), tf.constant([0, 0]))
    measured = model.measure(puzzle.inputs, puzzle)
    for name in ("accuracy", "robust_accuracy"):
        np.testing.assert_array_equal(measured[name], np.argmax(expected, axis=1) == tiny_labels)
    np.testing.assert_allclose(measured["clean_loss"], measured["adversarial_loss"], rtol=1e-6)
    probed = model.probe(puzzle.inputs, puzzle, None, training=False)
    np.testing.assert_allclose(probed, measured["adversarial_loss"], rtol=1e-5)
    # What the attack climbed at its start is the loss that is reported there, with prepared weights too.
    logs = model.test_step((tf.constant(tiny_images), tf.constant(tiny_labels)))
    assert float(logs["attack_climb"]) == pytest.approx(float(logs["clean_loss"]), rel=1e-4)


@pytest.mark.parametrize("how", ["trades", "adversarial", "standard"])
def test_where_evaluation_attacks_nothing_it_reports_nothing_as_robust(how, tiny_encoder, tiny_images, tiny_labels):
    model = RobustClassifier(tiny_encoder, 3, how=how, attack=None if how == "standard" else ATTACK, eval_attack=None)
    logs = model.test_step((tf.constant(tiny_images), tf.constant(tiny_labels)))
    assert logs.keys() == {"loss", "clean_loss", "accuracy"}
    assert float(logs["loss"]) == float(logs["clean_loss"]) > 0


def test_an_encoder_without_branches_delivers_none(tiny_encoder):
    assert classifier(tiny_encoder).delivered_branch is None
