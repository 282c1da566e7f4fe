"""The loss that the tasks of Chen et al. share: one puzzle, solved on the clean and on the attacked images.

Synopsis:

    class Selfie(MixedPuzzle):
        def draw(self, size, seed): ...                                # what is asked of `size` images
        def render(self, images, puzzle): ...                          # the images that are asked
        def solve(self, images, puzzle, *, training, stream): ...      # loss and accuracy, (batch,) each

Reference: Chen et al., "Adversarial Robustness: From Self-Supervised Pre-Training to Fine-Tuning", CVPR 2020 (arXiv
2003.12862). The paper descends the attacked loss alone, its code ½ clean + ½ attacked, each in a pass of its own.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from advss_tf.errors import InvalidInput
from advss_tf.training import Batch, Puzzle, RobustModel

Solved = tuple[tf.Tensor, tf.Tensor]


class MixedPuzzle(RobustModel):
    """A puzzle of one input, `images`, whose loss is `clean_weight · clean + (1 - clean_weight) · attacked`.

    Subclasses define `draw`, `render`, `solve` and `chance`; one that does not draw first may define `pose` in the
    place of the first two.

    Args:
        encoder: The Functional Keras model that is trained and kept, images -> features.
        clean_weight: Weight of the loss on the unattacked puzzle, in [0, 1); the attacked one has the rest. The
            paper's formula is 0, its code 0.5. Without an attack the clean loss is the loss.
        attack: The attack of training (P3); None is standard pretraining (P2).
        eval_attack: The attack of evaluation; by default the training attack. None measures clean images alone.
        seed: The run's seed.
        name: The model's name.

    Raises:
        InvalidInput: if `clean_weight` is out of range, or as `RobustModel`.
    """

    cuts_patches = False
    """Whether the answer is where patches belong, which a black rim around a shifted image gives away."""

    def __init__(
        self,
        encoder: keras.Model,
        *,
        clean_weight: float = 0.5,
        attack: Any = None,
        eval_attack: Any = "attack",
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        if not 0 <= clean_weight < 1:
            raise InvalidInput(
                "`clean_weight` leaves nothing for the attacked puzzle, or is negative.",
                expected="0 <= clean_weight < 1; attack=None for clean pretraining",
                received=f"clean_weight={clean_weight}",
            )
        mix = {"clean_loss": clean_weight, "adversarial_loss": 1.0 - clean_weight} if attack else {"clean_loss": 1.0}
        super().__init__(
            encoder,
            loss_weights={term: weight for term, weight in mix.items() if weight},
            reported=("clean_loss", "adversarial_loss", "accuracy", "robust_accuracy"),
            attack=attack,
            eval_attack=eval_attack,
            seed=seed,
            name=name,
        )
        self.clean_weight = clean_weight

    @property
    def chance(self) -> float:
        """The expected accuracy of guessing, in (0, 1)."""
        raise TypeError(f"{type(self).__name__} does not say what guessing reaches: define `chance`.")

    def pose(self, batch: Batch, seed: tf.Tensor) -> Puzzle:
        images = batch.images
        drawn = self.draw(tf.shape(images)[0] if images.shape[0] is None else images.shape[0], seed)
        return drawn._replace(inputs={"images": self.render(images, drawn)})

    def draw(self, size: Any, seed: tf.Tensor) -> Puzzle:
        """Every random choice of a puzzle of `size` images, from `seed` `(2,)`: its targets and what is fixed."""
        raise TypeError(f"{type(self).__name__} does not say what is drawn: define `draw`, or `pose`.")

    def render(self, images: tf.Tensor, puzzle: Puzzle) -> tf.Tensor:
        """What the puzzle makes of images, as `pose` does of its batch, with the choices that were drawn.

        The gradient flows through it: an attack on an image can climb the loss of the puzzle that is made of it.

        Args:
            images: `(batch, height, width, channels)` in [0, 1], of the size that the encoder takes.
            puzzle: What `draw` or `pose` returned; its inputs are not read.

        Returns:
            Images of the same shape. No pixel value changes, so an epsilon-ball is the same before and after.
        """
        raise TypeError(f"{type(self).__name__} does not say what it makes of an image: define `render`.")

    def solve(self, images: tf.Tensor, puzzle: Puzzle, *, training: bool, stream: str) -> Solved:
        """The loss and the accuracy of the puzzle's answers at `images`: `(batch,)` float32 each."""
        raise TypeError(f"{type(self).__name__} does not say how its puzzle is solved: define `solve`.")

    def climb(self, inputs: dict[str, tf.Tensor], puzzle: Puzzle, context: Any, *, training: bool) -> tf.Tensor:
        return self.solve(inputs["images"], puzzle, training=training, stream="adversarial")[0]

    def probe(self, inputs: dict[str, tf.Tensor], puzzle: Puzzle, context: Any, *, training: bool) -> tf.Tensor:
        stream = self.delivered_branch or "adversarial"
        return self.solve(inputs["images"], puzzle, training=training, stream=stream)[0]

    def descend(self, inputs: dict[str, tf.Tensor], puzzle: Puzzle, *, training: bool) -> dict[str, tf.Tensor]:
        terms: dict[str, tf.Tensor] = {}
        if "clean_loss" in self.loss_weights:
            terms |= self._clean(puzzle, training=training)
        if "adversarial_loss" in self.loss_weights:
            terms |= self._adversarial(inputs, puzzle, training=training)
        return terms

    def measure(self, inputs: dict[str, tf.Tensor], puzzle: Puzzle) -> dict[str, tf.Tensor]:
        # Both through the branch that is handed over, which need not be one that such images have trained.
        stream = self.delivered_branch or "clean"
        terms = self._clean(puzzle, training=False, stream=stream)
        if self.eval_attack is not None:
            terms |= self._adversarial(inputs, puzzle, training=False, stream=stream)
        return terms

    def measured_loss(self, terms: dict[str, tf.Tensor]) -> tf.Tensor:
        """That of training; where nothing is attacked, the clean loss with the whole weight."""
        return terms["clean_loss"] if self.eval_attack is None else self.total(terms)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "clean_weight": self.clean_weight}

    def _clean(self, puzzle: Puzzle, *, training: bool, stream: str = "clean") -> dict[str, tf.Tensor]:
        loss, accuracy = self.solve(puzzle.inputs["images"], puzzle, training=training, stream=stream)
        return {"clean_loss": loss, "accuracy": accuracy}

    def _adversarial(
        self, inputs: dict[str, tf.Tensor], puzzle: Puzzle, *, training: bool, stream: str = "adversarial"
    ) -> dict[str, tf.Tensor]:
        loss, accuracy = self.solve(inputs["images"], puzzle, training=training, stream=stream)
        return {"adversarial_loss": loss, "robust_accuracy": accuracy}
