"""The fast adaptive boundary attack: exact on linear models, and step for step the algorithm of the paper."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.attacks.fab import FastAdaptiveBoundary
from advss_tf.attacks.threat import L2, Linf, Threat
from advss_tf.errors import InvalidInput
from advss_tf.randomness import seed_each, seed_for

SEED = seed_for(0, 0, "attack")
FAR = [Linf(1.0), L2(10.0)]
EACH_FAR = pytest.mark.parametrize("threat", FAR, ids=repr)
RNG = np.random.default_rng(3)
WEIGHTS = RNG.normal(size=(192, 4)).astype(np.float32)


def gray(tiny_images):
    """Images so far inside the box that the nearest boundary is reached before its border."""
    return 0.45 + 0.1 * tiny_images


def linear(weights=WEIGHTS, *, offset=-1.0):
    """Rivals that lose by one at gray 0.5."""
    return lambda inputs: tf.reshape(inputs["images"] - 0.5, (-1, len(weights))) @ weights + offset


def of_network(network, images, *, margin=0.03):
    """Two rivals of a network's prediction, (batch, 2), shifted so that the nearer one loses by `margin`."""
    predicted = np.argmax(network(images), axis=1)
    others = np.array([[k for k in range(3) if k != label] for label in predicted])

    def differences(images):
        logits = tf.cast(network(images), tf.float32)
        return tf.gather(logits, others, batch_dims=1) - tf.gather(logits, predicted[:, None], batch_dims=1)

    shift = tf.reduce_max(differences(images), axis=1, keepdims=True) + margin
    return lambda inputs: differences(inputs["images"]) - shift


# The algorithm --------------------------------------------------------------------------------------------------------


def nearest(point, normal, value, *, norm):
    """Shortest move to value + normal·move = 0 within [0, 1]: what is clipped is found by bisection."""
    sign = 1.0 if value >= 0 else -1.0
    speed = (normal != 0) if norm == "linf" else np.abs(normal)

    def move(time):
        return np.clip(point - sign * np.sign(normal) * time * speed, 0, 1) - point

    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if sign * (value + normal @ move(middle)) > 0 else (low, middle)
    return move(high)


def boundary_attack(differences, gradients, image, *, norm, num_steps, start=None):
    """Croce and Hein 2020, algorithm 1, for one flat image in float64: the crossings, the best point, its distance."""
    alpha_max, eta, beta = 0.1, 1.05, 0.9
    order = np.inf if norm == "linf" else 2
    dual = 1 if norm == "linf" else 2
    point, best, distance, crossings = image if start is None else start, image, np.inf, []
    for _ in range(num_steps):
        values, slopes = differences(point), gradients(point)
        chosen = np.argmin(np.abs(values) / np.linalg.norm(slopes, dual, axis=1))
        value, slope = values[chosen], slopes[chosen]
        move = nearest(point, slope, value, norm=norm)
        from_image = nearest(image, slope, value + slope @ (image - point), norm=norm)
        near, far = np.linalg.norm(move, order), np.linalg.norm(from_image, order)
        alpha = min(near / (near + far), alpha_max)
        point = np.clip((1 - alpha) * (point + eta * move) + alpha * (image + eta * from_image), 0, 1)
        crossings.append(point)
        if differences(point).max() > 0:
            if np.linalg.norm(point - image, order) < distance:
                best, distance = point, np.linalg.norm(point - image, order)
            point = image + beta * (point - image)
    return np.array(crossings), best, distance


# A small smooth model of 12 pixels and 3 rivals: d_k(x) = sum_i A_ik sin(3 x_i + k) - 1.5.
SMOOTH = np.random.default_rng(5).normal(size=(3, 12))
PHASES = np.arange(3.0)[:, None]


def smooth_numpy(point):
    return np.sum(SMOOTH * np.sin(3 * point + PHASES), axis=1) - 1.5


def smooth_gradients(point):
    return 3 * SMOOTH * np.cos(3 * point + PHASES)


def smooth(inputs):
    flat = tf.reshape(inputs["images"], (-1, 1, 12))
    return tf.reduce_sum(SMOOTH.astype(np.float32) * tf.sin(3 * flat + PHASES.astype(np.float32)), axis=2) - 1.5


def smooth_images():
    images = np.random.default_rng(8).random((40, 2, 2, 3), dtype=np.float32)
    images[:, 0, 0, 0], images[:, 1, 1, 1] = 0.0, 1.0
    return images[np.array(smooth({"images": images})).max(1) < -0.2][:8]


