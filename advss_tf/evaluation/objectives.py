"""What an attack on a classifier climbs: closures over the labels, one for each name.

Synopsis:

    goal = OBJECTIVES["targeted_dlr"](logits_of, images, labels, run)     # run k: towards the k-th likeliest class
    goal({"images": images})                                              # Judged(values, won)

`logits_of` maps images to float32 logits. Which class a targeted run heads for is decided by the logits of the clean
images, as in AutoAttack (Croce & Hein 2020, arXiv 2003.01690).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import tensorflow as tf

from advss_tf.attacks import Judged
from advss_tf.losses import (
    cross_entropy,
    difference_of_logits_ratio,
    margin,
    targeted_difference_of_logits_ratio,
)

LogitsOf: TypeAlias = Callable[[tf.Tensor], tf.Tensor]
Objective: TypeAlias = Callable[[LogitsOf, tf.Tensor, tf.Tensor, tf.Tensor], Callable[[dict[str, tf.Tensor]], Any]]


def predicted(logits: tf.Tensor) -> tf.Tensor:
    """Predicted class (B,) int64; class -1, which is always wrong, where the logits are not finite."""
    finite = tf.reduce_all(tf.math.is_finite(logits), axis=-1)
    return tf.where(finite, tf.argmax(logits, axis=-1), -1)


def rival(logits: tf.Tensor, labels: tf.Tensor, rank: tf.Tensor) -> tf.Tensor:
    """The class with the (rank + 1)-th highest logit beside the label, (B,) int64; the ranks wrap around.

    Args:
        logits: (B, K), of the clean images.
        labels: (B,) integers.
        rank: Scalar integer >= 0.
    """
    num_classes = logits.shape[-1]
    others = tf.where(tf.one_hot(labels, num_classes, on_value=True, off_value=False), -float("inf"), logits)
    order = tf.argsort(others, axis=-1, direction="DESCENDING", stable=True)
    return tf.cast(tf.gather(order, tf.cast(rank, tf.int32) % (num_classes - 1), axis=1), tf.int64)


def _climbed(logits_of: LogitsOf, images: tf.Tensor, labels: tf.Tensor, run: tf.Tensor) -> Any:
    del images, run
    return lambda inputs: cross_entropy(logits_of(inputs["images"]), labels)


def _judged(loss: Callable[..., tf.Tensor], *, targeted: bool = False) -> Objective:
    def objective(logits_of: LogitsOf, images: tf.Tensor, labels: tf.Tensor, run: tf.Tensor) -> Any:
        targets = (rival(tf.stop_gradient(logits_of(images)), labels, run),) if targeted else ()

        def climb(inputs: dict[str, tf.Tensor]) -> Judged:
            logits = logits_of(inputs["images"])
            return Judged(loss(logits, labels, *targets), predicted(logits) != labels)

        return climb

    return objective


def _margin(logits_of: LogitsOf, images: tf.Tensor, labels: tf.Tensor, run: tf.Tensor) -> Any:
    del images, run

    def climb(inputs: dict[str, tf.Tensor]) -> tf.Tensor:
        logits = logits_of(inputs["images"])
        # Logits that are no numbers are fooled, whatever their margin would be.
        return tf.where(predicted(logits) < 0, float("inf"), margin(logits, labels))

    return climb


def _differences(logits_of: LogitsOf, images: tf.Tensor, labels: tf.Tensor, run: tf.Tensor) -> Any:
    """Every other class's logit minus the label's, (B, K - 1)."""
    del images, run

    def differences(inputs: dict[str, tf.Tensor]) -> tf.Tensor:
        logits = logits_of(inputs["images"])
        num_classes = logits.shape[-1]
        steps = tf.range(1, num_classes, dtype=labels.dtype)
        others = tf.gather(logits, (labels[:, None] + steps[None, :]) % num_classes, batch_dims=1)
        return others - tf.gather(logits, labels[:, None], batch_dims=1)

    return differences


def _targeted_difference(logits_of: LogitsOf, images: tf.Tensor, labels: tf.Tensor, run: tf.Tensor) -> Any:
    """One rival's logit minus the label's, (B, 1)."""
    target = rival(tf.stop_gradient(logits_of(images)), labels, run)

    def difference(inputs: dict[str, tf.Tensor]) -> tf.Tensor:
        logits = logits_of(inputs["images"])
        both = tf.gather(logits, tf.stack([target, labels], axis=1), batch_dims=1)
        return both[:, :1] - both[:, 1:]

    return difference


OBJECTIVES: dict[str, Objective] = {
    "cross_entropy": _climbed,
    "cross_entropy_judged": _judged(cross_entropy),
    "dlr": _judged(difference_of_logits_ratio),
    "targeted_dlr": _judged(targeted_difference_of_logits_ratio, targeted=True),
    "margin_judged": _judged(margin),
    "targeted_margin": _judged(
        lambda logits, labels, targets: (
            tf.gather(logits, targets[:, None], batch_dims=1)[:, 0]
            - tf.gather(logits, labels[:, None], batch_dims=1)[:, 0]
        ),
        targeted=True,
    ),
    "margin": _margin,
    "differences": _differences,
    "targeted_difference": _targeted_difference,
}
