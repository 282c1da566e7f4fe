"""The joint classifier on a linear model, worked out by hand: its terms, its attacks, and what is left alone."""

from __future__ import annotations

import json
import re
from math import exp, log, sqrt

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.attacks import L2, Linf, ProjectedGradientDescent
from advss_tf.errors import InvalidInput
from advss_tf.finetune import JointClassifier, RobustClassifier
from advss_tf.pretext import Jigsaw, Rotation
from advss_tf.randomness import seed_for
from advss_tf.training import Batch


@pytest.mark.parametrize(
    ("options", "classes_at", "turns_at", "climbed"),
    [
        ({"mode": "plain"}, "of classes", None, log(2)),
        ({"mode": "clean"}, "of classes", "grey", log(2)),
        ({"mode": "attacked"}, "of classes", "of classes", log(2)),
        ({"mode": "own"}, "of classes", "of turns", log(2) + log(4)),
        # The gradient of CE is (2, 1, -1, -2), that of SSL (1, -2, 2, -1): the sum changes its signs at 0.5.
        ({"mode": "sum", "attack_weight": 0.25}, "of classes", "of classes", log(2) + 0.25 * log(4)),
        ({"mode": "sum", "attack_weight": 1.0}, "of turns", "of turns", log(2) + log(4)),
        # CE + mu SSL is 3.0486 + 1.1427 mu at the one candidate, 1.3133 + 6.0074 mu at the other: equal at 0.3567.
        ({"mode": "stronger", "attack_weight": 0.35}, "of classes", "of classes", 3.448544),
        ({"mode": "stronger", "attack_weight": 0.36}, "of turns", "of turns", 3.475929),
        # Not given, the attack's weight is that of training, 0.5.
        ({"mode": "stronger"}, "of turns", "of turns", 4.316967),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_each_mode_takes_its_terms_where_it_says(linear, options, classes_at, turns_at, climbed):
    logs = linear.first_step(weight=0.5, **options)
    assert logs["adversarial_loss"] == pytest.approx(linear.ce[classes_at], rel=1e-5)
    assert logs["attack_climb"] == pytest.approx(climbed, rel=1e-5)
    if turns_at is None:
        assert "auxiliary_loss" not in logs and logs["loss"] == logs["adversarial_loss"]
    else:
        assert logs["auxiliary_loss"] == pytest.approx(linear.ssl[turns_at], rel=1e-5)
        assert logs["loss"] == pytest.approx(linear.ce[classes_at] + 0.5 * linear.ssl[turns_at], rel=1e-5)


def test_the_l2_attack_of_the_sum_goes_along_the_gradient_of_the_sum(linear):
    """(2, 1, -1, -2) + (1, -2, 2, -1) is (3, -1, 1, -3): 0.2 along it CE's logit is 4 / √20, the turns' 8 / √20."""
    attack = ProjectedGradientDescent(L2(0.2), num_steps=1, step_size=0.2, random_start=False)
    logs = linear.first_step(mode="sum", weight=0.5, attack_weight=1.0, attack=attack)
    assert logs["adversarial_loss"] == pytest.approx(log(1 + exp(4 / sqrt(20))), rel=1e-5)
    assert logs["auxiliary_loss"] == pytest.approx(log(exp(8 / sqrt(20)) + 3), rel=1e-5)


def test_the_weights_descend_the_sum_as_weighed(linear):
    """The head of the turns moves by rate · weight · (softmax - answer) · t(x); at grey all of that is known."""
    for weight in (0.5, 2.0):
        model = linear(mode="clean", weight=weight)
        model.compile(optimizer=keras.optimizers.SGD(0.1))
        model.train_on_batch(linear.grey, linear.label)
        moved = model.auxiliary.head.kernel.numpy() - linear.turns
        np.testing.assert_allclose(moved[0], -0.1 * weight * 0.5 * np.array([0.25, -0.75, 0.25, 0.25]), atol=1e-6)


@pytest.mark.parametrize("class_weight", [0.5, 2.0])
def test_the_weight_of_the_classes_is_in_the_loss_and_in_what_descends_it(linear, class_weight):
    """At (.75, .75, .25, .25) class 0 has the logit 3, so its column of the head moves by -rate · weight · p · x'."""
    model = linear(mode="clean", weight=0.5, class_weight=class_weight)
    model.compile(optimizer=keras.optimizers.SGD(0.1))
    logs = model.train_on_batch(linear.grey, linear.label, return_dict=True)
    assert logs["loss"] == pytest.approx(class_weight * linear.ce["of classes"] + 0.5 * linear.ssl["grey"], rel=1e-5)
    assert logs["attack_climb"] == pytest.approx(log(2), rel=1e-5)
    moved, p = model.head.kernel.numpy() - linear.classes, exp(3) / (1 + exp(3))
    expected = -0.1 * class_weight * p * np.array([0.75, 0.75, 0.25, 0.25])
    np.testing.assert_allclose(moved, np.stack([expected, -expected], axis=1), atol=1e-6)
    logs = linear(mode="clean", weight=0.5, class_weight=class_weight).evaluate(
        linear.grey, linear.label, verbose=0, return_dict=True
    )
    assert logs["loss"] == pytest.approx(class_weight * linear.ce["of classes"] + 0.5 * linear.ssl["grey"], rel=1e-5)


def test_guessing_and_the_puzzle_beside_the_classes_are_named_where_there_is_one(linear, tiny_encoder):
    jigsaw = Jigsaw(tiny_encoder, grid=2, num_permutations=4)
    model = JointClassifier(tiny_encoder, 3, auxiliary=jigsaw, attack=linear.one_step, attack_class_weight=2)
    assert model.chance == 0.2 and model.chances == {"auxiliary_accuracy": 0.2}
    said = json.loads(json.dumps(model.provenance))["auxiliary"]
    assert (said["task"], said["permutations"]) == ("jigsaw", jigsaw.permutations.tolist())
    assert (said["mode"], said["weight"], said["class_weight"], said["attack_class_weight"]) == ("sum", 0.5, 1.0, 2.0)
    plain = JointClassifier(tiny_encoder, 3, auxiliary=jigsaw, attack=linear.one_step, mode="plain")
    assert plain.provenance == {} == plain.chances


def test_of_two_adversaries_the_stronger_is_chosen_image_by_image(linear):
    """The second image is labelled 0: its CE falls with the logit, so its own adversary is another."""
    model = linear(mode="stronger", attack_weight=0.36)
    seen = {}
    model.descend = lambda inputs, puzzle, training: (
        seen.update(inputs) or JointClassifier.descend(model, inputs, puzzle, training=training)
    )
    model.build_optimizer()
    model.train_step((tf.constant(np.repeat(linear.grey, 2, axis=0)), tf.constant([1, 0])))
    # Image 2: CE's candidate (.25, .25, .75, .75) has CE log(1 + e³) and SSL log(e² + 3) and wins over the turns'
    # (.75, .25, .75, .25), which has CE log(1 + e⁻¹): 3.8913 against 2.4759.
    np.testing.assert_allclose(
        tf.reshape(seen["images"], (2, 4)), [[0.75, 0.25, 0.75, 0.25], [0.25, 0.25, 0.75, 0.75]], atol=1e-6
    )


def trained(made, encoder, images, labels, **options):
    model = made(keras.models.clone_model(encoder), 3, seed=5, **options)
    model.compile(optimizer=keras.optimizers.SGD(0.1, momentum=0.9))
    model.fit(images, labels, batch_size=4, shuffle=False, verbose=0)
    return [*model.encoder.get_weights(), *model.head.get_weights()]


def joint(encoder, num_classes, **options):
    return JointClassifier(encoder, num_classes, auxiliary=Rotation(encoder), **options)


@pytest.mark.parametrize("options", [{"mode": "plain"}, {"mode": "clean", "weight": 0.0}, {"mode": "own", "weight": 0}])
def test_without_the_term_it_is_the_plain_classifier_bit_for_bit(options, tiny_encoder, tiny_images, tiny_labels):
    attack = ProjectedGradientDescent(Linf(0.1), num_steps=2)
    plain = trained(RobustClassifier, tiny_encoder, tiny_images, tiny_labels, how="adversarial", attack=attack)
    ours = trained(joint, tiny_encoder, tiny_images, tiny_labels, attack=attack, **options)
    for one, other in zip(plain, ours, strict=True):
        np.testing.assert_array_equal(one, other)


def test_with_the_term_it_is_not(tiny_encoder, tiny_images, tiny_labels):
    attack = ProjectedGradientDescent(Linf(0.1), num_steps=2)
    plain, ours = (
        trained(joint, tiny_encoder, tiny_images, tiny_labels, attack=attack, mode=mode) for mode in ("plain", "clean")
    )
    assert max(np.abs(one - other).max() for one, other in zip(plain, ours, strict=True)) > 1e-3


@pytest.mark.parametrize("options", [{"mode": "own"}, {"mode": "stronger"}, {"mode": "sum", "copies": "stack"}])
def test_evaluation_attacks_the_classifier_alone_in_every_mode(options, tiny_encoder, tiny_images, tiny_labels):
    attack = ProjectedGradientDescent(Linf(0.1), num_steps=3)
    models = [
        RobustClassifier(tiny_encoder, 3, attack=attack, seed=1),
        joint(tiny_encoder, 3, attack=attack, seed=1, **options),
    ]
    for model in models:
        model.compile(optimizer="sgd")
    plain, ours = (model.evaluate(tiny_images, tiny_labels, verbose=0, return_dict=True) for model in models)
    for name in ("adversarial_loss", "clean_loss", "accuracy", "robust_accuracy", "attack_climb", "attack_at_bound"):
        assert ours[name] == pytest.approx(plain[name], rel=1e-5), name
    assert ours["loss"] == pytest.approx(ours["adversarial_loss"] + 0.5 * ours["auxiliary_loss"], rel=1e-5)


def test_evaluation_reports_the_task_at_the_clean_puzzle(linear):
    for options in ({"mode": "clean"}, {"mode": "own"}, {"mode": "sum"}, {"mode": "stronger"}):
        logs = linear(**options).evaluate(linear.grey, linear.label, verbose=0, return_dict=True)
        assert logs["auxiliary_loss"] == pytest.approx(log(4), rel=1e-5)
        assert logs["adversarial_loss"] == pytest.approx(linear.ce["of classes"], rel=1e-5)


@pytest.mark.parametrize(("options", "weight"), [({"mode": "sum"}, 0.5), ({"mode": "plain"}, 0.0)])
def test_where_evaluation_attacks_nothing_it_reports_nothing_as_robust(linear, options, weight):
    logs = linear(eval_attack=None, **options).test_step((tf.constant(linear.grey), tf.constant(linear.label)))
    assert not {"adversarial_loss", "robust_accuracy"} & logs.keys()
    assert float(logs["loss"]) == pytest.approx(log(2) + weight * log(4), rel=1e-5)


def test_the_puzzle_is_the_one_that_the_task_poses_by_itself(linear, tiny_encoder, tiny_images, tiny_labels):
    model = joint(tiny_encoder, 3, attack=linear.one_step)
    batch, seed = Batch(tf.constant(tiny_images), tf.constant(tiny_labels)), seed_for(0, 3, "pose")
    asked, alone = model.pose(batch, seed).targets.auxiliary, model.auxiliary.pose(batch, seed)
    np.testing.assert_array_equal(asked.targets, alone.targets)
    np.testing.assert_array_equal(asked.inputs["images"], alone.inputs["images"])


def test_the_adversaries_of_the_heads_start_at_different_points(tiny_encoder, tiny_images, tiny_labels):
    """An attack of no strength: what is left is where it started."""
    model = joint(tiny_encoder, 3, mode="own", attack=ProjectedGradientDescent(Linf(0.1), num_steps=1, step_size=1e-9))
    seen = {}
    model.descend = lambda inputs, puzzle, training: (
        seen.update(inputs) or JointClassifier.descend(model, inputs, puzzle, training=training)
    )
    model.compile(optimizer="sgd")
    model.build_optimizer()
    model.train_step((tf.fill(tiny_images.shape, 0.5), tf.constant(tiny_labels)))
    noises = [seen["images"].numpy() - 0.5, seen["puzzle"]["images"].numpy() - 0.5]
    assert np.abs(noises[0] - noises[1]).max() > 0.1
    assert max(np.abs(noise).max() for noise in noises) <= 0.1 + 1e-6


def test_what_does_not_fit_is_refused(linear, tiny_encoder):
    other = keras.models.clone_model(tiny_encoder)
    for options, words in (
        ({"auxiliary": Rotation(other)}, "`auxiliary` is on another encoder"),
        ({"mode": "clean", "attack_weight": 1.0}, "`attack_weight` means nothing to mode='clean'"),
        ({"class_weight": 0}, "`class_weight` is no weight"),
        ({"attack": None}, "`attack` does not go with how='adversarial'"),
        ({"train": "head"}, "`train` is not known"),
        ({"train": "linear"}, "`auxiliary` would teach the encoder nothing"),
    ):
        encoder = keras.models.clone_model(tiny_encoder) if "auxiliary" not in options else tiny_encoder
        with pytest.raises(InvalidInput, match=re.escape(words)):
            JointClassifier(encoder, 3, **{"auxiliary": Rotation(encoder), "attack": linear.one_step, **options})
