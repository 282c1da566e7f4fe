"""The unforeseen attacks of Kang et al. 2019: gradient ascent over the parameters of a distortion."""

from advss_tf.attacks.unforeseen.ascent import Ball, Distorted, UnforeseenAttack
from advss_tf.attacks.unforeseen.elastic import ElasticAttack
from advss_tf.attacks.unforeseen.fog import FogAttack
from advss_tf.attacks.unforeseen.gabor import GaborAttack
from advss_tf.attacks.unforeseen.jpeg import JPEGAttack
from advss_tf.attacks.unforeseen.sizes import ATA, DISTORTIONS, SIZES, make_attack, published_sizes
from advss_tf.attacks.unforeseen.snow import SnowAttack

__all__ = [
    "ATA",
    "DISTORTIONS",
    "SIZES",
    "Ball",
    "Distorted",
    "ElasticAttack",
    "FogAttack",
    "GaborAttack",
    "JPEGAttack",
    "SnowAttack",
    "UnforeseenAttack",
    "make_attack",
    "published_sizes",
]
