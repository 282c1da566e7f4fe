"""DeACL: a student learns a clean teacher's angles, and to keep them under attack.

Synopsis:

    pretext = DeACL(encoder, teacher="runs/simclr/pretrain/encoder", attack=attack)
    pretext.compile(optimizer=SGD(0.5))
    pretext.fit(data.unlabelled(256, views=pretext.views))

With the teacher `T` and the student `f`, both up to their features, the attack ascends `-cos(f(x + d), T(x))`, and the
weights descend

    -cos(f(x), T(x))  -  beta · cos(f(x + d), f(x))

Reference: Zhang et al., "Decoupled Adversarial Contrastive Learning for Self-supervised Adversarial Robustness", ECCV
2022 (arXiv 2207.10899), and its code, of which beta = 2 is, and that the student begins with the teacher's weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import keras
import tensorflow as tf

from advss_tf.data.view_kinds import Spec
from advss_tf.encoders import branches, copy_weights, load_encoder, read_provenance
from advss_tf.errors import InvalidInput, one_of
from advss_tf.losses.distillation import cosine_distillation, negative_cosine
from advss_tf.pretext.viewed import Viewed, attackable
from advss_tf.training import Puzzle, RobustModel
from advss_tf.training.checks import checked_encoder
from advss_tf.training.inference import encode

_STARTS = ("teacher", "own")


@keras.saving.register_keras_serializable(package="advss_tf")
class DeACL(Viewed):
    """Distillation of a self-supervised teacher into a robust student, without negatives or large batches.

    Args:
        encoder: The student, a Functional Keras model images -> features; without branches, or with `clean` and
            `adversarial`. The paper's has none.
        teacher: A Keras model images -> features of the same size, or the path of an exported encoder. It is not
            trained.
        start: What the student begins with: `"teacher"`, the teacher's weights, each batch-norm branch with those of
            its norms, or `"own"`, the weights that `encoder` comes with.
        attack: The attack of training.
        view: The one view of each image, as `data.view_of` takes it.
        beta: Weight of the student's agreement with itself under attack, >= 0.
        crop_padding: Of weak views: the largest shift in pixels; None for an eighth of the height.
        flip: Whether views are mirrored.
        eval_attack: The attack of evaluation; by default the training attack.
        taught_by: What the teacher learned from, as JSON, for the provenance; a path says it itself.
        seed: The run's seed.
        name: The model's name.

    Raises:
        InvalidInput: if there is no attack, teacher and student do not take and give the same shapes, the teacher has
            batch-norm branches, the student is to begin as a teacher of other layers, `beta` is negative, or as
            `RobustModel`.
    """

    def __init__(
        self,
        encoder: keras.Model,
        teacher: keras.Model | str | Path,
        *,
        attack: Any,
        start: Literal["teacher", "own"] = "teacher",
        view: Spec = "weak",
        beta: float = 2.0,
        crop_padding: int | None = None,
        flip: bool = True,
        eval_attack: Any = "attack",
        taught_by: dict[str, Any] | None = None,
        seed: int = 0,
        name: str | None = "deacl",
    ) -> None:
        if isinstance(teacher, str | Path):
            taught_by = read_provenance(teacher).get("pretext")
            teacher = load_encoder(teacher)
        attackable(view)
        _check(encoder, teacher, attack, beta)
        super().__init__(
            encoder,
            views=(view,),
            crop_padding=crop_padding,
            flip=flip,
            loss_weights={"distillation": 1.0},
            reported=("cosine_to_teacher", "cosine_under_attack"),
            attack=attack,
            eval_attack=eval_attack,
            seed=seed,
            name=name,
        )
        if one_of("start", start, _STARTS) == "teacher":
            _begin_as(teacher, encoder)
        self.beta, self.start = float(beta), start
        self.teacher = teacher
        self.teacher.trainable = False
        self.taught_by = taught_by
        self.built = True

    @property
    def provenance(self) -> dict[str, Any]:
        """What an exported encoder should say of how it was pretrained, as JSON."""
        own = {"beta": self.beta, "start": self.start, "teacher": self.taught_by}
        return {"task": "DeACL", "views": list(self.views), **own}

    @property
    def networks(self) -> tuple[keras.Model, ...]:
        return (self.encoder, self.teacher)

    def puzzle_of(self, views: tuple[tf.Tensor, ...], labels: tf.Tensor | None) -> Puzzle:
        del labels
        return Puzzle({"images": views[0]})

    def share(self, puzzle: Puzzle, *, training: bool) -> Puzzle:
        """Asks the teacher, once for the attack and the weights."""
        del training
        teacher = tf.stop_gradient(encode(self.teacher, puzzle.inputs["images"], training=False))
        return puzzle._replace(fixed={"teacher": tf.cast(teacher, tf.float32)})

    def climb(self, inputs: dict[str, tf.Tensor], puzzle: Puzzle, context: Any, *, training: bool) -> tf.Tensor:
        return negative_cosine(self.encode(inputs["images"], training=training), _taught(puzzle))

    def descend(self, inputs: dict[str, tf.Tensor], puzzle: Puzzle, *, training: bool) -> dict[str, tf.Tensor]:
        clean, attacked = self._features(puzzle.inputs["images"], inputs["images"], training=training)
        teacher = _taught(puzzle)
        return {
            "distillation": cosine_distillation(clean, attacked, teacher, beta=self.beta),
            "cosine_to_teacher": -negative_cosine(clean, teacher),
            "cosine_under_attack": -negative_cosine(attacked, clean),
        }

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        return self.encode(inputs, training=training, stream=self.delivered_branch or "clean")

    def get_config(self) -> dict[str, Any]:
        teacher = keras.saving.serialize_keras_object(self.teacher)
        own = {"beta": self.beta, "start": self.start, "view": self.views[0], "taught_by": self.taught_by}
        return {**super().get_config(), **own, "teacher": teacher}

    def _features(self, clean: tf.Tensor, attacked: tf.Tensor, *, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """The features of both. Without branches in one pass, by statistics of both, as in the authors' code."""
        if not self.branches:
            return tuple(tf.split(self.encode(tf.concat([clean, attacked], 0), training=training), 2))
        return self.encode(clean, training=training, stream="clean"), self.encode(attacked, training=training)

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> RobustModel:
        teacher = keras.saving.deserialize_keras_object(config["teacher"], custom_objects=custom_objects)
        return super().from_config({**config, "teacher": teacher}, custom_objects=custom_objects)


