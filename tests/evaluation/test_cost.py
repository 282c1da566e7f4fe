"""The estimate against passes that were counted and times that are worked out by hand; and what it leaves alone."""

from __future__ import annotations

import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.attacks import Attack, AutoPGD, FastAdaptiveBoundary, Linf, ProjectedGradientDescent, SquareAttack
from advss_tf.evaluation import Estimate, cost, estimate, evaluate
from advss_tf.evaluation.attempts import Attempt, Plan, plan_attempts
from advss_tf.evaluation.autoattack import autoattack
from advss_tf.evaluation.batches import Batches
from advss_tf.evaluation.cost import CostRow
from advss_tf.evaluation.models import Classifier
from advss_tf.evaluation.run import Run

BALL = Linf(0.1)


class Silent(ProjectedGradientDescent):
    """An attack that does not say what it costs."""

    passes = None


class Quiet(ProjectedGradientDescent):
    """Another, with the base class's method, which refuses."""

    passes = Attack.passes


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


def counted_and_estimated(attempt: Attempt) -> tuple[tuple[float, float], CostRow]:
    """Passes an image in balls of two sizes, counted on a model that nothing fools, and their estimate."""
    plan, batches = Plan("attacks", "linf", (0.05, 0.1), (attempt,)), batches_of(4)
    (batch,) = batches
    run = Run(plan, Classifier(unbeatable, batch.images), batches, seed=0, progress=None, started=time.perf_counter())
    run.attack_batch(0, batch)
    costs = [run.costs[attempt.name, eps] for eps in plan.epsilons]
    counted = sum(each.forward for each in costs) / 4, sum(each.backward for each in costs) / 4
    return counted, estimated(plan, batches).rows[1]


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=[attempt.name for attempt in ATTEMPTS])
def test_on_a_model_that_nothing_fools_the_passes_are_those_that_are_counted(attempt):
    counted, row = counted_and_estimated(attempt)
    assert (row.attack, row.runs, row.epsilons) == (attempt.name, attempt.num_restarts, 2)
    assert (row.forward, row.backward) == counted
    assert row.forward > 0


def test_restarts_that_an_attack_keeps_to_itself_are_counted():
    attack = FastAdaptiveBoundary(BALL, num_steps=5, num_restarts=3)
    (forward, backward), row = counted_and_estimated(Attempt("fab", attack, 1, "differences"))
    assert row.backward == backward == 2 * 3 * 5 * 4
    # The images are looked at once, not once a start: at each epsilon two passes fewer.
    assert row.forward == forward + 4


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


def test_replicas_take_the_time_of_their_share(monkeypatch):
    """A forward pass of an image takes 0.1 s, a gradient 0.2 s more; of 5 images one of two devices has 3."""
    monkeypatch.setattr(cost, "_measured", lambda classifier, shape: cost._Pace(0.1 * shape[0], 0.2 * shape[0]))
    plan = plan_attempts(attacks={"pgd-4": ProjectedGradientDescent(BALL, num_steps=4)}, epsilons=0.1)
    for size, share in ((20, 0.5), (5, 0.6)):
        batches = batches_of(2 * size, batch_size=size)
        classifier = Classifier(unbeatable, next(iter(batches)).images)
        one, two = (estimate(plan, classifier, batches, replicas=count).rows for count in (1, 2))
        assert one[1].seconds == pytest.approx(2 * size * (5 * 0.1 + 4 * 0.2))
        assert two[1].seconds == pytest.approx(share * one[1].seconds)
        # Not shared, but made in pieces of a share.
        assert two[0].seconds == pytest.approx(2 * share * one[0].seconds)


@pytest.mark.parametrize("kind", [Silent, Quiet])
def test_an_attack_that_does_not_say_is_unknown(paced, kind):
    attacks = {"mine": kind(BALL, num_steps=4), "pgd-4": ProjectedGradientDescent(BALL, num_steps=4)}
    made = estimated(plan_attempts(attacks=attacks), batches_of(4))
    assert made.rows[1] == CostRow("mine", 1, 1, None, None, None)
    assert made.unknown == ("mine",)
    assert made.seconds == 2.0 + 22.0
    assert made.lines()[2].split() == ["mine", "1", "unknown", "unknown"]
    assert made.lines()[-1] == "total ≤ 24 s, and what mine will take"


@pytest.mark.parametrize("kind", [Silent, Quiet])
def test_an_attack_that_does_not_say_is_run_all_the_same(linear, kind):
    data, told = (linear.images, linear.labels), []
    record = evaluate(linear, data, attacks={"a": kind(BALL, num_steps=2)}, epsilons=0.02, progress=told.append)
    other = evaluate(linear, data, attacks={"a": ProjectedGradientDescent(BALL, num_steps=2)}, epsilons=0.02)
    assert [row.correct for row in record.results] == [row.correct for row in other.results]
    assert told[-1].seconds_left == 0.0


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
