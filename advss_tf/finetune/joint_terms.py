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

# Images by their name; of the mode "own" also the attacked `puzzle`, which is such a dict itself.
Inputs = dict[str, Any]


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
        posed = rendered(joint, inputs, asked)
    else:
        posed = inputs["puzzle"] if joint.place == "own" else asked.inputs
    return {**terms, **solved(joint, posed, asked, training=training, stream=stream_of(joint))}


def solved(
    joint: Any, inputs: Inputs, asked: Puzzle, *, training: bool, stream: str = "adversarial", attacking: bool = False
) -> dict[str, tf.Tensor]:
    """`auxiliary_loss` and `auxiliary_accuracy`, `(batch,)` each, at the inputs of a puzzle of the task.

    Args:
        joint: The model.
        inputs: The puzzle's inputs. A puzzle of one, `images`, is solved at these, one of several at the dict.
        asked: The puzzle.
        training: Whether batch norm uses the batch's statistics.
        stream: The batch-norm branch.
        attacking: Whether this is what an attack climbs: where images are compared, then with this replica's alone.
    """
    given = inputs["images"] if list(inputs) == ["images"] else inputs
    options = {"attacking": attacking} if getattr(joint.auxiliary, "compares_images", False) else {}
    loss, accuracy = joint.auxiliary.solve(given, asked, training=training, stream=stream, **options)
    return {"auxiliary_loss": loss, "auxiliary_accuracy": accuracy}


def rendered(joint: Any, inputs: Inputs, asked: Puzzle) -> Inputs:
    """What the task makes of the attacked images: its puzzle's inputs, each `(batch, height, width, channels)`."""
    # An attack's loop may have lost the size, which some tasks have to know.
    images = tf.ensure_shape(inputs["images"], (None, *joint.encoder.input_shape[1:]))
    made = joint.auxiliary.render(images, asked)
    return made if isinstance(made, dict) else {"images": made}


def stream_of(joint: Any) -> str:
    """The batch-norm branch of the images that the task is learned on."""
    return "clean" if joint.place == "clean" else "adversarial"
