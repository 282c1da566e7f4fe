"""What is evaluated: any callable from images to logits, in memory or on disk.

Synopsis:

    model, info = load_model_for_evaluation("classifier.keras")     # or the folder of a SavedModel
    classifier = Classifier(model, images[:8])                       # looks at a few outputs first
    logits = classifier(images)                                      # (B, classes) float32, inference mode
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from advss_tf.errors import InvalidInput
from advss_tf.training.prepared import prepared

_PROBABILITY_WARNING = (
    "The model gives probabilities, not logits. Their logarithm was attacked; where a softmax has saturated, its "
    "gradient is lost and robust accuracy comes out too high. Give the model that ends in logits."
)


@dataclass(frozen=True)
class ModelInfo:
    """What is known of a loaded model.

    Attributes:
        name: The file's or folder's name without its ending.
        architecture: The name of the encoder or network; None for a SavedModel, which has none.
        format: "keras" or "saved_model".
        signature: The signature of a SavedModel that is called; None for a `.keras` file.
        path: Where it was loaded from.
    """

    name: str
    architecture: str | None
    format: str
    signature: str | None
    path: str


@dataclass(frozen=True)
class SignatureModel:
    """One signature of a SavedModel as a callable from images to its logits, or probabilities."""

    signature: Callable[..., dict[str, tf.Tensor]]
    argument: str
    output: str
    # The signature holds its variables weakly; whoever holds the model must hold what was loaded.
    loaded: Any = field(repr=False)

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        return self.signature(**{self.argument: images})[self.output]


class Classifier:
    """A model, called in inference mode and read as float32 logits.

    Args:
        model: Any callable from (B, H, W, C) images in [0, 1] to (B, classes) logits or probabilities: a Keras model,
            a `SignatureModel`, a function. A Keras model is called with `training=False`.
        images: (B, H, W, C) float32, a few images to look at the outputs with.
        at_once: How many of them at a time; None for all.

    Attributes:
        num_classes: The width of the output.
        output: "logits", or "probabilities" if every output lies in [0, 1] and every row sums to 1.
        warnings: What a reader of the numbers has to know, in sentences.

    Raises:
        InvalidInput: if the outputs are not (B, classes) with at least two classes, or not finite.
    """

    def __init__(self, model: Callable[..., Any], images: np.ndarray, *, at_once: int | None = None) -> None:
        if not callable(model):
            raise InvalidInput(
                "The model cannot be called.",
                expected="a Keras model or a function from images to logits; a path goes through "
                "`load_model_for_evaluation`",
                received=f"model={model!r}",
            )
        self._model = model
        self._arguments = {"training": False} if _takes_training(model) else {}
        (outputs,) = in_pieces(self._checked, images, size=at_once)
        self.num_classes = int(outputs.shape[-1])
        self.output: Literal["logits", "probabilities"] = "probabilities" if are_probabilities(outputs) else "logits"
        self.warnings = (_PROBABILITY_WARNING,) if self.output == "probabilities" else ()

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        return self._as_logits(self._raw(images))

    @contextmanager
    def prepared(self) -> Iterator[Callable[[tf.Tensor], tf.Tensor]]:
        """Inside the `with`: the same function, with all arithmetic on weights done once, where the model allows it.

        For a loop that calls it many times; up to rounding it gives the same logits.
        """
        if isinstance(self._model, keras.Model):
            with prepared(self._model) as function:
                yield lambda images: self._as_logits(_float32(function(images)))
        else:
            yield self

    def _as_logits(self, outputs: tf.Tensor) -> tf.Tensor:
        if self.output == "logits":
            return outputs
        return tf.math.log(tf.maximum(outputs, np.finfo(np.float32).tiny))

    def _raw(self, images: tf.Tensor) -> tf.Tensor:
        return _float32(self._model(images, **self._arguments))

    def _checked(self, images: tf.Tensor) -> tuple[tf.Tensor]:
        outputs = self._raw(images)
        _check_outputs(outputs, len(images))
        return (outputs,)


def in_pieces(
    function: Callable[..., tuple[tf.Tensor, ...]], *rows: np.ndarray, size: int | None
) -> tuple[np.ndarray, ...]:
    """What a function of rows gives, joined, where it is shown `size` rows at a time; None shows all of them.

    For what one device does alone with a batch that several share otherwise, and that it may not hold by itself.
    """
    count = len(rows[0])
    parts = [
        function(*(tf.convert_to_tensor(each[first : first + (size or count)]) for each in rows))
        for first in range(0, count, size or count)
    ]
    return tuple(np.concatenate([np.asarray(part) for part in column]) for column in zip(*parts, strict=True))


def _float32(outputs: Any) -> tf.Tensor:
    return tf.cast(tf.convert_to_tensor(outputs), tf.float32)


def are_probabilities(outputs: np.ndarray) -> bool:
    """Whether every row of (B, classes) is a distribution, up to the rounding of float16."""
    inside = np.all((outputs >= -1e-5) & (outputs <= 1 + 1e-3))
    return bool(inside and np.allclose(outputs.sum(axis=-1), 1.0, atol=2e-3))


def architecture_of(model: Any) -> str | None:
    """The name of a model's encoder, or of the model; None for what has no name."""
    named = getattr(model, "encoder", model)
    name = getattr(named, "name", None) or getattr(model, "__name__", None)
    return name if isinstance(name, str) and name != "<lambda>" else None


