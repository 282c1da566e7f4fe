"""Door checks: are these images and labels what the library works on?

Synopsis:

    check_images(images)                                    # float32, NHWC, [0, 1]
    check_labels(labels, num_classes=10, count=len(images))

Dtype and shape are static, so they are checked inside `tf.function` too. Values are checked when they are at hand
(NumPy arrays and eager tensors); a graph is not slowed down by assertions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from advss_tf.errors import InvalidInput


def check_images(images: Any, name: str = "images", *, image_shape: Sequence[int] | None = None) -> None:
    """Refuses anything but a batch of images as the library keeps them.

    Args:
        images: What came through the door: a NumPy array or a tensor.
        name: The argument's name, for the message.
        image_shape: The `(height, width, channels)` that each image must have, if it is known.

    Raises:
        InvalidInput: if `images` is not float32, not of rank 4 `(batch, height, width, channels)`, not of
            `image_shape`, or (where values are at hand) not finite and in [0, 1].
    """
    dtype, shape = _static(images, name)
    if dtype != "float32":
        hint = "; divide 8-bit pixels by 255" if dtype == "uint8" else ""
        raise InvalidInput(
            f"`{name}` has the wrong dtype.", expected=f"float32 pixels in [0, 1]{hint}", received=f"dtype={dtype}"
        )
    wanted = (None, None, None, None) if image_shape is None else (None, *image_shape)
    if shape is not None and not _fits(shape, wanted):
        expected = ", ".join(word if size is None else str(size) for word, size in zip(_AXES, wanted, strict=True))
        raise InvalidInput(f"`{name}` has the wrong shape.", expected=f"({expected})", received=f"shape={shape}")
    if _has_values(images):
        check_range(np.asarray(images), name)


def check_labels(
    labels: Any, name: str = "labels", *, num_classes: int | None = None, count: int | None = None
) -> None:
    """Refuses anything but one class number per image.

    Args:
        labels: What came through the door: a NumPy array or a tensor, shape `(batch,)`, any integer dtype.
        name: The argument's name, for the message.
        num_classes: Labels must be smaller than this, if it is given.
        count: How many labels there must be, if it is given.

    Raises:
        InvalidInput: if `labels` is not a vector of integers, not `count` long, or (where values are at hand) holds
            a value outside [0, num_classes).
    """
    dtype, shape = _static(labels, name)
    if not tf.as_dtype(dtype).is_integer:
        raise InvalidInput(f"`{name}` must be class numbers.", expected="an integer dtype", received=f"dtype={dtype}")
    if shape is not None and not _fits(shape, (count,)):
        expected = f"({'number of images' if count is None else count},)"
        raise InvalidInput(f"`{name}` has the wrong shape.", expected=expected, received=f"shape={shape}")
    if _has_values(labels):
        values = np.asarray(labels)
        wrong = values < 0 if num_classes is None else (values < 0) | (values >= num_classes)
        if wrong.any():
            index = int(np.argmax(wrong))
            top = "0 or more" if num_classes is None else f"in [0, {num_classes})"
            raise InvalidInput(
                f"`{name}` holds a value that is no class.",
                expected=f"every label {top}",
                received=f"{name}[{index}]={values[index]}",
            )


def check_pseudo_labels(
    pseudo_labels: Any, name: str = "pseudo_labels", *, count: int, used: np.ndarray | None = None
) -> None:
    """Refuses anything but one class number per record and head.

    Args:
        pseudo_labels: An array `(count, heads)`, any integer dtype, row `k` for record `k`.
        name: The argument's name, for the message.
        count: How many records there are.
        used: The numbers of the records that are looked at, `(n,)`; the others may hold anything. None for all.

    Raises:
        InvalidInput: if `pseudo_labels` is no array of integers, has another shape or no head, or holds a negative
            value, naming its record.
    """
    dtype, shape = _static(pseudo_labels, name)
    if not tf.as_dtype(dtype).is_integer:
        raise InvalidInput(f"`{name}` must be class numbers.", expected="an integer dtype", received=f"dtype={dtype}")
    if shape is None or not _fits(shape, (count, None)) or shape[1] == 0:
        expected = f"({count}, heads): one row a record of the train split, one head or more"
        raise InvalidInput(f"`{name}` has the wrong shape.", expected=expected, received=f"shape={shape}")
    values = np.asarray(pseudo_labels)
    numbers = np.arange(count) if used is None else used
    wrong = (values[numbers] < 0).any(axis=1)
    if wrong.any():
        record = int(numbers[np.argmax(wrong)])
        received = f"{name}[{record}]={values[record].tolist()}"
        raise InvalidInput(f"`{name}` lacks a record that is used.", expected="class numbers >= 0", received=received)


def check_augmentation(crop_padding: Any, flip: Any) -> None:
    """Refuses anything but a shift in whole pixels, and a word on mirroring.

    Raises:
        InvalidInput: if `crop_padding` is no whole number in [0, 2**31), or `flip` is neither True nor False.
    """
    whole = isinstance(crop_padding, (int, np.integer)) and not isinstance(crop_padding, bool)
    if not whole or not 0 <= crop_padding < 2**31:
        expected, received = "a whole number, 0 <= crop_padding < 2**31", f"crop_padding={crop_padding!r}"
        raise InvalidInput("`crop_padding` is out of range.", expected=expected, received=received)
    if not isinstance(flip, (bool, np.bool_)):
        raise InvalidInput("`flip` is invalid.", expected="True or False", received=f"flip={flip!r}")


def check_range(images: np.ndarray, name: str) -> None:
    """Refuses float images with a value that is not finite or not in [0, 1], naming the first such image."""
    if images.size and not (images.min() >= 0.0 and images.max() <= 1.0):  # false for NaN too, in one pass
        fine = (images >= 0.0) & (images <= 1.0)
        index = int(np.argmin(fine.reshape(len(images), -1).all(axis=1)))
        value = images[index][~fine[index]][0]
        raise InvalidInput(
            f"`{name}` holds a value that is no pixel.",
            expected="every value finite and in [0, 1]",
            received=f"{name}[{index}] holds {value:g}",
        )


_AXES = ("batch", "height", "width", "channels")


def _static(value: Any, name: str) -> tuple[str, tuple[int | None, ...] | None]:
    """The dtype's name and the shape (None where unknown) of an array, a tensor or a symbolic Keras tensor."""
    if not (hasattr(value, "dtype") and hasattr(value, "shape")):
        raise InvalidInput(
            f"`{name}` is not an array.", expected="a NumPy array or a tensor", received=f"{type(value).__name__}"
        )
    if getattr(value.dtype, "hasobject", False):
        raise InvalidInput(
            f"`{name}` is an array of Python objects.", expected="an array of numbers", received=f"dtype={value.dtype}"
        )
    try:
        dtype = tf.as_dtype(value.dtype).name
    except TypeError:
        raise InvalidInput(
            f"`{name}` is no array of numbers.", expected="numbers", received=f"dtype={value.dtype}"
        ) from None
    unknown = isinstance(value.shape, tf.TensorShape) and value.shape.rank is None
    return dtype, None if unknown else tuple(value.shape)


def _fits(shape: Sequence[int | None], wanted: Sequence[int | None]) -> bool:
    pairs = zip(shape, wanted, strict=False)
    return len(shape) == len(wanted) and all(None in pair or pair[0] == pair[1] for pair in pairs)


def _has_values(value: Any) -> bool:
    return isinstance(value, np.ndarray) or (tf.is_tensor(value) and hasattr(value, "numpy"))
