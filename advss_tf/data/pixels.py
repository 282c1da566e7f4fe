"""Pixels at rest and in flight: what a data set keeps, what a batch holds, and how images get another size.

Synopsis:

    images = as_stored(array, "images")     # uint8 or float32, NHWC, one or three channels
    images = resized(images, (16, 16))      # same dtype
    batch = as_float(images[:8])            # float32 in [0, 1]
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from advss_tf.data.checks import check_range
from advss_tf.errors import InvalidInput

_CHUNK = 512  # images resized at once, so that a large set does not stand in memory twice as float32


def as_stored(images: Any, name: str) -> np.ndarray:
    """The images of a source as they are kept: uint8, or float32 in [0, 1] where the source has floats.

    Args:
        images: An array `(n, height, width)` or `(n, height, width, channels)` with one or three channels, uint8 in
            [0, 255] or any float in [0, 1].
        name: What the messages call it.

    Returns:
        An array `(n, height, width, channels)`.

    Raises:
        InvalidInput: for any other dtype or shape, no image at all, or a float that is not finite and in [0, 1].
    """
    try:
        images = np.asarray(images)
    except ValueError as error:  # NumPy's word for a list of arrays of different sizes
        raise InvalidInput(
            f"`{name}` is no array; its images may differ in size.",
            expected="one array, all images of one size",
            received=str(error).rstrip("."),
        ) from error
    if images.dtype != np.uint8 and not np.issubdtype(images.dtype, np.floating):
        raise InvalidInput(
            f"`{name}` has a dtype that pixels cannot have.",
            expected="uint8 in [0, 255], or floats in [0, 1]",
            received=f"dtype={images.dtype}",
        )
    shape = images.shape
    images = images[..., np.newaxis] if images.ndim == 3 else images
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise InvalidInput(
            f"`{name}` has the wrong shape.",
            expected="(n, height, width) for grey images, or (n, height, width, channels) with 1 or 3 channels",
            received=f"shape={shape}",
        )
    if 0 in images.shape:
        raise InvalidInput(f"`{name}` holds no pixels.", expected="one image or more", received=f"shape={shape}")
    if images.dtype == np.uint8:
        return images
    check_range(images, name)
    return images.astype(np.float32)


def as_float(images: Any) -> tf.Tensor:
    """Images as float32 in [0, 1]: 8-bit values are divided by 255, floats stay what they are."""
    images = tf.convert_to_tensor(images)
    return tf.cast(images, tf.float32) / 255.0 if images.dtype == tf.uint8 else images


def resize_tensor(images: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Images `(…, height, width, channels)` at another size, bilinear with antialiasing, the dtype kept.

    The aspect is not kept: the whole picture is stretched to `size`. 8-bit values are rounded to the nearest.
    """
    values = tf.image.resize(images, size, method="bilinear", antialias=True)
    if images.dtype == tf.uint8:
        return tf.cast(tf.clip_by_value(tf.round(values), 0.0, 255.0), tf.uint8)
    return tf.clip_by_value(values, 0.0, 1.0)


def resized(images: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """`resize_tensor` for a whole array, a few hundred images at a time; `size=None` changes nothing."""
    if size is None or images.shape[1:3] == size:
        return images
    starts = range(0, len(images), _CHUNK)
    return np.concatenate([resize_tensor(tf.constant(images[at : at + _CHUNK]), size).numpy() for at in starts])
