"""Unforeseen attacks on a classifier while an evaluation goes on: batch by batch, on the images that are right.

Synopsis:

    attempted = (Attempted("elastic", ElasticAttack(2.0), (0.5, 2.0), "sizes as given"),)
    run = DistortionRun(attempted, classifier, batches, goal="away", seed=0, progress=None, started=now, shares=shares)
    for number, batch in enumerate(batches):
        run.attack_batch(number, batch)
    run.right("elastic", 2)                               # (n,) bool, at the second size

An attack is traced once for each number of images that is met, padded to the next of a few; the size is an argument.
Under a strategy of several replicas each attacks its share of the images.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import astuple
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from advss_tf.attacks.unforeseen import UnforeseenAttack
from advss_tf.errors import InvalidInput
from advss_tf.evaluation.batches import Batch, Batches
from advss_tf.evaluation.models import Classifier
from advss_tf.evaluation.objectives import predicted
from advss_tf.evaluation.records.record import CLEAN
from advss_tf.evaluation.run import Progress
from advss_tf.evaluation.shares import Shares
from advss_tf.evaluation.summary import Cost
from advss_tf.evaluation.traces import traced
from advss_tf.losses import cross_entropy
from advss_tf.randomness import batch_uniform, fold, seed_each, seed_for

# What an attack climbs, and how the record says it.
GOALS = {
    "random_target": "towards a class drawn evenly from the wrong ones, as published",
    "away": "away from the label",
}
# float32 rounds what is kept in a ball; an attack that breaks its promise does so by far more.
_SLACK = 1e-4


class Attempted(NamedTuple):
    """An attack by name, its sizes in ascending order, and in words where these are from."""

    name: str
    attack: UnforeseenAttack
    sizes: tuple[float, ...]
    source: str

    @property
    def parameters(self) -> dict[str, Any]:
        """The attack's settings without its size."""
        config = {name: value for name, value in self.attack.get_config().items() if name != "epsilon"}
        return {"kind": type(self.attack).__name__, **config}


