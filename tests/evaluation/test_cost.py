"""The estimate against passes that were counted and times that are worked out by hand; and what it leaves alone."""

from __future__ import annotations

import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.attacks import AutoPGD, FastAdaptiveBoundary, Linf, ProjectedGradientDescent, SquareAttack
from advss_tf.evaluation import Estimate, cost, estimate, evaluate
from advss_tf.evaluation.attempts import Attempt, Plan, plan_attempts
from advss_tf.evaluation.autoattack import autoattack
from advss_tf.evaluation.batches import Batches
from advss_tf.evaluation.cost import CostRow
from advss_tf.evaluation.models import Classifier
from advss_tf.evaluation.run import Run

BALL = Linf(0.1)
# What the docstrings of the attacks promise for one run.
PROMISED = {
    ProjectedGradientDescent: lambda attack: (attack.num_steps, attack.num_steps),
    AutoPGD: lambda attack: (attack.num_steps + 1, attack.num_steps + 1),
    FastAdaptiveBoundary: lambda attack: (2 * attack.num_steps + 1, attack.num_steps),
    SquareAttack: lambda attack: (attack.num_queries + 2, 0),
}


class Silent(ProjectedGradientDescent):
    """An attack that does not say what it costs."""

    passes = None


@pytest.fixture(autouse=True)
def attacks_that_say_what_they_cost(monkeypatch):
    for kind, passes in PROMISED.items():
        if not hasattr(kind, "passes"):
            monkeypatch.setattr(kind, "passes", passes, raising=False)


@pytest.fixture
def paced(monkeypatch):
    """A forward pass of a batch takes 2 s, a gradient 3 s more."""
    monkeypatch.setattr(cost, "_measured", lambda classifier, shape: cost._Pace(2.0, 3.0))


def unbeatable(images: tf.Tensor) -> tf.Tensor:
    """Five classes; class 0 wins by far, whatever the image, and every logit has a gradient."""
    mean = tf.reduce_mean(images, axis=[1, 2, 3])
    return tf.stack([mean + 100.0, mean, 2 * mean, 3 * mean, 4 * mean], axis=1)


def batches_of(count: int, *, batch_size: int = 256) -> Batches:
    images = np.random.default_rng(0).uniform(0.3, 0.7, (count, 4, 4, 1)).astype(np.float32)
    return Batches((images, np.zeros(count, np.int64)), batch_size=batch_size)


def estimated(plan: Plan, batches: Batches) -> Estimate:
    return estimate(plan, Classifier(unbeatable, next(iter(batches)).images), batches)


ATTEMPTS = (
    Attempt("pgd-3", ProjectedGradientDescent(BALL, num_steps=3), 2),
    Attempt("apgd-ce", AutoPGD(BALL, num_steps=6), 1, "cross_entropy_judged"),
    Attempt("apgd-t", AutoPGD(BALL, num_steps=6), 4, "targeted_dlr"),
    Attempt("fab", FastAdaptiveBoundary(BALL, num_steps=5), 1, "differences"),
    Attempt("fab-t", FastAdaptiveBoundary(BALL, num_steps=5), 4, "targeted_difference"),
    Attempt("square", SquareAttack(BALL, num_queries=12), 1, "margin"),
    Attempt("square-in-pieces", SquareAttack(BALL, num_queries=12), 1, "margin", pieces=4, piece_size=3),
)


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=[attempt.name for attempt in ATTEMPTS])
def test_on_a_model_that_nothing_fools_the_passes_are_those_that_are_counted(attempt):
    plan, batches = Plan("attacks", "linf", (0.05, 0.1), (attempt,)), batches_of(4)
    (batch,) = batches
    run = Run(plan, Classifier(unbeatable, batch.images), batches, seed=0, progress=None, started=time.perf_counter())
    run.attack_batch(0, batch)
    counted = [run.costs[attempt.name, eps] for eps in plan.epsilons]
    row = estimated(plan, batches).rows[1]
    assert (row.attack, row.runs, row.epsilons) == (attempt.name, attempt.num_restarts, 2)
    assert row.forward == sum(each.forward for each in counted) / 4
    assert row.backward == sum(each.backward for each in counted) / 4
    assert row.forward > 0


def test_the_counts_of_a_real_evaluation_stay_below(linear):
    told = []
    attacks = {"pgd-4": ProjectedGradientDescent(BALL, num_steps=4, num_restarts=3)}
    record = evaluate(
        linear,
        (linear.images, linear.labels),
        attacks=attacks,
        epsilons=(0.01, 0.03),
        batch_size=16,
        announce=told.append,
    )
    ((clean, pgd),) = (made.rows for made in told)
    rows = [record.result("pgd-4", eps=eps) for eps in (0.01, 0.03)]
    assert (clean.forward, clean.backward) == (1, 0)
    assert (pgd.forward, pgd.backward) == (30, 24)
    assert 0 < sum(row.forward_passes for row in rows) < pgd.forward
    assert 0 < sum(row.backward_passes for row in rows) < pgd.backward


