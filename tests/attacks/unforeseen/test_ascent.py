"""What holds for every distortion: the ball, the pixels, the seed, the batch, and that an ascent ascends."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.attacks import ElasticAttack, FogAttack, GaborAttack, JPEGAttack, SnowAttack
from advss_tf.attacks.unforeseen import DISTORTIONS, make_attack, published_sizes
from advss_tf.errors import InvalidInput
from advss_tf.randomness import fold, seed_each, seed_for

EACH = pytest.mark.parametrize("name", DISTORTIONS)
# Steps that a short test can see, in the unit of each distortion's parameters; None is the default.
STEPS = {"fog": 0.05, "snow": 0.05, "gabor": 0.05}


def made(name, level=3, **options):
    options = {"num_steps": 5, "step_size": STEPS.get(name)} | options
    return make_attack(name, published_sizes(name)[0][level - 1], **options)


def weighted(shape):
    weights = tf.constant(np.random.default_rng(5).normal(size=shape), tf.float32)
    return lambda inputs: tf.reduce_sum(inputs["images"] * weights, [1, 2, 3])


@EACH
def test_a_gradient_that_is_not_finite_becomes_no_pixel(name):
    images = np.random.default_rng(0).random((2, 8, 8, 3), dtype=np.float32)

    def climb(inputs):
        return tf.reduce_sum(tf.sqrt(inputs["images"] * tf.constant([[[[0.0]]], [[[1.0]]]])), [1, 2, 3])

    assert np.isfinite(made(name, num_steps=2)(climb, {"images": images}, seed_for(0, 0, "attack"))["images"]).all()


@EACH
@pytest.mark.parametrize("shape", [(16, 16, 3), (8, 8, 1), (9, 13, 3), (12, 28, 1)], ids=str)
@pytest.mark.parametrize("level", [1, 6])
def test_images_stay_in_the_box_and_parameters_in_the_ball(name, shape, level):
    images = np.random.default_rng(0).random((2, *shape), dtype=np.float32)
    before, attack = images.copy(), made(name, level, num_steps=2)
    found = attack.run(weighted(shape), {"images": images}, seed_for(0, 0, "attack"))
    attacked = found.inputs["images"].numpy()
    assert attacked.shape == images.shape and attacked.min() >= 0 and attacked.max() <= 1
    excess = attack.threat.excess(found.parameters["images"], attack.threat.epsilon).numpy()
    assert excess.shape == (2,) and excess.max() <= 1e-5 * max(1, attack.threat.epsilon)
    np.testing.assert_array_equal(images, before)


@EACH
def test_parameters_outside_of_the_ball_are_found_out(name, images, seeds):
    attack = made(name, 1)
    parameters, _ = attack.draw(seeds, tf.constant(images), tf.fill([16], attack.threat.epsilon))
    outside = tf.concat([parameters[:1], parameters[1:] + 3.0], axis=0)
    excess = attack.threat.excess(outside, attack.threat.epsilon).numpy()
    assert excess[0] <= 1e-6 and excess[1:].min() > 1
    again = attack.threat.project(attack.threat.project(outside, 0.5), 0.5)
    np.testing.assert_allclose(again, attack.threat.project(outside, 0.5), atol=1e-6)


@EACH
def test_the_ascent_ends_above_its_random_start_and_more_steps_climb_higher(name, images, seeds, climb):
    # Faint snow cannot climb by much more than the budget takes back.
    level = 4 if name == "snow" else 3
    epsilon = made(name, level).threat.epsilon
    step_size = STEPS.get(name, epsilon / 4)
    heights = {}
    for steps in (2, 12):
        attack = made(name, level, num_steps=steps, step_size=step_size)
        heights[steps] = climb(attack(climb, {"images": images}, seeds)).numpy()
    sizes = tf.fill([16], epsilon)
    # `run` folds the seed by the number of the input.
    parameters, fixed = attack.draw(fold(seeds, 0), tf.constant(images), sizes)
    start = climb({"images": attack.render(tf.constant(images), parameters, fixed, sizes)}).numpy()
    assert np.mean(heights[12] >= start) >= 0.9, (heights[12] - start).round(3)
    assert heights[12].mean() > heights[2].mean() > start.mean()
    assert heights[12].mean() > start.mean() + 0.1


@EACH
def test_the_seed_decides_and_nothing_else(name, images, climb):
    attack = made(name, num_steps=2)
    one, again, other = (
        attack(climb, {"images": images}, seed_for(run, 0, "attack"))["images"].numpy() for run in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 1e-3


@EACH
def test_with_one_seed_an_image_nobody_depends_on_the_batch(name, images, seeds):
    attack, score = made(name), weighted((16, 16, 3))
    together = attack(score, {"images": images}, seeds)["images"].numpy()
    rows = [11, 2, 7]
    apart = attack(score, {"images": images[rows]}, tf.gather(seeds, rows))["images"].numpy()
    # Rounding differs with the size of a batch; a sign that turns over by it is one parameter of hundreds.
    assert np.mean(np.abs(together[rows] - apart) < 1e-4) > 0.99


@EACH
def test_eager_graph_and_an_unknown_batch_agree(name, images, seeds):
    attack, score = made(name, num_steps=3), weighted((16, 16, 3))
    run = lambda some, each: attack(score, {"images": some}, each)["images"]  # noqa: E731
    known = tf.function(run)
    unknown = tf.function(run, input_signature=[tf.TensorSpec((None, 16, 16, 3)), tf.TensorSpec((None, 2), tf.int32)])
    eager = run(tf.constant(images), seeds)
    for compiled in (known, unknown):
        assert np.mean(np.abs(compiled(tf.constant(images), seeds) - eager) < 1e-4) > 0.99
    assert unknown(tf.constant(images[:3]), seeds[:3]).shape == (3, 16, 16, 3)


@EACH
def test_the_size_may_be_a_tensor_or_one_per_image(name, images, seeds):
    attack, score = made(name, num_steps=3), weighted((16, 16, 3))
    small, large = published_sizes(name)[0][1:3]
    mixed = attack(score, {"images": images}, seeds, epsilon=np.where(np.arange(16) % 2, large, small))["images"]
    for first, size in ((0, small), (1, large)):
        alone = attack(score, {"images": images}, seeds, epsilon=tf.constant(size))["images"]
        assert np.mean(np.abs(mixed[first::2] - alone[first::2]) < 1e-4) > 0.99
    assert np.abs(attack(score, {"images": images}, seeds, epsilon=small)["images"] - mixed).max() > 1e-3


@EACH
def test_the_graph_does_not_grow_with_the_steps(name, images):
    def operations(num_steps):
        attack = made(name, num_steps=num_steps)
        step = tf.function(lambda some: attack(weighted((16, 16, 3)), {"images": some}, seed_for(0, 0, "attack")))
        graph = step.get_concrete_function(tf.TensorSpec((16, 16, 16, 3))).graph.as_graph_def()
        return len(graph.node) + sum(len(function.node_def) for function in graph.library.function)

    assert operations(3) == operations(200)


def test_batch_norm_statistics_stay_as_they_were(tiny_encoder, tiny_images):
    before = [variable.numpy() for variable in tiny_encoder.variables]
    score = lambda inputs: tf.reduce_sum(tiny_encoder(inputs["images"], training=True), axis=1)  # noqa: E731
    attack = ElasticAttack(1.0, num_steps=2)
    run = lambda some: attack(score, {"images": some}, seed_for(0, 0, "attack"))  # noqa: E731
    for call in (run, tf.function(run)):
        assert np.isfinite(call(tf.constant(tiny_images))["images"]).all()
        for variable, value in zip(tiny_encoder.variables, before, strict=True):
            np.testing.assert_array_equal(variable, value)


def test_several_inputs_are_distorted_each_by_its_own_parameters(images, seeds):
    score = lambda inputs: tf.reduce_sum(inputs["one"] * inputs["two"], [1, 2, 3])  # noqa: E731
    found = GaborAttack(25.0, num_steps=2).run(score, {"one": images, "two": images}, seeds)
    assert set(found.inputs) == set(found.parameters) == {"one", "two"}
    assert np.abs(found.parameters["one"] - found.parameters["two"]).max() > 1e-3
    assert (score(found.inputs) > score({"one": images, "two": images})).numpy().all()


@pytest.mark.parametrize("make", [ElasticAttack, JPEGAttack])
def test_published_steps_shrink_with_the_root_of_their_number(make):
    """The file of calibrations has 8 / sqrt(200) = 0.565685… for elastic at 8."""
    np.testing.assert_allclose(make(8.0).step_length(tf.constant([8.0, 0.0])), [0.565685424949238, 0.0], rtol=1e-6)
    assert make(8.0).num_steps == 200
    np.testing.assert_allclose(make(8.0, num_steps=16).step_length(tf.constant([8.0])), [2.0])
    np.testing.assert_allclose(make(8.0, step_size=0.1).step_length(tf.constant([8.0])), [0.1])


@pytest.mark.parametrize("make", [FogAttack, SnowAttack, GaborAttack])
def test_where_the_ball_does_not_grow_the_step_does_not(make):
    np.testing.assert_allclose(make(8.0).step_length(tf.constant([8.0, 512.0])), [0.002236, 0.002236])
    np.testing.assert_allclose(make(8.0, num_steps=50).step_length(tf.constant([8.0])), [0.004472])


@EACH
def test_a_configuration_makes_the_same_attack(name):
    attack = made(name, num_steps=7)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(attack))
    assert type(copy) is type(attack) and copy.get_config() == attack.get_config()
    assert repr(copy) == repr(attack) and f"epsilon={attack.threat.epsilon}" in repr(attack)
    assert attack.threat.norm == name and name in repr(attack.threat)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: ElasticAttack(-1.0), "`epsilon` is out of its range"),
        (lambda: ElasticAttack("8/255"), "`epsilon` is out of its range"),
        (lambda: FogAttack(float("nan")), "`epsilon` is out of its range"),
        (lambda: SnowAttack(1.0, num_steps=0), "`num_steps` is out of its range"),
        (lambda: SnowAttack(1.0, flake_length=12), "an odd integer >= 5"),
        (lambda: GaborAttack(1.0, step_size=-0.1), "`step_size` is out of its range"),
        (lambda: GaborAttack(1.0, moves="none"), "`moves` is not known"),
        (lambda: JPEGAttack(1.0, norm="l3"), "`norm` is not known"),
        (lambda: make_attack("rain", 1.0), "`name` is not known"),
    ],
)
def test_what_makes_no_attack_is_refused(make, words):
    with pytest.raises(InvalidInput, match=words):
        make()


@pytest.mark.parametrize("shape", [(2, 7, 8, 3), (2, 8, 8, 4), (2, 8, 8)], ids=str)
def test_what_is_no_image_is_refused(shape):
    with pytest.raises(InvalidInput, match="'images' cannot be distorted"):
        ElasticAttack(1.0)(weighted(shape[1:]), {"images": np.zeros(shape, np.float32)}, seed_each([0, 1], tf.range(2)))
