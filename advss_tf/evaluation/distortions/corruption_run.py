"""An evaluation under corruptions while it goes on: exact counts by type, severity and class.

Synopsis:

    run = CorruptionRun(keys, classifier, batches, progress=print, started=time.perf_counter())
    for number, unit in enumerate(made_units(batches, keys, seed=seed)):
        arrays = run.evaluate(unit)                       # what is to be kept of it
    run.results()
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from advss_tf.errors import InvalidInput
from advss_tf.evaluation.batches import Batch, Batches
from advss_tf.evaluation.distortions.corruption_units import Key, Unit
from advss_tf.evaluation.models import Classifier
from advss_tf.evaluation.objectives import predicted
from advss_tf.evaluation.records.distortion_record import CORRUPTIONS
from advss_tf.evaluation.records.record import CLEAN, Result
from advss_tf.timing import duration


@dataclass(frozen=True)
class CorruptionProgress:
    """Where an evaluation under corruptions stands; given to `progress` after every batch of a type and severity.

    Attributes:
        corruption: The type, or "clean".
        severity: Its severity; 0 for "clean".
        images: Images that were classified under it.
        num_images: All images.
        accuracy: Fraction right among `images`.
        seconds: Since the evaluation began.
        seconds_left: As long as the rest takes at the mean pace so far.
    """

    corruption: str
    severity: int
    images: int
    num_images: int
    accuracy: float
    seconds: float
    seconds_left: float

    def __str__(self) -> str:
        what = f"{self.corruption} {self.severity}" if self.severity else self.corruption
        return (
            f"{self.images:,}/{self.num_images:,} images, {what}: {self.accuracy:.1%} so far, "
            f"{duration(self.seconds_left)} left"
        )


class CorruptionRun:
    """One evaluation under corruptions while it goes on.

    Args:
        keys: ("clean", 0) and types with severities, in the order of the record.
        classifier: The model.
        batches: The clean images.
        progress: Called with a `CorruptionProgress` after every batch of a key.
        started: When the evaluation began, by `time.perf_counter`.

    Attributes:
        correct: (keys, classes) int64, how many images of a class are right.
        row_seconds: (keys,) wall time of each key.
    """

    def __init__(
        self,
        keys: Sequence[Key],
        classifier: Classifier,
        batches: Batches,
        *,
        progress: Callable[[CorruptionProgress], None] | None,
        started: float,
    ) -> None:
        self._keys, self._batches = keys, batches
        self._progress, self._started = progress, started
        self.correct = np.zeros((len(keys), classifier.num_classes), np.int64)
        self.row_seconds = np.zeros(len(keys))
        self._seen = np.zeros(len(keys), np.int64)
        self._steps = self._restored = 0
        self._before = 0.0
        self._predict = tf.function(lambda images: predicted(classifier(images)))

    @property
    def seconds(self) -> float:
        """Of this process, and of those before it that were killed."""
        return self._before + time.perf_counter() - self._started

    def evaluate(self, unit: Unit) -> dict[str, np.ndarray]:
        """Classifies the images of a unit; returns what `restore` needs instead.

        Raises:
            InvalidInput: if the model's logits on clean images are not finite.
        """
        before = self.correct.copy(), self._seen.copy(), self.row_seconds.copy(), self._steps
        begun = time.perf_counter()
        for row, batch in unit:
            self._count(row, batch)
            self.row_seconds[row] += time.perf_counter() - begun
            self._steps += 1
            self._tell(row)
            begun = time.perf_counter()
        return {
            "correct": self.correct - before[0],
            "seen": self._seen - before[1],
            "row_seconds": self.row_seconds - before[2],
            "steps": np.array(self._steps - before[3]),
            "seconds": np.array(self.seconds),
        }

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Takes a unit for evaluated that left `arrays`."""
        self.correct += arrays["correct"]
        self._seen += arrays["seen"]
        self.row_seconds += arrays["row_seconds"]
        self._restored += int(arrays["steps"])
        self._before = float(arrays["seconds"])

    def results(self) -> tuple[Result, ...]:
        """The rows of the record, once every unit is evaluated."""
        return tuple(self._result(row) for row in range(len(self._keys)))

    def _result(self, row: int) -> Result:
        kind, severity = self._keys[row]
        return Result.from_counts(
            kind,
            int(self.correct[row].sum()),
            len(self._batches.labels),
            threat=None if kind == CLEAN else CORRUPTIONS,
            level=severity,
            class_correct=tuple(self.correct[row].tolist()),
            seconds=float(self.row_seconds[row]),
            forward_passes=1.0,
        )

    def _count(self, row: int, batch: Batch) -> None:
        predictions = self._predict(batch.images).numpy()[: batch.num_real]
        labels = batch.labels[: batch.num_real]
        if self._keys[row][0] == CLEAN and np.any(predictions < 0):
            raise InvalidInput(
                "The model gives numbers that are not finite on clean images.",
                expected="finite logits",
                received=f"NaN or infinite logits behind image {self._seen[row]}",
            )
        self.correct[row] += np.bincount(labels[predictions == labels], minlength=self.correct.shape[1])
        self._seen[row] += batch.num_real

    def _tell(self, row: int) -> None:
        if self._progress is None:
            return
        (kind, severity), seen = self._keys[row], int(self._seen[row])
        seconds = time.perf_counter() - self._started
        left = len(self._keys) * len(self._batches) - self._restored - self._steps
        self._progress(
            CorruptionProgress(
                corruption=kind,
                severity=severity,
                images=seen,
                num_images=len(self._batches.labels),
                accuracy=float(self.correct[row].sum() / seen),
                seconds=seconds,
                seconds_left=seconds / self._steps * left,
            )
        )
