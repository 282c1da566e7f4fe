"""Brightness, contrast, saturation and hue by a factor of each image's own, and grey.

Synopsis:

    images = recolour(images, factors, order, greyed)       # factors (rows, 4); order (rows, 4): which comes when

These are torchvision's `ColorJitter` and `RandomGrayscale`, which the code of SimCLR's successors uses. TensorFlow's
`tf.image.adjust_*` take one factor for the whole batch, mix contrast with each channel's own mean, and saturation in
HSV, where these mix with grey. Keras 3.15's `RandomColorJitter` changes every image, brightness first and hue last,
where here each image has an order of its own; its contrast mixes with each channel's own mean, too; and it draws from
the state of a generator, as does `RandomGrayscale`, so from how often it was called, not from (seed, step, row).
"""

from __future__ import annotations

import tensorflow as tf

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)

_LUMA = (0.299, 0.587, 0.114)  # ITU-R 601-2, Pillow's


def recolour(images: tf.Tensor, factors: tf.Tensor, order: tf.Tensor, greyed: tf.Tensor) -> tf.Tensor:
    """Four changes, one after the other, each clipped to [0, 1]; then some images become grey.

    Brightness, contrast and saturation by a factor `f` are `f · image + (1 - f) · base`, with black, the mean of the
    grey image, and the grey image as the base; grey is `0.299 R + 0.587 G + 0.114 B`. The hue is turned in HSV. Of an
    image of one channel brightness and contrast alone change anything.

    Args:
        images: `(rows, height, width, channels)` float32 in [0, 1], one or three channels.
        factors: `(rows, 4)`: brightness, contrast and saturation, where 1 changes nothing, and the part of a full turn
            by which the hue is turned, where 0 changes nothing.
        order: `(rows, 4)` integers, in each row a permutation of `BRIGHTNESS, CONTRAST, SATURATION, HUE`.
        greyed: `(rows,)` booleans: what is made grey in the end.

    Returns:
        float32 of the same shape.
    """
    # Channel by channel: on a CPU, operations along a last axis of three take several times as long.
    planes = tf.unstack(images, axis=-1)
    for place in range(4):
        which = order[:, place]
        planes = _mixed(planes, tf.gather(factors, which, axis=1, batch_dims=1), which)
        if len(planes) == 3:
            planes = _turned_where(planes, factors[:, HUE], (which == HUE) & (factors[:, HUE] != 0.0))
    saturation = 1.0 - tf.cast(greyed, tf.float32)
    planes = _mixed(planes, saturation, tf.fill(tf.shape(greyed), SATURATION))
    return tf.transpose(tf.stack(planes), (1, 2, 3, 0))


def turn_hue(planes: list[tf.Tensor], turns: tf.Tensor) -> list[tf.Tensor]:
    """Red, green and blue `(rows, height, width)` in [0, 1], their hue turned by `turns` `(rows,)` of a full turn.

    As by way of HSV, whose value and saturation stay: with the largest channel `V`, the spread `C` and the hue `h` in
    sixths, a channel is `V - C · clip(min(k, 4 - k), 0, 1)`, where `k = (n + h) mod 6` and `n` is 5, 3, 1 for red,
    green, blue.
    """
    red, green, blue = planes
    value = tf.maximum(tf.maximum(red, green), blue)
    spread = value - tf.minimum(tf.minimum(red, green), blue)
    of_blue = tf.where(green == value, 2.0 * spread + blue - red, 4.0 * spread + red - green)
    hue = tf.math.divide_no_nan(tf.where(red == value, green - blue, of_blue), spread)
    hue += 6.0 * turns[:, tf.newaxis, tf.newaxis]
    turned = []
    for number in (5.0, 3.0, 1.0):
        place = hue + number
        place -= 6.0 * tf.floor(place / 6.0)
        turned.append(value - spread * tf.clip_by_value(tf.minimum(place, 4.0 - place), 0.0, 1.0))
    return turned


def _mixed(planes: list[tf.Tensor], factors: tf.Tensor, which: tf.Tensor) -> list[tf.Tensor]:
    """Brightness, contrast or saturation, whichever it is for each image; nothing where it is the hue."""
    factors, which = factors[:, tf.newaxis, tf.newaxis], which[:, tf.newaxis, tf.newaxis]
    grey = tf.add_n([weight * plane for weight, plane in zip(_LUMA, planes, strict=True)]) if planes[1:] else planes[0]
    factors = tf.where(which == HUE, 1.0, factors)
    rest = 1.0 - factors
    base = tf.where(which == SATURATION, rest, 0.0) * grey
    base += tf.where(which == CONTRAST, rest, 0.0) * tf.reduce_mean(grey, axis=(1, 2), keepdims=True)
    return [tf.clip_by_value(factors * plane + base, 0.0, 1.0) for plane in planes]


def _turned_where(planes: list[tf.Tensor], turns: tf.Tensor, chosen: tf.Tensor) -> list[tf.Tensor]:
    # Only the images whose turn it is: this is the dearest part of all.
    rows = tf.where(chosen)
    turned = turn_hue([tf.gather_nd(plane, rows) for plane in planes], tf.gather_nd(turns, rows))
    return [tf.tensor_scatter_nd_update(plane, rows, new) for plane, new in zip(planes, turned, strict=True)]
