"""Puzzles whose answer is a label: which of a few known changes was made to the image?

Synopsis:

    class Rotation(LabelledPuzzle):
        def __init__(self, encoder, **options):
            super().__init__(encoder, task="rotation", num_answers=4, **options)

        def pose(self, batch, seed):
            ...                                   # Puzzle({"images": changed images}, answers)

A subclass says how the image is changed. What is learned is the same for all: the cross-entropy of the answer.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from advss_tf.encoders import linear_head
from advss_tf.errors import InvalidInput
from advss_tf.losses import correct, cross_entropy
from advss_tf.randomness import derived_seed
from advss_tf.training import Puzzle, RobustModel


class LabelledPuzzle(RobustModel):
    """A linear head on the encoder tells the answer; the attack climbs its cross-entropy at the changed image.

    The loss is `clean_weight · clean + (1 - clean_weight) · attacked cross-entropy`, as in Chen et al., "Adversarial
    Robustness: From Self-Supervised Pre-Training to Fine-Tuning", CVPR 2020 (arXiv 2003.12862). Subclasses define
    `pose`, whose puzzle has one input, `images`, and the answers `(batch,)` as its targets.

    Args:
        encoder: Functional Keras model, images -> features.
        task: The puzzle's name in a recipe; the head's name and start come from it.
        num_answers: How many answers there are.
        clean_weight: Weight of the cross-entropy on the unattacked puzzle, in [0, 1); the attacked one has the rest.
            The paper's formula is 0 (adversarial only), its code 0.5. Without an attack the clean puzzle is the loss.
        attack: The attack of training (P3); None is standard pretraining (P2).
        eval_attack: The attack of evaluation; by default the training attack.
        seed: The run's seed.
        name: The model's name.

    Raises:
        InvalidInput: if `clean_weight` is out of range, or what a `RobustModel` refuses.
    """

    def __init__(
        self,
        encoder: keras.Model,
        *,
        task: str,
        num_answers: int,
        clean_weight: float = 0.5,
        attack: Any = None,
        eval_attack: Any = "attack",
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        _check_clean_weight(clean_weight)
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
        self.task = task
        self.num_answers = num_answers
        self.clean_weight = clean_weight
        self.head = linear_head(num_answers, name=f"{task}_logits", seed=derived_seed(self.seed, task))
        self.head.build(encoder.output_shape)
        self.built = True

    @property
    def chance(self) -> float:
        """The expected accuracy of the best constant answer, in [0, 1]."""
        return 1.0 / self.num_answers

    @property
    def provenance(self) -> dict[str, Any]:
        """What an exported encoder should say of the puzzle that it learned, as JSON."""
        return {"task": self.task, "chance": self.chance}

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        return self.logits(inputs, training=training, stream=self.delivered_branch or "clean")

    def logits(self, images: tf.Tensor, *, training: bool, stream: str = "adversarial") -> tf.Tensor:
        """The logits of the answers, `(batch, num_answers)` float32."""
        return self.head(self.encode(images, training=training, stream=stream))

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


def _check_clean_weight(clean_weight: float) -> None:
    if not 0 <= clean_weight < 1:
        raise InvalidInput(
            "`clean_weight` leaves nothing for the attacked puzzle, or is negative.",
            expected="0 <= clean_weight < 1; attack=None for clean pretraining",
            received=f"clean_weight={clean_weight}",
        )
