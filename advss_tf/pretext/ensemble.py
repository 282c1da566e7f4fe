"""Ensemble pretraining: several puzzles on one trunk, attacked together, with gradients that the attack drives apart.

Synopsis:

    pretext = EnsemblePretraining(encoder, tasks=("rotation", "jigsaw"), attack=ProjectedGradientDescent(Linf("8/255")))
    pretext.compile(optimizer="sgd")
    pretext.fit(images)                      # no labels
    export_encoder(pretext, "encoder")

Reference: Chen et al., "Adversarial Robustness: From Self-Supervised Pre-Training to Fine-Tuning", CVPR 2020 (arXiv
2003.12862), Fig. 2 and the section on ensembles, and its code. With L_i the loss of task i, δ_i the perturbation of its
own images, and h the diversity of the gradients of the L_i by these images (see `losses.diversity`):

    the attack ascends    Σ L_i + 0.1 · h                             so it turns the gradients apart (h towards 0)
    the weights descend   mean of ½ clean + ½ attacked L_i + 0.1 · h  so they align them

One min-max of one term: what is diverse are the perturbations that the weights have to stand up to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from advss_tf.errors import one_of
from advss_tf.losses import diversity
from advss_tf.pretext.ensemble_options import check_second_derivatives, checked_boundary, checked_weight
from advss_tf.pretext.members import COMMON, checked_tasks, make_puzzles, mean_weights, own_inputs, part_of
from advss_tf.pretext.mixed import MixedPuzzle, Solved
from advss_tf.randomness import fold
from advss_tf.training import Batch, Puzzle, RobustModel
from advss_tf.training.checks import checked_encoder

_TERMS = ("clean_loss", "adversarial_loss", "accuracy", "robust_accuracy")


@keras.saving.register_keras_serializable(package="advss_tf")
class EnsemblePretraining(RobustModel):
    """Solves several puzzles of the same images with one trunk; each has a perturbation of its own.

    Each task poses its puzzle, has its head, and weighs its clean and its attacked loss as it does alone; the loss is
    the mean of the tasks' and the diversity. What the tasks share is up to `shared`:

    * `"trunk"`, as in the paper: the layers through `boundary`. Each task has copies of the later layers, with a start
      of its own; Selfie ends there unless told otherwise. No copy is better than another, and the paper finetunes
      with a fresh last stage. So what is handed over is the encoder with the trained trunk and later layers that no
      task has touched, which is what `reset_after_boundary` makes of them anyway.
    * `"encoder"`: rotation and jigsaw share all layers and differ in their heads alone; all are handed over as trained.

    Selfie shows the trunk patches, whose statistics are not those of images: with batch norms that all share, running
    statistics fit neither, and what is solved in training mode is not in inference mode, in which attacks run and
    encoders are handed over. So Selfie has batch norms of its own, and those of images are handed over.

    `faithful=True` shares the batch norms, and is passed on to every task that has it, unless the task says otherwise:
    see the tables of `Jigsaw` (three things) and `Selfie` (seven; its loss is then a sum of four on probabilities, and
    counts as much as that). The trunk of that code lacks the norm behind the stem; here it is the encoder's own.

    Evaluation attacks without the diversity. The tasks' images do not depend on each other, so climbing the sum of the
    losses is climbing each; only where the strongest of several points is kept is it that of the largest sum.

    Args:
        encoder: Functional Keras model, images -> features.
        tasks: Two or more of `"rotation"`, `"jigsaw"`, `"selfie"`, each once: words, or dicts of `kind` and options of
            the task's class. None for all three.
        shared: `"trunk"` or `"encoder"`, see above.
        boundary: The last stage, or layer, of the trunk; None for the last stage but one. Also Selfie's, unless its own
            is given. With `shared="encoder"` there is no trunk to end, and it stays None.
        own_norms: Whether Selfie has batch norms of its own; None: unless `faithful`.
        diversity_weight: Weight of the diversity, >= 0; 0 leaves it out, second derivatives and all. It belongs to the
            attack: without one there is no diversity either.
        faithful: See above.
        attack: The attack of training (P3), one ball around each task's images; None is standard pretraining (P2).
        eval_attack: The attack of evaluation; by default the training attack.
        seed: The run's seed.
        name: The model's name.

    Call arguments:
        inputs: `(batch, height, width, channels)` in [0, 1].

    Returns:
        What each task returns for these images, by its kind.

    Attributes:
        puzzles: The tasks' models by kind; their layers through `boundary` are the encoder's.

    Raises:
        InvalidInput: if the tasks are no ensemble, a word or a number is out of range, the diversity has a weight and
            the encoder a norm with wrong second derivatives, or as the tasks do.
    """

    def __init__(
        self,
        encoder: keras.Model,
        *,
        tasks: Sequence[Any] | None = None,
        shared: str = "trunk",
        boundary: str | None = None,
        own_norms: bool | None = None,
        diversity_weight: float = 0.1,
        faithful: bool = False,
        attack: Any = None,
        eval_attack: Any = "attack",
        seed: int = 0,
        name: str | None = "ensemble",
    ) -> None:
        boundary = checked_boundary(boundary, one_of("shared", shared, ("trunk", "encoder")), encoder)
        diversity_weight = checked_weight(diversity_weight)
        if attack and diversity_weight:
            check_second_derivatives(checked_encoder(encoder))
        puzzles = make_puzzles(
            checked_encoder(encoder),
            checked_tasks(tasks),
            boundary=boundary,
            own_norms=not faithful if own_norms is None else own_norms,
            faithful=faithful,
            seed=seed,
            attack=attack,
            eval_attack=eval_attack,
        )
        super().__init__(
            encoder,
            loss_weights=mean_weights(puzzles, diversity_weight if attack else 0.0),
            reported=(*(f"{kind}_{term}" for kind in puzzles for term in _TERMS), "accuracy", "robust_accuracy"),
            attack=attack,
            eval_attack=eval_attack,
            seed=seed,
            name=name,
        )
        self.puzzles = puzzles
        self.shared, self.boundary, self.faithful = shared, boundary, bool(faithful)
        self.own_norms = not faithful if own_norms is None else bool(own_norms)
        self.diversity_weight = float(diversity_weight)
        self.built = True

    @property
    def tasks(self) -> list[dict[str, Any]]:
        """The tasks with all their options, as the constructor takes them and as JSON."""
        configs = {kind: puzzle.get_config() for kind, puzzle in self.puzzles.items()}
        return [
            {"kind": kind, **{name: value for name, value in config.items() if name not in COMMON}}
            for kind, config in configs.items()
        ]

    @property
    def cuts_patches(self) -> bool:
        """Whether a member's answer is where patches belong."""
        return any(puzzle.cuts_patches for puzzle in self.puzzles.values())

    @property
    def chance(self) -> float:
        """The mean of the tasks' accuracies of guessing, which `accuracy` and `robust_accuracy` compare with."""
        return sum(puzzle.chance for puzzle in self.puzzles.values()) / len(self.puzzles)

    @property
    def chances(self) -> dict[str, float]:
        own = {f"{kind}_{name}": chance for kind, task in self.puzzles.items() for name, chance in task.chances.items()}
        return {**super().chances, **own}

    @property
    def provenance(self) -> dict[str, Any]:
        """What an exported encoder should say of the puzzles that it learned, as JSON."""
        own = {name: getattr(self, name) for name in ("chance", "shared", "boundary", "own_norms")}
        # Not what was asked for: without an attack there is none.
        own["diversity_weight"] = self.loss_weights.get("diversity", 0.0)
        return {"task": "ensemble", **own, "tasks": [puzzle.provenance for puzzle in self.puzzles.values()]}

    @property
    def networks(self) -> tuple[keras.Model, ...]:
        """The networks of all tasks."""
        return tuple(puzzle.network for puzzle in self.puzzles.values())

    @property
    def trainable_variables(self) -> list[Any]:
        """The variables that some task trains, each once."""
        trained = [variable for puzzle in self.puzzles.values() for variable in puzzle.trainable_variables]
        return list({id(variable): variable for variable in trained}.values())

    def compile(self, *args: Any, jit_compile: bool | str = "auto", **kwargs: Any) -> None:
        """As Keras' own; but `"auto"` is never XLA where there is a diversity, whose second derivatives take it long.

        Args:
            *args: As in Keras.
            jit_compile: `True` compiles the step with XLA, `"auto"` as Keras does, if there is no diversity.
            **kwargs: As in Keras.
        """
        if jit_compile == "auto" and "diversity" in self.loss_weights:
            jit_compile = False
        super().compile(*args, jit_compile=jit_compile, **kwargs)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """What a loaded model is compiled with, as Keras' own, which leaves it out where `compile` is another."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def call(self, inputs: tf.Tensor, training: bool = False) -> dict[str, tf.Tensor]:
        return {kind: puzzle(inputs, training=training) for kind, puzzle in self.puzzles.items()}

    def pose(self, batch: Batch, seed: tf.Tensor) -> Puzzle:
        parts = {kind: puzzle.pose(batch, fold(seed, n)) for n, (kind, puzzle) in enumerate(self.puzzles.items())}
        inputs = {f"{kind}_{name}": images for kind, part in parts.items() for name, images in part.inputs.items()}
        targets = {kind: part.targets for kind, part in parts.items()}
        return Puzzle(inputs, targets, {kind: part.fixed for kind, part in parts.items()})

    def render(self, images: tf.Tensor, puzzle: Puzzle) -> dict[str, tf.Tensor]:
        """What each task makes of images, named as `pose` names it; see `MixedPuzzle.render`."""
        return {f"{kind}_images": task.render(images, part_of(kind, puzzle)) for kind, task in self.puzzles.items()}

    def solve(self, inputs: dict[str, tf.Tensor], puzzle: Puzzle, *, training: bool, stream: str) -> Solved:
        """The means of the tasks' losses and of their accuracies at these inputs: `(batch,)` float32 each."""
        found = [
            task.solve(own_inputs(kind, inputs)["images"], part_of(kind, puzzle), training=training, stream=stream)
            for kind, task in self.puzzles.items()
        ]
        loss, accuracy = (tf.add_n(list(values)) / len(found) for values in zip(*found, strict=True))
        return loss, accuracy

    def context(self, puzzle: Puzzle, *, training: bool) -> Any:
        return {kind: task.context(part_of(kind, puzzle), training=training) for kind, task in self.puzzles.items()}

    def climb(self, inputs: dict[str, tf.Tensor], puzzle: Puzzle, context: Any, *, training: bool) -> tf.Tensor:
        def losses() -> dict[str, tf.Tensor]:
            return {
                f"{kind}_adversarial_loss": task.climb(
                    own_inputs(kind, inputs), part_of(kind, puzzle), context[kind], training=training
                )
                for kind, task in self.puzzles.items()
            }

        terms = self._with_diversity(inputs, losses)
        turned = self.diversity_weight * terms.pop("diversity", 0.0)
        return tf.add_n(list(terms.values())) + turned

    def probe(self, inputs: dict[str, tf.Tensor], puzzle: Puzzle, context: Any, *, training: bool) -> tf.Tensor:
        return tf.add_n(
            [
                task.probe(own_inputs(kind, inputs), part_of(kind, puzzle), context[kind], training=training)
                for kind, task in self.puzzles.items()
            ]
        )

    def descend(self, inputs: dict[str, tf.Tensor], puzzle: Puzzle, *, training: bool) -> dict[str, tf.Tensor]:
        def descended(task: MixedPuzzle, kind: str) -> dict[str, tf.Tensor]:
            return task.descend(own_inputs(kind, inputs), part_of(kind, puzzle), training=training)

        return self._with_diversity(inputs, lambda: self._each(descended))

    def measure(self, inputs: dict[str, tf.Tensor], puzzle: Puzzle) -> dict[str, tf.Tensor]:
        def measured(task: MixedPuzzle, kind: str) -> dict[str, tf.Tensor]:
            return task.measure(own_inputs(kind, inputs), part_of(kind, puzzle))

        if self.eval_attack is None:
            return self._each(measured)
        return self._with_diversity(inputs, lambda: self._each(measured))

    def measured_loss(self, terms: dict[str, tf.Tensor]) -> tf.Tensor:
        """That of training; where nothing is attacked, the mean of the tasks' clean losses."""
        if self.eval_attack is not None:
            return self.total(terms)
        return tf.add_n([terms[f"{kind}_clean_loss"] for kind in self.puzzles]) / len(self.puzzles)

    def _each(self, terms_of: Callable[[MixedPuzzle, str], dict[str, tf.Tensor]]) -> dict[str, tf.Tensor]:
        """The terms of every task under its kind, and the means of their accuracies."""
        found = {kind: terms_of(task, kind) for kind, task in self.puzzles.items()}
        terms = {f"{kind}_{name}": values for kind, own in found.items() for name, values in own.items()}
        for name in ("accuracy", "robust_accuracy"):
            if all(name in own for own in found.values()):
                terms[name] = tf.add_n([own[name] for own in found.values()]) / len(found)
        return terms

    def _with_diversity(
        self, inputs: dict[str, tf.Tensor], terms_of: Callable[[], dict[str, tf.Tensor]]
    ) -> dict[str, tf.Tensor]:
        """The terms and, if it has a weight, the diversity of the gradients of the attacked losses among them."""
        if "diversity" not in self.loss_weights:
            return terms_of()
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(inputs)
            terms = terms_of()
            # No task sees another's images, so one pass through the sum has every task's gradient.
            loss = tf.add_n([terms[f"{kind}_adversarial_loss"] for kind in self.puzzles])
        gradients = tape.gradient(loss, inputs, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return {**terms, "diversity": diversity([gradients[name] for name in sorted(gradients)])}

    def get_config(self) -> dict[str, Any]:
        names = ("tasks", "shared", "boundary", "own_norms", "diversity_weight", "faithful")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
