"""Corruptions by weather: snow, frost, fog, and spatter on the lens.

Synopsis:

    foggy = fog(pixels, draws, PARAMETERS["fog"][severity - 1])
    icy = frost(pixels, draws, PARAMETERS["frost"][severity - 1], photographs)
    frost_source(photographs)       # "user's images"

Hendrycks & Dietterich 2019 (arXiv:1903.12261, section 4 and appendix A), with the parameters of CIFAR-10-C. `pixels`
are float64 `(batch, height, width, channels)`, in [0, 1]; so is the result, which may leave [0, 1]. What has a colour
in a colour image (frost, spatter) has its luma, 0.299 R + 0.587 G + 0.114 B, in a grey one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from advss_tf.data.checks import check_range
from advss_tf.data.corruptions.draws import Draws
from advss_tf.data.corruptions.filters import LUMA, along, divided, motion_blurred, zoom_matrix
from advss_tf.data.corruptions.plasma import plasma_fractal, plasma_side
from advss_tf.data.corruptions.spatter import spatter
from advss_tf.errors import InvalidInput

# Severities 1 to 5.
PARAMETERS: dict[str, tuple] = {
    # flakes: mean, deviation, zoom, threshold; their blur: radius, sigma; share of the image's own light
    "snow": (
        (0.10, 0.2, 1.00, 0.60, 8, 3.0, 0.95),
        (0.10, 0.2, 1.00, 0.50, 10, 4.0, 0.90),
        (0.15, 0.3, 1.75, 0.55, 10, 4.0, 0.90),
        (0.25, 0.3, 2.25, 0.60, 12, 6.0, 0.85),
        (0.30, 0.3, 1.25, 0.65, 14, 12.0, 0.80),
    ),
    # weight of the image, weight of the frost
    "frost": ((1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
    # amount, decay of the plasma fractal
    "fog": ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75)),
    # liquid: mean, deviation, sigma, threshold; strength of the water or sigma of the mud; whether it is mud
    "spatter": (
        (0.62, 0.1, 0.7, 0.70, 0.5, False),
        (0.65, 0.1, 0.8, 0.70, 0.5, False),
        (0.65, 0.3, 1.0, 0.69, 0.5, False),
        (0.65, 0.1, 0.7, 0.69, 0.6, True),
        (0.65, 0.1, 0.5, 0.68, 0.6, True),
    ),
}

_ICE = np.array([0.82, 0.91, 1.0])  # the tint of generated frost
_FROST_DECAY = 1.8


def snow(pixels: tf.Tensor, draws: Draws, parameters: tuple) -> tf.Tensor:
    """Whitens the image and adds a layer of streaks, and the same layer turned by 180 degrees.

    Flakes are normal numbers, enlarged and cut at a threshold, then blurred by motion at an angle that is uniform in
    [-135, -45) degrees. The image is mixed with the lighter of itself and 1.5 · luma + 0.5.
    """
    mean, deviation, zoom, threshold, radius, sigma, own = parameters
    height, width = pixels.shape[1], pixels.shape[2]
    flakes = mean + deviation * draws.normal("flakes", (height, width, 1))
    flakes = along(flakes, zoom_matrix(height, zoom), zoom_matrix(width, zoom))
    flakes = tf.where(flakes < threshold, tf.zeros_like(flakes), flakes)
    flakes = tf.floor(tf.clip_by_value(flakes, 0.0, 1.0) * 255)
    streaks = motion_blurred(flakes, draws.uniform("angle", (), -135.0, -45.0), radius=radius, sigma=sigma)
    streaks = divided(streaks, 255.0)
    white = tf.maximum(pixels, _grey(pixels) * 1.5 + 0.5)
    return own * pixels + (1 - own) * white + streaks + streaks[:, ::-1, ::-1]


def frost(
    pixels: tf.Tensor, draws: Draws, parameters: tuple[float, float], photographs: tf.Tensor | None = None
) -> tf.Tensor:
    """own · image + ice · frost, with frost cut at random from photographs, or generated.

    The published script has six photographs, which it shrinks to a fifth, and takes one of the first five. They are no
    part of this library: without `photographs`, `generated_frost` stands for them, and the numbers are then not those
    of CIFAR-10-C.

    Args:
        pixels: `(batch, height, width, channels)`.
        draws: Where the random numbers come from.
        parameters: The weights of the image and of the frost.
        photographs: Grey levels, from `checked_photographs`. Which one and where the cut lies is uniform.
    """
    own, ice = parameters
    height, width, channels = pixels.shape[1:]
    layer = generated_frost(draws, height, width) if photographs is None else _cut(photographs, draws, height, width)
    if channels == 1:
        layer = tf.floor(_grey(layer) + 0.5)
    mixed = own * tf.round(pixels * 255) + ice * layer
    return divided(tf.floor(tf.clip_by_value(mixed, 0.0, 255.0)), 255.0)


def generated_frost(draws: Draws, height: int, width: int) -> tf.Tensor:
    """Frost that no camera took: bright, bluish veins on a darker ground, grey levels `(batch, height, width, 3)`.

    With p a plasma fractal and r = 1 - |2p - 1| its ridges, the ice is 0.25 + 0.75 · r² in a tint of (0.82, 0.91, 1).
    """
    side = plasma_side(height, width)
    plasma = plasma_fractal(draws.uniform("frost", (side * side - 1,), -1.0, 1.0), decay=_FROST_DECAY)
    ridges = 1 - tf.abs(2 * plasma[:, :height, :width, tf.newaxis] - 1)
    return tf.floor((0.25 + 0.75 * ridges**2) * (255 * _ICE))


def frost_source(frost_images: Any) -> str:
    """What a record says about where frost came from: "user's images" or "generated"."""
    return "generated" if frost_images is None else "user's images"


def fog(pixels: tf.Tensor, draws: Draws, parameters: tuple[float, float]) -> tf.Tensor:
    """(x + amount · plasma) · m / (m + amount), with m the largest value of the image."""
    amount, decay = parameters
    height, width = pixels.shape[1], pixels.shape[2]
    side = plasma_side(height, width)
    clouds = plasma_fractal(draws.uniform("fog", (side * side - 1,), -1.0, 1.0), decay=decay)
    largest = tf.reduce_max(pixels, axis=(1, 2, 3), keepdims=True)
    return (pixels + amount * clouds[:, :height, :width, tf.newaxis]) * largest / (largest + amount)


def _grey(pixels: tf.Tensor) -> tf.Tensor:
    """The luma, one channel; a grey image is its own."""
    return pixels if pixels.shape[-1] == 1 else tf.reduce_sum(pixels * LUMA, axis=-1, keepdims=True)


def checked_photographs(frost_images: Any, *, height: int, width: int) -> tf.Tensor:
    """The user's photographs `(n, H, W, 3)`, uint8 or floats in [0, 1], as float64 grey levels 0 … 255.

    Raises:
        InvalidInput: for another shape or dtype, or photographs that are smaller than `height` x `width` pixels.
    """
    photographs = tf.convert_to_tensor(frost_images)
    shape, dtype = photographs.shape, photographs.dtype
    small = shape.rank == 4 and any(
        have is None or have < want for have, want in zip(shape[1:3], (height, width), strict=True)
    )
    if shape.rank != 4 or shape[-1] != 3 or shape[0] == 0 or small:
        raise InvalidInput(
            "`frost_images` has the wrong shape.",
            expected=f"(n, H, W, 3), n >= 1, H >= {height}, W >= {width}",
            received=f"shape={tuple(shape)}",
        )
    if dtype != tf.uint8 and not dtype.is_floating:
        raise InvalidInput(
            "`frost_images` has a dtype that pixels cannot have.",
            expected="uint8 in [0, 255], or floats in [0, 1]",
            received=f"dtype={dtype.name}",
        )
    if dtype != tf.uint8 and hasattr(photographs, "numpy"):  # in a graph there are no values to look at
        check_range(photographs.numpy(), "frost_images")
    photographs = tf.cast(photographs, tf.float64)
    return photographs if dtype == tf.uint8 else tf.round(photographs * 255)


def _cut(photographs: tf.Tensor, draws: Draws, height: int, width: int) -> tf.Tensor:
    """A piece of `height` x `width` pixels for each image: `(batch, height, width, 3)`."""
    count, tall, wide = tf.unstack(tf.shape(photographs)[:3])
    which = draws.below("photograph", (1, 1), count)
    top, left = draws.below("top", (1, 1), tall - height + 1), draws.below("left", (1, 1), wide - width + 1)
    rows, columns = top + tf.range(height)[:, tf.newaxis], left + tf.range(width)
    return tf.gather(tf.reshape(photographs, (-1, 3)), (which * tall + rows) * wide + columns)


WEATHER: dict[str, Callable[..., tf.Tensor]] = {"snow": snow, "frost": frost, "fog": fog, "spatter": spatter}
