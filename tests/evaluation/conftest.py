"""A classifier whose robustness can be worked out by hand, and a record of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import tensorflow as tf


@dataclass(frozen=True)
class Linear:
    """Two classes, logits (0, w·x + b). In a ball away from the box, an image is robust iff its margin > eps·||w||."""

    images: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    bias: float

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        score = tf.reduce_sum(images * self.weights, axis=[1, 2, 3]) + self.bias
        return tf.stack([tf.zeros_like(score), score], axis=1)

    @property
    def margins(self) -> np.ndarray:
        score = (self.images.astype(np.float64) * self.weights).sum(axis=(1, 2, 3)) + self.bias
        return np.where(self.labels == 1, score, -score)

    def robust(self, epsilon: float, order: float) -> np.ndarray:
        return self.margins > epsilon * np.linalg.norm(self.weights.ravel(), ord=1 if order == np.inf else 2)


@pytest.fixture(scope="session")
def linear() -> Linear:
    """50 images of 4x4x1 in [0.3, 0.7], one label in eight wrong."""
    random = np.random.default_rng(7)
    images = random.uniform(0.3, 0.7, (50, 4, 4, 1)).astype(np.float32)
    weights = random.normal(size=(4, 4, 1)).astype(np.float32)
    bias = float(-0.5 * weights.sum())
    labels = ((images * weights).sum(axis=(1, 2, 3)) + bias > 0).astype(np.int64)
    labels[::8] = 1 - labels[::8]
    return Linear(images, labels, weights, bias)


@pytest.fixture(scope="session")
def record(linear):
    """A record of the linear classifier at two epsilons, with names that are markup."""
    from advss_tf.evaluation import evaluate

    return evaluate(
        linear,
        (linear.images, linear.labels),
        num_steps=5,
        epsilons=(0.02, "8/255"),
        model_name="<b>linear</b> | $x_1$ & co",
        data_info={"name": "made", "split": "test", "class_names": ["<no>", "yes"], "training_epsilon": 8 / 255},
    )


@pytest.fixture(scope="session")
def distorted(record):
    """Makes records of distortions of the linear classifier's 50 images: accuracies by type, one for each level."""
    from advss_tf.evaluation import DistortionRecord, Result
    from advss_tf.evaluation.records.header import Header

    def row(kind, level, correct):
        return Result.from_counts(kind, correct, 50, threat="corruptions", level=level, class_correct=(correct, 0))

    def make(counts=None, *, clean=45, **more):
        counts = {"fog": (40, 30), "gaussian_noise": (20, 10)} if counts is None else counts
        rows = [row(kind, level, some) for kind, each in counts.items() for level, some in enumerate(each, 1)]
        fields = {name: getattr(record, name) for name in Header.model_fields} | {
            "threat": "corruptions",
            "clean_acc": clean / 50,
            "corruptions_acc": sum(each.accuracy for each in rows) / len(rows),
            "results": (row("clean", 0, clean), *rows),
        }
        return DistortionRecord(**fields | more)

    return make
