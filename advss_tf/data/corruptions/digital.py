"""Digital corruptions: brightness, contrast, elastic transform, pixelate, JPEG compression and saturation.

Synopsis:

    bright = brightness(pixels, draws, PARAMETERS["brightness"][severity - 1])

Hendrycks & Dietterich 2019 (arXiv:1903.12261, section 4 and appendix A), with the parameters of CIFAR-10-C. `pixels`
are float64 `(batch, height, width, channels)`, in [0, 1]; so is the result, which may leave [0, 1]. A grey image is the
colour image with three equal channels: its value in HSV is the image itself and it has no saturation, so `brightness`
adds to its levels and `saturate` leaves it as it is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from advss_tf.data.corruptions.draws import Draws
from advss_tf.data.corruptions.filters import along, divided, reflected, sampled, smoothing_matrix, symmetric

# Severities 1 to 5.
PARAMETERS: dict[str, tuple] = {
    "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),  # added to the value of HSV
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),  # share of the difference from the mean that is left
    # amplitude and sigma of the bending, largest shift of the affine map's points, in lengths of the shorter side
    "elastic_transform": ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
    "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),  # share of the pixels that is left along each axis
    "jpeg_compression": (80, 65, 58, 50, 40),  # quality
    "saturate": ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2)),  # times, plus, for the saturation of HSV
}

_BITS = 22  # Pillow resizes 8-bit images with weights of so many binary digits


def brightness(pixels: tf.Tensor, draws: Draws, amount: float) -> tf.Tensor:
    """Adds `amount` to the value of HSV, which is clipped at 1."""
    if pixels.shape[-1] == 1:
        return pixels + amount
    hue, saturation, value = _hsv(pixels)
    return _rgb(hue, saturation, tf.clip_by_value(value + amount, 0.0, 1.0))


def saturate(pixels: tf.Tensor, draws: Draws, parameters: tuple[float, float]) -> tf.Tensor:
    """Multiplies the saturation of HSV and adds to it, then clips it; grey images stay as they are.

    A grey pixel of a colour image counts as red, the hue 0, so severities 4 and 5 colour it.
    """
    times, plus = parameters
    if pixels.shape[-1] == 1:
        return pixels
    hue, saturation, value = _hsv(pixels)
    return _rgb(hue, tf.clip_by_value(saturation * times + plus, 0.0, 1.0), value)


def _hsv(pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Hue in [0, 1), saturation and value, each `(batch, height, width)`; scikit-image's order of operations."""
    red, green, blue = tf.unstack(pixels, axis=-1)
    value = tf.reduce_max(pixels, axis=-1)
    spread = value - tf.reduce_min(pixels, axis=-1)
    width = tf.where(spread == 0, tf.ones_like(spread), spread)
    sixth = tf.where(red == value, (green - blue) / width, tf.zeros_like(value))
    sixth = tf.where(green == value, 2 + (blue - red) / width, sixth)
    sixth = tf.where(blue == value, 4 + (red - green) / width, sixth)
    hue = tf.where(spread == 0, tf.zeros_like(sixth), tf.math.floormod(divided(sixth, 6.0), tf.ones_like(sixth)))
    return hue, tf.math.divide_no_nan(spread, value), value


