"""What several corruptions are made of: smoothing, zoom, motion blur and reading an image between its pixels.

Synopsis:

    smooth = gaussian(images, 0.7)
    closer = along(images, zoom_matrix(height, 1.1), zoom_matrix(width, 1.1))
    moved = motion_blurred(levels, angles, radius=8, sigma=2.0)
    bent = sampled(images, rows, columns, border=symmetric)

Images are float64 `(batch, height, width, channels)` of a static size. Sums run in the order of the libraries that the
published script calls, because it truncates to 256 grey levels: there the last bit of a sum can be a grey level.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

LUMA = np.array([0.299, 0.587, 0.114])  # Rec. 601, the weights of OpenCV's grey


def divided(values: tf.Tensor, by: float) -> tf.Tensor:
    """`values / by` for a positive `by`, to the last bit.

    In a graph TensorFlow turns a division by a constant into a product with its reciprocal, which is another number:
    k / 255 · 255 is then truncated to k - 1 for 24 of the 256 grey levels k. It does not see that this divisor
    is constant.
    """
    return values / tf.maximum(-tf.abs(values), tf.constant(by, values.dtype))


def gaussian_weights(sigma: float, *, truncate: float) -> np.ndarray:
    """The taps of a Gaussian of standard deviation `sigma` pixels, cut at `truncate` of these; their sum is one."""
    radius = int(truncate * sigma + 0.5)
    if radius == 0:
        return np.ones(1)
    weights = np.exp(-0.5 / sigma**2 * np.arange(-radius, radius + 1) ** 2)
    return weights / weights.sum()


def gaussian(images: tf.Tensor, sigma: float) -> tf.Tensor:
    """A Gaussian of `sigma` pixels along both axes, cut at four sigma, the edge repeated (as `skimage.filters`)."""
    weights = gaussian_weights(sigma, truncate=4.0)
    return _correlated(_correlated(images, weights, axis=1), weights, axis=2)


def _correlated(images: tf.Tensor, weights: np.ndarray, *, axis: int) -> tf.Tensor:
    """Symmetric taps along one axis, added as SciPy adds them: the centre, then pairs from the outermost inwards."""
    size, radius = images.shape[axis], len(weights) // 2
    padded = tf.gather(images, np.clip(np.arange(-radius, size + radius), 0, size - 1), axis=axis)

    def at(shift: int) -> tf.Tensor:
        cut = slice(radius + shift, radius + shift + size)
        return padded[:, cut] if axis == 1 else padded[:, :, cut]

    total = at(0) * weights[radius]
    for shift in range(radius, 0, -1):
        total += (at(-shift) + at(shift)) * weights[radius + shift]
    return total


def along(images: tf.Tensor, rows: Any, columns: Any) -> tf.Tensor:
    """A linear map of the rows, `(new height, height)`, and then one of the columns, `(new width, width)`."""
    images = tf.einsum("yh,bhwc->bywc", tf.convert_to_tensor(rows, images.dtype), images)
    return tf.einsum("xw,bywc->byxc", tf.convert_to_tensor(columns, images.dtype), images)


def smoothing_matrix(size: int, sigma: float) -> np.ndarray:
    """A Gaussian of `sigma` pixels as a matrix `(size, size)`, cut at three sigma, the image mirrored at its edge."""
    weights = gaussian_weights(sigma, truncate=3.0)
    radius = len(weights) // 2
    matrix = np.zeros((size, size))
    for tap, weight in enumerate(weights):
        np.add.at(matrix, (np.arange(size), symmetric(np.arange(size) + tap - radius, size)), weight)
    return matrix


def zoom_matrix(size: int, factor: float) -> np.ndarray:
    """The middle of an axis enlarged by `factor`, linear between pixels, and cut to its size: `(size, size)`.

    `clipped_zoom` of the published script, each axis by itself. Where the rounding of a coordinate makes SciPy fill
    the last pixel with black (no factor does at 32 pixels), the last pixel of the image stands.
    """
    inner = math.ceil(size / factor)
    outer = round(inner * factor)
    at = np.minimum((np.arange(size) + (outer - size) // 2) * ((inner - 1) / (outer - 1)), inner - 1)
    low = np.minimum(at.astype(int), inner - 2)
    matrix = np.zeros((size, size))
    first = (size - inner) // 2
    matrix[np.arange(size), first + low] = 1 - (at - low)
    matrix[np.arange(size), first + low + 1] = at - low
    return matrix


def motion_blurred(levels: tf.Tensor, angles: tf.Tensor, *, radius: int, sigma: float) -> tf.Tensor:
    """Each image smeared along its angle by half a Gaussian, the edge repeated (ImageMagick's `MotionBlurImage`).

    ImageMagick (6.9.11) rounds the sum to 16 bits, and cuts that to 8 where it writes the image.

    Args:
        levels: Whole grey levels 0 … 255, `(batch, height, width, channels)`.
        angles: `(batch,)`, degrees, clockwise from the direction of growing columns.
        radius: The kernel has 2 · radius + 1 taps, all on one side.
        sigma: Standard deviation of the Gaussian, in pixels.

    Returns:
        Whole grey levels, the shape of `levels`.
    """
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    angles = angles[:, tf.newaxis] * (math.pi / 180)
    down = tf.cast(tf.math.ceil(steps * tf.sin(angles) - 0.5), tf.int32)
    right = tf.cast(tf.math.ceil(steps * tf.cos(angles) - 0.5), tf.int32)
    height, width = levels.shape[1], levels.shape[2]
    total = tf.zeros_like(levels)
    for step, weight in enumerate(weights / weights.sum()):
        rows = tf.clip_by_value(tf.range(height) + down[:, step, tf.newaxis], 0, height - 1)
        columns = tf.clip_by_value(tf.range(width) + right[:, step, tf.newaxis], 0, width - 1)
        total += weight * tf.gather(tf.gather(levels, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)
    return tf.floor(tf.floor(total * 257 + 0.5) / 257 + 2**-20)  # 2⁻²⁰: a whole level stays one


def symmetric(index: Any, size: int) -> Any:
    """Indices of any integer mirrored into [0, size), the edge pixel twice: d c b a | a b c d | d c b a."""
    index = index % (2 * size)
    return (np if isinstance(index, np.ndarray) else tf).minimum(index, 2 * size - 1 - index)


def reflected(index: Any, size: int) -> Any:
    """Indices of any integer mirrored into [0, size), the edge pixel once: d c b | a b c d | c b a."""
    index = index % (2 * size - 2)
    return (np if isinstance(index, np.ndarray) else tf).minimum(index, 2 * size - 2 - index)


def sampled(images: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor, *, border: Callable) -> tf.Tensor:
    """Images read at real-valued places, linear between the four pixels around each.

    Args:
        images: `(batch, height, width, channels)`.
        rows: Where to read, `(batch, new height, new width)`, in pixels from the middle of the first one.
        columns: The same along the width.
        border: What stands outside, `symmetric` or `reflected`.
    """
    height, width, channels = images.shape[1:]
    flat = tf.reshape(images, (-1, height * width, channels))
    total = tf.zeros_like(images)
    for row, row_share in _neighbours(rows):
        for column, column_share in _neighbours(columns):
            index = border(row, height) * width + border(column, width)
            total += (row_share * column_share)[..., tf.newaxis] * tf.gather(flat, index, batch_dims=1)
    return total


def _neighbours(places: tf.Tensor) -> tuple[tuple[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """The whole numbers on both sides of each place and the share that each has in it."""
    low = tf.floor(places)
    index = tf.cast(low, tf.int32)
    return (index, 1 - (places - low)), (index + 1, places - low)
