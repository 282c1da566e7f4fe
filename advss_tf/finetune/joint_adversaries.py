"""What the attack of a joint classifier climbs where two heads are attacked: T3, T4 and T5 of its modes.

Synopsis:

    weighed_sum(joint, {"images": attacked}, puzzle, training=False)      # (batch,), what T4 climbs and T5 judges by
    each_its_own(joint, attack, puzzle, seed).inputs                      # T3: "images", and the inputs of "puzzle"
    stronger(joint, attack, puzzle, seed).inputs                          # T5: image by image one of two candidates

`joint` is a `JointClassifier`, `puzzle` what its `pose` returned: its targets are a puzzle for each head.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from advss_tf.attacks import AttackResult, ProjectedGradientDescent
from advss_tf.attacks.batches import choose
from advss_tf.finetune.joint_terms import Inputs, rendered, solved
from advss_tf.finetune.stack import stack_terms
from advss_tf.randomness import fold
from advss_tf.training import Puzzle


def weighed_sum(joint: Any, inputs: Inputs, puzzle: Puzzle, *, training: bool) -> tf.Tensor:
    """`attack_class_weight · CE(x') + attack_weight · SSL(t(x'))`, `(batch,)`; what has no weight is not computed.

    Args:
        joint: The model.
        inputs: The attacked `images`, and with a stack its copies.
        puzzle: What is asked of both heads.
        training: Whether batch norm uses the batch's statistics.
    """
    (classes, asked), terms = puzzle.targets, dict[str, tf.Tensor]()
    weights = {"adversarial_loss": joint.attack_class_weight, "auxiliary_loss": joint.attack_weight}
    if joint.copies == "stack":
        # The copies and the image are one batch, so neither loss can be had without the other.
        terms = stack_terms(joint, inputs, classes, asked, training=training)
    else:
        if weights["adversarial_loss"]:
            terms |= joint.supervised.descend(inputs, classes, training=training)
        if weights["auxiliary_loss"]:
            terms |= solved(joint, rendered(joint, inputs, asked), asked, training=training, attacking=True)
    return tf.add_n([weight * terms[name] for name, weight in weights.items() if weight])


def each_its_own(joint: Any, attack: ProjectedGradientDescent, puzzle: Puzzle, seed: tf.Tensor) -> AttackResult:
    """T3: an attack on each head; what they climbed is added up, what they used of their balls is averaged."""
    classes, asked = puzzle.targets

    def of_task(inputs: Inputs, puzzle: Puzzle, context: Any, *, training: bool) -> tf.Tensor:
        del context
        return solved(joint, inputs, puzzle, training=training, attacking=True)["auxiliary_loss"]

    first = joint.supervised._attack(attack, joint.supervised.climb, classes, seed)
    second = joint.auxiliary._attack(attack, of_task, asked, fold(seed, 1))
    inputs = {**first.inputs, "puzzle": second.inputs}
    return AttackResult(inputs, first.climb + second.climb, (first.at_bound + second.at_bound) / 2)


def stronger(joint: Any, attack: ProjectedGradientDescent, puzzle: Puzzle, seed: tf.Tensor) -> AttackResult:
    """T5: of the adversaries of either head, image by image the one that the weighted sum calls stronger.

    A task that compares images judges each candidate of an image among the same head's candidates of the others.
    """
    (classes, asked), training = puzzle.targets, attack.batch_norm == "training"

    def of_task(inputs: Inputs, puzzle: Puzzle, context: Any, *, training: bool) -> tf.Tensor:
        del context
        posed = rendered(joint, inputs, puzzle)
        return solved(joint, posed, puzzle, training=training, attacking=True)["auxiliary_loss"]

    of_images = asked._replace(inputs=puzzle.inputs)
    found = [
        joint.supervised._attack(attack, joint.supervised.climb, classes, seed),
        joint.auxiliary._attack(attack, of_task, of_images, fold(seed, 1)),
    ]
    with joint.stream("adversarial"), keras.StatelessScope():
        one, other = (joint.climb(each.inputs, puzzle, None, training=training) for each in found)
    first, second = (each._replace(climb=height) for each, height in zip(found, (one, other), strict=True))
    return tf.nest.map_structure(tf.stop_gradient, choose(other > one, second, first))
