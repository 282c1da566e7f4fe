"""Rotation: which of four quarter turns was the image given?

Synopsis:

    pretext = Rotation(encoder, attack=ProjectedGradientDescent(Linf("8/255")))
    pretext.compile(optimizer="sgd")
    pretext.fit(images)                      # no labels

References:
    Gidaris et al., "Unsupervised Representation Learning by Predicting Image Rotations", ICLR 2018 (arXiv 1803.07728).
    Chen et al., "Adversarial Robustness: From Self-Supervised Pre-Training to Fine-Tuning", CVPR 2020
    (arXiv 2003.12862), and its code: one turn per image, drawn near-balanced over the batch; the attack moves the
    turned image and climbs the cross-entropy; the weights descend ½ clean + ½ adversarial cross-entropy.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from advss_tf.errors import InvalidInput
from advss_tf.pretext.labelled import LabelledPuzzle
from advss_tf.randomness import batch_balanced
from advss_tf.training import Puzzle


@keras.saving.register_keras_serializable(package="advss_tf")
class Rotation(LabelledPuzzle):
    """Predicts by how many quarter turns an image was rotated; chance is 0.25.

    Args:
        encoder: Functional Keras model, square images -> features.
        clean_weight: Weight of the cross-entropy on the unattacked puzzle, in [0, 1); the attacked one has the rest.
            The paper's formula is 0 (adversarial only), its code 0.5. Without an attack the clean puzzle is the loss.
        attack: The attack of training (P3); None is standard pretraining (P2).
        eval_attack: The attack of evaluation; by default the training attack.
        seed: The run's seed.
        name: The model's name.

    Call arguments:
        inputs: `(batch, side, side, channels)` in [0, 1].

    Returns:
        Logits of the turns 0°, 90°, 180°, 270° (counter-clockwise), `(batch, 4)`.

    Raises:
        InvalidInput: if the images are not square, or `clean_weight` is out of range.
    """

    def __init__(
        self,
        encoder: keras.Model,
        *,
        clean_weight: float = 0.5,
        attack: Any = None,
        eval_attack: Any = "attack",
        seed: int = 0,
        name: str | None = "rotation",
    ) -> None:
        _check_square(encoder)
        super().__init__(
            encoder,
            task="rotation",
            num_answers=4,
            clean_weight=clean_weight,
            attack=attack,
            eval_attack=eval_attack,
            seed=seed,
            name=name,
        )

    def draw(self, size: Any, seed: tf.Tensor) -> Puzzle:
        return Puzzle({}, batch_balanced(seed, size, 4))

    def render(self, images: tf.Tensor, puzzle: Puzzle) -> tf.Tensor:
        return rotate(images, puzzle.targets)


def rotate(images: tf.Tensor, turns: tf.Tensor) -> tf.Tensor:
    """Each image turned counter-clockwise by its number of quarter turns, as `numpy.rot90`.

    Args:
        images: `(batch, side, side, channels)`.
        turns: `(batch,)` integers in 0 … 3.

    Returns:
        Images of the same shape; no pixel value changes, so an epsilon-ball is the same before and after.
    """
    turns = tf.reshape(turns, (-1, 1, 1, 1))
    quarter = tf.reverse(tf.transpose(images, (0, 2, 1, 3)), axis=[1])
    images = tf.where(turns % 2 == 1, quarter, images)
    return tf.where(turns >= 2, tf.reverse(images, axis=[1, 2]), images)


def _check_square(encoder: Any) -> None:
    shape = getattr(encoder, "input_shape", None)
    if isinstance(shape, tuple) and len(shape) == 4 and shape[1] != shape[2]:
        raise InvalidInput(
            "Only square images can be given quarter turns.",
            expected="an encoder of images as high as wide",
            received=f"input shape {shape[1:]}",
        )
