"""Attacks: find, inside a threat's ball, the images that make a closure as large as possible."""

from advss_tf.attacks.apgd import AutoPGD, Judged
from advss_tf.attacks.attack import Attack, AttackResult
from advss_tf.attacks.fab import FastAdaptiveBoundary
from advss_tf.attacks.pgd import FastGradient, ProjectedGradientDescent
from advss_tf.attacks.square import SquareAttack
from advss_tf.attacks.threat import L2, Linf, Threat, get_threat, pixels
from advss_tf.attacks.unforeseen import (
    ElasticAttack,
    FogAttack,
    GaborAttack,
    JPEGAttack,
    SnowAttack,
    UnforeseenAttack,
)

__all__ = [
    "L2",
    "Attack",
    "AttackResult",
    "AutoPGD",
    "ElasticAttack",
    "FastAdaptiveBoundary",
    "FastGradient",
    "FogAttack",
    "GaborAttack",
    "JPEGAttack",
    "Judged",
    "Linf",
    "ProjectedGradientDescent",
    "SnowAttack",
    "SquareAttack",
    "Threat",
    "UnforeseenAttack",
    "get_threat",
    "pixels",
]
