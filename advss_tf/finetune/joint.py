"""Self-supervision inside adversarial training: one encoder, a head for the classes, a head for a pretext task.

Synopsis:

    rotation = Rotation(encoder)         # or Jigsaw, Selfie, EnsemblePretraining, SimCLR: `pose`, `render` and `solve`
    classifier = JointClassifier(encoder, num_classes=10, auxiliary=rotation, mode="sum", weight=0.5, attack=attack)
    classifier.compile(optimizer="sgd")
    classifier.fit(train, validation_data=held_out, epochs=20)
    classifier.supervised                                            # the RobustClassifier that is served

Both heads belong to models of their own, a `RobustClassifier` and a pretext model on the same encoder; here is only
what their losses have to do with each other.

References:
    Hendrycks et al., "Using Self-Supervised Learning Can Improve Model Robustness and Uncertainty", NeurIPS 2019 (arXiv
    1906.12340), and its code: rotation beside the classes, `copies="stack"`.
    Kucer et al., "On visual self-supervision and its effect on model robustness", 2021 (arXiv 2112.04367): the question
    whether the task's loss should descend alone or find the adversarial images as well. Only its abstract was read:
    that the modes T1 to T5 are its rows is not verified.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from advss_tf.attacks import AttackResult, ProjectedGradientDescent
from advss_tf.finetune.classifier import RobustClassifier
from advss_tf.finetune.joint_adversaries import each_its_own, stronger, weighed_sum
from advss_tf.finetune.joint_options import CLIMBING, OPTIONS, checked_auxiliary, checked_options, place_of
from advss_tf.finetune.joint_terms import Inputs, both_terms, solved, stream_of
from advss_tf.finetune.stack import stack_of
from advss_tf.training import Batch, Puzzle, RobustModel


class _Questions(NamedTuple):
    """The targets of a joint puzzle: a puzzle for each head."""

    classes: Puzzle
    auxiliary: Puzzle | None


@keras.saving.register_keras_serializable(package="advss_tf")
class JointClassifier(RobustModel):
    """An adversarially trained classifier whose encoder solves a pretext task beside it.

    With x an image, x' the attacked one, t the puzzle's transform, `CE` the classes' cross-entropy and `SSL` the task's
    loss, the weights descend `class_weight · CE(x') + weight · SSL`. The modes differ in where `SSL` is taken and in
    what x' is, with `sum(x') = attack_class_weight · CE(x') + attack_weight · SSL(t(x'))`:

    | mode | | SSL is taken at | the attack |
    | --- | --- | --- | --- |
    | `"plain"` | T0 | nowhere | x' = argmax CE |
    | `"clean"` | T1 | t(x) | x' = argmax CE |
    | `"attacked"` | T2 | t(x') | x' = argmax CE |
    | `"own"` | T3 | z' | x' = argmax CE and, by itself, z' = argmax SSL in the ball around t(x) |
    | `"sum"` | T4 | t(x'), or t(x) if `auxiliary_at="clean"` | x' = argmax sum(x') |
    | `"stronger"` | T5 | as T4 | of two candidates, argmax CE(x') and argmax SSL(t(x')), both in the ball around x, |
    | | | | each found by an attack of its own: image by image the one with the higher sum(x') |

    For T5 the candidates are judged by one number, as the losses of two heads are on scales of their own: the sum at
    both, at the points that the attacks return, with batch norm as in the attack; a tie goes to the classes'.

    t(x) may be several images: of `SimCLR` the views, made in the step; of `EnsemblePretraining` one for each of its
    tasks, of whose losses `SSL` is the mean. In T3 each is attacked in a ball of its own. `SSL` of `SimCLR` is the
    NT-Xent of an image's views among those of the batch, while attacking of this replica alone; its accuracy is
    `retrieval`.

    Each image has one puzzle, drawn as the task draws it. With `copies="stack"`, for `"sum"` alone, it has them all, as
    in the code of Hendrycks et al.: the four rotated copies of an image are perturbed after they were turned, each in a
    ball of its own around the clean copy, and go through the encoder in one pass with the image. `SSL` is the mean over
    the copies. Batch norm that uses the batch's statistics is then all that joins them: without it each copy climbs its
    own loss whatever `attack_weight` is. That code's own ball is around the noise that it starts at, and so reaches
    twice as far; this one does not.

    A term whose weight is 0 is left out, and its head is not trained. `evaluate` and validation attack the classifier
    alone, by its cross-entropy, and report the task at the clean puzzle, the same in all modes.

    Args:
        encoder: A Keras model images -> features.
        num_classes: Number of classes, at least 2.
        auxiliary: The pretext model, on the same `encoder` object and without an attack of its own, such as
            `Rotation(encoder)`. `SimCLR` on an encoder with branches of batch norm is given them as its `streams`.
        mode: See the table.
        weight: Weight of the task's loss in training, at least 0, for `"stronger"` above it.
        class_weight: Weight of the classes' cross-entropy in training, above 0 (`fit`'s weighs single classes).
        attack_weight: Weight of the task's loss in the attack, at least 0, for `"sum"` and `"stronger"`; by default
            `weight`.
        attack_class_weight: Weight of the classes' cross-entropy there, at least 0; by default 1. With 0 the attack of
            `"sum"` climbs the task's loss alone; not both are 0.
        auxiliary_at: For `"sum"` and `"stronger"`: the task is learned on `"clean"` or on `"attacked"` images, whatever
            the attack climbs; by default on attacked ones.
        copies: `"drawn"`: one puzzle of each image; `"stack"`: every one that the task knows.
        train: `"full"` or `"partial"`, as in `RobustClassifier`; some of what the task reads has to be trained.
        boundary: With `train="partial"`, as in `RobustClassifier`.
        attack: The attack of training.
        eval_attack: The attack of `evaluate` and validation; by default the training attack.
        seed: The run's seed.
        name: The model's name.

    Call arguments:
        inputs: `(batch, height, width, channels)` in [0, 1].

    Returns:
        Logits of the classes, `(batch, num_classes)`.

    Raises:
        InvalidInput: if a word or a weight is not one, an option does not go with the mode, the pretext model is on
            another encoder, has an attack or cannot do what the mode asks, or as `RobustClassifier`.
    """

    def __init__(
        self,
        encoder: keras.Model,
        num_classes: int,
        *,
        auxiliary: Any,
        mode: str = "sum",
        weight: float = 0.5,
        class_weight: float = 1.0,
        attack_weight: float | None = None,
        attack_class_weight: float | None = None,
        auxiliary_at: str | None = None,
        copies: str = "drawn",
        train: str = "full",
        boundary: str | None = None,
        attack: ProjectedGradientDescent | None = None,
        eval_attack: ProjectedGradientDescent | str | None = "attack",
        seed: int = 0,
        name: str | None = "classifier",
    ) -> None:
        options = checked_options(
            mode=mode, weight=weight, class_weight=class_weight, attack_weight=attack_weight,
            attack_class_weight=attack_class_weight, auxiliary_at=auxiliary_at, copies=copies,
        )  # fmt: skip
        shared: dict[str, Any] = {"attack": attack, "eval_attack": eval_attack, "seed": seed}
        supervised = RobustClassifier(encoder, num_classes, train=train, boundary=boundary, name="supervised", **shared)
        checked_auxiliary(auxiliary, encoder, mode=mode, copies=copies)
        learns = mode != "plain" and weight > 0
        super().__init__(
            encoder,
            loss_weights={"adversarial_loss": float(class_weight)}
            | ({"auxiliary_loss": float(weight)} if learns else {}),
            reported=("clean_loss", "accuracy", "robust_accuracy", "auxiliary_loss", "auxiliary_accuracy"),
            name=name,
            **shared,
        )
        self.supervised, self.auxiliary = supervised, auxiliary
        self.num_classes, self.train, self.boundary = supervised.num_classes, train, supervised.boundary
        for option, value in options.items():
            setattr(self, option, value)
        self.learns, self.place = learns, place_of(**options)
        self.built = True

    @property
    def head(self) -> keras.layers.Layer:
        """The head of the classes, features -> logits."""
        return self.supervised.head

    @property
    def networks(self) -> tuple[keras.Model, ...]:
        """The encoder, and what the task goes through."""
        return self.network, *self.auxiliary.networks

    @property
    def compares_images(self) -> bool:
        """Whether the loss of an image depends on the others of its batch, which parts of it would not show."""
        return self.learns and bool(getattr(self.auxiliary, "compares_images", False))

    @property
    def chance(self) -> float | None:
        """What guessing reaches of `auxiliary_accuracy`, in (0, 1); None for a task that does not say it."""
        return getattr(self.auxiliary, "chance", None)

    @property
    def chances(self) -> dict[str, float]:
        chance = self.chance if self.learns else None
        return {} if chance is None else {"auxiliary_accuracy": chance}

    @property
    def provenance(self) -> dict[str, Any]:
        """What an export should say of the task beside the classes, and of its options, as JSON; {} without one."""
        if not self.learns:
            return {}
        puzzle = getattr(self.auxiliary, "provenance", {"task": self.auxiliary.name})
        return {"auxiliary": {**puzzle, **{name: getattr(self, name) for name in OPTIONS}}}

    @property
    def trainable_variables(self) -> list[Any]:
        """The variables that have a gradient, each once: the head of a task that is not descended has none."""
        trained = [*self.supervised.trainable_variables, *(self.auxiliary.trainable_variables if self.learns else ())]
        return list({id(variable): variable for variable in trained}.values())

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        return self.supervised(inputs, training=training)

    def logits(self, images: tf.Tensor, *, training: bool, stream: str = "adversarial") -> tf.Tensor:
        """The logits of the classes, `(batch, num_classes)` float32."""
        return self.supervised.logits(images, training=training, stream=stream)

    # The verbs -------------------------------------------------------------------------------------------------------

    def pose(self, batch: Batch, seed: tf.Tensor) -> Puzzle:
        classes = self.supervised.pose(batch, seed)
        if not (self.learns or self.mode in CLIMBING):
            return Puzzle(classes.inputs, _Questions(classes, None))
        if self.copies == "drawn":
            return Puzzle(classes.inputs, _Questions(classes, self.auxiliary.pose(batch, seed)))
        stack = stack_of(self.auxiliary, batch.images)
        return Puzzle({**classes.inputs, **stack.inputs}, _Questions(classes, stack))

    def climb(self, inputs: Inputs, puzzle: Puzzle, context: Any, *, training: bool) -> tf.Tensor:
        if self.mode not in CLIMBING:
            return self.supervised.climb(inputs, puzzle.targets.classes, context, training=training)
        return weighed_sum(self, inputs, puzzle, training=training)

    def probe(self, inputs: Inputs, puzzle: Puzzle, context: Any, *, training: bool) -> tf.Tensor:
        return self.supervised.probe(inputs, puzzle.targets.classes, context, training=training)

    def descend(self, inputs: Inputs, puzzle: Puzzle, *, training: bool) -> dict[str, tf.Tensor]:
        if self.learns:
            return both_terms(self, inputs, puzzle, training=training)
        return self.supervised.descend(inputs, puzzle.targets.classes, training=training)

    def measure(self, inputs: Inputs, puzzle: Puzzle) -> dict[str, tf.Tensor]:
        terms = self.supervised.measure(inputs, puzzle.targets.classes)
        if not self.learns:
            return terms
        if self.copies == "stack":
            asked = both_terms(self, puzzle.inputs, puzzle, training=False)
            return {**terms, **{name: values for name, values in asked.items() if name.startswith("auxiliary")}}
        asked, stream = puzzle.targets.auxiliary, stream_of(self)
        return {**terms, **solved(self, asked.inputs, asked, training=False, stream=stream)}

    def measured_loss(self, terms: dict[str, tf.Tensor]) -> tf.Tensor:
        """The weighted losses of the classifier and of the task."""
        loss = self.class_weight * self.supervised.measured_loss(terms)
        return loss + self.weight * terms["auxiliary_loss"] if self.learns else loss

    def _attack(
        self, attack: ProjectedGradientDescent | None, climb: Any, puzzle: Puzzle, seed: tf.Tensor
    ) -> AttackResult:
        classes = puzzle.targets.classes
        if attack is None or climb == self.probe:
            return self.supervised._attack(attack, self.supervised.probe, classes, seed)
        if self.mode == "own" and self.learns:
            return each_its_own(self, attack, puzzle, seed)
        if self.mode == "stronger":
            return stronger(self, attack, puzzle, seed)
        return super()._attack(attack, climb, puzzle, seed)

    # Keras -----------------------------------------------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        names = ("num_classes", "train", "boundary", *OPTIONS)
        auxiliary = keras.saving.serialize_keras_object(self.auxiliary)
        # The encoder is the one above, and stands in the file once.
        options = {key: value for key, value in auxiliary["config"].items() if key != "encoder"}
        return {
            **super().get_config(),
            **{name: getattr(self, name) for name in names},
            "auxiliary": {"registered_name": auxiliary["registered_name"], "config": options},
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> JointClassifier:
        config = dict(config)
        for key in ("encoder", "attack", "eval_attack"):
            config[key] = keras.saving.deserialize_keras_object(config[key], custom_objects=custom_objects)
        task = config["auxiliary"]
        made = keras.saving.get_registered_object(task["registered_name"], custom_objects=custom_objects)
        return cls(**{**config, "auxiliary": made(config["encoder"], **task["config"])})
