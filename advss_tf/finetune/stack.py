"""A stack: each image together with every puzzle that can be made of it, in one pass through the encoder.

Synopsis:

    stack = stack_of(rotation, images)        # inputs puzzle0 … puzzle3, the four quarter turns of each image
    terms = stack_terms(joint, {"images": images, **stack.inputs}, classes, stack, training=True)

The copies are inputs of their own, so that an attack moves each in a ball of its own around the clean copy.

Reference: Hendrycks et al., "Using Self-Supervised Learning Can Improve Model Robustness and Uncertainty", NeurIPS 2019
(arXiv 1906.12340), and its code, which stacks an image and its four turns.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from advss_tf.losses import correct, cross_entropy
from advss_tf.training import Puzzle


def stack_of(auxiliary: Any, images: tf.Tensor) -> Puzzle:
    """Every puzzle of each image.

    Args:
        auxiliary: A pretext model that knows `num_answers` puzzles of an image, the targets 0, 1, …
        images: `(batch, height, width, channels)` in [0, 1].

    Returns:
        A puzzle with an input `puzzle<answer>` for each answer, each of the images' shape, and as its targets the
        answers `(num_answers · batch,)` int64, copy by copy.
    """
    answers = [tf.fill(tf.shape(images)[:1], tf.constant(k, tf.int64)) for k in range(auxiliary.num_answers)]
    copies = {f"puzzle{k}": auxiliary.render(images, Puzzle({}, each)) for k, each in enumerate(answers)}
    return Puzzle(copies, tf.concat(answers, 0))


def stack_terms(
    joint: Any, inputs: dict[str, tf.Tensor], classes: Puzzle, stack: Puzzle, *, training: bool
) -> dict[str, tf.Tensor]:
    """The losses and accuracies of both heads: batch norm sees the images and all their copies as one batch.

    Args:
        joint: A model with an encoder and the models `supervised` and `auxiliary`, whose `head`s read its features.
        inputs: `images` and the inputs of the stack, attacked or not.
        classes: The puzzle of the classes: its targets are the labels `(batch,)`.
        stack: What `stack_of` returned.
        training: Whether batch norm uses the batch's statistics.

    Returns:
        `adversarial_loss` and `robust_accuracy` of the classes, `auxiliary_loss` and `auxiliary_accuracy` as means
        over the copies: `(batch,)` float32 each.
    """
    images = tf.concat([inputs["images"], *(inputs[name] for name in stack.inputs)], 0)
    features, size = joint.encode(images, training=training), tf.shape(inputs["images"])[0]
    logits, answers = joint.supervised.head(features[:size]), joint.auxiliary.head(features[size:])

    def mean(values: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(tf.reshape(values, (len(stack.inputs), -1)), axis=0)

    return {
        "adversarial_loss": cross_entropy(logits, classes.targets),
        "robust_accuracy": correct(logits, classes.targets),
        "auxiliary_loss": mean(cross_entropy(answers, stack.targets)),
        "auxiliary_accuracy": mean(correct(answers, stack.targets)),
    }
