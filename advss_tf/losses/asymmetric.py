"""What makes NT-Xent asymmetric: attacked views that pull clean ones less than these pull them, and hard negatives.

Synopsis:

    weights, held = inferior_positives(4, adversarial=(0,), share=0.2)       # view 0 of four is the attacked one
    nt_xent(embeddings, weights=weights, held=held, hard_negatives=HardNegatives(beta=1.0, tau_plus=0.1))

Reference: Yu et al., "Adversarial Contrastive Learning via Asymmetric InfoNCE", ECCV 2022 (arXiv 2207.08374). Its hard
negatives are those of Robinson et al., "Contrastive Learning with Hard Negative Samples", ICLR 2021 (arXiv 2010.04592).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from advss_tf.errors import InvalidInput


class HardNegatives(NamedTuple):
    """How negatives are weighed by their similarity `s / T` to the anchor, and corrected for false ones.

    Attributes:
        beta: Each negative weighs `exp(beta · s / T)`, over the mean of that; 0 weighs all alike. >= 0.
        tau_plus: The probability that a negative is of the anchor's class; 0 corrects nothing. In [0, 1).
    """

    beta: float = 1.0
    tau_plus: float = 0.1


def reweighted_log_sum(
    similarity: tf.Tensor, positives: tf.Tensor, own: tf.Tensor, hard: HardNegatives, *, temperature: float
) -> tf.Tensor:
    """The logarithm of the denominator with hard negatives, `log(P + N_g)`.

    With `N` negatives, `P` the mean of `exp(s / T)` over the positives, and `R` the weighted sum over the negatives,

        N_g = max( (R - tau_plus · N · P) / (1 - tau_plus),  N · exp(-1 / T) )

    which is the estimator of Robinson et al. 2021, with the mean of the positives where there are more than one, as in
    the code of Yu et al. That code, for AdvCL, differs in three points: it divides by the mean weight over all columns,
    of which those of positives hold zeros; that mean has lost its last axis, so that what column j weighs is divided
    by the mean of row j; and it holds the lower bound against exponentials that it has shifted by their maximum.

    Args:
        similarity: `(views, views, rows, everyone)`, `s / T` by anchor's view, contrast's view, image and image.
        positives: `(views, views, rows)`, those of `similarity` of the same image.
        own: `(rows, everyone)` of booleans, where the two images are one.
        hard: The weights.
        temperature: `T`.

    Returns:
        `(views, rows)` float32.

    Raises:
        InvalidInput: if `hard` holds numbers out of their range.
    """
    if not (np.isfinite(hard.beta) and hard.beta >= 0 and 0 <= hard.tau_plus < 1):
        raise InvalidInput(
            "`hard_negatives` is out of range.", expected="beta >= 0 and tau_plus in [0, 1)", received=f"{hard}"
        )
    views = similarity.shape[0]
    logits = tf.where(own, similarity.dtype.min, similarity)
    # Logarithms all the way: (1 + beta) · s / T leaves the range of float32 at small temperatures.
    boosted = tf.where(own, similarity.dtype.min, (1.0 + hard.beta) * similarity)
    importance = tf.where(own, similarity.dtype.min, hard.beta * similarity)
    log_number = tf.math.log(tf.cast(views * (tf.shape(logits)[3] - 1), tf.float32))
    log_sum = log_number + tf.reduce_logsumexp(boosted, axis=(1, 3)) - tf.reduce_logsumexp(importance, axis=(1, 3))
    others = tf.where(np.eye(views, dtype=bool)[..., np.newaxis], positives.dtype.min, positives)
    log_positive = tf.reduce_logsumexp(others, axis=1) - np.log(views - 1).astype(np.float32)
    top = tf.stop_gradient(tf.maximum(log_sum, log_positive))
    negative, positive = tf.exp(log_sum - top), tf.exp(log_positive - top)
    corrected = (negative - hard.tau_plus * tf.exp(log_number) * positive) / (1.0 - hard.tau_plus)
    least = tf.exp(log_number - 1.0 / temperature - top)
    return top + tf.math.log(positive + tf.maximum(corrected, least))


def inferior_positives(
    views: int, *, adversarial: Sequence[int], share: float = 0.2, weight: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """The `weights` and `held` of NT-Xent by which an attacked view is an inferior positive.

    In a pair of a clean and an attacked view each side's loss moves its anchor alone; the clean anchor's has the part
    `share` of the pair's weight, the attacked one's the rest. So at `share=0.2` the attacked view is drawn to the clean
    one four times as strongly as the other way round. Pairs of two clean or two attacked views stay as they are.

    Yu et al. 2022; their code takes a share of 0.2 to 0.3 and a weight of 0.7 to 1.5. With `share=0.5` and
    `weight=1` the loss has the value of the symmetric one, as there (for AdvCL; that for RoCL is half of it).

    Args:
        views: The number of views.
        adversarial: The places of the attacked views.
        share: The clean view's part, in [0, 1].
        weight: What pairs of a clean and an attacked view are multiplied by, >= 0.

    Returns:
        `weights` `(views, views)` float32 and `held` `(views, views)` of booleans, both by anchor and positive.

    Raises:
        InvalidInput: if no view or every view is attacked, a place is no view's, or a number is out of its range.
    """
    places = set(adversarial)
    if not places or len(places) >= views or not places <= set(range(views)):
        raise InvalidInput(
            "`adversarial` does not part the views.",
            expected=f"places in [0, {views}), at least one and not all",
            received=f"adversarial={tuple(adversarial)}, views={views}",
        )
    _in_range("share", share, 1.0)
    _in_range("weight", weight, np.inf)
    attacked = np.isin(np.arange(views), list(places))
    held = attacked[:, np.newaxis] != attacked
    parts = np.where(attacked, 1.0 - share, share)[:, np.newaxis]
    return np.where(held, 2.0 * parts * weight, 1.0).astype(np.float32), held


def _in_range(name: str, value: Any, top: float) -> None:
    if not (np.isfinite(value) and 0 <= value <= top):
        expected = "a finite number >= 0" if np.isinf(top) else f"a number in [0, {top:g}]"
        raise InvalidInput(f"`{name}` is out of range.", expected=expected, received=f"{name}={value}")
