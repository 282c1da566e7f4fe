"""AdvCL: clean views, a high-frequency view and an attacked one find each other, and attacked images name clusters.

Synopsis:

    encoder = resnet18(input_shape=(32, 32, 3), branches=("clean", "adversarial", "pseudo"))
    pretext = AdvCL(encoder, pseudo_sizes=(2, 10, 50, 100, 500), attack=attack)
    pretext.fit(data.unlabelled(512, views=pretext.views, pseudo_labels=clusters.labels))

With `x` the weakly augmented image, `v` its clean views, `L` the NT-Xent of all views and `C` the mean cross-entropy of
linear heads that tell the image's clusters, the attack ascends, and the weights descend,

    L(x + d1, v1, v2, …)  +  pseudo_weight · C(x + d2)

each perturbation in a ball of its own; the paper's formula has one, `d1 = d2`, which is `perturbation="shared"`.

Clean views do not move while the attack runs, so they are forwarded once. With `batch_norm="training"` in the attack,
as in the authors' code, the weights learn from that same pass: of the 30 forward passes of its step 15 are left (three
clean views, two attacked ones in each of five steps, two at the end). With `"inference"`, the default, clean views are
forwarded in either mode, 18 passes.

References:
    Fan, Liu, Chen, Zhang, Gan, "When Does Contrastive Learning Preserve Adversarial Robustness from Pretraining to
    Finetuning?", NeurIPS 2021 (arXiv 2111.01124), and its code.
    Yu et al., "Adversarial Contrastive Learning via Asymmetric InfoNCE", ECCV 2022 (arXiv 2207.08374): `AInfoNCE`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from advss_tf.data.view_kinds import Spec
from advss_tf.errors import InvalidInput
from advss_tf.pretext.advcl_options import checked_options
from advss_tf.pretext.annealing import Annealing
from advss_tf.pretext.asymmetry import Asymmetry
from advss_tf.pretext.clusters import ClusterHeads
from advss_tf.pretext.contrastive import Contrastive, retrieval
from advss_tf.pretext.viewed import attackable, given
from advss_tf.training import Puzzle


@keras.saving.register_keras_serializable(package="advss_tf")
class AdvCL(Contrastive):
    """Adversarial contrastive learning of several views, with pseudo-supervision.

    Args:
        encoder: See `Contrastive`; without branches, or with `clean`, `adversarial` and, if there are pseudo-labels
            with a perturbation of their own, `pseudo`.
        attack: The attack of training.
        clean_views: The views that are not attacked, one or more; without `"high_frequency"` it is the paper's
            ablation.
        attacked_view: The view that is attacked.
        pseudo_sizes: The numbers of clusters that the images' pseudo-labels tell apart, one linear head for each;
            empty for none. Batches then bring labels `(rows, heads)`.
        pseudo_weight: Weight of the pseudo-labels' cross-entropy, > 0 if there are pseudo-labels.
        perturbation: `"separate"` for one of each loss, as in the authors' code, or `"shared"` for one of both, as in
            the paper's formula.
        base_temperature: Multiplies the contrastive loss by `temperature / base_temperature`; 0.07 as in the authors'
            code, whose learning rate and `pseudo_weight` go with it, and None for the plain loss. See `nt_xent`.
        asymmetry: See `Asymmetry`; None for none. The attack climbs the symmetric loss; in the authors' code it
            leaves clean anchors out, and weighs pairs with the attacked view by `pair_weight`.
        cache: Whether clean views are forwarded once a step, not at each step of the attack; the gradient is the same.
        temperature: See `Contrastive`, as the rest.
        projection: The sizes of the projection's layers. Its batch norms are shared by all streams, as in that code.
        projection_norms: Which of them have a batch norm.
        annealing: DynACL's schedules: `annealed` views grow weaker, and pairs with the attacked view weigh more, others
            less; None for neither.
        crop_padding: Of weak views.
        flip: Whether views are mirrored.
        eval_attack: The attack of evaluation; by default the training attack.
        seed: The run's seed.
        name: The model's name.

    Raises:
        InvalidInput: if there is no clean view or no attack, a word is not known, a number is out of its range, or as
            `Contrastive`.
    """

    def __init__(
        self,
        encoder: keras.Model,
        *,
        attack: Any,
        clean_views: Sequence[Spec] = ("strong", "strong", "high_frequency"),
        attacked_view: Spec = "weak",
        pseudo_sizes: Sequence[int] = (),
        pseudo_weight: float = 0.2,
        perturbation: str = "separate",
        base_temperature: float | None = 0.07,
        asymmetry: Asymmetry | dict[str, Any] | None = None,
        cache: bool = True,
        temperature: float = 0.5,
        projection: Sequence[int] = (512, 128),
        projection_norms: str = "hidden",
        annealing: Annealing | dict[str, Any] | None = None,
        crop_padding: int | None = None,
        flip: bool = True,
        eval_attack: Any = "attack",
        seed: int = 0,
        name: str | None = "advcl",
    ) -> None:
        attackable(attacked_view)
        checked_options(clean_views, attack, pseudo_sizes, pseudo_weight, perturbation, base_temperature)
        apart = bool(pseudo_sizes) and perturbation == "separate"
        super().__init__(
            encoder,
            views=(attacked_view, *clean_views),
            streams=("clean", "adversarial", "pseudo") if apart else ("clean", "adversarial"),
            loss_weights={"contrastive": 1.0, **({"pseudo": float(pseudo_weight)} if pseudo_sizes else {})},
            reported=("pseudo_accuracy",) if pseudo_sizes else (),
            temperature=temperature,
            projection=projection,
            projection_norms=projection_norms,
            branched_projection=False,
            annealing=annealing,
            crop_padding=crop_padding,
            flip=flip,
            attack=attack,
            eval_attack=eval_attack,
            seed=seed,
            name=name,
        )
        self.pseudo_sizes, self.pseudo_weight = tuple(int(size) for size in pseudo_sizes), float(pseudo_weight)
        self.perturbation, self.base_temperature, self.cache = perturbation, base_temperature, bool(cache)
        self.asymmetry = given(Asymmetry, asymmetry, name="asymmetry")
        self.heads = ClusterHeads(encoder.output_shape[-1], self.pseudo_sizes, seed=seed) if pseudo_sizes else None

    @property
    def attacked_view(self) -> str | dict[str, Any]:
        """The view that is attacked, as in `views`."""
        return self.views[0]

    @property
    def clean_views(self) -> tuple[str | dict[str, Any], ...]:
        """The views that are not attacked, as in `views`."""
        return self.views[1:]

    @property
    def provenance(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("pseudo_weight", "perturbation", "base_temperature")}
        return {**super().provenance, "pseudo_sizes": list(self.pseudo_sizes), **own}

    @property
    def attacked_streams(self) -> tuple[str, ...]:
        return self.streams[1:]

    def puzzle_of(self, views: tuple[tf.Tensor, ...], labels: tf.Tensor | None) -> Puzzle:
        attacked, *clean = views
        fixed = {"clean": tf.stack(clean)}
        inputs = {"contrastive": attacked}
        if self.heads is not None and self.perturbation == "separate":
            inputs["pseudo"] = attacked
        return Puzzle(inputs, labels, fixed)

    def share(self, puzzle: Puzzle, *, training: bool) -> Puzzle:
        """Forwards the clean views, where the attack and the weights can read the same pass.

        Pseudo-labels are for training: held-out images have none, and their labels are of classes.

        Raises:
            InvalidInput: in training, if there are heads and the batch brings no pseudo-labels that fit them.
        """
        puzzle = self._with_targets(puzzle, training=training)
        attack = self.attack if training else self.eval_attack
        in_training_mode = attack is not None and attack.batch_norm == "training"
        if not self.cache or in_training_mode != training:
            return puzzle
        clean = self._clean(puzzle, training=training)
        return puzzle._replace(fixed={**(puzzle.fixed or {}), "embeddings": clean})

    def _with_targets(self, puzzle: Puzzle, *, training: bool) -> Puzzle:
        if training and self.heads is not None:
            return puzzle._replace(targets=self.heads.targets(puzzle.targets))
        return Puzzle({"contrastive": puzzle.inputs["contrastive"]}, None, puzzle.fixed)

    def context(self, puzzle: Puzzle, *, training: bool) -> tf.Tensor | None:
        """The clean views' embeddings `(views, rows, E)`; None if they are to be forwarded at each step."""
        if not self.cache:
            return None
        return tf.stop_gradient(self._embeddings_of_clean(puzzle, training=training))

    def climb(self, inputs: dict[str, tf.Tensor], puzzle: Puzzle, context: Any, *, training: bool) -> tf.Tensor:
        clean = self._clean(puzzle, training=training) if context is None else context
        terms, _ = self._terms(inputs, clean, puzzle.targets, training=training, attacking=True)
        return self.total(terms)

    def descend(self, inputs: dict[str, tf.Tensor], puzzle: Puzzle, *, training: bool) -> dict[str, tf.Tensor]:
        clean = self._embeddings_of_clean(puzzle, training=training)
        return self._terms(inputs, clean, puzzle.targets, training=training)[0]

    def measure(self, inputs: dict[str, tf.Tensor], puzzle: Puzzle) -> dict[str, tf.Tensor]:
        clean = self._embeddings_of_clean(puzzle, training=False)
        terms, attacked = self._terms(inputs, clean, puzzle.targets, training=False)
        if len(self.clean_views) > 1:
            terms["retrieval"] = retrieval(clean[:2])
        robust = {} if self.eval_attack is None else {"robust_retrieval": retrieval(tf.stack([attacked, clean[0]]))}
        return {**terms, **robust}

    def total(self, terms: dict[str, tf.Tensor]) -> tf.Tensor:
        """The weighted sum of the terms that are there: held-out images need not have pseudo-labels."""
        return tf.add_n([weight * terms[name] for name, weight in self.loss_weights.items() if name in terms])

    def get_config(self) -> dict[str, Any]:
        names = ("clean_views", "attacked_view", "pseudo_sizes", "pseudo_weight", "perturbation", "base_temperature")
        own = {name: getattr(self, name) for name in (*names, "cache")}
        return {
            **super().get_config(),
            **own,
            "asymmetry": None if self.asymmetry is None else self.asymmetry.as_dict(),
        }

    def _embeddings_of_clean(self, puzzle: Puzzle, *, training: bool) -> tf.Tensor:
        found = (puzzle.fixed or {}).get("embeddings")
        return self._clean(puzzle, training=training) if found is None else found

    def _clean(self, puzzle: Puzzle, *, training: bool) -> tf.Tensor:
        views = tf.unstack((puzzle.fixed or {})["clean"], len(self.clean_views))
        # Passes of their own, as in the authors' code: high frequencies have other statistics than images.
        return self.embed_apart(views, training=training, stream="clean")

    def _terms(
        self,
        inputs: dict[str, tf.Tensor],
        clean: tf.Tensor,
        targets: tf.Tensor | None,
        *,
        training: bool,
        attacking: bool = False,
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """The terms of the loss, and the attacked view's embeddings."""
        features = self.encode(inputs["contrastive"], training=training, stream="adversarial")
        attacked = self.project(features, training=training, stream="adversarial")
        embeddings = tf.concat([attacked[tf.newaxis], clean], 0)
        weighing = self._weighing(embeddings.shape[0], asymmetric=not attacking)
        terms = {"contrastive": self.contrast(embeddings, attacking=attacking, **weighing)}
        if self.heads is not None and targets is not None:
            if "pseudo" in inputs:
                features = self.encode(inputs["pseudo"], training=training, stream="pseudo")
            terms |= self.heads.terms(features, targets)
        return terms, attacked

    def _weighing(self, views: int, *, asymmetric: bool) -> dict[str, Any]:
        """What `nt_xent` is told of the pairs of views, of which the first view is the attacked one."""
        options: dict[str, Any] = {"base_temperature": self.base_temperature}
        if self.asymmetry is not None and asymmetric:
            options |= self.asymmetry.options(views, adversarial=(0,))
        if self.annealing is not None and self.step is not None:
            weight = self.annealing.weight(self.step)
            attacked = tf.range(views) == 0
            with_attacked = attacked[:, tf.newaxis] | attacked
            options["weights"] = tf.where(with_attacked, weight, 2.0 - weight) * options.get("weights", 1.0)
        return options


@keras.saving.register_keras_serializable(package="advss_tf")
class AInfoNCE(AdvCL):
    """AdvCL whose attacked view is an inferior positive and whose negatives are weighed: Yu et al. 2022. See `AdvCL`.

    Args:
        asymmetry: An `Asymmetry`, or its arguments by name.
    """

    def __init__(
        self,
        encoder: keras.Model,
        *,
        asymmetry: Asymmetry | dict[str, Any] = Asymmetry(),
        name: str | None = "a_infonce",
        **options: Any,
    ) -> None:
        if asymmetry is None:
            raise InvalidInput(
                "A-InfoNCE is AdvCL with an asymmetry.", expected="an Asymmetry, or AdvCL", received="asymmetry=None"
            )
        super().__init__(encoder, asymmetry=asymmetry, name=name, **options)
