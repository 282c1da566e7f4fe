"""The attack loop: equal to cleverhans, inside the ball, and leaving everything else as it was."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from cleverhans.tf2.attacks.projected_gradient_descent import projected_gradient_descent

from advss_tf.attacks import L2, FastGradient, Linf, ProjectedGradientDescent, get_threat
from advss_tf.errors import InvalidInput
from advss_tf.losses import cross_entropy
from advss_tf.randomness import seed_for

SEED = seed_for(0, 0, "attack")
THREATS = [Linf("8/255"), L2(0.5)]


def climb_of(network, labels, **options):
    return lambda inputs: cross_entropy(network(inputs["images"], **options), labels)


@pytest.mark.parametrize("threat", THREATS, ids=repr)
@pytest.mark.parametrize("num_steps", [1, 7])
def test_pgd_equals_cleverhans_from_the_same_start(threat, num_steps, network, tiny_images, tiny_labels):
    step_size = threat.epsilon / 4
    ours = ProjectedGradientDescent(threat, num_steps=num_steps, step_size=step_size, random_start=False)
    found = ours(climb_of(network, tiny_labels), {"images": tiny_images}, SEED)["images"]
    theirs = projected_gradient_descent(
        network, tf.constant(tiny_images), threat.epsilon, step_size, num_steps, threat.order,
        clip_min=0.0, clip_max=1.0, y=tiny_labels, rand_init=False,
    )  # fmt: skip
    np.testing.assert_allclose(found, theirs, atol=1e-6)
    assert np.abs(found - tiny_images).max() > 0.005


@pytest.mark.parametrize("keep", ["last", "best"])
@pytest.mark.parametrize("num_restarts", [1, 3])
@pytest.mark.parametrize("threat", THREATS, ids=repr)
def test_pgd_stays_inside_the_ball_and_the_box(threat, num_restarts, keep, network, tiny_images, tiny_labels, size):
    attack = ProjectedGradientDescent(threat, num_steps=3, num_restarts=num_restarts, keep=keep)
    before = tiny_images.copy()
    found = attack(climb_of(network, tiny_labels), {"images": tiny_images}, SEED)["images"].numpy()
    assert size(threat, found - tiny_images).max() <= threat.epsilon + 1e-6
    assert found.min() >= 0 and found.max() <= 1
    np.testing.assert_array_equal(tiny_images, before)


def test_the_random_start_does_not_move_the_centre_of_the_ball(tiny_images):
    """Public code once projected around the noised image, which doubles the budget."""
    attack = ProjectedGradientDescent(Linf(0.1), num_steps=20, step_size=0.1)
    found = attack(lambda inputs: tf.reduce_sum(inputs["images"], [1, 2, 3]), {"images": tiny_images}, SEED)["images"]
    np.testing.assert_allclose(found, np.minimum(tiny_images + 0.1, 1), atol=1e-6)


@pytest.mark.parametrize("threat", THREATS, ids=repr)
def test_random_starts_are_uniform_in_the_ball(threat, size):
    noise = threat.random(SEED, (2000, 2, 2, 1), 0.5).numpy()
    sizes = size(threat, noise)
    assert sizes.max() <= 0.5 + 1e-6
    assert abs(noise.mean()) < 0.02
    # P(size <= r) = (r / epsilon) ** dimensions, so this power of the size is uniform: its mean is 1/2.
    assert abs(np.mean((sizes / 0.5) ** 4) - 0.5) < 0.03


@pytest.mark.parametrize("options", [{}, {"keep": "best"}, {"num_restarts": 2}], ids=["last", "best", "restarts"])
def test_batch_norm_statistics_stay_as_they_were(options, network, tiny_images, tiny_labels):
    """Traced as well, where what a pass inside the loop made of the statistics cannot be read behind it."""
    before = [variable.numpy() for variable in network.variables]
    attack = ProjectedGradientDescent(Linf(0.1), num_steps=2, batch_norm="training", **options)
    step = tf.function(lambda images: attack(climb_of(network, tiny_labels, training=True), {"images": images}, SEED))
    for found in (
        attack(climb_of(network, tiny_labels, training=True), {"images": tiny_images}, SEED),
        step(tiny_images),
    ):
        assert np.isfinite(found["images"]).all()
        for variable, value in zip(network.variables, before, strict=True):
            np.testing.assert_array_equal(variable, value)


@pytest.mark.parametrize("threat", [L2(0.5), Linf(0.5)], ids=repr)
def test_tiny_gradients_still_take_a_full_step(threat, size):
    images = np.full((2, 4, 4, 1), 0.5, np.float32)
    attack = ProjectedGradientDescent(threat, num_steps=1, step_size=0.25, random_start=False)
    found = attack(lambda inputs: 5e-12 * tf.reduce_sum(inputs["images"], [1, 2, 3]), {"images": images}, SEED)[
        "images"
    ]
    np.testing.assert_allclose(size(threat, found - images), 0.25, rtol=1e-5)


def test_a_zero_gradient_moves_nothing(tiny_images):
    for threat in THREATS:
        attack = ProjectedGradientDescent(threat, random_start=False)
        found = attack(lambda inputs: tf.zeros(len(tiny_images)), {"images": tiny_images}, SEED)["images"]
        np.testing.assert_array_equal(found, tiny_images)


def test_a_gradient_that_is_not_finite_moves_no_pixel(tiny_images):
    start = tf.concat([tf.zeros_like(tiny_images[:1]), tiny_images[1:]], 0)
    for threat in THREATS:
        attack = ProjectedGradientDescent(threat, random_start=False)
        found = attack(lambda inputs: tf.reduce_sum(tf.sqrt(inputs["images"]), [1, 2, 3]), {"images": start}, SEED)
        np.testing.assert_array_equal(found["images"][0], start[0])
        assert np.isfinite(found["images"]).all() and np.abs(found["images"][1:] - start[1:]).max() > 0


def test_several_inputs_move_together_each_in_its_own_ball(tiny_images, size):
    inputs = {"one": tiny_images, "two": tiny_images[::-1]}

    def climb(points):
        return tf.reduce_sum(points["one"] * points["two"], [1, 2, 3])

    found = ProjectedGradientDescent(Linf(0.05), num_steps=5)(climb, inputs, SEED)
    assert set(found) == {"one", "two"}
    for name in found:
        assert size(Linf(0.05), found[name] - inputs[name]).max() <= 0.05 + 1e-6
    assert (climb(found) > climb(inputs)).numpy().all()


@pytest.mark.parametrize("threat", THREATS, ids=repr)
def test_epsilon_may_be_a_tensor_or_one_per_example(threat, network, tiny_images, tiny_labels, size):
    attack = ProjectedGradientDescent(threat, num_steps=4, random_start=False)
    climb = climb_of(network, tiny_labels)
    radii = np.linspace(0.0, 0.3, 8).astype(np.float32)
    together = attack(climb, {"images": tiny_images}, SEED, epsilon=radii)["images"]
    assert (size(threat, together - tiny_images) <= radii + 1e-6).all()
    alone = attack(climb, {"images": tiny_images}, SEED, epsilon=tf.constant(radii[5]))["images"]
    np.testing.assert_allclose(together[5], alone[5], atol=1e-5)
    np.testing.assert_array_equal(together[0], tiny_images[0])


@pytest.mark.parametrize("options", [{}, {"jit_compile": True}], ids=["graph", "xla"])
@pytest.mark.parametrize("threat", THREATS, ids=repr)
def test_eager_graph_and_xla_agree(threat, options, network, tiny_images, tiny_labels):
    # XLA draws other random numbers than TensorFlow's kernels, so all start at the images.
    attack = ProjectedGradientDescent(threat, num_steps=3, random_start=False, keep="best")
    run = lambda images: attack.run(climb_of(network, tiny_labels), {"images": images}, SEED)  # noqa: E731
    eager, compiled = run(tf.constant(tiny_images)), tf.function(run, **options)(tf.constant(tiny_images))
    # A sign can turn over where a gradient is zero up to rounding, so the height is compared, not each pixel.
    np.testing.assert_allclose(eager.climb, compiled.climb, rtol=1e-3)
    assert np.mean(np.abs(eager.inputs["images"] - compiled.inputs["images"]) < 1e-5) > 0.98


def test_the_graph_does_not_grow_with_the_steps(network, tiny_images, tiny_labels):
    def operations(num_steps):
        attack = ProjectedGradientDescent(Linf(0.1), num_steps=num_steps)
        step = tf.function(lambda images: attack(climb_of(network, tiny_labels), {"images": images}, SEED))
        return len(step.get_concrete_function(tf.constant(tiny_images)).graph.as_graph_def(add_shapes=False).node)

    assert operations(40) == operations(2)


def test_keep_best_never_falls_below_any_iterate(tiny_images):
    """A step as long as the ball jumps over the summit and back: the last point is not the best one."""

    def climb(points):
        return -tf.reduce_sum(tf.square(points["images"] - tiny_images - 0.03), [1, 2, 3])

    options = {"num_steps": 4, "step_size": 0.05, "random_start": False}
    images = {"images": tiny_images}
    last = climb(ProjectedGradientDescent(Linf(0.05), keep="last", **options)(climb, images, SEED))
    result = ProjectedGradientDescent(Linf(0.05), keep="best", **options).run(climb, images, SEED)
    np.testing.assert_allclose(result.climb, climb(result.inputs), rtol=1e-6)
    assert (result.climb >= last).numpy().all() and (result.climb > last).numpy().any()


def test_more_restarts_climb_at_least_as_high(network, tiny_images, tiny_labels):
    heights = []
    for num_restarts in (1, 4):
        attack = ProjectedGradientDescent(Linf(0.1), num_steps=2, num_restarts=num_restarts, keep="best")
        heights.append(attack.run(climb_of(network, tiny_labels), {"images": tiny_images}, SEED).climb.numpy())
    assert (heights[1] >= heights[0] - 1e-6).all() and heights[1].sum() > heights[0].sum()


def test_same_seed_same_picture_other_seed_another(network, tiny_images, tiny_labels):
    attack = ProjectedGradientDescent(Linf(0.1), num_steps=1)
    one, same, other = (
        attack(climb_of(network, tiny_labels), {"images": tiny_images}, seed_for(0, step, "attack"))["images"]
        for step in (3, 3, 4)
    )
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0


def test_a_mixed_precision_network_is_attacked_in_float32(tiny_images, tiny_labels, size):
    policy = keras.dtype_policies.DTypePolicy("mixed_bfloat16")
    network = keras.Sequential([keras.layers.Flatten(dtype=policy), keras.layers.Dense(3, dtype=policy)])
    network(tiny_images)
    attack = ProjectedGradientDescent(Linf("8/255"), num_steps=3)
    result = attack.run(climb_of(network, tiny_labels), {"images": tiny_images}, SEED)
    assert result.inputs["images"].dtype == tf.float32 and result.climb.dtype == tf.float32
    # A bfloat16 perturbation would be off by up to 2**-9 of a pixel near one.
    assert size(Linf(0), result.inputs["images"] - tiny_images).max() <= 8 / 255 + 1e-6


def test_strength_is_reported(tiny_images):
    climb = lambda points: tf.reduce_sum(points["images"], [1, 2, 3])  # noqa: E731
    middle = {"images": 0.4 + 0.2 * tiny_images}
    result = ProjectedGradientDescent(Linf(0.1), num_steps=5).run(climb, middle, SEED)
    np.testing.assert_allclose(result.at_bound, 1.0)
    none = ProjectedGradientDescent(Linf(0.1), num_steps=1, step_size=0.05, random_start=False)
    np.testing.assert_allclose(none.run(climb, middle, SEED).at_bound, 0.0)
    np.testing.assert_allclose(ProjectedGradientDescent(L2(0.1)).run(climb, middle, SEED).at_bound, 1.0)


def test_fast_gradient_is_one_step_of_the_whole_radius(tiny_images):
    middle = {"images": 0.4 + 0.2 * tiny_images}
    found = FastGradient(Linf(0.1))(lambda points: -tf.reduce_sum(points["images"], [1, 2, 3]), middle, SEED)["images"]
    np.testing.assert_allclose(found, middle["images"] - 0.1, atol=1e-6)


@pytest.mark.parametrize(
    "attack",
    [
        ProjectedGradientDescent(L2(0.5), num_steps=3, num_restarts=2, keep="best", batch_norm="training"),
        FastGradient(Linf("8/255"), random_start=True),
    ],
    ids=repr,
)
def test_an_attack_is_its_config(attack):
    copy = type(attack).from_config(attack.get_config())
    assert copy.get_config() == attack.get_config() and repr(copy) == repr(attack)


@pytest.mark.parametrize("attack", [ProjectedGradientDescent(L2(0.5), num_steps=3), FastGradient(Linf(0.1))], ids=repr)
def test_in_inference_it_is_the_same_attack_but_for_batch_norm(attack):
    assert attack.in_inference() is attack
    other = type(attack).from_config({**attack.get_config(), "batch_norm": "training"})
    assert other.in_inference().get_config() == attack.get_config() != other.get_config()
    assert type(other.in_inference()) is type(attack)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Linf(-0.1), "`epsilon` is not a number of pixels. Expected: a finite number >= 0"),
        (lambda: L2("eight"), "Received: epsilon='eight'"),
        (lambda: Linf(float("nan")), "`epsilon` is not a number of pixels"),
        (lambda: get_threat("l1", 1.0), "`norm` is not known"),
        (lambda: ProjectedGradientDescent(Linf(0.1), num_steps=0), "`num_steps` is too small"),
        (lambda: ProjectedGradientDescent(Linf(0.1), num_restarts=1.5), "`num_restarts` is too small"),
        (lambda: ProjectedGradientDescent(Linf(0.1), step_size=0.2), "`step_size` does not fit the ball"),
        (lambda: ProjectedGradientDescent(Linf(0.1), keep="first"), "`keep` is not known"),
        (lambda: ProjectedGradientDescent(Linf(0.1), batch_norm="train"), "did you mean 'training'?"),
        (lambda: ProjectedGradientDescent(Linf(0.1), random_start=False, num_restarts=2), "all find the same point"),
    ],
)
def test_impossible_settings_are_refused(make, words):
    with pytest.raises(InvalidInput, match=re.escape(words)):
        make()
