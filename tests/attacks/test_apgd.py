"""Auto-PGD: step for step the algorithm of its paper, inside the ball, and never giving up a success."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.attacks import L2, Linf, ProjectedGradientDescent, Threat
from advss_tf.attacks.apgd import AutoPGD, Judged
from advss_tf.errors import InvalidInput
from advss_tf.losses import cross_entropy
from advss_tf.randomness import seed_each, seed_for

SEED = seed_for(0, 0, "attack")
THREATS = [Linf(0.1), L2(0.8)]
EACH_THREAT = pytest.mark.parametrize("threat", THREATS, ids=repr)


@pytest.fixture
def smooth():
    """A two-layer tanh network of 4x4x1 images: TensorFlow's climb, NumPy's value and gradient by hand, the images."""
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=(16, 6)), rng.normal(size=6)
    images = rng.random((8, 4, 4, 1), dtype=np.float32)

    def climb(inputs):
        hidden = tf.tanh(tf.reshape(tf.cast(inputs["images"], tf.float64), (-1, 16)) @ first)
        return tf.linalg.matvec(hidden, second)

    def by_hand(image):
        hidden = np.tanh(image.reshape(16) @ first)
        return hidden @ second, (first @ (second * (1 - hidden**2))).reshape(image.shape)

    return climb, by_hand, images


# The algorithm, for one image, in float64 -----------------------------------------------------------------------------


def _nearest(point, center, threat):
    """P_S: the ball, then the box."""
    move = point - center
    if threat.norm == "linf":
        move = np.clip(move, -threat.epsilon, threat.epsilon)
    elif np.linalg.norm(move) > threat.epsilon:
        move = move * threat.epsilon / np.linalg.norm(move)
    return np.clip(center + move, 0, 1)


def _steepest(gradient, threat):
    return np.sign(gradient) if threat.norm == "linf" else gradient / np.linalg.norm(gradient)


def reference(look, center, threat, num_steps, *, rho=0.75, first=0.0):
    """Algorithm 1 of Croce and Hein 2020 -> best point, its value, how often either condition alone asked for a half.

    `look(k, x)` says what the path finds where it stands after step k, which should be x: point, value, gradient; after
    step 0 it stands at its start. `first` is what the first step is compared with: 0 in the authors' code, the value of
    the start in the paper (None).
    """
    center = center.astype(np.float64)
    x, value, gradient = look(0, None)
    before = x
    history = [value if first is None else first]
    best, best_value, best_gradient = x, value, gradient
    step, halved_before, value_before, asked = 2 * threat.epsilon, True, value, [0, 0]
    w, period, since = 0, max(int(0.22 * num_steps), 1), 0
    for k in range(num_steps):
        z = _nearest(x + step * _steepest(gradient, threat), center, threat)
        a = 1.0 if k == 0 else 0.75
        after = _nearest(x + a * (z - x) + (1 - a) * (x - before), center, threat)
        before = x
        x, value, gradient = look(k + 1, after)
        history.append(value)
        if value > best_value:
            best, best_value, best_gradient = x, value, gradient
        since += 1
        if since == period:
            rises = sum(history[i + 1] > history[i] for i in range(w, w + period))
            one, two = rises <= rho * period, not halved_before and value_before >= best_value
            asked = [asked[0] + (one and not two), asked[1] + (two and not one)]
            halved_before, value_before = one or two, best_value
            if halved_before:
                step, x, gradient = step / 2, best, best_gradient
            w, since = w + period, 0
            period = max(period - max(int(0.03 * num_steps), 1), int(0.06 * num_steps), 1)
    return best, best_value, np.array(asked)


# What a pixel may be off after one step: half a dozen float32 operations on numbers below 2, each of which rounds by up
# to 2**-24 = 6e-8. The largest difference over all comparisons is 5e-8 for Linf and 9e-8 for L2.
ROUNDING = 3e-7


class Watched:
    """A closure that notes the points where it is asked, and the float32 numbers that it gives: what an attack sees.

    Left to itself, the float64 reference parts from the attack: near a summit a step may rise by 2e-8, which float32
    does not see, so a size is halved at one checkpoint here and at another there. So each step of the reference begins
    where the attack stands, with the values that the attack compares, and no decision hangs on rounding; gradients are
    the reference's own.
    """

    def __init__(self, climb):
        self.climb, self.points, self.values = climb, [], []

    def __call__(self, inputs):
        values = tf.cast(self.climb(inputs), tf.float32)
        self.points.append(np.concatenate([inputs[name] for name in sorted(inputs)], axis=1))
        self.values.append(values.numpy())
        return values

    def followed(self, number, by_hand):
        """The `look` of one image, which holds each step against that of the attack."""

        def look(k, expected):
            point = self.points[k][number].astype(np.float64)
            if expected is not None:
                np.testing.assert_allclose(point, expected, rtol=0, atol=ROUNDING, err_msg=f"step {k}")
            return point, float(self.values[k][number]), by_hand(point)[1]

        return look


def starts_of(attack, inputs, seed=SEED):
    """Where the paths begin: if every point wins, the first is kept."""
    return attack(lambda points: Judged(tf.zeros(len(next(iter(inputs.values())))), tf.ones(8, tf.bool)), inputs, seed)


@EACH_THREAT
@pytest.mark.parametrize("rho", [0.75, 0.3])
@pytest.mark.parametrize("num_steps", [1, 2, 5, 12, 30, 100])
def test_every_step_is_that_of_the_paper(threat, num_steps, rho, smooth):
    climb, by_hand, images = smooth
    watched = Watched(climb)
    found = AutoPGD(threat, num_steps=num_steps, rho=rho).run(watched, {"images": images}, SEED)
    assert len(watched.points) == num_steps + 1
    np.testing.assert_allclose(watched.values, [[by_hand(x)[0] for x in each] for each in watched.points], rtol=1e-6)
    asked = 0
    for number, image in enumerate(images):
        look = watched.followed(number, by_hand)
        point, value, each = reference(look, image, threat, num_steps, rho=rho)
        np.testing.assert_array_equal(found.inputs["images"][number], point)
        assert found.climb[number] == value
        asked += each
    # Both reasons to halve a step are met alone in the longest of the comparisons.
    assert num_steps < 100 or rho == 0.75 or (asked > 0).all()


def test_the_first_step_is_compared_with_zero_as_in_the_authors_code(smooth):
    """And not with the start: below zero, it never counts as one that rose."""
    climb, by_hand, images = smooth
    watched, threat = Watched(lambda inputs: climb(inputs) - 20.0), L2(0.8)
    AutoPGD(threat, num_steps=5).run(watched, {"images": images}, SEED)
    parted = 0
    for number, image in enumerate(images):
        look = watched.followed(number, by_hand)
        reference(look, image, threat, 5)
        try:
            reference(look, image, threat, 5, first=None)
        except AssertionError:
            parted += 1
    assert parted == len(images)


# What holds whatever the closure --------------------------------------------------------------------------------------


def climb_of(network, labels):
    return lambda inputs: cross_entropy(network(inputs["images"]), labels)


def total(inputs):
    return tf.reduce_sum(inputs["images"], [1, 2, 3])


@EACH_THREAT
def test_the_start_is_scaled_to_the_bound(threat, tiny_images, size):
    middle = {"images": 0.4 + 0.2 * tiny_images * (threat.norm == "linf")}
    found = starts_of(AutoPGD(threat), middle)["images"] - middle["images"]
    np.testing.assert_allclose(size(threat, found), threat.epsilon, rtol=1e-5)
    assert len(np.unique(np.round(found, 5))) > 500


@EACH_THREAT
@pytest.mark.parametrize("num_restarts", [1, 2])
def test_no_point_leaves_the_ball_or_the_box(threat, num_restarts, network, tiny_images, tiny_labels, size):
    seen = []

    def climb(inputs):
        seen.append(inputs["images"].numpy())
        return climb_of(network, tiny_labels)(inputs)

    before = tiny_images.copy()
    AutoPGD(threat, num_steps=6, num_restarts=num_restarts)(climb, {"images": tiny_images}, SEED)
    assert len(seen) == num_restarts * 7
    for points in seen:
        assert size(threat, points - before).max() <= threat.epsilon + 1e-6
        assert points.min() >= 0 and points.max() <= 1
    np.testing.assert_array_equal(tiny_images, before)


def test_the_summit_of_a_linear_function_is_found(tiny_images):
    found = AutoPGD(Linf(0.1), num_steps=3)(total, {"images": tiny_images}, SEED)["images"]
    np.testing.assert_allclose(found, np.minimum(tiny_images + 0.1, 1), atol=1e-6)
    middle = 0.4 + 0.2 * tiny_images
    result = AutoPGD(L2(0.5), num_steps=10).run(total, {"images": middle}, SEED)
    # Near the summit of a ball the value is flat: points this far apart have the same sum in float32.
    np.testing.assert_allclose(result.inputs["images"], middle + 0.5 / np.sqrt(192), atol=5e-4)
    np.testing.assert_allclose(result.climb, total({"images": middle}) + 0.5 * np.sqrt(192), rtol=1e-6)
    np.testing.assert_allclose(result.at_bound, 1.0)
    np.testing.assert_allclose(result.climb, total(result.inputs), rtol=1e-6)


@EACH_THREAT
def test_a_success_is_kept_though_other_points_climb_higher(threat, tiny_images):
    """Even examples win below a height that the path leaves at its first step; odd ones never do."""
    middle = {"images": 0.4 + 0.2 * tiny_images}
    even = tf.range(8) % 2 == 0
    for num_restarts in (1, 3):
        attack = AutoPGD(threat, num_steps=5, num_restarts=num_restarts)
        starts = starts_of(attack, middle)["images"]
        edge = total({"images": starts}) + 1e-3
        judge = lambda inputs, edge=edge: Judged(total(inputs), even & (total(inputs) <= edge))  # noqa: E731
        result = attack.run(judge, middle, SEED)
        np.testing.assert_array_equal(result.inputs["images"][::2], starts[::2])
        np.testing.assert_allclose(result.climb, total(result.inputs), rtol=1e-6)
        assert (result.climb[1::2] > edge[1::2] + 0.5).numpy().all()


def test_the_loop_ends_when_all_have_won(tiny_images):
    calls = []

    def climb(inputs):
        calls.append(1)
        return Judged(total(inputs), tf.fill((8,), len(calls) == 4))

    AutoPGD(Linf(0.1), num_steps=50, num_restarts=3)(climb, {"images": tiny_images}, SEED)
    assert len(calls) == 4


def test_a_later_start_wins_for_those_that_have_not(tiny_images):
    """A start costs two looks; examples 0 to 3 win in the first start, the others at the third look."""
    calls = []

    def climb(inputs):
        calls.append(inputs["images"].numpy())
        return Judged(total(inputs), tf.range(8) < 4 if len(calls) == 2 else tf.fill((8,), len(calls) == 3))

    found = AutoPGD(Linf(0.1), num_steps=1, num_restarts=5)(climb, {"images": tiny_images}, SEED)["images"]
    np.testing.assert_array_equal(found, np.concatenate([calls[1][:4], calls[2][4:]]))
    assert len(calls) == 3


@EACH_THREAT
def test_auto_pgd_climbs_at_least_as_high_as_pgd(threat, network, tiny_images, tiny_labels):
    """Mean over eight images and two seeds, 21 looks each."""
    heights = {}
    for attack in (AutoPGD(threat, num_steps=20), ProjectedGradientDescent(threat, num_steps=20, keep="best")):
        runs = [
            attack.run(climb_of(network, tiny_labels), {"images": tiny_images}, seed_for(run, 0, "attack"))
            for run in range(2)
        ]
        heights[type(attack).__name__] = np.mean([run.climb for run in runs])
    assert heights["AutoPGD"] >= heights["ProjectedGradientDescent"] - 1e-5, heights


@EACH_THREAT
def test_an_example_with_its_own_seed_does_not_see_its_batch(threat, smooth):
    climb, _, images = smooth
    attack = AutoPGD(threat, num_steps=12, num_restarts=2)
    seeds = seed_each(SEED, tf.range(8))
    judge = lambda inputs: Judged(climb(inputs), climb(inputs) > 0)  # noqa: E731
    together = attack.run(judge, {"images": images}, seeds)
    few = attack.run(judge, {"images": images[2:5]}, seeds[2:5])
    np.testing.assert_allclose(together.inputs["images"][2:5], few.inputs["images"], atol=1e-5)
    one, same, other = (attack(climb, {"images": images}, seed)["images"] for seed in (SEED, SEED, seeds))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0


def test_several_inputs_share_their_step_size_each_in_its_own_ball(smooth):
    """Linf treats pixels one by one, so two inputs are one image of twice the pixels."""
    climb, by_hand, images = smooth
    inputs = {"one": images[:, :2], "two": images[:, 2:]}
    watched = Watched(lambda points: climb({"images": tf.concat([points["one"], points["two"]], 1)}))
    found = AutoPGD(Linf(0.1), num_steps=12).run(watched, inputs, SEED)
    for number, image in enumerate(images):
        point, value, _ = reference(watched.followed(number, by_hand), image, Linf(0.1), 12)
        np.testing.assert_array_equal(tf.concat([found.inputs["one"], found.inputs["two"]], 1)[number], point)
        assert found.climb[number] == value


@EACH_THREAT
def test_epsilon_may_be_one_per_example(threat, smooth, size):
    climb, _, images = smooth
    radii = np.linspace(0.0, 0.3, 8).astype(np.float32)
    together = AutoPGD(threat, num_steps=5)(climb, {"images": images}, SEED, epsilon=radii)["images"]
    assert (size(threat, together - images) <= radii + 1e-6).all()
    np.testing.assert_array_equal(together[0], images[0])
    alone = AutoPGD(threat, num_steps=5)(climb, {"images": images}, SEED, epsilon=tf.constant(radii[5]))["images"]
    np.testing.assert_allclose(together[5], alone[5], atol=1e-6)


@pytest.mark.parametrize(
    "compiled", [None, False, pytest.param(True, marks=pytest.mark.slow)], ids=["eager", "graph", "xla"]
)
def test_gradients_of_a_random_closure_are_averaged_over_fresh_draws(compiled, tiny_images):
    """Dropout of one half: the mean of many draws is near the sum, one draw is not; no seed moves."""
    dropout = keras.layers.Dropout(0.5, seed=3)
    dropout(tiny_images)
    before = [variable.numpy() for variable in dropout.variables]
    zero = {"images": np.zeros_like(tiny_images)}
    spread = {}
    for eot_samples in (1, 100):
        attack = AutoPGD(Linf(1.0), num_steps=1, eot_samples=eot_samples)
        run = lambda images, attack=attack: attack.run(  # noqa: E731
            lambda inputs: total({"images": dropout(inputs["images"], training=True)}), {"images": images}, SEED
        )
        result = (run if compiled is None else tf.function(run, jit_compile=compiled))(tf.constant(zero["images"]))
        spread[eot_samples] = np.abs(result.climb - total(result.inputs)).mean()
    assert spread[100] < 3.5 < spread[1]
    for variable, value in zip(dropout.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_batch_norm_statistics_stay_as_they_were(network, tiny_images, tiny_labels):
    before = [variable.numpy() for variable in network.variables]
    climb = lambda inputs: cross_entropy(network(inputs["images"], training=True), tiny_labels)  # noqa: E731
    attack = AutoPGD(Linf(0.1), num_steps=2, num_restarts=2)
    assert np.isfinite(tf.function(lambda images: attack(climb, {"images": images}, SEED))(tiny_images)["images"]).all()
    for variable, value in zip(network.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_a_gradient_that_is_not_a_number_moves_nothing(tiny_images):
    seen = []

    def climb(inputs):
        seen.append(inputs["images"].numpy())
        return total({"images": tf.sqrt(inputs["images"] * 0.0)})

    AutoPGD(L2(0.5), num_steps=3)(climb, {"images": tiny_images}, SEED)
    assert len(seen) == 4
    for points in seen:
        np.testing.assert_allclose(points, seen[0], atol=1e-6)


@pytest.mark.parametrize(
    "options", [{}, pytest.param({"jit_compile": True}, marks=pytest.mark.slow)], ids=["graph", "xla"]
)
@EACH_THREAT
def test_compiled_attacks_climb_as_high(threat, options, smooth):
    # XLA draws other random numbers than TensorFlow's kernels, so a linear function is climbed, with one summit.
    images = 0.4 + 0.2 * smooth[2]
    attack = AutoPGD(threat, num_steps=10)
    run = tf.function(lambda images: attack.run(total, {"images": images}, SEED), **options)
    np.testing.assert_allclose(run(images).climb, attack.run(total, {"images": images}, SEED).climb, rtol=1e-4)


def test_a_batch_of_unknown_size_is_attacked(smooth):
    climb, _, images = smooth
    attack = AutoPGD(L2(0.8), num_steps=3, num_restarts=2, eot_samples=2)
    run = tf.function(
        lambda images: attack(climb, {"images": images}, SEED), input_signature=[tf.TensorSpec((None, 4, 4, 1))]
    )
    np.testing.assert_allclose(run(images)["images"], attack(climb, {"images": images}, SEED)["images"], atol=1e-5)


def test_the_graph_does_not_grow_with_the_steps(tiny_images):
    def operations(**options):
        attack = AutoPGD(Linf(0.1), **options)
        step = tf.function(lambda images: attack(total, {"images": images}, SEED))
        graph = step.get_concrete_function(tf.constant(tiny_images)).graph.as_graph_def()
        return len(graph.node) + sum(len(function.node_def) for function in graph.library.function)

    few = operations(num_steps=2, num_restarts=2, eot_samples=2)
    assert operations(num_steps=100, num_restarts=9, eot_samples=20) == few


# Configs and refusals -------------------------------------------------------------------------------------------------


def test_an_attack_is_its_config():
    attack = AutoPGD(L2(0.5), num_steps=7, num_restarts=2, rho=0.5, eot_samples=3)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(attack))
    assert copy.get_config() == attack.get_config() and repr(copy) == repr(attack)
    assert repr(attack) == "AutoPGD(threat=L2(epsilon=0.5), num_steps=7, num_restarts=2, rho=0.5, eot_samples=3)"


class _L1(Threat):
    norm = "l1"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_steps": 0}, "`num_steps` is too small"),
        ({"num_restarts": 1.5}, "`num_restarts` is too small"),
        ({"eot_samples": 0}, "`eot_samples` is too small"),
        ({"rho": 0.0}, "`rho` is out of its range. Expected: a number in (0, 1]. Received: rho=0.0"),
        ({"rho": 1.5}, "`rho` is out of its range"),
        ({"threat": _L1(1.0)}, "`norm` is not known"),
    ],
)
def test_impossible_settings_are_refused(options, words):
    with pytest.raises(InvalidInput, match=re.escape(words)):
        AutoPGD(**{"threat": Linf(0.1)} | options)


def test_a_closure_that_returns_a_mean_is_refused(tiny_images):
    for climb, words in (
        (lambda inputs: tf.reduce_mean(inputs["images"]), "`values` of one number per example. Expected: shape (8,)"),
        (lambda inputs: Judged(total(inputs), tf.constant(True)), "`won` of one number per example"),
    ):
        with pytest.raises(InvalidInput, match=re.escape(words)):
            AutoPGD(Linf(0.1))(climb, {"images": tiny_images}, SEED)
