"""Pretext tasks: puzzles that need no labels, one Keras Model subclass a file."""

from advss_tf.pretext.ensemble import EnsemblePretraining
from advss_tf.pretext.jigsaw import Jigsaw, shuffle_patches
from advss_tf.pretext.labelled import LabelledPuzzle
from advss_tf.pretext.members import MEMBERS
from advss_tf.pretext.mixed import MixedPuzzle
from advss_tf.pretext.permutations import make_permutations
from advss_tf.pretext.rotation import Rotation, rotate
from advss_tf.pretext.selfie import Selfie

# The tasks by the name that a recipe gives them.
TASKS = {**MEMBERS, "ensemble": EnsemblePretraining}

__all__ = [
    "MEMBERS",
    "TASKS",
    "EnsemblePretraining",
    "Jigsaw",
    "LabelledPuzzle",
    "MixedPuzzle",
    "Rotation",
    "Selfie",
    "make_permutations",
    "rotate",
    "shuffle_patches",
]