@pytest.mark.parametrize("num_steps", [1, 2, 9])
@EACH_FAR
def test_every_step_is_the_one_of_the_paper(threat, num_steps):
    images = smooth_images()
    seen = []

    def watched(inputs):
        seen.append(inputs["images"].numpy().reshape(len(images), 12))
        return smooth(inputs)

    result = FastAdaptiveBoundary(threat, num_steps=num_steps).run(watched, {"images": images}, SEED)
    crossings = np.stack(seen[2::2], axis=1)  # the image, and then at each step: where it starts and where it ends
    assert len(images) == 8 and crossings.shape[1] == num_steps and len(seen) == 1 + 2 * num_steps
    for number, image in enumerate(images.reshape(-1, 12).astype(np.float64)):
        options = {"norm": threat.norm, "num_steps": num_steps}
        path, best, distance = boundary_attack(smooth_numpy, smooth_gradients, image, **options)
        np.testing.assert_allclose(crossings[number], path, atol=2e-4)
        np.testing.assert_allclose(result.distances[number], distance, atol=2e-4)
        np.testing.assert_allclose(np.reshape(result.inputs["images"][number], -1), best, atol=2e-4)
    assert np.isfinite(result.distances).any()


@pytest.mark.parametrize("columns", [1, 4])
@EACH_FAR
def test_on_a_linear_model_the_distance_is_the_minimum_and_half_a_percent(threat, columns, tiny_images):
    images, weights = gray(tiny_images), WEIGHTS[:, :columns]
    values = linear(weights)({"images": images}).numpy()
    assert (values < 0).all()
    shortest = np.min(-values / np.linalg.norm(weights, 1 if threat.norm == "linf" else 2, axis=0), axis=1)
    found = FastAdaptiveBoundary(threat, num_steps=20).run(linear(weights), {"images": images}, SEED)
    ratio = found.distances / shortest
    assert (ratio > 1).numpy().all() and (ratio <= 1.0055).numpy().all()


@EACH_FAR
def test_on_a_linear_model_the_box_is_taken_into_account(threat, tiny_images, size):
    """Two thirds of the pixels stand at the border: many cannot move to where the rival gains."""
    images = np.where(tiny_images < 1 / 3, 0, np.where(tiny_images > 2 / 3, 1, tiny_images)).astype(np.float32)
    weights = WEIGHTS[:, :1]
    losing = linear(weights, offset=-60.0)
    values = losing({"images": images}).numpy()[:, 0].astype(np.float64)
    moves = [
        nearest(image, weights[:, 0].astype(np.float64), value, norm=threat.norm)
        for image, value in zip(images.reshape(8, -1).astype(np.float64), values, strict=True)
    ]
    found = FastAdaptiveBoundary(threat, num_steps=20).run(losing, {"images": images}, SEED)
    free = -values / np.linalg.norm(weights[:, 0], 1 if threat.norm == "linf" else 2)
    ratio = found.distances / size(threat, np.array(moves))
    assert (ratio > 0.9999).numpy().all() and (ratio <= 1.01).numpy().all()
    assert (found.distances > 1.1 * free).numpy().all(), "the border of the box would not have mattered"


@EACH_FAR
def test_all_rivals_at_once_find_what_the_best_of_the_targeted_runs_finds(threat, tiny_images):
    attack, inputs = FastAdaptiveBoundary(threat, num_steps=10), {"images": gray(tiny_images)}
    together = attack.run(linear(), inputs, SEED).distances
    each = [attack.run(linear(WEIGHTS[:, k : k + 1]), inputs, SEED).distances for k in range(4)]
    assert len(set(np.argmin(each, axis=0))) > 1, "one rival is the nearest to all images"
    np.testing.assert_allclose(together, np.min(each, axis=0), rtol=1e-4)


def test_a_step_costs_one_backward_pass_for_each_column(tiny_images):
    backward, forward = [], []

    @tf.custom_gradient
    def counted(images):
        forward.append(1)

        def gradient(upstream):
            backward.append(1)
            return upstream

        return tf.identity(images), gradient

    for columns in (1, 3):
        backward.clear(), forward.clear()
        rivals = linear(WEIGHTS[:, :columns])
        attack = FastAdaptiveBoundary(Linf(0.1), num_steps=5)
        attack(
            lambda inputs, rivals=rivals: rivals({"images": counted(inputs["images"])}), {"images": tiny_images}, SEED
        )
        assert len(backward) == 5 * columns and len(forward) == 1 + 2 * 5


