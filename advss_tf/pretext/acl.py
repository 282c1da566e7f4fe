"""ACL: two views of an image find each other clean, and find each other while both are attacked.

Synopsis:

    encoder = resnet18(input_shape=(32, 32, 3), branches=("clean", "adversarial"))
    pretext = ACL(encoder, attack=ProjectedGradientDescent(Linf("8/255"), num_steps=5))
    pretext.compile(optimizer=LARS(5.0))
    pretext.fit(data.unlabelled(512, views=pretext.views))

With `L` the NT-Xent of two views, the attack ascends `L(x1 + d1, x2 + d2)`, both views at once, and the weights descend

    ( L(x1, x2) + L(x1 + d1, x2 + d2) ) / 2  +  sir_weight · SIR  +  air_weight · AIR

The last two terms are those of `ACLAIR`. The two pairs have batch norms of their own, in the projection as well.

References:
    Jiang, Chen, Chen, Wang, "Robust Pre-Training by Adversarial Contrastive Learning", NeurIPS 2020 (arXiv 2010.13337):
    the dual stream; of its variants the one that its code has.
    Xu et al., "Enhancing Adversarial Contrastive Learning via Adversarial Invariant Regularization", NeurIPS 2023
    (arXiv 2305.00374): the two regularisers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from advss_tf.data.view_kinds import Spec, views_of
from advss_tf.errors import InvalidInput, one_of
from advss_tf.losses.invariance import FORMS, adversarial_invariance, standard_invariance
from advss_tf.pretext.annealing import Annealing
from advss_tf.pretext.contrastive import Contrastive, retrieval
from advss_tf.pretext.viewed import attackable
from advss_tf.training import Puzzle

_PAIR = ("first", "second")


@keras.saving.register_keras_serializable(package="advss_tf")
class ACL(Contrastive):
    """Adversarial contrastive learning with a clean and an attacked stream.

    Args:
        encoder: See `Contrastive`; without branches, or with `clean` and `adversarial`.
        views: The two views that are contrasted. Crops of `annealed` ones keep 10 % of the area or more, as in the
            authors' code, which resizes them by `{"kind": "annealed", "interpolation": "bicubic"}`; without `annealing`
            they are at full strength.
        sir_weight: Weight of the standard invariance, >= 0; with it, or the next, a third view is forwarded, the
            image as it is.
        air_weight: Weight of the adversarial invariance, >= 0.
        invariance: `"equation"` or `"code"`, see `losses.invariance`.
        temperature: See `Contrastive`, as the rest.
        projection: The sizes of the projection's layers.
        projection_norms: Which of them have a batch norm; `"all"` as in the authors' code.
        annealing: The schedules of DynACL; None for neither. Only `annealed` views read the strength.
        crop_padding: Of weak views.
        flip: Whether views are mirrored.
        attack: The attack of training, jointly on both views.
        eval_attack: The attack of evaluation; by default the training attack.
        seed: The run's seed.
        name: The model's name.

    Raises:
        InvalidInput: if there are not two views, there is no attack, a weight is negative, or as `Contrastive`.
    """

    def __init__(
        self,
        encoder: keras.Model,
        *,
        attack: Any,
        views: Sequence[Spec] = ("annealed", "annealed"),
        sir_weight: float = 0.0,
        air_weight: float = 0.0,
        invariance: str = "equation",
        temperature: float = 0.5,
        projection: Sequence[int] = (512, 512, 512),
        projection_norms: str = "all",
        annealing: Annealing | dict[str, Any] | None = None,
        crop_padding: int | None = None,
        flip: bool = True,
        eval_attack: Any = "attack",
        seed: int = 0,
        name: str | None = "acl",
    ) -> None:
        views = views_of(views)
        attackable(*views)
        _check(views, attack, sir_weight=sir_weight, air_weight=air_weight)
        weights = {"clean_contrast": 0.5, "adversarial_contrast": 0.5, "sir": sir_weight, "air": air_weight}
        invariant = bool(sir_weight or air_weight)
        super().__init__(
            encoder,
            views=(*views, "original") if invariant else views,
            loss_weights={term: float(weight) for term, weight in weights.items() if weight},
            temperature=temperature,
            projection=projection,
            projection_norms=projection_norms,
            annealing=annealing,
            crop_padding=crop_padding,
            flip=flip,
            attack=attack,
            eval_attack=eval_attack,
            seed=seed,
            name=name,
        )
        self.sir_weight, self.air_weight = float(sir_weight), float(air_weight)
        self.invariance = one_of("invariance", invariance, FORMS)

    @property
    def contrasts(self) -> tuple[int, ...]:
        return (2, 2)

    @property
    def provenance(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("sir_weight", "air_weight", "invariance")}
        return {**super().provenance, **own}

    def term_weights(self) -> dict[str, Any]:
        if self.annealing is None or self.step is None:
            return self.loss_weights
        weight = self.annealing.weight(self.step)
        annealed = {"clean_contrast": (2.0 - weight) / 2.0, "adversarial_contrast": weight / 2.0}
        return {**self.loss_weights, **annealed}

    def puzzle_of(self, views: tuple[tf.Tensor, ...], labels: tf.Tensor | None) -> Puzzle:
        del labels
        fixed = {"original": views[2]} if len(views) == 3 else None
        return Puzzle(dict(zip(_PAIR, views[:2], strict=True)), None, fixed)

    def climb(self, inputs: dict[str, tf.Tensor], puzzle: Puzzle, context: Any, *, training: bool) -> tf.Tensor:
        return self.contrast(self._pair(inputs, "adversarial", training=training), attacking=True)

    def descend(self, inputs: dict[str, tf.Tensor], puzzle: Puzzle, *, training: bool) -> dict[str, tf.Tensor]:
        return self._terms(*self._pairs(inputs, puzzle, training=training), puzzle, training=training)

    def measure(self, inputs: dict[str, tf.Tensor], puzzle: Puzzle) -> dict[str, tf.Tensor]:
        clean, attacked = self._pairs(inputs, puzzle, training=False)
        terms = {**self._terms(clean, attacked, puzzle, training=False), "retrieval": retrieval(clean)}
        return terms if self.eval_attack is None else {**terms, "robust_retrieval": retrieval(attacked)}

    def get_config(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("sir_weight", "air_weight", "invariance")}
        return {**super().get_config(), "views": self.views[:2], **own}

    def _terms(self, clean: tf.Tensor, attacked: tf.Tensor, puzzle: Puzzle, *, training: bool) -> dict[str, tf.Tensor]:
        terms = {"clean_contrast": self.contrast(clean), "adversarial_contrast": self.contrast(attacked)}
        if puzzle.fixed is not None:
            original = self.embed(puzzle.fixed["original"], training=training, stream="clean")
            terms |= self._invariances(clean, attacked, original)
        return terms

    def _pairs(self, inputs: dict[str, tf.Tensor], puzzle: Puzzle, *, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """The embeddings of the clean and of the attacked views, `(2, rows, E)` each."""
        clean = self._pair(puzzle.inputs, "clean", training=training)
        return clean, self._pair(inputs, "adversarial", training=training)

    def _pair(self, inputs: dict[str, tf.Tensor], stream: str, *, training: bool) -> tf.Tensor:
        return self.embed_together([inputs[name] for name in _PAIR], training=training, stream=stream)

    def _invariances(self, clean: tf.Tensor, attacked: tf.Tensor, original: tf.Tensor) -> dict[str, tf.Tensor]:
        options: dict[str, Any] = {"temperature": self.temperature, "form": self.invariance}
        terms = {}
        if self.sir_weight:
            terms["sir"] = standard_invariance(clean[0], clean[1], original, **options)
        if self.air_weight:
            terms["air"] = adversarial_invariance(clean[0], clean[1], original, attacked[0], attacked[1], **options)
        return terms


@keras.saving.register_keras_serializable(package="advss_tf")
class ACLAIR(ACL):
    """ACL with both invariances: ACL-AIR of Xu et al. 2023. See `ACL` for the arguments.

    Both weigh ¼ here and ½ in the authors' code, which adds the two contrastive losses where `ACL` takes their mean.
    """

    def __init__(
        self,
        encoder: keras.Model,
        *,
        sir_weight: float = 0.25,
        air_weight: float = 0.25,
        name: str | None = "acl_air",
        **options: Any,
    ) -> None:
        super().__init__(encoder, sir_weight=sir_weight, air_weight=air_weight, name=name, **options)


def _check(views: Sequence[Spec], attack: Any, **weights: float) -> None:
    if len(views) != 2:
        raise InvalidInput("ACL contrasts two views.", expected="two views", received=f"{views=}")
    if attack is None:
        raise InvalidInput("ACL attacks its views.", expected="an attack, or SimCLR", received="attack=None")
    for name, weight in weights.items():
        if not 0 <= weight < float("inf"):
            raise InvalidInput(
                f"`{name}` is out of range.", expected="a finite number >= 0", received=f"{name}={weight}"
            )
