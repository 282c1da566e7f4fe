"""Pretext tasks: puzzles that need no labels, one Keras Model subclass a file."""

from advss_tf.pretext.rotation import Rotation, rotate

# The tasks by the name that a recipe gives them.
TASKS = {"rotation": Rotation}

__all__ = ["TASKS", "Rotation", "rotate"]