# What is returned -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("threat", "num_restarts"), [(Linf(0.01), 1), (L2(0.1), 2)], ids=repr)
def test_what_is_returned_lies_in_the_ball_and_the_box(threat, num_restarts, network, tiny_images, size):
    before = tiny_images.copy()
    attack = FastAdaptiveBoundary(threat, num_steps=3, num_restarts=num_restarts)
    differences = of_network(network, tiny_images)
    result = attack.run(differences, {"images": tiny_images}, SEED)
    found = result.inputs["images"].numpy()
    inside = result.distances.numpy() <= threat.epsilon
    assert 0 < inside.sum() < 8, "the ball tells no example from another"
    assert found.min() >= 0 and found.max() <= 1
    np.testing.assert_allclose(size(threat, found - tiny_images)[inside], result.distances[inside], rtol=1e-5)
    np.testing.assert_array_equal(found[~inside], tiny_images[~inside])
    assert (differences({"images": found}).numpy().max(1) > 0).tolist() == inside.tolist()
    np.testing.assert_array_equal(tiny_images, before)
    called = attack(differences, {"images": tiny_images}, SEED)
    assert set(called) == {"images"}
    np.testing.assert_array_equal(called["images"], found)


@EACH_FAR
def test_epsilon_says_what_is_returned_and_not_what_is_found(threat, tiny_images):
    attack, inputs = FastAdaptiveBoundary(threat, num_steps=5), {"images": gray(tiny_images)}
    distances = attack.run(linear(), inputs, SEED).distances.numpy()
    radii = distances * np.where(np.arange(8) % 2, 1.001, 0.999).astype(np.float32)
    for epsilon in (radii, float(np.median(distances)), tf.constant(np.median(distances))):
        result = attack.run(linear(), inputs, SEED, epsilon=epsilon)
        np.testing.assert_array_equal(result.distances, distances)
        moved = np.any(result.inputs["images"] != inputs["images"], axis=(1, 2, 3))
        np.testing.assert_array_equal(moved, distances <= np.array(epsilon))
        assert 0 < moved.sum() < 8


@EACH_FAR
def test_where_nothing_is_found_the_image_comes_back(threat, tiny_images):
    hopeless = linear(offset=-1e6)
    for differences in (hopeless, lambda inputs: tf.fill((8, 2), -1.0)):
        result = FastAdaptiveBoundary(threat, num_steps=3).run(differences, {"images": tiny_images}, SEED)
        assert np.isinf(result.distances).all()
        np.testing.assert_array_equal(result.inputs["images"], tiny_images)


@EACH_FAR
def test_an_image_that_is_fooled_already_is_its_own_closest_point(threat, tiny_images):
    offsets = np.where(np.arange(8) < 3, 100.0, -1.0).astype(np.float32)[:, None]
    mixed = lambda inputs: linear(offset=0.0)(inputs) + offsets  # noqa: E731
    result = FastAdaptiveBoundary(threat, num_steps=5).run(mixed, {"images": gray(tiny_images)}, SEED)
    assert (result.distances[:3] == 0).numpy().all() and (result.distances[3:] > 0).numpy().all()
    np.testing.assert_array_equal(result.inputs["images"][:3], gray(tiny_images)[:3])


def test_who_is_fooled_can_be_said_by_another_closure(tiny_images):
    """FAB-T steers towards one target and counts every misclassification, as AutoAttack does."""
    inputs, unreachable = {"images": gray(tiny_images)}, linear(WEIGHTS[:, :1], offset=-1e6)
    attack, third = FastAdaptiveBoundary(Linf(1.0), num_steps=3), linear(WEIGHTS[:, :1])
    assert np.isinf(attack.run(unreachable, inputs, SEED).distances).all()
    loose = attack.run(unreachable, inputs, SEED, fooled=lambda inputs: third(inputs)[:, 0] > 0)
    assert np.isfinite(loose.distances).all() and (third(loose.inputs) > 0).numpy().all()


