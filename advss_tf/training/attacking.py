"""How a model's own attack is run: its networks prepared for the loop, its context computed before it.

Synopsis:

    attacked = run_attack(model, model.attack, model.climb, puzzle, seed, streams=("adversarial",))
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from advss_tf.attacks import AttackResult, ProjectedGradientDescent
from advss_tf.training.inference import hoisting
from advss_tf.training.puzzle import Puzzle


def run_attack(
    model: Any,
    attack: ProjectedGradientDescent | None,
    climb: Callable[..., tf.Tensor],
    puzzle: Puzzle,
    seed: tf.Tensor,
    *,
    streams: tuple[str, ...],
) -> AttackResult:
    """The inputs of a puzzle where the attack has left them; no weight and no running statistic moves.

    Args:
        model: The `RobustModel`.
        attack: The attack; None leaves the inputs as they are.
        climb: What it ascends, `climb(inputs, puzzle, context, training=…)`.
        puzzle: What is attacked.
        seed: Decides the random starts, `(2,)`.
        streams: The streams of batch norm that go through the loop, the first of which the context is computed in
            unless it names another.
    """
    if attack is None:
        return AttackResult(puzzle.inputs, None, None)
    training = attack.batch_norm == "training"
    with model.stream(streams[0]), _prepared(model, () if training else streams), keras.StatelessScope():
        context = model.context(puzzle, training=training)
        return attack.run(lambda inputs: climb(inputs, puzzle, context, training=training), puzzle.inputs, seed)


@contextlib.contextmanager
def _prepared(model: Any, streams: tuple[str, ...]) -> Iterator[None]:
    """Prepares the networks for each of the streams; for none it takes away what was prepared outside."""
    with contextlib.ExitStack() as stack:
        if not streams:
            stack.enter_context(hoisting())
        for stream in streams:
            with model.stream(stream):
                stack.enter_context(hoisting(*model.networks))
        yield
