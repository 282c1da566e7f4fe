"""Losses: pure functions from tensors to one number per example."""

from advss_tf.losses.asymmetric import HardNegatives, inferior_positives
from advss_tf.losses.classification import correct, cross_entropy, kl_divergence, margin
from advss_tf.losses.contrastive import nt_xent, similarity_bytes
from advss_tf.losses.distillation import cosine_distillation, negative_cosine
from advss_tf.losses.diversity import diversity
from advss_tf.losses.invariance import adversarial_invariance, standard_invariance
from advss_tf.losses.ratios import difference_of_logits_ratio, targeted_difference_of_logits_ratio

__all__ = [
    "HardNegatives",
    "adversarial_invariance",
    "correct",
    "cosine_distillation",
    "cross_entropy",
    "difference_of_logits_ratio",
    "diversity",
    "inferior_positives",
    "kl_divergence",
    "margin",
    "negative_cosine",
    "nt_xent",
    "similarity_bytes",
    "standard_invariance",
    "targeted_difference_of_logits_ratio",
]
