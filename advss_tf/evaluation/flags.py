"""Signs that a robust accuracy cannot be trusted, each in words that say what to run instead.

Synopsis:

    warnings = model_flags(classifier, images, labels, seed)      # before the attacks: random outputs, lost gradients
    warnings += result_flags(results)                              # after them: Square wins, larger balls are weaker

They are AutoAttack's flags (Croce & Hein 2020, arXiv 2003.01690, and `flags_doc.md` of the authors' code) with the same
thresholds, and the gradient of the cross-entropy is looked at as well as that of the ratio. A flag stops nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import numpy as np
import tensorflow as tf

from advss_tf.attacks import Linf
from advss_tf.evaluation.models import Classifier, in_pieces
from advss_tf.evaluation.objectives import predicted
from advss_tf.evaluation.records.record import CLEAN, Result
from advss_tf.evaluation.traces import Traces, traced
from advss_tf.losses import cross_entropy, difference_of_logits_ratio, margin

_LOOKS, _SAME_LOGITS, _SQUARE_GAIN = 5, 1e-4, 0.002
_START = Linf("8/255")


def model_flags(
    classifier: Classifier,
    images: np.ndarray,
    labels: np.ndarray,
    seed: tf.Tensor,
    *,
    traces: Traces | None = None,
    at_once: int | None = None,
) -> tuple[str, ...]:
    """What a few forward passes and gradients on one batch tell.

    Args:
        classifier: The model.
        images: (B, H, W, C) float32, one batch.
        labels: (B,) int64.
        seed: int32 (2,), of the points where gradients are taken.
        traces: What an earlier evaluation of the same model compiled.
        at_once: How many images are shown at a time; None for all.
    """
    traces = traces or Traces()
    return (
        *_randomness(classifier, images, traces, at_once),
        *_lost_gradients(classifier, images, labels, seed, traces, at_once),
    )


def _randomness(classifier: Classifier, images: np.ndarray, traces: Traces, at_once: int | None) -> tuple[str, ...]:
    run = traces.once("logits", lambda: traced(lambda images: (classifier(images),)))
    looks = np.stack([in_pieces(run, images, size=at_once)[0] for _ in range(_LOOKS)])
    units = looks / np.maximum(np.linalg.norm(looks, axis=-1, keepdims=True), 1e-12)
    farthest = float(np.linalg.norm(units - units[0], axis=-1).max())
    differ = np.any(looks.argmax(-1) != looks[0].argmax(-1))
    if farthest <= _SAME_LOGITS and not differ:
        return ()
    return (
        f"The model gives other logits for the same images each time (unit logits up to {farthest:.2g} apart): one "
        "gradient says little. Run AutoAttack's version 'rand', which averages over draws.",
    )


def _lost_gradients(
    classifier: Classifier,
    images: np.ndarray,
    labels: np.ndarray,
    seed: tf.Tensor,
    traces: Traces,
    at_once: int | None,
) -> tuple[str, ...]:
    """Gradients are taken at a random point near each image, whoever is shown it together with which others."""
    points = tf.clip_by_value(images + _START.random(seed, images.shape, _START.epsilon), 0.0, 1.0).numpy()
    ratio = difference_of_logits_ratio if classifier.num_classes > 2 else margin
    warnings = []
    for name, loss in (("cross-entropy", cross_entropy), ("logit-ratio", ratio)):
        gradient = traces.once(("gradient", name), partial(traced, _gradient_of(classifier, loss)))
        found, right = in_pieces(gradient, points, labels.astype(np.int64), size=at_once)
        share = float(np.mean(np.all(found == 0, axis=(1, 2, 3)) & right))
        if share:
            warnings.append(
                f"The {name} loss has no gradient at {share:.1%} of the images looked at: logits may be too large, or "
                "a step of the model passes no gradient on. Attacks that climb it are blind there; trust Square and "
                "transferred examples instead, or attack the model without that step."
            )
    return tuple(warnings)


def _gradient_of(
    classifier: Classifier, loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
    """The loss's gradient at each point, and whether the model is right there, (B,) bool.

    Where it is wrong there is nothing to climb, and the ratio is constant if the label's logit comes third.
    """

    def gradient(points: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(points)
            logits = classifier(points)
            values = loss(logits, labels)
        found = tape.gradient(values, points, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return found, predicted(logits) == labels

    return gradient


def result_flags(results: Sequence[Result]) -> tuple[str, ...]:
    """What the counts tell: an attack without gradients that beats those with them, a larger ball that is safer."""
    return (*_square_wins(results), *_rising(results))


def _square_wins(results: Sequence[Result]) -> tuple[str, ...]:
    warnings = []
    for before, square in pairwise(results):
        gain = before.accuracy - square.accuracy
        if square.attack == "square" and (before.attack, before.eps) != (CLEAN, 0.0) and gain > _SQUARE_GAIN + 1e-9:
            warnings.append(
                f"Square, which sees no gradients, takes another {gain:.1%} at eps={square.eps:.4g} from what the "
                "attacks with gradients left: gradients are probably masked. Run Square with more queries and attack a "
                "smoothed copy of the model."
            )
    return tuple(warnings)


def _rising(results: Sequence[Result]) -> tuple[str, ...]:
    """A larger ball contains the smaller one, so accuracy can only fall in it."""
    warnings = []
    for attack in dict.fromkeys(row.attack for row in results if row.attack != CLEAN):
        rows = sorted((row for row in results if row.attack == attack), key=lambda row: row.eps)
        for small, large in pairwise(rows):
            if large.correct > small.correct:
                warnings.append(
                    f"{attack} leaves {large.correct} images robust at eps={large.eps:.4g}, but {small.correct} in the "
                    f"smaller ball of eps={small.eps:.4g}: the attack is too weak, or gradients are masked."
                )
    return tuple(warnings)
