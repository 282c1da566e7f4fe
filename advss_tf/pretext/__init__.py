"""Pretext tasks: puzzles that need no labels, one Keras Model subclass a file."""

from advss_tf.pretext.mixed import MixedPuzzle
from advss_tf.pretext.rotation import Rotation, rotate
from advss_tf.pretext.selfie import Selfie

# The tasks by the name that a recipe gives them.
TASKS = {"rotation": Rotation, "selfie": Selfie}

__all__ = ["TASKS", "MixedPuzzle", "Rotation", "Selfie", "rotate"]
