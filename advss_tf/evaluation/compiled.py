"""An attempt on a classifier as a compiled function that works on whatever images are left.

Synopsis:

    compiled = CompiledAttempt(attempt, classifier, batch_size=256)
    outcome = compiled(images, labels, numbers, seed, run=0, epsilon=radii)     # any number of images up to 256

The images that are left are padded to the next of a few sizes (256, 128, 64, …), so an attack is traced once for each
size that is met, whatever epsilon, run and seed are; each image has an epsilon of its own. What is drawn for an image
depends on the seed and the image's number alone, not on the images beside it. Under a strategy of several replicas each
attacks its share of the images.
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
from advss_tf.evaluation.shares import Shares
from advss_tf.evaluation.traces import traced
from advss_tf.randomness import fold, seed_each


class Outcome(NamedTuple):
    """What one run of an attack did to some images, B rows each.

    Attributes:
        images: (B, H, W, C) float32, attacked.
        robust: (B,) bool, still classified right.
        predictions: (B,) int64.
        confidences: (B,) float32, the probability of the prediction.
        forward: (B,) int64, forward passes that the image took.
        backward: (B,) int64, gradients by the image that were taken.
    """

    images: np.ndarray
    robust: np.ndarray
    predictions: np.ndarray
    confidences: np.ndarray
    forward: np.ndarray
    backward: np.ndarray

    def rows(self, which: np.ndarray) -> Outcome:
        """The same of some of the images."""
        return Outcome(*(part[which] for part in self))


class _Rows(NamedTuple):
    """What is attacked: images, labels, their numbers in the data set, and an epsilon for each."""

    images: np.ndarray
    labels: np.ndarray
    numbers: np.ndarray
    radii: np.ndarray


class CompiledAttempt:
    """An attempt on a classifier as one graph for each size of what is left.

    Args:
        attempt: What is attempted.
        classifier: On what.
        batch_size: The most images of a call.
        source: The classifier that the attack sees, where it is another one: its examples are transferred.
        strategy: Shares the images out among its replicas, where it has several.
    """

    def __init__(
        self,
        attempt: Attempt,
        classifier: Classifier,
        *,
        batch_size: int,
        source: Classifier | None = None,
        strategy: tf.distribute.Strategy | None = None,
    ) -> None:
        self.attempt = attempt
        self._classifier, self._source = classifier, source or classifier
        self._shares = Shares(strategy, batch_size=batch_size)
        self._forward, self._backward = self._counter(), self._counter()
        self._functions: dict[Any, Callable[..., Any]] = {}

    def __call__(
        self, images: np.ndarray, labels: np.ndarray, numbers: np.ndarray, seed: tf.Tensor, *, run: int, epsilon: Any
    ) -> Outcome:
        """Attacks images (B, H, W, C) with labels (B,), whose numbers in the data set are (B,).

        `epsilon` is a number, or one an image, (B,).

        Raises:
            InvalidInput: if the attack left its ball or the range of pixels; its number would mean nothing.
        """
        rows = _Rows(images, labels, numbers, np.broadcast_to(np.float32(epsilon), len(images)))
        points, alive = images, np.arange(len(images))
        passes = np.zeros((2, len(images)), np.int64)
        for piece in range(self.attempt.pieces):
            if not len(alive):
                break
            before = self._passes()
            found, fooled = self._piece(points, rows, alive, fold(seed, run), run, piece)
            passes[:, alive] += (self._passes() - before)[:, None]
            points = points.copy()
            points[alive] = found
            alive = alive[~fooled]
        return self._outcome(points, rows, passes)

    def _piece(
        self, points: np.ndarray, rows: _Rows, alive: np.ndarray, seed: tf.Tensor, run: int, piece: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """One piece of a run on the images that are not fooled yet: their new points, and which are fooled now."""
        padded = self._shares.padded(alive)
        start = (tf.constant(points[padded]),) if piece else ()
        found, fooled = self._function(self._attacked, len(padded), len(start))(
            tf.constant(rows.images[padded]),
            tf.constant(rows.labels[padded], tf.int64),
            seed_each(seed, tf.constant(rows.numbers[padded])),
            # As images broadcast, so that an attack may multiply by it.
            tf.constant(rows.radii[padded].reshape(-1, 1, 1, 1)),
            *start,
            run=tf.constant(run),
            first=tf.constant(piece * self.attempt.piece_size),
        )
        return found.numpy()[: len(alive)], fooled.numpy()[: len(alive)]

    def _outcome(self, points: np.ndarray, rows: _Rows, passes: np.ndarray) -> Outcome:
        padded, count = self._shares.padded(np.arange(len(points))), len(points)
        judged = self._function(self._judged, len(padded))
        found = judged(tf.constant(points[padded]), tf.constant(rows.images[padded]))
        predictions, confidences, used = (part.numpy()[:count] for part in found)
        # float32 rounds at 6e-8 a pixel; an attack that breaks its promise does so by far more.
        outside = ~(used <= rows.radii * (1 + 1e-4) + 1e-6)
        if np.any(outside):
            farthest = int(np.argmax(np.where(outside, used - rows.radii, -np.inf)))
            raise InvalidInput(
                f"The attack {self.attempt.name!r} left its ball, or the range of pixels.",
                expected=f"{self.attempt.attack.threat.norm} distance <= {rows.radii[farthest]:.6g} and "
                "pixels in [0, 1]",
                received=f"distance={used[farthest]:.6g}",
            )
        robust = predictions == rows.labels
        return Outcome(points, robust, predictions, confidences, passes[0] + 1, passes[1])

    def _function(self, method: Callable[..., Any], *size: int) -> Callable[..., Any]:
        """The compiled form of a method for one size."""
        return self._functions.setdefault((method.__name__, *size), traced(self._shares.of(method)))

    def _counter(self) -> tf.Variable:
        """A number that every replica counts up for itself; read from outside, it is their sum."""
        with self._shares.strategy.scope():
            return tf.Variable(
                tf.zeros((), tf.int64),
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.SUM,
            )

    def _passes(self) -> np.ndarray:
        """Forward passes and gradients of one replica so far, (2,)."""
        return np.array([self._forward.numpy(), self._backward.numpy()]) // self._shares.replicas

    def _attacked(
        self,
        images: tf.Tensor,
        labels: tf.Tensor,
        seeds: tf.Tensor,
        epsilon: tf.Tensor,
        start: tf.Tensor | None = None,
        *,
        run: tf.Tensor,
        first: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        with self._source.prepared() as model:
            logits_of = self._counted(model)
            goal = OBJECTIVES[self.attempt.objective](logits_of, images, labels, run)
            options = self._options(first, start)
            if self.attempt.objective == "targeted_difference":
                # One rival's logit does not tell whether a third class has won.
                options["fooled"] = lambda inputs: predicted(logits_of(inputs["images"])) != labels
            found = self.attempt.attack(goal, {"images": images}, seeds, epsilon=epsilon, **options)["images"]
            # A run in one piece is judged by `_judged`, alone and for all its images.
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
    """How far each image was moved, (B,); infinite if a pixel of it left [0, 1] or is not a number."""
    moved = tf.reshape(attacked - images, (tf.shape(images)[0], -1))
    lengths = tf.norm(moved, ord=np.inf if norm == "linf" else 2, axis=1)
    inside = tf.reduce_all((attacked >= 0) & (attacked <= 1), axis=(1, 2, 3))
    return tf.where(inside, lengths, float("inf"))
