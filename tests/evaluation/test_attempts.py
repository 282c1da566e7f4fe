"""Which attacks a suite is made of."""

from __future__ import annotations

import pytest

from advss_tf.attacks import L2, FastGradient, FogAttack, Linf, ProjectedGradientDescent
from advss_tf.errors import InvalidInput
from advss_tf.evaluation.attempts import plan_attempts


def names(plan) -> list[str]:
    return [attempt.name for attempt in plan.attempts]


def test_quick_is_the_first_number_of_steps_and_standard_all_of_them():
    assert names(plan_attempts("quick")) == ["pgd-20"]
    assert names(plan_attempts("standard")) == ["pgd-20", "pgd-50"]
    assert names(plan_attempts("standard", num_steps=7)) == ["pgd-7"]


def test_epsilons_are_sorted_and_zero_is_left_to_clean_accuracy():
    assert plan_attempts(epsilons=["8/255", 0, 2 / 255, "8/255"]).epsilons == (2 / 255, 8 / 255)


@pytest.mark.parametrize(
    "norm,epsilons,headline",
    [
        ("linf", None, 8 / 255),
        ("linf", ["4/255", "8/255", "16/255"], 8 / 255),
        ("linf", ["4/255", "6/255"], 6 / 255),
        ("l2", None, 0.5),
        ("l2", [0.25, 1.0], 1.0),
    ],
)
def test_the_headline_is_the_fields_epsilon_or_else_the_largest(norm, epsilons, headline):
    assert plan_attempts(norm=norm, epsilons=epsilons).headline == pytest.approx(headline)


def test_given_attacks_bring_their_norm_and_their_epsilons():
    plan = plan_attempts(attacks=[ProjectedGradientDescent(L2(0.3), num_steps=4), FastGradient(L2(0.6))])
    assert (plan.norm, plan.epsilons, names(plan)) == ("l2", (0.3, 0.6), ["pgd-4", "fastgradient"])


def test_restarts_inside_an_attack_are_unrolled():
    attack = ProjectedGradientDescent(Linf(0.1), num_steps=4, num_restarts=3)
    (attempt,) = plan_attempts(attacks={"mine": attack}, num_restarts=2).attempts
    assert attempt.num_restarts == 6
    assert attempt.attack.num_restarts == 1
    assert "num_restarts" not in attempt.parameters


def test_the_parameters_that_are_recorded_say_what_was_run():
    (attempt,) = plan_attempts(epsilons=0.1, step_size=0.02, num_steps=3).attempts
    assert attempt.parameters["kind"] == "ProjectedGradientDescent"
    assert (attempt.parameters["num_steps"], attempt.parameters["step_size"]) == (3, 0.02)


@pytest.mark.parametrize(
    "settings,sentence",
    [
        ({"suite": "standart"}, "did you mean 'standard'"),
        ({"norm": "l1"}, "`norm` is not known"),
        ({"epsilons": [0]}, "no ball to attack in"),
        ({"epsilons": "big"}, "`epsilons` is not a number of pixels"),
        ({"num_restarts": 0}, "`num_restarts` is too small"),
        ({"attacks": []}, "no attack to run"),
        ({"attacks": [FogAttack(128.0)]}, "attacks in no ball of pixels"),
        ({"attacks": [3]}, "is not an attack"),
        ({"attacks": {"worst": ProjectedGradientDescent(Linf(0.1))}}, "not named 'clean', 'worst' or 'autoattack'"),
        ({"attacks": [FastGradient(Linf(0.1)), ProjectedGradientDescent(L2(0.1))]}, "different norms"),
        ({"attacks": [FastGradient(Linf(0.1)), FastGradient(Linf(0.2))]}, "same name"),
    ],
)
def test_what_cannot_be_run_is_refused(settings, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        plan_attempts(settings.pop("suite", "quick"), **settings)
