"""AutoAttack: its parameters, its end on models whose robustness is known, and that nothing but the seed decides."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from advss_tf.attacks import L2, Linf
from advss_tf.errors import InvalidInput
from advss_tf.evaluation import evaluate
from advss_tf.evaluation.autoattack import autoattack


def described(version, num_classes=10, **more):
    attempts = autoattack(version, Linf("8/255"), num_classes=num_classes, **more)
    return [(a.name, a.objective, a.num_restarts, getattr(a.attack, "num_restarts", 1)) for a in attempts]


def test_the_versions_are_those_of_the_published_code():
    assert described("standard") == [
        ("apgd-ce", "cross_entropy_judged", 1, 1),
        ("apgd-t", "targeted_dlr", 9, 1),
        ("fab-t", "targeted_difference", 9, 1),
        ("square", "margin", 1, 1),
    ]
    assert described("plus") == [
        ("apgd-ce", "cross_entropy_judged", 5, 1),
        ("apgd-dlr", "dlr", 5, 1),
        ("fab", "differences", 1, 5),
        ("square", "margin", 1, 1),
        ("apgd-t", "targeted_dlr", 9, 1),
        ("fab-t", "targeted_difference", 9, 5),
    ]
    assert described("rand") == [("apgd-ce", "cross_entropy_judged", 1, 1), ("apgd-dlr", "dlr", 1, 1)]
    ce, _, fab, square = (attempt.attack for attempt in autoattack("standard", L2(0.5), num_classes=10))
    assert (ce.num_steps, ce.rho, ce.eot_samples, fab.num_steps) == (100, 0.75, 1, 100)
    assert (square.num_queries, square.p_init) == (5000, 0.8)
    assert [attempt.attack.eot_samples for attempt in autoattack("rand", L2(0.5), num_classes=10)] == [20, 20]


@pytest.mark.parametrize("num_classes,objectives,runs", [(2, ("targeted_margin",), 1), (3, ("targeted_margin",), 2)])
def test_with_few_classes_the_margin_takes_the_place_of_the_ratio(num_classes, objectives, runs):
    standard = described("standard", num_classes)
    assert standard[1] == ("apgd-t", *objectives, runs, 1)
    assert standard[2] == ("fab-t", "targeted_difference", runs, 1)
    assert described("rand", num_classes)[1][1] == ("margin_judged" if num_classes == 2 else "dlr")


def test_custom_takes_the_members_that_are_named():
    assert [name for name, *_ in described("custom", members=("square", "fab"))] == ["square", "fab"]


@pytest.mark.parametrize(
    "version,members,sentence",
    [
        ("strong", None, "`version` is not known"),
        ("custom", None, "`members` names the attacks"),
        ("custom", (), "`members` names the attacks"),
        ("standard", ("square",), "`members` names the attacks"),
        ("custom", ("pgd",), "`members` is not known"),
    ],
)
def test_what_is_no_version_is_refused(version, members, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        autoattack(version, Linf(0.1), num_classes=10, members=members)


@pytest.mark.parametrize("norm,order,epsilon", [("linf", np.inf, 0.03), ("l2", 2, 0.1)])
def test_two_classes_end_at_the_accuracy_worked_out_by_hand(linear, norm, order, epsilon):
    record = evaluate(linear, (linear.images, linear.labels), suite="full", norm=norm, epsilons=epsilon, num_steps=5)
    assert record.autoattack_acc == linear.robust(epsilon, order).mean()
    assert record.result("autoattack").parameters == {"version": "standard"}
    assert record.robust_acc <= record.autoattack_acc


@pytest.fixture(scope="module")
def five_classes():
    """A smooth network of five classes on 4x4 images, right on most of them: `(model, images, labels)`."""
    rng = np.random.default_rng(3)
    images = rng.random((24, 4, 4, 1)).astype(np.float32)
    first, second = rng.normal(size=(16, 12)).astype(np.float32), rng.normal(size=(12, 5)).astype(np.float32)

    def model(images):
        return tf.tanh((tf.reshape(images, (-1, 16)) - 0.5) @ first) @ second

    labels = model(images).numpy().argmax(axis=1)
    labels[:3] = (labels[:3] + 1) % 5
    return model, images, labels


def accuracies(record):
    return [record.result(name).correct for name in ("apgd-ce", "apgd-t", "fab-t", "square", "autoattack")]


@pytest.mark.parametrize("norm,epsilon", [("linf", 0.03), pytest.param("l2", 0.15, marks=pytest.mark.slow)])
def test_each_attack_goes_on_with_what_the_last_one_left_whatever_the_batch(five_classes, norm, epsilon):
    model, images, labels = five_classes
    found = [
        evaluate(model, (images, labels), suite="full", norm=norm, epsilons=epsilon, num_steps=5, batch_size=size)
        for size in (24, 9)
    ]
    left = accuracies(found[0])
    assert left == sorted(left, reverse=True)
    assert 0 < left[-1] <= left[0] < found[0].result("clean").correct == 21
    np.testing.assert_array_equal(found[0].examples.outcome_robust, found[1].examples.outcome_robust)
    assert accuracies(found[1]) == left
    # Three targets of four are left for an image when the first has failed; nobody is attacked who has fallen.
    assert found[0].result("apgd-t").backward_passes <= 4 * 101 * left[0] / 24


def test_a_model_without_robustness_ends_at_zero_and_a_constant_one_at_its_class(five_classes):
    model, images, labels = five_classes
    fallen = evaluate(model, (images, labels), suite="full", epsilons=0.9, num_steps=2)
    assert (fallen.autoattack_acc, fallen.robust_acc) == (0.0, 0.0)

    def constant(images):
        return tf.tile([[1.0, 0.0, 0.0, 0.0, 0.0]], (tf.shape(images)[0], 1)) + 0 * tf.reduce_sum(images)

    standing = evaluate(constant, (images[:8], labels[:8]), suite="full", epsilons=0.9, num_steps=2)
    assert standing.autoattack_acc == np.mean(labels[:8] == 0)