def _taught(puzzle: Puzzle) -> tf.Tensor:
    return (puzzle.fixed or {})["teacher"]


def _begin_as(teacher: keras.Model, student: keras.Model) -> None:
    try:
        copy_weights(teacher, student)
    except InvalidInput as error:
        raise InvalidInput(
            "The student cannot begin with the teacher's weights: their layers differ.",
            expected='layers of the same names and shapes, or start="own", which keeps the weights of the student',
            received=error.received,
        ) from error


def _check(encoder: Any, teacher: Any, attack: Any, beta: float) -> None:
    shapes = [(model.input_shape, model.output_shape) for model in map(checked_encoder, (encoder, teacher))]
    if shapes[0] != shapes[1]:
        raise InvalidInput(
            "Teacher and student do not take and give the same shapes.",
            expected=f"a teacher of input and output shapes {shapes[0]}",
            received=f"{shapes[1]}",
        )
    if branches(teacher):
        raise InvalidInput(
            "The teacher has batch-norm branches.",
            expected="an exported encoder, which has one of them",
            received=f"branches={branches(teacher)}",
        )
    if {id(variable) for variable in encoder.variables} & {id(variable) for variable in teacher.variables}:
        raise InvalidInput(
            "Teacher and student share layers, and the teacher is not trained.",
            expected="two models, such as load_encoder(path) twice",
            received="variables that both have",
        )
    if attack is None:
        raise InvalidInput("DeACL attacks the student.", expected="an attack", received="attack=None")
    if not 0 <= beta < float("inf"):
        raise InvalidInput("`beta` is out of range.", expected="a finite number >= 0", received=f"{beta=}")