def test_the_time_is_passes_times_batches(paced):
    attacks = {"pgd-4": ProjectedGradientDescent(BALL, num_steps=4)}
    made = estimated(
        plan_attempts(attacks=attacks, epsilons=(0.05, 0.1), num_restarts=3), batches_of(50, batch_size=20)
    )
    clean, pgd = made.rows
    # 3 batches of 2 s; 3 runs at 2 epsilons of 5 forward and 4 backward passes: 30 * 2 s + 24 * 3 s, 3 batches.
    assert (clean.seconds, pgd.seconds, made.seconds) == (6.0, 396.0, 402.0)


def test_an_attack_that_does_not_say_is_unknown(paced):
    attacks = {"mine": Silent(BALL, num_steps=4), "pgd-4": ProjectedGradientDescent(BALL, num_steps=4)}
    made = estimated(plan_attempts(attacks=attacks), batches_of(4))
    assert made.rows[1] == CostRow("mine", 1, 1, None, None, None)
    assert made.unknown == ("mine",)
    assert made.seconds == 2.0 + 22.0
    assert made.lines()[2].split() == ["mine", "1", "unknown", "unknown"]
    assert made.lines()[-1] == "total ≤ 24 s, and what mine will take"


def test_autoattack_is_said_to_be_an_upper_bound():
    plan = plan_attempts("full", num_steps=(20,)).with_autoattack(
        "standard", autoattack("standard", BALL, num_classes=5)
    )
    made = estimated(plan, batches_of(4))
    assert [row.attack for row in made.rows] == ["clean", "pgd-20", "apgd-ce", "apgd-t", "fab-t", "square"]
    assert [row.runs for row in made.rows] == [1, 1, 1, 4, 4, 1]
    assert made.lines()[-1].endswith("less where autoattack fools early: each of its attacks sees the survivors alone")
    assert made.unknown == ()


def test_a_terminal_shows_one_line_an_attack_and_the_total():
    rows = (
        CostRow("clean", 1, 1, 1, 0, 0.2),
        CostRow("pgd-20", 5, 2, 210, 200, 170.0),
        CostRow("square", 1, 1, 5022, 0, 7620.0, "autoattack"),
    )
    assert str(Estimate(rows)).splitlines() == [
        "attack  runs            passes an image            time",
        "clean   1               1 forward                  ≤ 1 s",
        "pgd-20  5 × 2 epsilons  210 forward, 200 backward  ≤ 3 min",
        "square  1               5,022 forward              ≤ 2 h 7 min",
        "total ≤ 2 h 10 min, less where autoattack fools early: each of its attacks sees the survivors alone",
    ]


def test_what_is_timed_is_one_pass_of_a_whole_batch():
    """A model whose pass takes a tenth of a second, whatever is asked of it."""
    sizes = []

    def wait(images: np.ndarray) -> np.ndarray:
        sizes.append(len(images))
        time.sleep(0.1)
        return images

    @tf.custom_gradient
    def slow(images):
        return tf.ensure_shape(tf.numpy_function(wait, [images], tf.float32), images.shape), lambda upstream: upstream

    batches = batches_of(30, batch_size=20)
    classifier = Classifier(lambda images: unbeatable(slow(images)), next(iter(batches)).images)
    sizes.clear()
    clean, pgd = estimate(plan_attempts(num_steps=3), classifier, batches).rows
    assert set(sizes) == {20}
    assert 0.2 <= clean.seconds < 0.6
    assert pgd.seconds == pytest.approx(4 * clean.seconds, rel=0.5), "a gradient of this model costs next to nothing"


class Noisy(keras.layers.Layer):
    """Adds random numbers in inference mode as well."""

    def __init__(self):
        super().__init__()
        self.generator = keras.random.SeedGenerator(3)

    def call(self, images):
        return images + keras.random.normal(tf.shape(images), stddev=0.02, seed=self.generator)


def test_the_estimate_changes_nothing_of_the_evaluation(linear):
    def evaluated(**more):
        model = keras.Sequential(
            [keras.Input((4, 4, 1)), noise := Noisy(), keras.layers.Flatten(), keras.layers.Dense(2)]
        )
        kernel = np.stack([0 * linear.weights.ravel(), linear.weights.ravel()], axis=1)
        model.layers[-1].set_weights([kernel, np.array([0.0, linear.bias])])
        data = (linear.images, linear.labels)
        record = evaluate(model, data, num_steps=3, epsilons=0.02, num_restarts=2, batch_size=20, **more)
        rows = [(row.attack, row.correct, row.forward_passes, row.backward_passes) for row in record.results]
        return rows, record.examples, record.images_fingerprint, noise.generator.state.numpy().tolist()

    told = []
    without, announced = evaluated(), evaluated(announce=told.append)
    assert len(told) == 1
    assert without == announced
    assert without[-1][0] > 0, "the model should draw"
