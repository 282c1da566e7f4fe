"""The Square Attack: inside the ball, never falling, and the same in parts and in any company."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.attacks import L2, Linf, Threat
from advss_tf.attacks.square import SquareAttack
from advss_tf.errors import InvalidInput
from advss_tf.randomness import seed_each, seed_for

SEED = seed_for(0, 0, "attack")
THREATS = [Linf(0.06), L2(0.6)]
EACH_THREAT = pytest.mark.parametrize("threat", THREATS, ids=repr)


# The ball, the box and the margin -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(8, 8, 3), (6, 13, 1), (13, 6, 3)], ids=str)
@EACH_THREAT
def test_it_stays_inside_the_ball_and_the_box_and_the_margin_never_falls(threat, shape, size, wavy):
    images, before = wavy.pictures(*shape), -np.inf
    for num_queries in (0, 1, 2, 5, 15):
        attack = SquareAttack(threat, num_queries=max(num_queries, 1))
        result = attack.run(wavy.margin_of(-50.0), {"images": images}, SEED, num_queries=num_queries)
        found = result.inputs["images"].numpy()
        assert size(threat, found - images).max() <= threat.epsilon + 1e-6
        assert found.min() >= 0 and found.max() <= 1
        np.testing.assert_array_equal(result.climb, wavy.margin_of(-50.0)(result.inputs))
        assert (result.climb >= before).numpy().all()
        before = result.climb
    assert (before > wavy.clean_margin(images) - 50).numpy().all()


@EACH_THREAT
def test_a_fooled_image_moves_no_more_and_the_search_stops_when_all_are_fooled(threat, wavy):
    images, calls = wavy.pictures(), []

    def margin(inputs):
        calls.append(1)
        return wavy.margin_of(0.1 - wavy.clean_margin(images))(inputs)

    found = SquareAttack(threat, num_restarts=3)(margin, {"images": images}, SEED)["images"]
    np.testing.assert_array_equal(found, images)
    assert len(calls) == 2


@EACH_THREAT
def test_a_model_without_robustness_is_fooled_entirely(threat, wavy):
    images = wavy.pictures()
    bias = -wavy.clean_margin(images) - 0.2
    result = SquareAttack(threat).run(wavy.margin_of(bias), {"images": images}, SEED, num_queries=200)
    assert (result.climb > 0).numpy().all()


@EACH_THREAT
def test_a_constant_model_is_never_fooled(threat, size, wavy):
    images = wavy.pictures()
    result = SquareAttack(threat, num_queries=20).run(lambda inputs: tf.zeros(6), {"images": images}, SEED)
    np.testing.assert_array_equal(result.climb, 0)
    assert size(threat, result.inputs["images"] - images).max() <= threat.epsilon + 1e-6


@EACH_THREAT
def test_a_margin_that_is_not_a_number_is_not_accepted(threat, wavy):
    images = {"images": wavy.pictures()}
    begin = SquareAttack(threat)(wavy.margin_of(-50.0), images, SEED, num_queries=0)

    def margin(inputs):
        moved = tf.reduce_any(inputs["images"] != begin["images"], [1, 2, 3])
        return tf.where(moved, float("nan"), -1.0)

    found = SquareAttack(threat)(margin, images, SEED, start=begin, num_queries=4)
    np.testing.assert_array_equal(found["images"], begin["images"])


@EACH_THREAT
def test_epsilon_may_be_one_per_example(threat, size, wavy):
    images = wavy.pictures()
    radii = np.linspace(0.0, 0.3, 6).astype(np.float32)
    attack = SquareAttack(threat, num_queries=15)
    seeds = seed_each(SEED, tf.range(6))
    found = attack(wavy.margin_of(-50.0), {"images": images}, seeds, epsilon=radii)["images"]
    assert (size(threat, found - images) <= radii + 1e-6).all()
    np.testing.assert_array_equal(found[0], images[0])
    alone = attack(wavy.margin_of(-50.0), {"images": images[4:5]}, seeds[4:5], epsilon=tf.constant(radii[4]))["images"]
    np.testing.assert_allclose(found[4:5], alone, atol=1e-6)


# Parts of a run -------------------------------------------------------------------------------------------------------


@EACH_THREAT
def test_a_run_in_parts_finds_what_one_run_finds_bit_for_bit(threat, wavy):
    images = {"images": wavy.pictures()}
    bias = wavy.hard_and_easy(images["images"], 1.5)
    attack = SquareAttack(threat, num_queries=40)
    whole = attack.run(wavy.margin_of(bias), images, SEED)
    parts = attack(wavy.margin_of(bias), images, SEED, num_queries=13)
    parts = attack(wavy.margin_of(bias), images, SEED, start=parts, first_query=13, num_queries=20)
    assert np.abs(parts["images"] - whole.inputs["images"]).max() > 0
    rest = attack.run(wavy.margin_of(bias), images, SEED, start=parts, first_query=33)
    np.testing.assert_array_equal(rest.inputs["images"], whole.inputs["images"])
    np.testing.assert_array_equal(rest.climb, whole.climb)


@EACH_THREAT
def test_an_example_moves_alike_whoever_stands_beside_it(threat, wavy):
    images, seeds = wavy.pictures(), seed_each(SEED, tf.range(10, 16))
    bias = wavy.hard_and_easy(images, 1.5)
    attack = SquareAttack(threat, num_queries=40, num_restarts=1)
    whole = attack(wavy.margin_of(bias), {"images": images}, seeds)["images"].numpy()
    part = attack(wavy.margin_of(bias), {"images": images}, seeds, num_queries=15)["images"].numpy()
    left = np.flatnonzero(wavy.margin_of(bias)({"images": part}) <= 0)[::-1]
    assert 0 < len(left) < 6
    some = attack(
        wavy.margin_of(bias[left]), {"images": images[left]}, tf.gather(seeds, left), start={"images": part[left]},
        first_query=15,
    )  # fmt: skip
    np.testing.assert_array_equal(some["images"], whole[left])


@EACH_THREAT
def test_restarts_keep_a_success_and_the_highest_margin(threat, wavy):
    images, seeds = {"images": wavy.pictures()}, seed_each(SEED, tf.range(6))
    bias = wavy.hard_and_easy(images["images"], 1.5)
    once, often = (
        SquareAttack(threat, num_queries=6, num_restarts=number).run(wavy.margin_of(bias), images, seeds)
        for number in (1, 4)
    )
    assert (often.climb >= once.climb).numpy().all() and (often.climb > once.climb).numpy().any()
    np.testing.assert_array_equal(often.climb, wavy.margin_of(bias)(often.inputs))
    fooled = once.climb > 0
    assert fooled.numpy().any()
    np.testing.assert_array_equal(often.inputs["images"][fooled], once.inputs["images"][fooled])


@EACH_THREAT
def test_same_seed_same_picture_other_seed_another(threat, wavy):
    images, attack = {"images": wavy.pictures()}, SquareAttack(threat, num_queries=3)
    one, same, other = (
        attack(wavy.margin_of(-50.0), images, seed_for(0, step, "attack"))["images"] for step in (3, 3, 4)
    )
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0


# Graphs, networks and configs -----------------------------------------------------------------------------------------


@EACH_THREAT
def test_a_graph_finds_what_the_eager_run_finds_also_with_an_unknown_batch(threat, wavy):
    images, seeds = wavy.pictures(), seed_each(SEED, tf.range(6))
    attack = SquareAttack(threat, num_queries=8)
    eager = attack(wavy.margin_of(-50.0), {"images": images}, seeds)["images"]
    known = tf.function(lambda x, seeds: attack(wavy.margin_of(-50.0), {"images": x}, seeds)["images"])
    unknown = tf.function(known.python_function, input_signature=[
        tf.TensorSpec((None, 8, 8, 3), tf.float32), tf.TensorSpec((None, 2), tf.int32),
    ])  # fmt: skip
    np.testing.assert_allclose(known(images, seeds), eager, atol=1e-5)
    np.testing.assert_allclose(unknown(images, seeds), eager, atol=1e-5)
    assert unknown(images[:0], seeds[:0]).shape == (0, 8, 8, 3)


@EACH_THREAT
def test_one_graph_runs_every_part(threat, wavy):
    images, attack = {"images": tf.constant(wavy.pictures())}, SquareAttack(threat, num_queries=30)
    begin = attack(wavy.margin_of(-50.0), images, SEED, num_queries=0)

    @tf.function
    def go_on(points, first, number):
        return attack(
            wavy.margin_of(-50.0), images, SEED, start={"images": points}, first_query=first, num_queries=number
        )["images"]

    points = go_on(begin["images"], tf.constant(0), tf.constant(12))
    points = go_on(points, tf.constant(12), tf.constant(18))
    assert go_on.experimental_get_tracing_count() == 1
    np.testing.assert_allclose(points, attack(wavy.margin_of(-50.0), images, SEED)["images"], atol=1e-5)


@EACH_THREAT
def test_compiled_by_xla_it_climbs_inside_the_ball(threat, size, wavy):
    """XLA draws other numbers, so the points are others."""
    images, attack = {"images": tf.constant(wavy.pictures())}, SquareAttack(threat, num_queries=30)
    result = tf.function(lambda: attack.run(wavy.margin_of(-50.0), images, SEED), jit_compile=True)()
    assert size(threat, result.inputs["images"] - images["images"]).max() <= threat.epsilon + 1e-6
    assert (result.climb > wavy.clean_margin(wavy.pictures()) - 50).numpy().all()


@EACH_THREAT
def test_the_graph_does_not_grow_with_the_queries(threat, wavy):
    def operations(num_queries):
        attack = SquareAttack(threat, num_queries=num_queries, num_restarts=2)
        step = tf.function(lambda images: attack(wavy.margin_of(), {"images": images}, SEED))
        return len(step.get_concrete_function(tf.constant(wavy.pictures())).graph.as_graph_def().node)

    assert operations(5000) == operations(2)


def test_batch_norm_statistics_stay_as_they_were_and_margins_are_float32(tiny_encoder, tiny_images):
    before = [variable.numpy() for variable in tiny_encoder.variables]
    attack = SquareAttack(Linf(0.1), num_queries=3)
    result = attack.run(
        lambda inputs: tf.cast(tiny_encoder(inputs["images"], training=True)[:, 0] - 9.0, tf.bfloat16),
        {"images": tiny_images.astype(np.float16)}, SEED,
    )  # fmt: skip
    assert result.climb.dtype == tf.float32 and result.inputs["images"].dtype == tf.float32
    for variable, value in zip(tiny_encoder.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_an_attack_is_its_config():
    attack = SquareAttack(L2(0.5), num_queries=70, p_init=0.3, num_restarts=2)
    copy = SquareAttack.from_config(attack.get_config())
    assert copy.get_config() == attack.get_config() and repr(copy) == repr(attack)
    assert repr(attack) == "SquareAttack(threat=L2(epsilon=0.5), num_queries=70, p_init=0.3, num_restarts=2)"
    loaded = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(attack))
    assert repr(loaded) == repr(attack)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SquareAttack(Threat(0.1)), "`norm` is not known"),
        (lambda: SquareAttack("linf"), "`norm` is not known"),
        (lambda: SquareAttack(Linf(0.1), num_queries=0), "`num_queries` is too small. Expected: an integer >= 1"),
        (lambda: SquareAttack(Linf(0.1), num_restarts=1.5), "`num_restarts` is too small"),
        (lambda: SquareAttack(Linf(0.1), p_init=0.0), "Expected: a number in (0, 1]. Received: p_init=0.0"),
        (lambda: SquareAttack(Linf(0.1), p_init=1.1), "`p_init` is out of its range"),
        (lambda: SquareAttack(Linf(0.1), p_init=float("nan")), "`p_init` is out of its range"),
    ],
)
def test_impossible_settings_are_refused(make, words):
    with pytest.raises(InvalidInput, match=re.escape(words)):
        make()


IMAGES = {"images": np.full((6, 8, 8, 3), 0.5, np.float32)}


@pytest.mark.parametrize(
    ("inputs", "options", "words"),
    [
        ({}, {}, "with exactly one entry. Received: inputs=[]"),
        ({"b": IMAGES["images"], "a": IMAGES["images"]}, {}, "one batch of images"),
        ({"images": IMAGES["images"][0]}, {}, "`inputs['images']` is not a batch of images of a known size"),
        (IMAGES, {"first_query": 3}, "Expected: `start` or first_query=0. Received: first_query=3"),
        (IMAGES, {"first_query": tf.constant(3)}, "A run goes on from its points"),
        (IMAGES, {"start": IMAGES, "first_query": -1}, "`first_query` is no count. Expected: an integer >= 0"),
        (IMAGES, {"num_queries": 1.5}, "`num_queries` is no count"),
        (IMAGES, {"start": {"image": IMAGES["images"]}}, "`start` does not fit `inputs`"),
        (IMAGES, {"start": {"images": IMAGES["images"][:2]}}, "Received: start={'images': '(2, 8, 8, 3)'}"),
    ],
)
def test_impossible_calls_are_refused(inputs, options, words, wavy):
    with pytest.raises(InvalidInput, match=re.escape(words)):
        SquareAttack(Linf(0.1))(wavy.margin_of(), inputs, SEED, **options)


def test_a_run_with_restarts_does_not_go_on(wavy):
    with pytest.raises(InvalidInput, match="A run that goes on has one start"):
        SquareAttack(Linf(0.1), num_restarts=2)(wavy.margin_of(), IMAGES, SEED, start=IMAGES)
