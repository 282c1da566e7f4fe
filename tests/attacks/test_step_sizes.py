"""Auto-PGD's step sizes, worked out by hand."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from advss_tf.attacks.step_sizes import after_step, checkpoints, first_sizes


def test_checkpoints_of_a_hundred_steps_by_hand():
    """Periods of 22, 19, 16, 13, 10, 7, then 6."""
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoints(10) == [2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert checkpoints(1) == [1]


def path(*steps, num_steps=10, rho=0.75):
    """The sizes after steps of (who rose, best values), and where each halved, from step 0 on."""
    sizes, halved = first_sizes(tf.zeros(len(steps[0][0]))), []
    for step, (rose, best) in enumerate(steps):
        sizes, now = after_step(
            sizes,
            tf.constant(step),
            rose=tf.constant(rose),
            best=tf.constant(best, tf.float32),
            num_steps=num_steps,
            rho=rho,
        )
        halved.append(now.numpy().tolist())
    return sizes, halved


START = ([False] * 4, [1, 1, 1, 1])
STEPS = (
    ([True, True, False, False], [1, 1, 1, 1]),
    ([True, True, True, False], [1, 1, 1, 1]),  # the first checkpoint of ten steps: 2, 2, 1 and 0 of 2 rose
    ([True, True, True, False], [2, 1, 1, 1]),  # the second, after one more step
)


def test_between_checkpoints_rises_are_counted_and_no_size_changes():
    sizes, halved = path(START, STEPS[0])
    assert halved == [[False] * 4] * 2
    np.testing.assert_array_equal(sizes.size, [2, 2, 2, 2])
    np.testing.assert_array_equal(sizes.rises, [1, 1, 0, 0])


def test_at_the_first_checkpoint_those_that_seldom_rose_are_halved():
    """Up to 0.75 * 2 = 1.5 rises. No best value is higher than before, which counts from the next checkpoint on."""
    sizes, halved = path(START, *STEPS[:2])
    assert halved[2] == [False, False, True, True]
    np.testing.assert_array_equal(sizes.size, [2, 2, 1, 1])
    np.testing.assert_array_equal(sizes.rises, [0, 0, 0, 0])
    np.testing.assert_array_equal(sizes.best, [1, 1, 1, 1])


def test_later_a_best_value_that_stands_still_halves_unless_the_last_checkpoint_did():
    """The first has a higher best; the second has not; the third has not, but was halved just now; the last fell."""
    sizes, halved = path(START, *STEPS)
    assert halved[3] == [False, True, False, True]
    np.testing.assert_array_equal(sizes.size, [2, 1, 1, 0.5])
    np.testing.assert_array_equal(sizes.halved, halved[3])
    np.testing.assert_array_equal(sizes.best, [2, 1, 1, 1])


def test_the_share_rho_of_the_steps_is_still_seldom():
    """Half of two steps rose: no more than a share of 0.5, more than one of 0.49."""
    one_of_two = (([False], [1]), ([True], [1]), ([False], [1]))
    assert path(*one_of_two, rho=0.5)[1][2] == [True]
    assert path(*one_of_two, rho=0.49)[1][2] == [False]
