"""The terms that a joint classifier descends and reports: those of the classes, and those of the task beside them.

Synopsis:

    terms = both_terms(joint, {"images": attacked}, puzzle, training=True)     # four names, (batch,) each
    task = solved(joint, rendered(joint, inputs, asked), asked, training=True)

`joint` is a `JointClassifier`, `puzzle` what its `pose` returned, `asked` what of its targets the task is to answer.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from advss_tf.finetune.stack import stack_terms
from advss_tf.training import Puzzle

Inputs = dict[str, tf.Tensor]


def both_terms(joint: Any, inputs: Inputs, puzzle: Puzzle, *, training: bool) -> dict[str, tf.Tensor]:
    """The losses and accuracies of both heads, `(batch,)` each; those of the task at the place where it is learned.

    Args:
        joint: The model.
        inputs: The attacked inputs: `images`, the copies of a stack, in the mode "own" the attacked `puzzle`.
        puzzle: What is asked of both heads.
        training: Whether batch norm uses the batch's statistics.
    """
    classes, asked = puzzle.targets
    if joint.copies == "stack":
        return stack_terms(joint, inputs, classes, asked, training=training)
    terms = joint.supervised.descend(inputs, classes, training=training)
    if joint.place == "attacked":
        images = rendered(joint, inputs, asked)
    else:
        images = inputs["puzzle"] if joint.place == "own" else asked.inputs["images"]
    return {**terms, **solved(joint, images, asked, training=training, stream=stream_of(joint))}


def solved(
    joint: Any, images: tf.Tensor, asked: Puzzle, *, training: bool, stream: str = "adversarial"
) -> dict[str, tf.Tensor]:
    """`auxiliary_loss` and `auxiliary_accuracy`, `(batch,)` each, at the images of a puzzle of the task."""
    loss, accuracy = joint.auxiliary.solve(images, asked, training=training, stream=stream)
    return {"auxiliary_loss": loss, "auxiliary_accuracy": accuracy}


def rendered(joint: Any, inputs: Inputs, asked: Puzzle) -> tf.Tensor:
    """What the task makes of the attacked images, `(batch, height, width, channels)`."""
    # An attack's loop may have lost the size, which some tasks have to know.
    images = tf.ensure_shape(inputs["images"], (None, *joint.encoder.input_shape[1:]))
    return joint.auxiliary.render(images, asked)


def stream_of(joint: Any) -> str:
    """The batch-norm branch of the images that the task is learned on."""
    return "clean" if joint.place == "clean" else "adversarial"
