"""Losses on logits: pure functions, one float32 number per example.

Synopsis:

    cross_entropy(logits, labels)           # (batch,)
    kl_divergence(reference, logits)        # (batch,), the regulariser and the attack of TRADES
    margin(logits, labels)                  # (batch,), > 0 where the prediction is wrong
    correct(logits, labels)                 # (batch,), 1 where the prediction is right

All take `logits` of shape `(batch, classes)` in any float type and compute in float32. Nothing is reduced here: means,
weights and replicas are the training step's business.
"""

from __future__ import annotations

import tensorflow as tf


def cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Softmax cross-entropy, `-log softmax(logits)[label]`.

    Args:
        logits: `(batch, classes)`.
        labels: `(batch,)` integers in [0, classes).

    Returns:
        `(batch,)` float32, >= 0.
    """
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=tf.cast(logits, tf.float32))


def kl_divergence(reference: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """`KL(softmax(reference) || softmax(logits))`, the term that TRADES climbs and descends.

    Reference: Zhang et al., "Theoretically Principled Trade-off between Robustness and Accuracy", 2019
    (arXiv 1901.08573), algorithm 1, with KL as the surrogate as in the authors' experiments.

    Args:
        reference: `(batch, classes)`, the logits of the clean images. The gradient flows through them; wrap them in
            `tf.stop_gradient` where they are to be held fixed.
        logits: `(batch, classes)`, the logits of the attacked images.

    Returns:
        `(batch,)` float32, >= 0 up to rounding.
    """
    log_reference = tf.nn.log_softmax(tf.cast(reference, tf.float32))
    log_probabilities = tf.nn.log_softmax(tf.cast(logits, tf.float32))
    return tf.reduce_sum(tf.exp(log_reference) * (log_reference - log_probabilities), axis=-1)


def margin(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The highest logit of another class minus the logit of the label.

    Args:
        logits: `(batch, classes)`, at least two classes.
        labels: `(batch,)` integers.

    Returns:
        `(batch,)` float32; positive where the prediction is wrong.
    """
    logits = tf.cast(logits, tf.float32)
    is_label = tf.one_hot(labels, logits.shape[-1], on_value=True, off_value=False)
    of_label = tf.reduce_sum(tf.where(is_label, logits, 0.0), axis=-1)
    return tf.reduce_max(tf.where(is_label, logits.dtype.min, logits), axis=-1) - of_label


def correct(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """1 where the highest logit is the label's, else 0: `(batch,)` float32."""
    return tf.cast(tf.argmax(logits, axis=-1) == tf.cast(labels, tf.int64), tf.float32)
