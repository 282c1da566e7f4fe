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

from advss_tf.encoders import linear_head
from advss_tf.errors import InvalidInput
from advss_tf.losses import correct, cross_entropy
from advss_tf.randomness import batch_balanced, derived_seed
from advss_tf.training import Batch, Puzzle, RobustModel


@keras.saving.register_keras_serializable(package="advss_tf")
class Rotation(RobustModel):
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
        self._check(encoder, clean_weight)
        weights = (
            {"clean_loss": clean_weight, "adversarial_loss": 1.0 - clean_weight} if attack else {"clean_loss": 1.0}
        )
        super().__init__(
            encoder,
            loss_weights={term: weight for term, weight in weights.items() if weight},
            reported=("clean_loss", "adversarial_loss", "accuracy", "robust_accuracy"),
            attack=attack,
            eval_attack=eval_attack,
            seed=seed,
            name=name,
        )
        self.clean_weight = clean_weight
        self.head = linear_head(4, name="rotation_logits", seed=derived_seed(self.seed, "rotation"))
        self.head.build(encoder.output_shape)
        self.built = True

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        return self.logits(inputs, training=training, stream=self.delivered_branch or "clean")

    def logits(self, images: tf.Tensor, *, training: bool, stream: str = "adversarial") -> tf.Tensor:
        """The logits of the four turns, `(batch, 4)` float32."""
        return self.head(self.encode(images, training=training, stream=stream))

    def pose(self, batch: Batch, seed: tf.Tensor) -> Puzzle:
        size = tf.shape(batch.images)[0] if batch.images.shape[0] is None else batch.images.shape[0]
        turns = batch_balanced(seed, size, 4)
        return Puzzle({"images": rotate(batch.images, turns)}, turns)

    def climb(self, inputs: dict[str, tf.Tensor], puzzle: Puzzle, context: Any, *, training: bool) -> tf.Tensor:
        return cross_entropy(self.logits(inputs["images"], training=training), puzzle.targets)

    def descend(self, inputs: dict[str, tf.Tensor], puzzle: Puzzle, *, training: bool) -> dict[str, tf.Tensor]:
        terms: dict[str, tf.Tensor] = {}
        if "clean_loss" in self.loss_weights:
            logits = self.logits(puzzle.inputs["images"], training=training, stream="clean")
            terms |= {
                "clean_loss": cross_entropy(logits, puzzle.targets),
                "accuracy": correct(logits, puzzle.targets),
            }
        if "adversarial_loss" in self.loss_weights:
            terms |= self._adversarial(inputs, puzzle, training=training)
        return terms

    def measure(self, inputs: dict[str, tf.Tensor], puzzle: Puzzle) -> dict[str, tf.Tensor]:
        terms = self.descend(inputs, puzzle, training=False)
        if "accuracy" not in terms:
            clean = self.logits(puzzle.inputs["images"], training=False, stream="clean")
            terms["accuracy"] = correct(clean, puzzle.targets)
        if self.eval_attack is not None and "robust_accuracy" not in terms:
            terms |= self._adversarial(inputs, puzzle, training=False)
        return terms

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "clean_weight": self.clean_weight}

    def _adversarial(self, inputs: dict[str, tf.Tensor], puzzle: Puzzle, *, training: bool) -> dict[str, tf.Tensor]:
        logits = self.logits(inputs["images"], training=training)
        return {
            "adversarial_loss": cross_entropy(logits, puzzle.targets),
            "robust_accuracy": correct(logits, puzzle.targets),
        }

    @staticmethod
    def _check(encoder: Any, clean_weight: float) -> None:
        if not 0 <= clean_weight < 1:
            raise InvalidInput(
                "`clean_weight` leaves nothing for the attacked puzzle, or is negative.",
                expected="0 <= clean_weight < 1; attack=None for clean pretraining",
                received=f"clean_weight={clean_weight}",
            )
        shape = getattr(encoder, "input_shape", None)
        if isinstance(shape, tuple) and len(shape) == 4 and shape[1] != shape[2]:
            raise InvalidInput(
                "Only square images can be given quarter turns.",
                expected="an encoder of images as high as wide",
                received=f"input shape {shape[1:]}",
            )


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
