"""An attempt on a classifier as a compiled function that works on whatever images are left.

Synopsis:

    compiled = CompiledAttempt(attempt, classifier, batch_size=256)
    outcome = compiled(images, labels, numbers, seed, run=0, epsilon=8 / 255)     # any number of images up to 256

The images that are left are padded to the next of a few sizes (256, 128, 64, …), so an attack is traced once for each
size that is met, whatever epsilon, run and seed are. What is drawn for an image depends on the seed and the image's
number alone, not on the images beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from advss_tf.errors import InvalidInput
from advss_tf.evaluation.attempts import Attempt
from advss_tf.evaluation.models import Classifier
from advss_tf.evaluation.objectives import OBJECTIVES, predicted
from advss_tf.randomness import fold, seed_each

_SMALLEST_BUCKET = 8


class Outcome(NamedTuple):
    """What one run of an attack did to some images: the attacked images, predictions and confidences, B rows each."""

    images: np.ndarray
    robust: np.ndarray
    predictions: np.ndarray
    confidences: np.ndarray


def bucket(count: int, batch_size: int) -> int:
    """The size that `count` images are padded to: `batch_size` halved as often as it holds them, 8 at least."""
    size = batch_size
    while size // 2 >= max(count, _SMALLEST_BUCKET):
        size //= 2
    return size


class CompiledAttempt:
    """An attempt on a classifier as one `tf.function`.

    Args:
        attempt: What is attempted.
        classifier: On what.
        batch_size: The most images of a call.
    """

    def __init__(self, attempt: Attempt, classifier: Classifier, *, batch_size: int) -> None:
        self.attempt = attempt
        self._classifier = classifier
        self._batch_size = batch_size
        self._forward = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._backward = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.passes_forward = self.passes_backward = 0
        self._functions: dict[Any, Callable[..., Any]] = {}

    def __call__(
        self, images: np.ndarray, labels: np.ndarray, numbers: np.ndarray, seed: tf.Tensor, *, run: int, epsilon: float
    ) -> Outcome:
        """Attacks images (B, H, W, C) with labels (B,), whose numbers in the data set are (B,).

        Raises:
            InvalidInput: if the attack left its ball or the range of pixels; its number would mean nothing.
        """
        points, alive = images, np.arange(len(images))
        for piece in range(self.attempt.pieces):
            if not len(alive):
                break
            found, fooled = self._piece(points, images, labels, numbers, seed, alive, run, piece, epsilon)
            points = points.copy()
            points[alive] = found
            alive = alive[~fooled]
        return self._outcome(points, images, labels, epsilon)

    def _piece(
        self,
        points: np.ndarray,
        images: np.ndarray,
        labels: np.ndarray,
        numbers: np.ndarray,
        seed: tf.Tensor,
        alive: np.ndarray,
        run: int,
        piece: int,
        epsilon: float,
    ) -> tuple[np.ndarray, np.ndarray]:
        """One piece of a run on the images that are not fooled yet: their new points, and which are fooled now."""
        before = int(self._forward), int(self._backward)
        rows = self._padded(alive)
        start = (tf.constant(points[rows]),) if piece else ()
        size = self.attempt.piece_size
        found, fooled = self._function(self._attacked, len(rows), len(start))(
            tf.constant(images[rows]),
            tf.constant(labels[rows], tf.int64),
            seed_each(fold(seed, run), tf.constant(numbers[rows])),
            tf.constant(run),
            tf.constant(epsilon, tf.float32),
            tf.constant(piece * size),
            *start,
        )
        self.passes_forward += (int(self._forward) - before[0]) * len(alive)
        self.passes_backward += (int(self._backward) - before[1]) * len(alive)
        return found.numpy()[: len(alive)], fooled.numpy()[: len(alive)]

    def _outcome(self, points: np.ndarray, images: np.ndarray, labels: np.ndarray, epsilon: float) -> Outcome:
        rows = self._padded(np.arange(len(images)))
        judged = self._function(self._judged, len(rows))
        predictions, confidences, used = judged(tf.constant(points[rows]), tf.constant(images[rows]))
        # float32 rounds at 6e-8 a pixel; an attack that breaks its promise does so by far more.
        if not float(used) <= epsilon * (1 + 1e-4) + 1e-6:
            raise InvalidInput(
                f"The attack {self.attempt.name!r} left its ball, or the range of pixels.",
                expected=f"{self.attempt.attack.threat.norm} distance <= {epsilon:.6g} and pixels in [0, 1]",
                received=f"distance={float(used):.6g}",
            )
        count = len(images)
        predictions = predictions.numpy()[:count]
        self.passes_forward += count
        return Outcome(points, predictions == labels, predictions, confidences.numpy()[:count])

    def _function(self, method: Callable[..., Any], *size: int) -> Callable[..., Any]:
        """The compiled form of a method for one size; one function for all would warn that it is traced again."""
        return self._functions.setdefault((method.__name__, *size), tf.function(method))

    def _padded(self, rows: np.ndarray) -> np.ndarray:
        return np.concatenate([rows, np.repeat(rows[:1], bucket(len(rows), self._batch_size) - len(rows))])

    def _attacked(
        self,
        images: tf.Tensor,
        labels: tf.Tensor,
        seeds: tf.Tensor,
        run: tf.Tensor,
        epsilon: tf.Tensor,
        first: tf.Tensor,
        start: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        with self._classifier.prepared() as model:
            logits_of = self._counted(model)
            goal = OBJECTIVES[self.attempt.objective](logits_of, images, labels, run)
            options = self._options(first, start)
            if self.attempt.objective == "targeted_difference":
                # One rival's logit does not tell whether a third class has won.
                options["fooled"] = lambda inputs: predicted(logits_of(inputs["images"])) != labels
            found = self.attempt.attack(goal, {"images": images}, seeds, epsilon=epsilon, **options)["images"]
            # A run in one piece is judged by `_judge`, alone and for all its images.
            fooled = tf.zeros_like(labels, tf.bool)
            if self.attempt.pieces > 1:
                fooled = predicted(logits_of(found)) != labels
        return found, fooled

    def _options(self, first: tf.Tensor, start: tf.Tensor | None) -> dict[str, Any]:
        if self.attempt.pieces == 1:
            return {}
        begun = {} if start is None else {"start": {"images": start}, "first_query": first}
        return {"num_queries": self.attempt.piece_size, **begun}

    def _judged(self, points: tf.Tensor, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        logits = self._classifier(points)
        predictions = predicted(logits)
        confidences = tf.where(predictions >= 0, tf.reduce_max(tf.nn.softmax(logits), axis=-1), 0.0)
        return predictions, confidences, _distance(points, images, self.attempt.attack.threat.norm)

    def _counted(self, model: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[tf.Tensor], tf.Tensor]:
        """The model, counted where it is run: what happens in the graph's loop is not seen from Python."""

        @tf.custom_gradient
        def counted(inputs: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
            def gradient(upstream: tf.Tensor) -> tf.Tensor:
                self._backward.assign_add(1)
                return upstream

            return tf.identity(inputs), gradient

        def logits_of(images: tf.Tensor) -> tf.Tensor:
            self._forward.assign_add(1)
            return model(counted(images))

        return logits_of


def _distance(attacked: tf.Tensor, images: tf.Tensor, norm: str) -> tf.Tensor:
    """The farthest that an image of the batch was moved; infinite if a pixel left [0, 1] or is not a number."""
    moved = tf.reshape(attacked - images, (tf.shape(images)[0], -1))
    lengths = tf.norm(moved, ord=np.inf if norm == "linf" else 2, axis=1)
    inside = tf.reduce_all((attacked >= 0) & (attacked <= 1))
    return tf.where(inside, tf.reduce_max(lengths), float("inf"))
