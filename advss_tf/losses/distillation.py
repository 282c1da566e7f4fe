"""Distillation by angles: a robust student learns from an ordinary self-supervised teacher.

Synopsis:

    negative_cosine(student, teacher)                       # (batch,) in [-1, 1]: what the attack climbs
    cosine_distillation(clean, attacked, teacher)           # (batch,): what the weights descend

Reference: Zhang et al., "Decoupled Adversarial Contrastive Learning for Self-supervised Adversarial Robustness"
(DeACL), ECCV 2022 (arXiv 2207.10899).
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from advss_tf.errors import InvalidInput


def negative_cosine(embeddings: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """`-cos(embeddings, others)`, row by row; a row of zeros has cosine 0 to everything.

    Args:
        embeddings: `(batch, features)`, any float type.
        others: The same; the gradient flows through both.

    Returns:
        `(batch,)` float32 in [-1, 1], up to rounding.

    Raises:
        InvalidInput: if the shapes differ.
    """
    shapes = tuple(embeddings.shape), tuple(others.shape)
    if shapes[0] != shapes[1] or len(shapes[0]) != 2:
        raise InvalidInput("The embeddings differ in shape.", expected="(batch, features) twice", received=f"{shapes}")
    units = [tf.math.l2_normalize(tf.cast(side, tf.float32), axis=-1) for side in (embeddings, others)]
    return -tf.reduce_sum(units[0] * units[1], axis=-1)


def cosine_distillation(clean: tf.Tensor, attacked: tf.Tensor, teacher: tf.Tensor, *, beta: float = 2.0) -> tf.Tensor:
    """`-cos(clean, teacher) - beta · cos(attacked, clean)`: the teacher's angles, and the same ones under attack.

    The teacher is held fixed here; through `clean` the gradient of the second term flows as well, as in the authors'
    code. The value is in `[-(1 + beta), 1 + beta]`.

    Args:
        clean: `(batch, features)`, the student on clean images, any float type.
        attacked: The student on the attacked images.
        teacher: The teacher on the clean images.
        beta: The weight of the second term, >= 0; 2 in the authors' code.

    Returns:
        `(batch,)` float32.

    Raises:
        InvalidInput: if the shapes differ, or `beta` is negative or not finite.
    """
    if not (np.isfinite(beta) and beta >= 0):
        raise InvalidInput("`beta` is out of range.", expected="a finite number >= 0", received=f"{beta=}")
    return negative_cosine(clean, tf.stop_gradient(teacher)) + beta * negative_cosine(attacked, clean)