def _rgb(hue: tf.Tensor, saturation: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    sector = tf.floor(hue * 6)
    within = hue * 6 - sector
    low = value * (1 - saturation)
    falling, rising = value * (1 - within * saturation), value * (1 - (1 - within) * saturation)
    sector = tf.cast(sector, tf.int32) % 6

    def chosen(*channel: tf.Tensor) -> tf.Tensor:
        return tf.gather(tf.stack(channel, axis=-1), sector, batch_dims=3)

    red = chosen(value, falling, low, low, rising, value)
    green = chosen(rising, value, value, falling, low, low)
    return tf.stack([red, green, chosen(low, low, rising, value, value, falling)], axis=-1)


def contrast(pixels: tf.Tensor, draws: Draws, share: float) -> tf.Tensor:
    """(x - mean) · share + mean, with the mean of each channel of each image."""
    mean = tf.reduce_mean(pixels, axis=(1, 2), keepdims=True)
    return (pixels - mean) * share + mean


def elastic_transform(pixels: tf.Tensor, draws: Draws, parameters: tuple[float, float, float]) -> tf.Tensor:
    """A random affine map, then each pixel moved by a smoothed random field; linear between pixels.

    Three points of the image's middle are moved by up to `shift` along each axis, which sets the affine map. OpenCV, as
    the published script calls it, rounds the places that the affine map reads to 1/32 of a pixel; here they are exact.
    """
    height, width = pixels.shape[1], pixels.shape[2]
    shorter = min(height, width)
    amplitude, sigma, shift = (shorter * part for part in parameters)
    columns, rows = affine_places(height, width, draws.uniform("points", (3, 2), -shift, shift))
    moved = sampled(pixels, rows, columns, border=reflected)
    if amplitude == 0:
        return moved
    fields = draws.uniform("fields", (height, width, 2), -1.0, 1.0)
    fields = amplitude * along(fields, smoothing_matrix(height, sigma), smoothing_matrix(width, sigma))
    rows = np.arange(height, dtype=float)[:, np.newaxis] + fields[..., 1]
    return sampled(moved, rows, np.arange(width, dtype=float) + fields[..., 0], border=symmetric)


def affine_places(height: int, width: int, shifts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Where each pixel of the result comes from, if three points of the middle move by `shifts`.

    Args:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        shifts: `(batch, 3, 2)`, to the right and down, of the points that lie a third of the shorter side from the
            middle: below right, above right, above left.

    Returns:
        Columns and rows, each float64 `(batch, height, width)`.
    """
    reach = min(height, width) // 3
    points = np.array([width // 2, height // 2]) + reach * np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    after = tf.concat([points + shifts, tf.ones_like(shifts[..., :1])], axis=-1)
    back = tf.linalg.solve(after, points + tf.zeros_like(shifts))  # (batch, 3, 2): (x, y, 1) → where it was
    rows, columns = np.mgrid[:height, :width].astype(float)
    places = tf.einsum("hwk,bkd->bhwd", np.stack([columns, rows, np.ones_like(rows)], axis=-1), back)
    return places[..., 0], places[..., 1]


def pixelate(pixels: tf.Tensor, draws: Draws, share: float) -> tf.Tensor:
    """Resized to `share` of each side and back, both with Pillow's box filter on 8-bit images."""
    height, width = pixels.shape[1], pixels.shape[2]
    low, narrow = int(height * share), int(width * share)
    levels = _resized(tf.round(pixels * 255), box_matrix(height, low), box_matrix(width, narrow))
    return divided(_resized(levels, box_matrix(low, height), box_matrix(narrow, width)), 255.0)


def _resized(levels: tf.Tensor, rows: np.ndarray, columns: np.ndarray) -> tf.Tensor:
    """Columns first, then rows, rounded to 8 bits after each, as Pillow does."""
    levels = tf.floor(tf.einsum("xw,bhwc->bhxc", tf.constant(columns), levels) + 0.5)
    return tf.floor(tf.einsum("yh,bhxc->byxc", tf.constant(rows), levels) + 0.5)


def box_matrix(size: int, new: int) -> np.ndarray:
    """Pillow's box filter along one axis, `(new, size)`: the mean of the pixels whose middle lies in the new pixel."""
    scale = size / new
    reach = max(scale, 1.0)
    matrix = np.zeros((new, size))
    for at in range(new):
        middle = (at + 0.5) * scale
        first, last = max(int(middle - reach / 2 + 0.5), 0), min(int(middle + reach / 2 + 0.5), size)
        offsets = (np.arange(first, last) - middle + 0.5) / reach
        inside = (offsets > -0.5) & (offsets <= 0.5)
        matrix[at, first:last] = np.floor(inside / inside.sum() * 2**_BITS + 0.5) / 2**_BITS
    return matrix


def jpeg_compression(pixels: tf.Tensor, draws: Draws, quality: int) -> tf.Tensor:
    """Written as JPEG (baseline, chroma halved along both axes) and read again, image by image."""
    channels = pixels.shape[-1]
    layout = "grayscale" if channels == 1 else "rgb"

    def compressed(image: tf.Tensor) -> tf.Tensor:
        written = tf.io.encode_jpeg(image, format=layout, quality=quality)
        read = tf.io.decode_jpeg(written, channels=channels, dct_method="INTEGER_ACCURATE")
        return tf.ensure_shape(read, image.shape)

    levels = tf.map_fn(compressed, tf.cast(tf.round(pixels * 255), tf.uint8))
    return divided(tf.cast(levels, tf.float64), 255.0)


DIGITAL: dict[str, Callable[..., tf.Tensor]] = {
    "brightness": brightness,
    "contrast": contrast,
    "elastic_transform": elastic_transform,
    "pixelate": pixelate,
    "jpeg_compression": jpeg_compression,
    "saturate": saturate,
}
