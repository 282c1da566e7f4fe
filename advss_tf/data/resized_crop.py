"""The crop of SimCLR: a part of random size and aspect, stretched to the whole, and mirrored by half.

Synopsis:

    boxes = crop_boxes(uniforms, (32, 32), smallest_area=0.2)          # (rows, 4): top, left, height, width
    images = resize_boxes(images, boxes, mirrored)                     # as large as they were

References: Szegedy et al., "Going Deeper with Convolutions", 2015 (arXiv 1409.4842), section 6; drawn as torchvision's
`RandomResizedCrop` does, and resized as Pillow does. Everything is drawn and computed for the whole batch at once.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

from advss_tf.errors import one_of

TRIES = 10
NUM_UNIFORMS = 2 * TRIES + 2
INTERPOLATIONS = ("bicubic", "bilinear")


def crop_boxes(
    uniforms: tf.Tensor,
    size: tuple[int, int],
    *,
    smallest_area: Any,
    aspects: tuple[float, float] = (3 / 4, 4 / 3),
) -> tf.Tensor:
    """Boxes whose area is uniform between `smallest_area` and 1 of the image, and whose aspect is log-uniform.

    Of ten tries the first that lies inside the image is taken, at a uniform place. If none does, the box is the whole
    image, or its middle where the image itself is longer than `aspects` allow.

    Args:
        uniforms: `(rows, 22)` uniform numbers in [0, 1): areas and aspects of ten tries, and the place.
        size: Height and width of the images.
        smallest_area: Part of the image's area, in [0, 1]; a number or a scalar tensor.
        aspects: The least and the largest width over height.

    Returns:
        `(rows, 4)` float32: top, left, height, width, whole numbers of pixels.
    """
    height, width = size
    areas, logs, place = tf.split(uniforms, [TRIES, TRIES, 2], axis=1)
    areas = (smallest_area + (1.0 - smallest_area) * areas) * (height * width)
    ratios = tf.exp(math.log(aspects[0]) + (math.log(aspects[1]) - math.log(aspects[0])) * logs)
    wide, high = tf.round(tf.sqrt(areas * ratios)), tf.round(tf.sqrt(areas / ratios))
    fits = (wide > 0) & (wide <= width) & (high > 0) & (high <= height)
    first = tf.argmax(fits, axis=1)
    tried = tf.stack([tf.gather(side, first, axis=1, batch_dims=1) for side in (high, wide)], axis=1)
    whole = tf.constant(_middle(height, width, aspects), tf.float32)
    found = tf.reduce_any(fits, axis=1)[:, tf.newaxis]
    sides = tf.where(found, tried, whole)
    room = tf.constant([height, width], tf.float32) - sides
    corner = tf.where(found, tf.minimum(tf.floor(place * (room + 1.0)), room), tf.floor(room / 2.0))
    return tf.concat([corner, sides], axis=1)


def resize_boxes(
    images: tf.Tensor, boxes: tf.Tensor, mirrored: tf.Tensor, *, interpolation: str = "bilinear"
) -> tf.Tensor:
    """The inside of each box, stretched to the size of the images, and mirrored left to right where asked.

    The two matrices of each image hold the weights by which its rows and its columns are mixed. A pixel outside the box
    has no part in it, and no box is larger than an image, so nothing has to be smoothed beforehand.

    Args:
        images: `(rows, height, width, channels)` float32 in [0, 1].
        boxes: `(rows, 4)`, of `crop_boxes`.
        mirrored: `(rows,)` booleans.
        interpolation: `"bilinear"`, or `"bicubic"` (Keys' kernel with a = -1/2, Pillow's).

    Returns:
        float32 of the same shape, clipped to [0, 1] where the kernel is cubic.

    Raises:
        InvalidInput: if the interpolation is not known.
    """
    one_of("interpolation", interpolation, INTERPOLATIONS)
    (height, width, channels), top, left = images.shape[1:], boxes[:, 0], boxes[:, 1]
    none = tf.zeros_like(mirrored)
    rows = _mixing(top, boxes[:, 2], height, none, interpolation)
    columns = _mixing(left, boxes[:, 3], width, mirrored, interpolation)
    stretched = tf.matmul(rows, tf.reshape(images, (-1, height, width * channels)))
    stretched = tf.transpose(tf.reshape(stretched, (-1, height, width, channels)), (0, 2, 1, 3))
    stretched = tf.matmul(columns, tf.reshape(stretched, (-1, width, height * channels)))
    stretched = tf.transpose(tf.reshape(stretched, (-1, width, height, channels)), (0, 2, 1, 3))
    return stretched if interpolation == "bilinear" else tf.clip_by_value(stretched, 0.0, 1.0)


def _mixing(start: tf.Tensor, length: tf.Tensor, size: int, reverse: tf.Tensor, interpolation: str) -> tf.Tensor:
    """`(rows, size, size)`: by which weights the pixels of one axis make each pixel of the stretched one."""
    here, pixels = tf.range(size, dtype=tf.float32), tf.range(size, dtype=tf.float32)
    start, length = start[:, tf.newaxis, tf.newaxis], length[:, tf.newaxis, tf.newaxis]
    here = tf.where(reverse[:, tf.newaxis], here[::-1], here)[..., tf.newaxis]
    distance = tf.abs(start + (here + 0.5) * (length / size) - 0.5 - pixels)
    weights = tf.nn.relu(1.0 - distance) if interpolation == "bilinear" else _keys(distance)
    weights = tf.where((pixels >= start) & (pixels < start + length), weights, 0.0)
    return weights / tf.reduce_sum(weights, axis=-1, keepdims=True)


def _keys(distance: tf.Tensor) -> tf.Tensor:
    near = (1.5 * distance - 2.5) * distance * distance + 1.0
    far = ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0
    return tf.where(distance < 1.0, near, tf.where(distance < 2.0, far, 0.0))


def _middle(height: int, width: int, aspects: tuple[float, float]) -> tuple[int, int]:
    if width / height < aspects[0]:
        return int(np.round(width / aspects[0])), width
    if width / height > aspects[1]:
        return height, int(np.round(height * aspects[1]))
    return height, width
