"""Losses: pure functions from tensors to one number per example."""

from advss_tf.losses.classification import correct, cross_entropy, kl_divergence, margin
from advss_tf.losses.diversity import diversity
from advss_tf.losses.ratios import difference_of_logits_ratio, targeted_difference_of_logits_ratio

__all__ = [
    "correct",
    "cross_entropy",
    "difference_of_logits_ratio",
    "diversity",
    "kl_divergence",
    "margin",
    "targeted_difference_of_logits_ratio",
]
