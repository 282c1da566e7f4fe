"""What a robust model asks of its encoder, its attack and each batch, refused in words where it is not so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from advss_tf.attacks import ProjectedGradientDescent
from advss_tf.encoders import is_synchronized
from advss_tf.errors import InvalidInput


def checked_encoder(encoder: Any) -> keras.Model:
    """`encoder`, if it is a built Keras model that takes one batch of images and gives one batch of features.

    Raises:
        InvalidInput: otherwise.
    """
    shapes = [getattr(encoder, name, None) for name in ("input_shape", "output_shape")]
    ranks = [len(shape) if isinstance(shape, tuple) else None for shape in shapes]
    if isinstance(encoder, keras.Model) and encoder.built and ranks == [4, 2]:
        return encoder
    raise InvalidInput(
        "`encoder` is not a model of images.",
        expected="a built Keras model with input (None, height, width, channels) and output (None, features)",
        received=f"{type(encoder).__name__} with input {shapes[0]} and output {shapes[1]}",
    )


def checked_attack(name: str, attack: Any) -> ProjectedGradientDescent | None:
    """`attack`, if it is an attack or None.

    Raises:
        InvalidInput: otherwise.
    """
    if attack is None or isinstance(attack, ProjectedGradientDescent):
        return attack
    raise InvalidInput(
        f"`{name}` is not an attack.",
        expected="an attack such as ProjectedGradientDescent(Linf('8/255')), or None",
        received=f"{name}={attack!r}",
    )


def check_loops(model: Any) -> None:
    """Refuses synchronised batch norm in loops of a step, inside of which replicas cannot meet.

    Raises:
        InvalidInput: if a batch norm that is trained is synchronized, and an attack is in training mode or batches are
            trained on in parts.
    """
    if not is_synchronized(model):
        return
    attacks = {"attack": model.attack, "eval_attack": model.eval_attack}
    loops = [
        f"{name} in training mode"
        for name, attack in attacks.items()
        if getattr(attack, "batch_norm", "") == "training"
    ]
    loops += [f"micro_batches={model.micro_batches}"] if model.micro_batches > 1 else []
    if loops:
        raise InvalidInput(
            f"{type(model).__name__} has synchronised batch norms, in which replicas would meet inside a loop.",
            expected='attacks with batch_norm="inference" and micro_batches=1, or plain batch norms',
            received=", ".join(loops),
        )


def check_images(images: Any, expected: tuple[int | None, ...]) -> None:
    """Refuses a batch that is not of images of the shape `expected`; values are checked when the step runs.

    Raises:
        InvalidInput: if rank, size or dtype do not fit (when the step is traced).
        tf.errors.InvalidArgumentError: if a pixel is outside [0, 1] or NaN (when the step runs; not under XLA).
    """
    _check_shape(images, expected)
    inside = tf.reduce_all((images >= 0) & (images <= 1))
    tf.debugging.Assert(inside, ["`images` have pixels outside [0, 1] or NaN. Expected: float pixels in [0, 1]."])


def check_views(images: Any, expected: tuple[int | None, ...], signed: Sequence[bool]) -> None:
    """Refuses a batch that is not of views `(views, *expected)`, one for each entry of `signed`.

    Args:
        images: The batch, `(rows, views, height, width, channels)`.
        expected: The shape of one view.
        signed: Of each view whether its values may be negative, as high frequencies are.

    Raises:
        InvalidInput: as `check_images`.
        tf.errors.InvalidArgumentError: as `check_images`; of signed views, if a value is not finite.
    """
    _check_shape(images, (len(signed), *expected))
    low = tf.where(tf.reshape(list(signed), (-1, 1, 1, 1)), images.dtype.min, tf.zeros((), images.dtype))
    high = tf.where(low < 0, images.dtype.max, tf.ones((), images.dtype))
    inside = tf.reduce_all((images >= low) & (images <= high))
    tf.debugging.Assert(inside, ["`images` have views with pixels outside [0, 1] or NaN. Expected: pixels in [0, 1]."])


def _check_shape(images: Any, expected: tuple[int | None, ...]) -> None:
    fits = isinstance(images, tf.Tensor) and images.dtype.is_floating and images.shape.rank == 1 + len(expected)
    if not (fits and images.shape[1:].is_compatible_with(expected)):
        raise InvalidInput(
            "`images` do not fit the encoder.",
            expected=f"a float batch of shape (batch, {', '.join(map(str, expected))}) in [0, 1]",
            received=f"{getattr(images, 'dtype', type(images).__name__)} of shape {getattr(images, 'shape', None)}",
        )
