"""An evaluation while it goes on: batch by batch, attack by attack, on the images that are left.

Synopsis:

    run = Run(plan, classifier, batches, seed=0, progress=print, started=time.perf_counter())
    for number, batch in enumerate(batches):
        run.attack_batch(number, batch)
    run.tally, run.costs
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from advss_tf.errors import InvalidInput
from advss_tf.evaluation.attempts import Attempt, Plan
from advss_tf.evaluation.batches import Batch, Batches
from advss_tf.evaluation.compiled import CompiledAttempt
from advss_tf.evaluation.cost import passes_of
from advss_tf.evaluation.models import Classifier, in_pieces
from advss_tf.evaluation.objectives import predicted
from advss_tf.evaluation.records.record import CLEAN, WORST
from advss_tf.evaluation.summary import Cost
from advss_tf.evaluation.tally import Tally
from advss_tf.evaluation.traces import Traces, traced
from advss_tf.randomness import seed_for
from advss_tf.timing import duration


@dataclass(frozen=True)
class Progress:
    """Where an evaluation stands; given to `progress` after every run of an attack on a batch.

    Attributes:
        attack: The attack that was run last, at all epsilons.
        images: Images whose batch has been begun.
        num_images: All images.
        clean_acc: Fraction right among `images`.
        robust_acc: Fraction of `images` that has survived everything at the record's `eps` so far.
        seconds: Since the evaluation began.
        seconds_left: As long as the rest takes at the mean pace so far, if it fools as few images as what was run.
    """

    attack: str
    images: int
    num_images: int
    clean_acc: float
    robust_acc: float
    seconds: float
    seconds_left: float

    def __str__(self) -> str:
        return (
            f"{self.images:,}/{self.num_images:,} images, {self.attack}: clean {self.clean_acc:.1%}, "
            f"robust so far {self.robust_acc:.1%}, {duration(self.seconds_left)} left"
        )


class Run:
    """One evaluation while it goes on.

    Args:
        plan: What every image is put to.
        classifier: The model.
        batches: The images.
        seed: The evaluation's seed.
        progress: Called with a `Progress` after every run of an attack on a batch.
        started: When the evaluation began, by `time.perf_counter`.
        source: The classifier that the attacks see, where it is another one.
        strategy: Shares the images of a call out among its replicas.
        traces: What an earlier evaluation of the same compiled.
        at_once: How many images are shown at a time where one device does it alone; None for the batch.
    """

    def __init__(
        self,
        plan: Plan,
        classifier: Classifier,
        batches: Batches,
        *,
        seed: int,
        progress: Callable[[Progress], None] | None,
        started: float,
        source: Classifier | None = None,
        strategy: tf.distribute.Strategy | None = None,
        traces: Traces | None = None,
        at_once: int | None = None,
    ) -> None:
        self._at_once = at_once
        self._plan, self._classifier, self._batches = plan, classifier, batches
        self._seed, self._progress, self._started = seed, progress, started
        self.tally = Tally(plan)
        self.costs: dict[tuple[str, float], Cost] = {}
        self._images = 0
        self._before = self._done = self._restored = 0.0
        # A run of Square takes a hundred times as long as one of PGD.
        passes = {each.name: passes_of(each, classifier.num_classes) or (1, 0) for each in plan.attempts}
        self._weights = {name: float(sum(count)) for name, count in passes.items()}
        self._batch_weight = sum(each.num_restarts * self._weights[each.name] for each in plan.attempts)
        traces = traces or Traces()
        shared: dict[str, Any] = {"batch_size": batches.batch_size, "source": source, "strategy": strategy}
        self._compiled: list[CompiledAttempt] = [
            traces.once(("attempt", attempt.name), partial(CompiledAttempt, attempt, classifier, **shared))
            for attempt in plan.attempts
        ]
        self._predict = traces.once("predict", lambda: traced(lambda images: _prediction(classifier(images))))

    def attack_batch(self, number: int, batch: Batch) -> dict[str, np.ndarray]:
        """Puts one batch to everything in the plan; returns what `restore` needs instead."""
        begun = time.perf_counter()
        predictions, confidences = in_pieces(self._predict, batch.images, size=self._at_once)
        if np.any(predictions < 0):
            raise InvalidInput(
                "The model gives numbers that are not finite on clean images.",
                expected="finite logits",
                received=f"NaN or infinite logits in batch {number}",
            )
        self._cost(CLEAN, 0.0).seconds += time.perf_counter() - begun
        self._cost(CLEAN, 0.0).forward += batch.num_real
        self.tally.begin(batch, predictions, confidences)
        for compiled in self._compiled:
            self._attack(compiled, batch, first=self._images)
        self._images += batch.num_real
        self.tally.end()
        return self._last()

    @property
    def seconds(self) -> float:
        """Of this process, and of those before it that were killed."""
        return self._before + time.perf_counter() - self._started

    def _last(self) -> dict[str, np.ndarray]:
        keys = [(CLEAN, 0.0), *((a.name, eps) for a in self._plan.attempts for eps in self._plan.epsilons)]
        costs = np.array([astuple(self._cost(*key)) for key in keys])
        return {**self.tally.last(), "costs": costs, "seconds": np.array(self.seconds)}

    def restore(self, batch: Batch, arrays: dict[str, np.ndarray]) -> None:
        """Takes a batch for attacked that left `arrays`."""
        keys = [(CLEAN, 0.0), *((a.name, eps) for a in self._plan.attempts for eps in self._plan.epsilons)]
        self.costs = {key: Cost(*map(float, row)) for key, row in zip(keys, arrays["costs"], strict=True)}
        self._before = float(arrays["seconds"])
        self.tally.restore(arrays)
        self._images += batch.num_real
        self._restored += self._batch_weight

    def _attack(self, compiled: CompiledAttempt, batch: Batch, *, first: int) -> None:
        """One attack on one batch at all epsilons, in one pass: a row is an image in one of the balls."""
        attempt, size = compiled.attempt, self._batches.batch_size
        seed = seed_for(self._seed, 0, f"evaluate {attempt.name}")
        for eps in self._plan.epsilons:
            self.tally.start(attempt, eps)
        for run in range(attempt.num_restarts):
            left = [self.tally.left(attempt, eps) for eps in self._plan.epsilons]
            rows, balls = np.concatenate(left), np.repeat(np.arange(len(left)), [len(each) for each in left])
            for start in range(0, len(rows), size):
                part = slice(start, start + size)
                self._attack_rows(compiled, batch, rows[part], balls[part], first=first, seed=seed, run=run)
            self._done += self._weights[attempt.name]
            self._tell(attempt, images=first + batch.num_real)

    def _attack_rows(
        self,
        compiled: CompiledAttempt,
        batch: Batch,
        rows: np.ndarray,
        balls: np.ndarray,
        *,
        first: int,
        seed: tf.Tensor,
        run: int,
    ) -> None:
        """One call: some rows of the batch, each in the ball of that number."""
        begun = time.perf_counter()
        radii = np.array(self._plan.epsilons)[balls]
        outcome = compiled(batch.images[rows], batch.labels[rows], first + rows, seed, run=run, epsilon=radii)
        seconds = time.perf_counter() - begun
        for ball in np.unique(balls):
            eps, here = self._plan.epsilons[ball], balls == ball
            self.tally.add(compiled.attempt, eps, rows[here], outcome.rows(here))
            cost = self._cost(compiled.attempt.name, eps)
            cost.seconds += seconds * float(np.mean(here))
            cost.forward += float(outcome.forward[here].sum())
            cost.backward += float(outcome.backward[here].sum())

    def _cost(self, attack: str, eps: float) -> Cost:
        return self.costs.setdefault((attack, eps), Cost())

    def _tell(self, attempt: Attempt, *, images: int) -> None:
        if self._progress is None:
            return
        left = len(self._batches) * self._batch_weight - self._restored - self._done
        seconds = time.perf_counter() - self._started
        self._progress(
            Progress(
                attack=attempt.name,
                images=images,
                num_images=len(self._batches.labels),
                clean_acc=float(self.tally.clean().mean()),
                robust_acc=float(self.tally.robust(WORST, self._plan.headline).mean()),
                seconds=seconds,
                seconds_left=seconds / self._done * left,
            )
        )


def _prediction(logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return predicted(logits), tf.reduce_max(tf.nn.softmax(logits), axis=-1)
