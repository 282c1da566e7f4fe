"""Attacks: find, inside a threat's ball, the images that make a closure as large as possible."""

from advss_tf.attacks.pgd import AttackResult, FastGradient, ProjectedGradientDescent
from advss_tf.attacks.threat import L2, Linf, Threat, get_threat, pixels

__all__ = [
    "L2",
    "AttackResult",
    "FastGradient",
    "Linf",
    "ProjectedGradientDescent",
    "Threat",
    "get_threat",
    "pixels",
]
