"""Losses: pure functions from tensors to one number per example."""

from advss_tf.losses.classification import correct, cross_entropy, kl_divergence, margin

__all__ = ["correct", "cross_entropy", "kl_divergence", "margin"]
