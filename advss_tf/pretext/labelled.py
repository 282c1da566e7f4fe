"""Puzzles whose answer is a label: which of a few known changes was made to the image?

Synopsis:

    class Rotation(LabelledPuzzle):
        def __init__(self, encoder, **options):
            super().__init__(encoder, task="rotation", num_answers=4, **options)

        def draw(self, size, seed):
            ...                                   # Puzzle({}, answers)

        def render(self, images, puzzle):
            ...                                   # changed images

A subclass says how the image is changed. What is learned is the same for all: the cross-entropy of the answer.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from advss_tf.encoders import linear_head
from advss_tf.losses import correct, cross_entropy
from advss_tf.pretext.mixed import MixedPuzzle, Solved
from advss_tf.randomness import derived_seed
from advss_tf.training import Puzzle


class LabelledPuzzle(MixedPuzzle):
    """A linear head on the encoder tells the answer; the attack climbs its cross-entropy at the changed image.

    Subclasses define `draw`, whose puzzle has the answers `(batch,)` as its targets, and `render`; or `pose`.

    Args:
        encoder: Functional Keras model, images -> features.
        task: The puzzle's name in a recipe; the head's name and start come from it.
        num_answers: How many answers there are.
        clean_weight: See `MixedPuzzle`, as the rest.
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
        super().__init__(
            encoder, clean_weight=clean_weight, attack=attack, eval_attack=eval_attack, seed=seed, name=name
        )
        self.task = task
        self.num_answers = num_answers
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

    def solve(self, images: tf.Tensor, puzzle: Puzzle, *, training: bool, stream: str) -> Solved:
        logits = self.logits(images, training=training, stream=stream)
        return cross_entropy(logits, puzzle.targets), correct(logits, puzzle.targets)