# Restarts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threat", [Linf(0.02), L2(0.05)], ids=repr)
def test_restarts_begin_at_half_the_best_distance_or_half_of_epsilon(threat, tiny_images, size):
    images, seen = gray(tiny_images), []

    def watched(inputs):
        seen.append(inputs["images"].numpy())
        return linear()(inputs)

    FastAdaptiveBoundary(threat, num_steps=1, num_restarts=2).run(watched, {"images": images}, SEED)
    best = FastAdaptiveBoundary(threat, num_steps=1).run(linear(), {"images": images}, SEED).distances
    assert len(seen) == 1 + 2 * 2
    np.testing.assert_allclose(size(threat, seen[3] - images), 0.5 * np.minimum(best, threat.epsilon), rtol=1e-3)
    assert (np.array(best) < threat.epsilon).any()
    np.testing.assert_array_equal(seen[1], images)


@EACH_FAR
def test_restarts_find_a_nearer_boundary_and_follow_the_seed(threat):
    """One pixel at 0.5: the slope leads to the boundary at 0.9, and from 0.3, but not from 0.7, to the one at 0.4."""
    inputs = {"images": np.full((16, 1, 1, 1), 0.5, np.float32)}

    def two_boundaries(inputs):
        pixel = inputs["images"][:, 0, 0]
        return tf.maximum(pixel - 0.9, 20 * (0.4 - pixel))

    def distances(num_restarts, seed):
        attack = FastAdaptiveBoundary(threat, num_steps=5, num_restarts=num_restarts)
        return attack.run(two_boundaries, inputs, seed).distances.numpy()

    one, two, four = (distances(number, SEED) for number in (1, 2, 4))
    np.testing.assert_allclose(one, 0.4, rtol=6e-3)
    near = two < 0.2
    assert 2 < near.sum() < 14
    np.testing.assert_allclose(two, np.where(near, 0.1, 0.4), rtol=6e-3)
    assert (four <= two).all() and (four < 0.2).sum() > near.sum()
    np.testing.assert_array_equal(two, distances(2, SEED))
    assert ((distances(2, seed_for(0, 1, "attack")) < 0.2) != near).any()


@EACH_FAR
def test_an_example_does_not_depend_on_the_others_of_its_batch(threat):
    images, seeds = smooth_images(), seed_each(SEED, tf.range(8))
    attack = FastAdaptiveBoundary(threat, num_steps=4, num_restarts=2)
    together = attack.run(smooth, {"images": images}, seeds)
    for rows in (slice(2, 3), slice(3, 7)):
        part = attack.run(smooth, {"images": images[rows]}, seeds[rows])
        np.testing.assert_allclose(part.inputs["images"], together.inputs["images"][rows], atol=1e-5)
        np.testing.assert_allclose(part.distances, together.distances[rows], atol=1e-5)


# Where it runs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("threat", "options"), [(FAR[0], {}), (FAR[1], {"jit_compile": True})], ids=["graph", "xla"])
def test_eager_graph_and_xla_agree(threat, options, network, tiny_images):
    attack = FastAdaptiveBoundary(threat, num_steps=3)
    differences = of_network(network, tiny_images)
    run = lambda images: attack.run(differences, {"images": images}, SEED)  # noqa: E731
    eager, compiled = run(tf.constant(tiny_images)), tf.function(run, **options)(tf.constant(tiny_images))
    np.testing.assert_allclose(compiled.distances, eager.distances, rtol=1e-2)
    assert np.isfinite(eager.distances).all()


def test_a_graph_may_leave_the_batch_size_open():
    images, attack = smooth_images(), FastAdaptiveBoundary(L2(10.0), num_steps=3, num_restarts=2)
    signature = [tf.TensorSpec((None, 2, 2, 3))]
    run = tf.function(lambda images: attack.run(smooth, {"images": images}, SEED), input_signature=signature)
    for rows in (8, 3):
        eager = attack.run(smooth, {"images": images[:rows]}, SEED)
        np.testing.assert_allclose(run(images[:rows]).distances, eager.distances, atol=1e-4)


@pytest.mark.slow
def test_xla_compiles_restarts():
    # XLA draws other random numbers, which lead to the same minimum of the smooth model.
    attack, images = FastAdaptiveBoundary(Linf(1.0), num_steps=8, num_restarts=2), tf.constant(smooth_images())
    run = lambda images: attack.run(smooth, {"images": images}, SEED).distances  # noqa: E731
    np.testing.assert_allclose(tf.function(run, jit_compile=True)(images), run(images), rtol=1e-2)


