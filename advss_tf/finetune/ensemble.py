"""Several finetuned classifiers as one: the mean of their probabilities, as logits that an attack can climb.

Synopsis:

    ensemble = RobustEnsemble([selfie, rotation, jigsaw])       # finetuned classifiers, images -> logits
    ensemble(images)                                            # log of the mean probabilities, (B, num_classes)
    evaluate(ensemble, test)                                    # attacked as the one model that it is
    ensemble.save("ensemble.keras")
    RobustEnsemble([selfie, rotation, jigsaw], faithful=True)   # the mean probabilities themselves, as in the paper

Chen et al. (CVPR 2020, arXiv 2003.12862) average the softmax probabilities of three networks that were finetuned from
three pretext tasks, and attack these probabilities p; `faithful=True` gives them. A cross-entropy that takes them for
logits is nearly flat, as a second softmax confines it to [log(e + K - 1) - 1, log(e + K - 1)]; its gradient is that of
-p_y, and of the other classes' p_j a little. An attack that steps by the gradient's sign feels none of that, as long as
no member is too sure. In float32 a p_y of a member whose margin is above about 17 is 1, and what the gradient has of
the right class's logit exactly 0: where that was all, the attack stands still, and the image counts as robust. So the
surer the members, the more it misses. The logarithm, made of the members' `log_softmax`, says the same, loses nothing
until the other classes' probabilities underflow (a margin of about 88), and is the default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from advss_tf.errors import InvalidInput, one_of
from advss_tf.training.prepared import prepared

COMBINE = ("log_mean_probability", "mean_probability")


@keras.saving.register_keras_serializable(package="advss_tf")
class RobustEnsemble(keras.Model):
    """The mean of several classifiers' probabilities as one Keras model (Chen et al., CVPR 2020, the ensemble of
    finetuned models).

    With member i's logits z_i and its weight w_i the ensemble is p = Σ_i w_i · softmax(z_i). By default it gives
    log p = logsumexp_i(log_softmax(z_i) + log w_i), whose softmax is p itself.

    Members are called as they call themselves, a `RobustClassifier` through the batch-norm branch that it delivers.
    They are not copied, and calls are in inference mode unless `training` says otherwise.

    Args:
        members: At least two built Keras models, images -> logits, with equally many classes and image shapes that go
            together. A model that is not Functional or Sequential says its number of classes as `num_classes`.
        combine: `"log_mean_probability"`: logits, log p. `"mean_probability"`: p itself. A cross-entropy taken of p as
            if it were logits is an attack that finds too little where members are sure, so that robustness looks
            larger than it is; `advss_tf.evaluate` notices p, warns, and attacks its logarithm. None as `faithful` says.
        weights: One positive number per member, normalised to the sum 1; None for equal weights.
        faithful: Whether `combine` is as in the paper and its code, `"mean_probability"`, unless it is given.
        name: The model's name.

    Attributes:
        num_classes: Number of classes.
        image_shape: (H, W, C) that all members take; None where free.
        member_weights: The normalised weights, a tuple; `weights` are Keras' variables.

    Call arguments:
        inputs: `(batch, height, width, channels)` in [0, 1].
        training: Passed on to the members.

    Returns:
        `(batch, num_classes)` float32: logits, or probabilities where `combine` is `"mean_probability"`.

    Raises:
        InvalidInput: if there are fewer than two members, one is not a classifier that ends in logits, they do not go
            together, `combine` is not known, or `weights` are not one positive number per member. When it is saved:
            if members share variables, which Keras' files do not keep apart.
    """

    def __init__(
        self,
        members: Sequence[keras.Model],
        *,
        combine: str | None = None,
        weights: Sequence[float] | None = None,
        faithful: bool = False,
        name: str | None = "ensemble",
    ) -> None:
        members = _checked_members(members)
        num_classes, image_shape = _common_classes(members), _common_shape(members)
        super().__init__(name=name)
        self.members = members
        if combine is None:
            combine = "mean_probability" if faithful else "log_mean_probability"
        self.combine, self.faithful = one_of("combine", combine, COMBINE), bool(faithful)
        self.member_weights = _normalised(weights, len(members))
        self.num_classes, self.image_shape = num_classes, image_shape
        self.built = True

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        return self._combined([member(inputs, training=training) for member in self.members])

    def logits(self, images: tf.Tensor, *, training: bool = False) -> tf.Tensor:
        """The logarithm of the mean probabilities, `(batch, num_classes)` float32, whatever `combine` is."""
        return self._log_mean([member(images, training=training) for member in self.members])

    @contextmanager
    def prepared(self) -> Iterator[Callable[[tf.Tensor], tf.Tensor]]:
        """Inside the `with`: the ensemble as a function for an attack's loop; see `advss_tf.training.prepared`."""
        with ExitStack() as stack:
            functions = [stack.enter_context(prepared(member)) for member in self.members]
            yield lambda images: self._combined([function(images) for function in functions])

    def _combined(self, found: list[tf.Tensor]) -> tf.Tensor:
        """What the ensemble gives, from what its members give."""
        if self.combine == "log_mean_probability":
            return self._log_mean(found)
        # As in the paper, with the gradients that float32 loses in this form.
        chances = [tf.nn.softmax(tf.cast(logits, tf.float32)) for logits in found]
        return tf.add_n([weight * chance for weight, chance in zip(self.member_weights, chances, strict=True)])

    def _log_mean(self, found: list[tf.Tensor]) -> tf.Tensor:
        logits = tf.stack([tf.cast(values, tf.float32) for values in found])
        weights = np.log(self.member_weights).astype(np.float32)
        return tf.reduce_logsumexp(tf.nn.log_softmax(logits) + weights[:, None, None], axis=0)

    def get_config(self) -> dict[str, Any]:
        _refuse_shared_variables(self.members)
        return {
            "members": [keras.saving.serialize_keras_object(member) for member in self.members],
            "combine": self.combine,
            "weights": list(self.member_weights),
            "faithful": self.faithful,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> RobustEnsemble:
        config = dict(config)
        members = [
            keras.saving.deserialize_keras_object(member, custom_objects=custom_objects)
            for member in config.pop("members")
        ]
        return cls(members, **config)


def _checked_members(members: Any) -> list[keras.Model]:
    if not isinstance(members, list | tuple) or len(members) < 2:
        raise InvalidInput(
            "An ensemble needs several members.",
            expected="a list of at least 2 Keras models, images -> logits",
            received=f"{len(members)} of them" if isinstance(members, list | tuple) else f"{members=!r}",
        )
    for number, member in enumerate(members):
        fault = _fault(member)
        if fault:
            raise InvalidInput(
                f"Member {number} is not a classifier that can be combined.",
                expected="a built Keras model, images -> logits, Functional, Sequential or with `num_classes`",
                received=fault,
            )
    return list(members)


def _fault(member: Any) -> str | None:
    """Why a model cannot be a member, or None."""
    if not isinstance(member, keras.Model):
        return f"a {type(member).__name__}"
    if not member.built:
        return f"{member.name!r}, which is not built: call it once"
    if _classes_of(member) is None:
        return f"{member.name!r}, whose outputs are not known to be (batch, classes) with at least 2 classes"
    if _gives_probabilities(member):
        return f"{member.name!r}, which ends in a softmax"
    return None


def _classes_of(member: keras.Model) -> int | None:
    count = getattr(member, "num_classes", None)
    if count is None:
        shape = getattr(member, "output_shape", None)
        count = shape[1] if isinstance(shape, tuple) and len(shape) == 2 else None
    return count if isinstance(count, int) and count >= 2 else None


def _gives_probabilities(member: Any, output: int = 0) -> bool:
    """Whether an output of a model or a layer is that of a softmax, in however many models it is wrapped."""
    # The softmax of probabilities is the very mistake that this model is there to avoid.
    if isinstance(member, keras.Sequential) and member.layers:
        return _gives_probabilities(member.layers[-1])
    if isinstance(member, keras.Function):
        made_by = member.outputs[output]._keras_history
        return _gives_probabilities(made_by.operation, made_by.tensor_index)
    softmax = type(member).__name__ == "Softmax" or getattr(member, "activation", None) is keras.activations.softmax
    return softmax or getattr(member, "combine", None) == "mean_probability"


def _common_classes(members: Sequence[keras.Model]) -> int:
    found = [_classes_of(member) for member in members]
    if len(set(found)) > 1:
        raise InvalidInput(
            "The members do not have the same number of classes.",
            expected="one number of classes",
            received=f"num_classes={found}",
        )
    return int(found[0] or 0)


def _common_shape(members: Sequence[keras.Model]) -> tuple[int | None, ...]:
    """The image shape that all members take; what one member leaves free, another may fix."""
    shapes = [shape for shape in map(_shape_of, members) if shape is not None] or [(None, None, None)]
    sizes = [{size for size in axis if size is not None} for axis in zip(*shapes, strict=False)]
    if len({len(shape) for shape in shapes}) > 1 or any(len(size) > 1 for size in sizes):
        raise InvalidInput(
            "The members do not take the same images.",
            expected="one shape (height, width, channels), None where free",
            received=f"image shapes {shapes}",
        )
    return tuple(next(iter(size), None) for size in sizes)


def _shape_of(member: keras.Model) -> tuple[int | None, ...] | None:
    """The image shape of a member, from its own word, its encoder or its input; None where nothing says it."""
    shape = getattr(member, "image_shape", None)
    inputs = getattr(getattr(member, "encoder", member), "inputs", None)
    return tuple(inputs[0].shape[1:]) if shape is None and inputs else shape


def _normalised(weights: Sequence[float] | None, count: int) -> tuple[float, ...]:
    values = np.ones(count) if weights is None else _as_numbers(weights)
    if values.shape != (count,) or not np.all(np.isfinite(values)) or not np.all(values > 0):
        raise InvalidInput(
            "`weights` do not weigh the members.",
            expected=f"{count} positive numbers, or None",
            received=f"weights={weights!r}",
        )
    return tuple(float(value) for value in values / values.sum())


def _as_numbers(weights: Any) -> np.ndarray:
    try:
        return np.asarray(weights, np.float64)
    except (TypeError, ValueError):
        return np.zeros(0)


def _refuse_shared_variables(members: Sequence[keras.Model]) -> None:
    found = [{id(variable) for variable in member.variables} for member in members]
    if len(set().union(*found)) < sum(map(len, found)):
        raise InvalidInput(
            "An ensemble whose members share variables cannot be saved: its file keeps every member by itself.",
            expected="members with variables of their own (`weights` lets one count for more)",
            received=f"members={[member.name for member in members]}",
        )
