"""What the attack climbs beside what the weights descend: both weights of each, worked out by hand (conftest.py)."""

from __future__ import annotations

from math import exp, log, sqrt

import pytest

from advss_tf.attacks import L2, ProjectedGradientDescent


@pytest.mark.parametrize(
    ("classes", "task", "found"),
    [(1.0, 0.75, "of turns"), (2.0, 0.75, "of classes"), (1.0, 0.0, "of classes"), (0.0, 0.25, "of turns")],
)
def test_the_attack_of_the_sum_has_two_weights_of_its_own(linear, classes, task, found):
    logs = linear.first_step(mode="sum", weight=0.5, attack_class_weight=classes, attack_weight=task)
    assert logs["attack_climb"] == pytest.approx(classes * linear.ce["grey"] + task * linear.ssl["grey"], rel=1e-5)
    assert logs["adversarial_loss"] == pytest.approx(linear.ce[found], rel=1e-5)
    assert logs["loss"] == pytest.approx(linear.ce[found] + 0.5 * linear.ssl[found], rel=1e-5)


@pytest.mark.parametrize(
    ("classes", "climbed", "turned"),
    [
        # Along (1, -2, 2, -1), of length √10, the logit of the classes stays at 0.
        (0.0, 0.0, 8 / sqrt(10)),
        # 2 (2, 1, -1, -2) + (1, -2, 2, -1) is (5, 0, 0, -5).
        (2.0, 8 / sqrt(50), 8 / sqrt(50)),
    ],
)
def test_an_l2_attack_goes_along_the_gradient_as_weighed(linear, classes, climbed, turned):
    attack = ProjectedGradientDescent(L2(0.2), num_steps=1, step_size=0.2, random_start=False)
    logs = linear.first_step(mode="sum", weight=0.5, attack_class_weight=classes, attack_weight=1.0, attack=attack)
    assert logs["adversarial_loss"] == pytest.approx(log(1 + exp(climbed)), rel=1e-5)
    assert logs["auxiliary_loss"] == pytest.approx(log(exp(turned) + 3), rel=1e-5)


L2_STEP = ProjectedGradientDescent(L2(0.2), num_steps=1, step_size=0.2, random_start=False)
# 0.2 along (2, 1, -1, -2), of length √10, the logit of the classes is 4 / √10 and that of the turns stays at 0; along
# (1, -2, 2, -1) the first stays at 0 and the other is 8 / √10.
L2_CE = {"of classes": log(1 + exp(4 / sqrt(10))), "of turns": log(2)}
L2_SSL = {"of classes": log(4), "of turns": log(exp(8 / sqrt(10)) + 3)}


def test_in_l2_each_head_has_an_adversary_along_its_own_gradient(linear):
    logs = linear.first_step(mode="own", weight=0.5, attack=L2_STEP)
    assert logs["adversarial_loss"] == pytest.approx(L2_CE["of classes"], rel=1e-5)
    assert logs["auxiliary_loss"] == pytest.approx(L2_SSL["of turns"], rel=1e-5)
    assert logs["attack_climb"] == pytest.approx(log(2) + log(4), rel=1e-5)


@pytest.mark.parametrize(
    ("classes", "task", "found"),
    # a · CE + m · SSL is equal at both candidates where m is 0.6043 a.
    [(1.0, 0.6, "of classes"), (1.0, 0.61, "of turns"), (2.0, 1.2, "of classes"), (2.0, 1.22, "of turns")],
)
def test_in_l2_the_stronger_of_two_is_judged_by_both_weights(linear, classes, task, found):
    options = {"attack_class_weight": classes, "attack_weight": task, "attack": L2_STEP}
    logs = linear.first_step(mode="stronger", weight=0.5, **options)
    assert logs["adversarial_loss"] == pytest.approx(L2_CE[found], rel=1e-5)
    assert logs["auxiliary_loss"] == pytest.approx(L2_SSL[found], rel=1e-5)
    assert logs["attack_climb"] == pytest.approx(classes * L2_CE[found] + task * L2_SSL[found], rel=1e-5)


@pytest.mark.parametrize(
    ("classes", "task", "found"),
    # a · CE + m · SSL is equal at both candidates where m is 0.3567 a.
    [(1.0, 0.36, "of turns"), (2.0, 0.36, "of classes"), (2.0, 0.72, "of turns"), (0.0, 0.01, "of turns")],
)
def test_the_stronger_of_two_is_judged_by_both_weights(linear, classes, task, found):
    logs = linear.first_step(mode="stronger", weight=0.5, attack_class_weight=classes, attack_weight=task)
    assert logs["adversarial_loss"] == pytest.approx(linear.ce[found], rel=1e-5)
    assert logs["attack_climb"] == pytest.approx(classes * linear.ce[found] + task * linear.ssl[found], rel=1e-5)


@pytest.mark.parametrize(("mode", "task"), [("sum", 1.0), pytest.param("stronger", 0.36, marks=pytest.mark.slow)])
def test_what_the_attack_climbs_can_be_learned_on_clean_images(linear, mode, task):
    """The attack goes where the turns send it, as without the option, and the turns are learned at the grey image."""
    for place, learned in (("clean", "grey"), ("attacked", "of turns"), (None, "of turns")):
        logs = linear.first_step(mode=mode, weight=0.5, attack_weight=task, auxiliary_at=place)
        assert logs["adversarial_loss"] == pytest.approx(linear.ce["of turns"], rel=1e-5)
        assert logs["auxiliary_loss"] == pytest.approx(linear.ssl[learned], rel=1e-5)
        assert logs["loss"] == pytest.approx(linear.ce["of turns"] + 0.5 * linear.ssl[learned], rel=1e-5)


def test_a_stack_is_climbed_with_both_weights(linear):
    """Without batch norm each input climbs its own loss: the image its CE, the copies the mean over the four."""
    logs = linear.first_step(mode="sum", weight=0.5, attack_class_weight=3.0, attack_weight=2.0, copies="stack")
    # At grey every turn has the logits (0, 0, 0, 0): the four answers cost log 4 each.
    assert logs["attack_climb"] == pytest.approx(3 * log(2) + 2 * log(4), rel=1e-5)
    assert logs["adversarial_loss"] == pytest.approx(linear.ce["of classes"], rel=1e-5)
