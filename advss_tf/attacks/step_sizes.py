"""The step sizes of Auto-PGD: when they are looked at, and when an example's is halved.

Synopsis:

    sizes = first_sizes(tf.zeros(batch))                                        # twice the radius
    sizes, halved = after_step(sizes, step, rose=rose, best=best, num_steps=100, rho=0.75)

Reference: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
attacks", 2020 (arXiv 2003.01690), algorithm 1.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import tensorflow as tf


class StepSizes(NamedTuple):
    """The step size of each example, and what has to be known to halve it.

    Attributes:
        size: `(batch,)` float32, in radii of the ball.
        rises: `(batch,)` float32: number of steps since the last checkpoint that rose.
        halved: `(batch,)` bool: whether the size was halved at the last checkpoint.
        best: `(batch,)` float32: the best value at the last checkpoint.
    """

    size: tf.Tensor
    rises: tf.Tensor
    halved: tf.Tensor
    best: tf.Tensor


def checkpoints(num_steps: int) -> list[int]:
    """The numbers of the steps after which the step size is looked at, in [1, num_steps].

    The first period is 22 % of the steps; each is 3 % shorter than the one before it, down to 6 %. Each share is
    rounded down, to one step at least. For 100 steps: 22, 41, 57, 70, 80, 87, 93, 99.
    """
    period, shorter, shortest = (max(int(share * num_steps), 1) for share in (0.22, 0.03, 0.06))
    steps = [period]
    while steps[-1] + max(period - shorter, shortest) <= num_steps:
        period = max(period - shorter, shortest)
        steps.append(steps[-1] + period)
    return steps


def first_sizes(zeros: tf.Tensor) -> StepSizes:
    """Before the first step: twice the radius. `zeros` is `(batch,)` float32."""
    # Every size counts as halved before the first checkpoint, so that `rho` alone decides there.
    return StepSizes(zeros + 2, zeros, tf.ones_like(zeros, tf.bool), zeros)


def after_step(
    sizes: StepSizes, step: tf.Tensor, *, rose: tf.Tensor, best: tf.Tensor, num_steps: int, rho: float
) -> tuple[StepSizes, tf.Tensor]:
    """The sizes after a step, and where they were halved, `(batch,)` bool: there the path returns to its best point.

    At a checkpoint a size is halved if no more than a share `rho` of the period's steps rose, or if it was not halved
    at the last checkpoint and the best value has not risen since.

    Args:
        sizes: The sizes before.
        step: Number of the step, a scalar int32: 0 for the start, which never is a checkpoint.
        rose: `(batch,)` bool: whether the step went up.
        best: `(batch,)` float32: the best value so far.
        num_steps: Number of steps of the path.
        rho: The share of rising steps up to which a size is halved.
    """
    periods = {number: number - before for before, number in pairwise([0, *checkpoints(num_steps)])}
    period = tf.gather([periods.get(number, 0) for number in range(num_steps + 1)], step)
    due, rises = period > 0, sizes.rises + tf.cast(rose, tf.float32)
    seldom = rises <= rho * tf.cast(period, tf.float32)
    halved = due & (seldom | (~sizes.halved & (sizes.best >= best)))
    after = StepSizes(
        size=tf.where(halved, sizes.size / 2, sizes.size),
        rises=tf.where(due, 0.0, rises),
        halved=tf.where(due, halved, sizes.halved),
        best=tf.where(due, best, sizes.best),
    )
    return after, halved