def load_model_for_evaluation(path: str | Path) -> tuple[Callable[..., Any], ModelInfo]:
    """A classifier from disk, ready for `evaluate`; gradients by the images flow through it.

    Args:
        path: A `.keras` file (loaded in safe mode: no code comes out of it) or the folder of a SavedModel. Of a
            SavedModel the signature `logits` is called if there is one, else `serving_default` with an output named
            `logits` or `probabilities`, or its only output.

    Returns:
        `(model, info)`: a callable from float32 images in [0, 1] to logits or probabilities, and what is known of it.

    Raises:
        InvalidInput: if the path is missing, is of another format, or holds no signature from images to logits.
    """
    path = Path(path)
    if path.suffix == ".keras" and path.is_file():
        model = _load_keras(path)
        return model, ModelInfo(path.stem, architecture_of(model), "keras", None, str(path))
    if (path / "saved_model.pb").is_file():
        name, model = _load_signature(path)
        return model, ModelInfo(path.name, None, "saved_model", name, str(path))
    raise InvalidInput(
        "There is no model that can be evaluated at this path."
        if path.exists()
        else "There is no model at this path: it does not exist.",
        expected="a .keras file, or a SavedModel folder (with saved_model.pb in it)",
        received=f"path={path}",
    )


def _load_keras(path: Path) -> keras.Model:
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, ImportError, AttributeError, KeyError, OSError) as error:
        raise InvalidInput(
            "The .keras file could not be loaded in safe mode.",
            expected="a model without Python lambdas whose classes are built in, or are imported before it is loaded",
            received=f"path={path}: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
        ) from error


def _load_signature(path: Path) -> tuple[str, SignatureModel]:
    loaded = tf.saved_model.load(str(path))
    signatures = dict(loaded.signatures)
    for name in ("logits", "serving_default"):
        if name in signatures:
            signature = signatures[name]
            return name, SignatureModel(signature, _argument(signature), _output(signature), loaded)
    raise InvalidInput(
        "The SavedModel has no signature that can be evaluated.",
        expected="a signature named 'logits' or 'serving_default'",
        received=f"signatures={sorted(signatures)}",
    )


def _argument(signature: Any) -> str:
    specs = signature.structured_input_signature[1]
    if len(specs) == 1:
        [(name, spec)] = specs.items()
        if spec.dtype == tf.float32 and (spec.shape.rank is None or spec.shape.rank == 4):
            return name
    raise InvalidInput(
        "The signature does not take images.",
        expected="one float32 input of shape (batch, height, width, channels)",
        received=", ".join(f"{name}: {spec.dtype.name}{spec.shape}" for name, spec in specs.items()) or "no input",
    )


def _output(signature: Any) -> str:
    outputs = signature.structured_outputs
    for name in ("logits", "probabilities"):
        if name in outputs:
            return name
    if len(outputs) == 1:
        return next(iter(outputs))
    raise InvalidInput(
        "It is not clear which output of the signature holds the logits.",
        expected="an output named 'logits' or 'probabilities', or a single output",
        received=f"outputs={sorted(outputs)}",
    )


def _takes_training(model: Callable[..., Any]) -> bool:
    if isinstance(model, keras.Layer):
        return True
    try:
        return "training" in inspect.signature(model).parameters
    except (TypeError, ValueError):
        return False


def _check_outputs(outputs: tf.Tensor, batch: int) -> None:
    if outputs.shape.rank != 2 or outputs.shape[0] != batch or outputs.shape[1] < 2:
        raise InvalidInput(
            "The model does not give one row of logits per image.",
            expected=f"an output of shape ({batch}, classes), classes >= 2",
            received=f"shape={tuple(outputs.shape)}",
        )
    if not np.all(np.isfinite(outputs.numpy())):
        raise InvalidInput(
            "The model gives numbers that are not finite on clean images.",
            expected="finite logits",
            received=f"{int(np.sum(~np.isfinite(outputs.numpy())))} of {tf.size(outputs)} outputs are NaN or infinite",
        )