def test_the_graph_grows_neither_with_the_steps_nor_with_the_rivals(tiny_images):
    weights = np.random.default_rng(0).normal(size=(192, 30)).astype(np.float32)

    def operations(num_steps, columns):
        attack = FastAdaptiveBoundary(Linf(0.1), num_steps=num_steps)
        rivals = linear(weights[:, :columns])
        step = tf.function(lambda images: attack(rivals, {"images": images}, SEED))
        graph = step.get_concrete_function(tf.constant(tiny_images)).graph.as_graph_def()
        return sum(len(function.node_def) for function in graph.library.function) + len(graph.node)

    assert operations(40, 2) == operations(2, 2) == operations(2, 30) >= operations(2, 1)


def test_batch_norm_statistics_stay_as_they_were(network, tiny_images):
    before = [variable.numpy() for variable in network.variables]
    attack = FastAdaptiveBoundary(Linf(0.1), num_steps=2)
    training = lambda inputs: network(inputs["images"], training=True)  # noqa: E731
    run = lambda images: attack(training, {"images": images}, SEED)["images"]  # noqa: E731
    for found in (run(tiny_images), tf.function(run)(tiny_images)):
        assert np.isfinite(found).all()
    for variable, value in zip(network.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_a_mixed_precision_network_is_attacked_in_float32(tiny_images, size):
    policy = keras.dtype_policies.DTypePolicy("mixed_bfloat16")
    network = keras.Sequential([keras.layers.Flatten(dtype=policy), keras.layers.Dense(3, dtype=policy)])
    attack, differences = FastAdaptiveBoundary(Linf(1.0), num_steps=3), of_network(network, tiny_images)
    result = attack.run(differences, {"images": tiny_images}, SEED)
    assert result.inputs["images"].dtype == tf.float32 and result.distances.dtype == tf.float32
    found = np.isfinite(result.distances)
    assert found.sum() > 4
    np.testing.assert_allclose(size(Linf(0), result.inputs["images"] - tiny_images)[found], result.distances[found])


# Doors ----------------------------------------------------------------------------------------------------------------


def test_an_attack_is_its_config():
    attack = FastAdaptiveBoundary(L2(0.5), num_steps=7, num_restarts=2, alpha_max=0.2, overshoot=1.1, backward=0.8)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(attack))
    assert isinstance(copy, FastAdaptiveBoundary)
    assert copy.get_config() == attack.get_config() and repr(copy) == repr(attack)
    assert repr(attack) == (
        "FastAdaptiveBoundary(threat=L2(epsilon=0.5), num_steps=7, num_restarts=2, alpha_max=0.2, overshoot=1.1, "
        "backward=0.8)"
    )


class L1(Threat):
    norm = "l1"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: FastAdaptiveBoundary(L1(0.1)), "`norm` is not known"),
        (lambda: FastAdaptiveBoundary(Linf(0.1), num_steps=0), "`num_steps` is too small"),
        (lambda: FastAdaptiveBoundary(Linf(0.1), num_restarts=True), "`num_restarts` is too small"),
        (lambda: FastAdaptiveBoundary(Linf(0.1), alpha_max=1.5), "`alpha_max` is out of its range"),
        (
            lambda: FastAdaptiveBoundary(Linf(0.1), overshoot=0.9),
            "Expected: a finite number >= 1. Received: overshoot=0.9",
        ),
        (lambda: FastAdaptiveBoundary(Linf(0.1), overshoot=float("nan")), "`overshoot` is out of its range"),
        (lambda: FastAdaptiveBoundary(Linf(0.1), backward=0.0), "`backward` is out of its range"),
    ],
)
def test_impossible_settings_are_refused(make, words):
    with pytest.raises(InvalidInput, match=re.escape(words)):
        make()


def test_other_than_one_input_is_refused(tiny_images):
    attack = FastAdaptiveBoundary(Linf(0.1))
    for inputs in ({}, {"one": tiny_images, "two": tiny_images}):
        with pytest.raises(InvalidInput, match=re.escape("`inputs` with exactly one entry")):
            attack(linear(), inputs, SEED)


@pytest.mark.parametrize("shape", [(8,), (8, 0), (8, 2, 1)], ids=str)
def test_differences_without_columns_are_refused(shape, tiny_images):
    with pytest.raises(InvalidInput, match=re.escape(f"Received: shape={shape}")):
        FastAdaptiveBoundary(Linf(0.1))(lambda inputs: tf.zeros(shape), {"images": tiny_images}, SEED)
