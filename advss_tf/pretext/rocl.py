"""RoCL: an attack makes an image look unlike its own other view; all three are to find each other.

Synopsis:

    pretext = RoCL(encoder, attack=ProjectedGradientDescent(Linf("8/255"), num_steps=7, step_size="1.785/255"))
    pretext.fit(data.unlabelled(256, views=pretext.views))

With views `x` and `x'`, the attack ascends the NT-Xent of `x + d` and `x'`, and the weights descend

    2 · L(x, x', x + d)  +  adversarial_weight · L(x + d, x')

where `L` is the mean over ordered pairs of views, so that the first term is the sum over the six pairs of its code.
That code forwards the views of the second term once more, by statistics of their own; here it reads the same
embeddings.

Reference: Kim, Tack, Hwang, "Adversarial Self-Supervised Contrastive Learning", NeurIPS 2020 (arXiv 2006.07589).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from advss_tf.data.view_kinds import Spec, views_of
from advss_tf.errors import InvalidInput
from advss_tf.pretext.asymmetry import Asymmetry
from advss_tf.pretext.contrastive import Contrastive, retrieval
from advss_tf.pretext.viewed import attackable, given
from advss_tf.training import Puzzle


@keras.saving.register_keras_serializable(package="advss_tf")
class RoCL(Contrastive):
    """Instance-wise adversarial contrastive learning, one set of batch norms for all.

    Args:
        encoder: See `Contrastive`; without branches, or with `clean` and `adversarial`.
        views: The two views: the first is attacked, the second is what the attack turns it from.
        adversarial_weight: Weight of the pair of attacked and other view by itself, >= 0; 1/256 in the authors' code.
        one_sided: Whether the gradient reaches each pair's anchor alone, as in the authors' code, which detaches the
            other side of its similarities; by default it reaches both.
        asymmetry: See `Asymmetry`; None, as in the paper, for none. Pairs of clean views then draw both of them, where
            code that combines the two methods holds one side of every pair.
        temperature: See `Contrastive`, as the rest.
        projection: The sizes of the projection's layers.
        projection_norms: Which of them have a batch norm; none as in the authors' code.
        crop_padding: Of weak views.
        flip: Whether views are mirrored.
        attack: The attack of training.
        eval_attack: The attack of evaluation; by default the training attack.
        seed: The run's seed.
        name: The model's name.

    Raises:
        InvalidInput: if there are not two views, there is no attack, a weight is negative, both kinds of holding are
            asked for, or as `Contrastive`.
    """

    def __init__(
        self,
        encoder: keras.Model,
        *,
        attack: Any,
        views: Sequence[Spec] = ("strong", "strong"),
        adversarial_weight: float = 1.0 / 256.0,
        one_sided: bool = False,
        asymmetry: Asymmetry | dict[str, Any] | None = None,
        temperature: float = 0.5,
        projection: Sequence[int] = (2048, 128),
        projection_norms: str = "none",
        crop_padding: int | None = None,
        flip: bool = True,
        eval_attack: Any = "attack",
        seed: int = 0,
        name: str | None = "rocl",
    ) -> None:
        views = views_of(views)
        _check(views, attack, adversarial_weight)
        attackable(views[0])
        weights = {"contrastive": 2.0, "adversarial_contrast": float(adversarial_weight)}
        super().__init__(
            encoder,
            views=views,
            loss_weights={term: weight for term, weight in weights.items() if weight},
            temperature=temperature,
            projection=projection,
            projection_norms=projection_norms,
            crop_padding=crop_padding,
            flip=flip,
            attack=attack,
            eval_attack=eval_attack,
            seed=seed,
            name=name,
        )
        self.adversarial_weight, self.one_sided = float(adversarial_weight), bool(one_sided)
        self.asymmetry = given(Asymmetry, asymmetry, name="asymmetry")
        if self.one_sided and self.asymmetry is not None:
            raise InvalidInput(
                "Both `one_sided` and `asymmetry` say what is held fixed.",
                expected="one of them",
                received=f"one_sided=True, asymmetry={self.asymmetry}",
            )

    @property
    def contrasts(self) -> tuple[int, ...]:
        return (3, 2)

    @property
    def provenance(self) -> dict[str, Any]:
        return {**super().provenance, "adversarial_weight": self.adversarial_weight, "one_sided": self.one_sided}

    def puzzle_of(self, views: tuple[tf.Tensor, ...], labels: tf.Tensor | None) -> Puzzle:
        del labels
        return Puzzle({"images": views[0]}, None, {"other": views[1]})

    def context(self, puzzle: Puzzle, *, training: bool) -> tf.Tensor:
        return tf.stop_gradient(self.embed(_fixed(puzzle), training=training, stream="clean"))

    def climb(self, inputs: dict[str, tf.Tensor], puzzle: Puzzle, context: Any, *, training: bool) -> tf.Tensor:
        attacked = self.embed(inputs["images"], training=training, stream="adversarial")
        # The asymmetry is not climbed, as in its authors' code.
        return self.contrast(tf.stack([attacked, context]), attacking=True, held=np.full((2, 2), self.one_sided))

    def descend(self, inputs: dict[str, tf.Tensor], puzzle: Puzzle, *, training: bool) -> dict[str, tf.Tensor]:
        return self._terms(self._embeddings(inputs, puzzle, training=training))

    def measure(self, inputs: dict[str, tf.Tensor], puzzle: Puzzle) -> dict[str, tf.Tensor]:
        found = self._embeddings(inputs, puzzle, training=False)
        terms = self._terms(found)
        terms["retrieval"] = retrieval(found[1:])
        return terms if self.eval_attack is None else {**terms, "robust_retrieval": retrieval(found[::2])}

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["annealing"]
        own = {name: getattr(self, name) for name in ("views", "adversarial_weight", "one_sided")}
        return {**config, **own, "asymmetry": None if self.asymmetry is None else self.asymmetry.as_dict()}

    def _embeddings(self, inputs: dict[str, tf.Tensor], puzzle: Puzzle, *, training: bool) -> tf.Tensor:
        """Of the attacked view, the same view unattacked, and the other: `(3, rows, E)`."""
        views = [puzzle.inputs["images"], _fixed(puzzle)]
        if not self.branches:
            # One pass, as in the authors' code: all three are normalised by what they have in common.
            return self.embed_together([inputs["images"], *views], training=training, stream="clean")
        clean = self.embed_together(views, training=training, stream="clean")
        attacked = self.embed(inputs["images"], training=training, stream="adversarial")
        return tf.concat([attacked[tf.newaxis], clean], 0)

    def _terms(self, embeddings: tf.Tensor) -> dict[str, tf.Tensor]:
        options: dict[str, Any] = {"held": np.full((3, 3), self.one_sided)}
        if self.asymmetry is not None:
            options = self.asymmetry.options(3, adversarial=(0,))
        terms = {"contrastive": self.contrast(embeddings, **options)}
        if self.adversarial_weight:
            terms["adversarial_contrast"] = self.contrast(embeddings[::2], held=np.full((2, 2), self.one_sided))
        return terms


def _fixed(puzzle: Puzzle) -> tf.Tensor:
    return (puzzle.fixed or {})["other"]


def _check(views: Sequence[Spec], attack: Any, weight: float) -> None:
    if len(views) != 2:
        raise InvalidInput("RoCL contrasts two views.", expected="two views", received=f"{views=}")
    if attack is None:
        raise InvalidInput("RoCL attacks its views.", expected="an attack, or SimCLR", received="attack=None")
    if not 0 <= weight < float("inf"):
        raise InvalidInput(
            "`adversarial_weight` is out of range.",
            expected="a finite number >= 0",
            received=f"adversarial_weight={weight}",
        )
