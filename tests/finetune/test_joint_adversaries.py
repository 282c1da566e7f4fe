"""What the attack climbs beside what the weights descend: both weights of each, worked out on the linear model by hand.

The linear model is that of test_joint.py: at the grey image the gradient of CE is (2, 1, -1, -2), that of SSL
(1, -2, 2, -1), so a · CE + m · SSL changes its signs at m = a / 2.
"""

from __future__ import annotations

from math import exp, log, sqrt

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.attacks import L2, Linf, ProjectedGradientDescent
from advss_tf.finetune import JointClassifier
from advss_tf.pretext import Rotation
from advss_tf.training import Puzzle

GREY, LABEL = np.full((1, 2, 2, 1), 0.5, np.float32), np.array([1])
CLASSES = np.array([[4.0, 0.0], [2.0, 0.0], [-2.0, 0.0], [-4.0, 0.0]])
TURNS = np.array([[-8.0, 0, 0, 0], [-4.0, 0, 0, 0], [4.0, 0, 0, 0], [8.0, 0, 0, 0]])
ONE_STEP = ProjectedGradientDescent(Linf(0.25), num_steps=1, step_size=0.25, random_start=False)
CE = {"grey": log(2), "of classes": log(1 + exp(3)), "of turns": log(1 + exp(1))}
SSL = {"grey": log(4), "of classes": log(exp(-2) + 3), "of turns": log(exp(6) + 3)}


def first_step(*, attack=ONE_STEP, **options):
    """The logs of one step of the linear model."""
    images = keras.Input((2, 2, 1))
    encoder = keras.Model(images, keras.layers.Flatten()(images))
    rotation = Rotation(encoder)
    rotation.draw = lambda size, seed: Puzzle({}, tf.ones((size,), tf.int64))
    model = JointClassifier(encoder, 2, auxiliary=rotation, attack=attack, **options)
    model.head.kernel.assign(CLASSES)
    rotation.head.kernel.assign(TURNS)
    model.compile(optimizer="sgd")
    model.build_optimizer()
    logs = model.train_step((tf.constant(GREY), tf.constant(LABEL)))
    return {name: float(value) for name, value in logs.items()}


@pytest.mark.parametrize(
    ("classes", "task", "found"),
    [(1.0, 0.75, "of turns"), (2.0, 0.75, "of classes"), (1.0, 0.0, "of classes"), (0.0, 0.25, "of turns")],
)
def test_the_attack_of_the_sum_has_two_weights_of_its_own(classes, task, found):
    logs = first_step(mode="sum", weight=0.5, attack_class_weight=classes, attack_weight=task)
    assert logs["attack_climb"] == pytest.approx(classes * CE["grey"] + task * SSL["grey"], rel=1e-5)
    assert logs["adversarial_loss"] == pytest.approx(CE[found], rel=1e-5)
    assert logs["loss"] == pytest.approx(CE[found] + 0.5 * SSL[found], rel=1e-5)


@pytest.mark.parametrize(
    ("classes", "climbed", "turned"),
    [
        # Along (1, -2, 2, -1), of length √10, the logit of the classes stays at 0.
        (0.0, 0.0, 8 / sqrt(10)),
        # 2 (2, 1, -1, -2) + (1, -2, 2, -1) is (5, 0, 0, -5).
        (2.0, 8 / sqrt(50), 8 / sqrt(50)),
    ],
)
def test_an_l2_attack_goes_along_the_gradient_as_weighed(classes, climbed, turned):
    attack = ProjectedGradientDescent(L2(0.2), num_steps=1, step_size=0.2, random_start=False)
    logs = first_step(mode="sum", weight=0.5, attack_class_weight=classes, attack_weight=1.0, attack=attack)
    assert logs["adversarial_loss"] == pytest.approx(log(1 + exp(climbed)), rel=1e-5)
    assert logs["auxiliary_loss"] == pytest.approx(log(exp(turned) + 3), rel=1e-5)


@pytest.mark.parametrize(
    ("classes", "task", "found"),
    # a · CE + m · SSL is equal at both candidates where m is 0.3567 a.
    [(1.0, 0.36, "of turns"), (2.0, 0.36, "of classes"), (2.0, 0.72, "of turns"), (0.0, 0.01, "of turns")],
)
def test_the_stronger_of_two_is_judged_by_both_weights(classes, task, found):
    logs = first_step(mode="stronger", weight=0.5, attack_class_weight=classes, attack_weight=task)
    assert logs["adversarial_loss"] == pytest.approx(CE[found], rel=1e-5)
    assert logs["attack_climb"] == pytest.approx(classes * CE[found] + task * SSL[found], rel=1e-5)


@pytest.mark.parametrize(("mode", "task"), [("sum", 1.0), ("stronger", 0.36)])
def test_what_the_attack_climbs_can_be_learned_on_clean_images(mode, task):
    """The attack goes where the turns send it, as without the option, and the turns are learned at the grey image."""
    for place, learned in (("clean", "grey"), ("attacked", "of turns"), (None, "of turns")):
        logs = first_step(mode=mode, weight=0.5, attack_weight=task, auxiliary_at=place)
        assert logs["adversarial_loss"] == pytest.approx(CE["of turns"], rel=1e-5)
        assert logs["auxiliary_loss"] == pytest.approx(SSL[learned], rel=1e-5)
        assert logs["loss"] == pytest.approx(CE["of turns"] + 0.5 * SSL[learned], rel=1e-5)


def test_a_stack_is_climbed_with_both_weights():
    """Without batch norm each input climbs its own loss: the image its CE, the copies the mean over the four."""
    logs = first_step(mode="sum", weight=0.5, attack_class_weight=3.0, attack_weight=2.0, copies="stack")
    # At grey every turn has the logits (0, 0, 0, 0): the four answers cost log 4 each.
    assert logs["attack_climb"] == pytest.approx(3 * log(2) + 2 * log(4), rel=1e-5)
    assert logs["adversarial_loss"] == pytest.approx(CE["of classes"], rel=1e-5)
