"""What an evaluation will cost, before it starts.

Synopsis:

    evaluate(model, data, suite="full", announce=print)
    # attack   runs      passes an image                    time
    # clean    1         1 forward                          ≤ 1 s
    # pgd-20   1         21 forward, 20 backward            ≤ 3 min
    # ...
    # total ≤ 2 h 10 min, ...

Passes are counted from what each attack says of itself, and one forward pass and one gradient of the model are timed on
what a device will have of a batch. The product is an upper bound on the passes: images that are wrong cleanly
are not attacked, those that a run has fooled are not attacked by the next, and what AutoAttack's first attack fools its
others do not see. Not in it are the seconds in which functions are compiled and an attack's own arithmetic.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import keras
import tensorflow as tf

from advss_tf.attacks import Attack
from advss_tf.evaluation.attempts import Attempt, Plan
from advss_tf.evaluation.batches import Batches
from advss_tf.evaluation.models import Classifier
from advss_tf.evaluation.records.record import CLEAN
from advss_tf.evaluation.shares import share_of_batch
from advss_tf.losses import cross_entropy
from advss_tf.timing import duration

_REPETITIONS, _SECONDS = 5, 1.0
_HEAD = ("attack", "runs", "passes an image", "time")


@dataclass(frozen=True)
class CostRow:
    """The most that one attack will cost, over all its runs at all epsilons.

    Attributes:
        attack: Its name in the record.
        runs: Restarts, or targets, at each epsilon.
        epsilons: Number of epsilons; 1 for "clean".
        forward: Forward passes an image; None if the attack does not say.
        backward: Gradients by the image, an image; None if the attack does not say.
        seconds: For all images; None if the attack does not say how many passes it makes.
        chain: The chain whose survivors alone it attacks, as in `Attempt`.
    """

    attack: str
    runs: int
    epsilons: int
    forward: int | None
    backward: int | None
    seconds: float | None
    chain: str | None = None

    def cells(self) -> tuple[str, str, str, str]:
        """Name, runs, passes and time as a person reads them."""
        runs = f"{self.runs:,}" + (f" × {self.epsilons} epsilons" if self.epsilons > 1 else "")
        if self.forward is None or self.backward is None or self.seconds is None:
            return self.attack, runs, "unknown", "unknown"
        passes = f"{self.forward:,} forward" + (f", {self.backward:,} backward" if self.backward else "")
        return self.attack, runs, passes, f"≤ {duration(self.seconds)}"


@dataclass(frozen=True)
class Estimate:
    """The most that an evaluation will cost, attack by attack; `rows` begin with "clean"."""

    rows: tuple[CostRow, ...]

    @property
    def seconds(self) -> float:
        """At most, for all the attacks whose passes are known."""
        return sum(row.seconds for row in self.rows if row.seconds is not None)

    @property
    def unknown(self) -> tuple[str, ...]:
        """The attacks that do not say how many passes they make; their time is not in `seconds`."""
        return tuple(row.attack for row in self.rows if row.seconds is None)

    def lines(self) -> list[str]:
        """A table for a terminal: a head, one line an attack, and the total."""
        cells = [_HEAD, *(row.cells() for row in self.rows)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(_HEAD))]
        return [*("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells), self._total()]

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def _total(self) -> str:
        parts = [f"total ≤ {duration(self.seconds)}"]
        if self.unknown:
            parts.append(f"and what {', '.join(self.unknown)} will take")
        chains = dict.fromkeys(row.chain for row in self.rows if row.chain)
        parts += [f"less where {chain} fools early: each of its attacks sees the survivors alone" for chain in chains]
        return ", ".join(parts)


class _Pace(NamedTuple):
    """Seconds that a device takes for its share of a batch: a forward pass, and what a gradient takes beyond one."""

    forward: float
    backward: float


def estimate(plan: Plan, classifier: Classifier, batches: Batches, *, replicas: int = 1) -> Estimate:
    """The most that the attempts of a plan will cost on a classifier; takes two to three seconds and two compilations.

    An attack says what one run of it costs by `passes() -> (forward, backward)`, numbers of passes an image. One that
    has no such method is "unknown". The images are not read, no variable moves, and nothing is drawn.

    Args:
        plan: What is attempted.
        classifier: On what.
        batches: The images; only their number, size and batch size are asked for.
        replicas: How many devices share a batch that is attacked: it takes as long as the share of one.
    """
    pace = _measured(classifier, (share_of_batch(batches.batch_size, replicas), *batches.image_shape))
    # Clean predictions are made share by share, on one device.
    clean = CostRow(CLEAN, 1, 1, 1, 0, len(batches) * replicas * pace.forward)
    rows = [_row(attempt, plan, classifier.num_classes, pace, len(batches)) for attempt in plan.attempts]
    return Estimate((clean, *rows))


def _row(attempt: Attempt, plan: Plan, num_classes: int, pace: _Pace, num_batches: int) -> CostRow:
    passes = passes_of(attempt, num_classes)
    if passes is None:
        return CostRow(attempt.name, attempt.num_restarts, len(plan.epsilons), None, None, None, attempt.chain)
    forward, backward = (count * attempt.num_restarts * len(plan.epsilons) for count in passes)
    seconds = num_batches * (forward * pace.forward + backward * pace.backward)
    return CostRow(attempt.name, attempt.num_restarts, len(plan.epsilons), forward, backward, seconds, attempt.chain)


def passes_of(attempt: Attempt, num_classes: int) -> tuple[int, int] | None:
    """Forward and backward passes of one run for one image at most, with those that the evaluation makes around it.

    None if the attack does not say how many it makes.
    """
    attack = attempt.attack
    if not callable(getattr(attack, "passes", None)) or getattr(type(attack), "passes", None) is Attack.passes:
        return None
    # Restarts that an attack keeps to itself, as FAB does in AutoAttack's version "plus", are in one run here.
    forward, backward = (count * getattr(attack, "num_restarts", 1) for count in attack.passes())
    if attempt.objective == "differences":
        # The attack counts one column of differences; here there is one for each class beside the label.
        backward *= num_classes - 1
    if attempt.objective.startswith("targeted"):
        forward += attempt.pieces  # the clean logits, which the target is taken from
    if attempt.pieces > 1:
        forward += 2 * attempt.pieces - 1  # who is fooled, at each end; the margin of the points, at each new begin
    return forward + 1, backward  # what was found is judged


def _measured(classifier: Classifier, shape: Sequence[int]) -> _Pace:
    images, labels = tf.fill(shape, 0.5), tf.zeros(shape[0], tf.int64)

    # A model that draws random numbers moves its generators when it is called: not here.
    @tf.function
    def forward(images: tf.Tensor) -> tf.Tensor:
        with classifier.prepared() as model, keras.StatelessScope():
            return tf.reduce_sum(model(images))

    @tf.function
    def gradient(images: tf.Tensor) -> tf.Tensor:
        with classifier.prepared() as model, keras.StatelessScope():
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(images)
                loss = cross_entropy(model(images), labels)
            slopes = tape.gradient(loss, images, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            return tf.reduce_sum(slopes)

    alone, both = _seconds(lambda: forward(images).numpy()), _seconds(lambda: gradient(images).numpy())
    return _Pace(alone, max(both - alone, 0.0))


def _seconds(call: Callable[[], object]) -> float:
    """The median of a few calls, after one that compiles; about a second, unless one call takes longer."""
    call()
    taken: list[float] = []
    while len(taken) < _REPETITIONS and sum(taken) < _SECONDS:
        begun = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)