class CompiledDistortion:
    """An unforeseen attack on a classifier as one graph for each padded number of images.

    Args:
        attempted: The attack.
        classifier: On what.
        goal: A key of `GOALS`.
        shares: How the images of a call are padded and shared out.
    """

    def __init__(self, attempted: Attempted, classifier: Classifier, *, goal: str, shares: Shares) -> None:
        self._attempted, self._classifier, self._goal, self._shares = attempted, classifier, goal, shares
        self._functions: dict[int, Callable[..., Any]] = {}

    def __call__(
        self, images: np.ndarray, labels: np.ndarray, numbers: np.ndarray, seed: tf.Tensor, *, epsilon: float
    ) -> np.ndarray:
        """Attacks images (B, H, W, C) with labels (B,), whose numbers in the data set are (B,): (B,) bool, still right.

        Raises:
            InvalidInput: if the attack left its ball or the range of pixels; its number would mean nothing.
        """
        rows = self._shares.padded(np.arange(len(images)))
        function = self._functions.setdefault(len(rows), traced(self._shares.of(self._attacked)))
        right, moved = function(
            tf.constant(images[rows]),
            tf.constant(labels[rows], tf.int64),
            seed_each(seed, tf.constant(numbers[rows])),
            epsilon=tf.constant(epsilon, tf.float32),
        )
        excess = float(np.max(moved))
        if not excess <= _SLACK:
            raise InvalidInput(
                f"The attack {self._attempted.name!r} left its ball, or the range of pixels.",
                expected=f"parameters in the ball of {self._attempted.name} at {epsilon:.6g} and pixels in [0, 1]",
                received=f"excess={excess:.6g}",
            )
        return right.numpy()[: len(images)]

    def _attacked(
        self, images: tf.Tensor, labels: tf.Tensor, seeds: tf.Tensor, *, epsilon: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        attack = self._attempted.attack
        targets = random_targets(fold(seeds, 0), labels, self._classifier.num_classes)
        with self._classifier.prepared() as logits_of:

            def climb(inputs: dict[str, tf.Tensor]) -> tf.Tensor:
                logits = logits_of(inputs["images"])
                return cross_entropy(logits, labels) if self._goal == "away" else -cross_entropy(logits, targets)

            found = attack.run(climb, {"images": images}, fold(seeds, 1), epsilon=epsilon)
        attacked = found.inputs["images"]
        inside = tf.reduce_all((attacked >= 0) & (attacked <= 1), axis=(1, 2, 3))
        excess = attack.threat.excess(found.parameters["images"], epsilon)
        right = predicted(self._classifier(attacked)) == labels
        return right, tf.where(inside, excess, float("inf"))


def random_targets(seed: tf.Tensor, labels: tf.Tensor, num_classes: int) -> tf.Tensor:
    """For each label (B,) a class drawn evenly from the others: (B,) int64; `seed` is (2,) or (B, 2)."""
    chance = batch_uniform(seed, (tf.shape(labels)[0], 1))[:, 0]
    shift = 1 + tf.cast(tf.floor(chance * (num_classes - 1)), tf.int64)
    return (labels + shift) % num_classes


class DistortionRun:
    """One evaluation while it goes on.

    Args:
        attempted: What every image is put to.
        classifier: The model.
        batches: The images.
        goal: A key of `GOALS`.
        seed: The evaluation's seed.
        progress: Called with a `Progress` after every attack on a batch.
        started: When the evaluation began, by `time.perf_counter`.
        shares: How the images of a call are padded and shared out.
    """

    def __init__(
        self,
        attempted: tuple[Attempted, ...],
        classifier: Classifier,
        batches: Batches,
        *,
        goal: str,
        seed: int,
        progress: Callable[[Progress], None] | None,
        started: float,
        shares: Shares,
    ) -> None:
        self.attempted = attempted
        self._batches, self._seed, self._progress, self._started = batches, seed, progress, started
        self._shares = shares
        self._predict = traced(shares.of(lambda images: (predicted(classifier(images)),)))
        self._compiled = {
            each.name: CompiledDistortion(each, classifier, goal=goal, shares=shares) for each in attempted
        }
        self._right: dict[tuple[str, int], list[np.ndarray]] = {}
        self._costs: dict[tuple[str, int], Cost] = {}
        self._images = self._runs = self._restored = 0
        self._before = 0.0

    @property
    def seconds(self) -> float:
        """Of this process, and of those before it that were killed."""
        return self._before + time.perf_counter() - self._started

    def _last(self) -> dict[str, np.ndarray]:
        right = np.stack([masks[-1] for masks in self._right.values()])
        costs = np.array([astuple(cost) for cost in self._costs.values()])
        return {"right": right, "costs": costs, "seconds": np.array(self.seconds)}

    def restore(self, batch: Batch, arrays: dict[str, np.ndarray]) -> None:
        """Takes a batch for attacked that left `arrays`."""
        keys = [(each.name, level) for each in self.attempted for level, _ in enumerate(each.sizes, 1)]
        for key, right, cost in zip([(CLEAN, 0), *keys], arrays["right"], arrays["costs"], strict=True):
            self._right.setdefault(key, []).append(right)
            self._costs[key] = Cost(*map(float, cost))
        self._before = float(arrays["seconds"])
        self._images += batch.num_real
        self._restored += len(keys)

    def attack_batch(self, number: int, batch: Batch) -> dict[str, np.ndarray]:
        """Puts one batch to every attack at every size; returns what `restore` needs instead."""
        begun = time.perf_counter()
        rows = self._shares.padded(np.arange(len(batch.images)))
        predictions = self._predict(tf.constant(batch.images[rows]))[0].numpy()[: batch.num_real]
        if np.any(predictions < 0):
            raise InvalidInput(
                "The model gives numbers that are not finite on clean images.",
                expected="finite logits",
                received=f"NaN or infinite logits in batch {number}",
            )
        right = predictions == batch.labels[: batch.num_real]
        self._keep(CLEAN, 0, right, seconds=time.perf_counter() - begun, forward=batch.num_real, backward=0)
        self._images += batch.num_real
        for each in self.attempted:
            for level, size in enumerate(each.sizes, 1):
                self._attack(each, level, size, batch, right)
        return self._last()

    def right(self, name: str, level: int) -> np.ndarray:
        """(n,) bool: right cleanly, and after the attack at a level; "clean" has level 0."""
        return np.concatenate(self._right[name, level])

    def cost(self, name: str, level: int) -> Cost:
        """What an attack took at a level."""
        return self._costs[name, level]

    def _attack(self, each: Attempted, level: int, size: float, batch: Batch, clean: np.ndarray) -> None:
        begun = time.perf_counter()
        rows = np.flatnonzero(clean)
        right = clean.copy()
        if len(rows):
            seed = seed_for(self._seed, 0, f"evaluate {each.name}")
            numbers = self._images - batch.num_real + rows
            right[rows] = self._compiled[each.name](batch.images[rows], batch.labels[rows], numbers, seed, epsilon=size)
        forward, backward = (count * len(rows) for count in each.attack.passes())
        seconds = time.perf_counter() - begun
        self._keep(each.name, level, right, seconds=seconds, forward=forward + len(rows), backward=backward)
        self._runs += 1
        self._tell(each.name, size)

    def _keep(self, name: str, level: int, right: np.ndarray, *, seconds: float, forward: int, backward: int) -> None:
        self._right.setdefault((name, level), []).append(right)
        cost = self._costs.setdefault((name, level), Cost())
        cost.seconds += seconds
        cost.forward += forward
        cost.backward += backward

    def _tell(self, name: str, size: float) -> None:
        if self._progress is None:
            return
        total = len(self._batches) * sum(len(each.sizes) for each in self.attempted)
        seconds = time.perf_counter() - self._started
        attacked = [np.concatenate(masks) for (kind, _), masks in self._right.items() if kind != CLEAN]
        self._progress(
            Progress(
                attack=f"{name} at {size:g}",
                images=self._images,
                num_images=len(self._batches.labels),
                clean_acc=float(self.right(CLEAN, 0).mean()),
                robust_acc=float(np.concatenate(attacked).mean()),
                seconds=seconds,
                seconds_left=seconds / self._runs * (total - self._restored - self._runs),
            )
        )
