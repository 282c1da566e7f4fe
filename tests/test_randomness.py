"""Seeds from (run seed, step, role), and draws that do not depend on the number of replicas."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from advss_tf.randomness import (
    batch_balanced,
    batch_normal,
    batch_uniform,
    derived_seed,
    drawing_for_xla,
    fold,
    role_number,
    seed_each,
    seed_for,
)
from advss_tf.training.strategy import get_strategy


def test_each_of_run_step_and_role_changes_the_seed():
    seeds = [seed_for(run, step, role) for run in (0, 1) for step in (0, 1, 2) for role in ("attack", "pose")]
    assert len({tuple(seed.numpy()) for seed in seeds}) == len(seeds)
    assert seeds[0].shape == (2,) and seeds[0].dtype == tf.int32


def test_a_seed_is_the_same_in_graphs_and_from_tensors():
    traced = tf.function(lambda step: seed_for(3, step, "attack"))
    np.testing.assert_array_equal(traced(tf.constant(7)), seed_for(3, 7, "attack"))
    np.testing.assert_array_equal(traced(tf.constant(7, tf.int64)), seed_for(3, 7, "attack"))


def test_seeds_stay_what_they_were():
    """Literals: a change here would change every run that is resumed or repeated."""
    assert role_number("attack") == 1203776827
    assert derived_seed(0, "encoder") != derived_seed(1, "encoder")
    np.testing.assert_array_equal(fold([1, 2], 3), tf.random.fold_in([1, 2], 3, alg="philox"))


def test_draws_are_of_their_distributions():
    uniform = batch_uniform(seed_for(0, 0, "a"), (4000, 3), -1.0, 1.0).numpy()
    assert uniform.min() >= -1 and uniform.max() < 1 and abs(uniform.mean()) < 0.03
    normal = batch_normal(seed_for(0, 0, "a"), (4000, 3)).numpy()
    assert abs(normal.mean()) < 0.03 and abs(normal.std() - 1) < 0.03


@pytest.mark.parametrize("size", [8, 10])
def test_a_balanced_draw_is_balanced(size):
    counts = np.bincount(batch_balanced(seed_for(0, 0, "turns"), size, 4), minlength=4)
    assert counts.sum() == size and counts.max() - counts.min() <= 1


def test_for_xla_a_balanced_draw_is_shuffled_by_sorting():
    with drawing_for_xla():
        draws = [
            tf.function(lambda n=n: batch_balanced(seed_for(0, n, "turns"), 50, 4), jit_compile=True)() for n in (0, 1)
        ]
        again = tf.function(lambda: batch_balanced(seed_for(0, 0, "turns"), 50, 4), jit_compile=True)()
    assert all(set(np.bincount(draw)) == {12, 13} for draw in draws)
    np.testing.assert_array_equal(draws[0], again)
    assert np.any(draws[0] != draws[1]) and np.any(np.diff(draws[0]) < 0)


def test_two_replicas_draw_what_one_draws():
    seed = seed_for(0, 0, "attack")
    strategy = get_strategy("mirrored")
    draws = (
        lambda rows: batch_uniform(seed, (rows, 3)),
        lambda rows: batch_normal(seed, (rows, 3)),
        lambda rows: batch_balanced(seed, rows, 4),
    )
    for draw in draws:
        parts = strategy.experimental_local_results(strategy.run(tf.function(lambda draw=draw: draw(4))))
        np.testing.assert_array_equal(np.concatenate([part.numpy() for part in parts]), draw(8))


@pytest.mark.parametrize("draw", [batch_uniform, batch_normal])
def test_one_seed_an_example_draws_the_same_whoever_stands_beside_it(draw):
    seed = seed_for(0, 1, "attack")
    many = draw(fold(seed_each(seed, tf.range(6)), 3), (6, 4, 2))
    alone = draw(fold(seed_each(seed, tf.constant([4])), 3), (1, 4, 2))
    np.testing.assert_array_equal(many[4:5], alone)
    assert len(np.unique(many)) == 48
    other = draw(fold(seed_each(fold(seed, 1), tf.range(6)), 3), (6, 4, 2))
    assert not np.intersect1d(many, other).size


def test_draws_are_tensorflow_s_by_philox():
    seed = tf.constant([3, 5])
    np.testing.assert_array_equal(
        batch_uniform(seed, (4, 3), -1.0, 2.0), tf.random.stateless_uniform((4, 3), seed, -1.0, 2.0, alg="philox")
    )
    np.testing.assert_array_equal(batch_normal(seed, (4, 3)), tf.random.stateless_normal((4, 3), seed, alg="philox"))
