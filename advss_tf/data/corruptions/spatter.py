"""Spatter on the lens: drops of water or of mud, and the edges and distances that the water's shading needs.

Synopsis:

    wet = spatter(pixels, draws, (0.62, 0.1, 0.7, 0.70, 0.5, False))
    edges = canny(layer, low=50, high=150)       # bool, (batch, height, width, 1)
    distance = distance_to(edges, 20)

Hendrycks & Dietterich 2019 (arXiv:1903.12261). The published script shades water with Canny edges (Canny 1986), a
chamfer distance (Borgefors 1986), histogram equalisation and an emboss filter, which it takes from OpenCV; here they
are tensors, a whole batch at a time. Layers are float64 `(batch, height, width, 1)` and hold grey levels 0 … 255.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from advss_tf.data.corruptions.draws import Draws
from advss_tf.data.corruptions.filters import LUMA, gaussian

WATER, MUD = (175, 238, 238), (63, 42, 20)  # RGB; in a grey image 219.16 and 45.8, their luma
_EMBOSS = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
_FAR = 20  # no distance counts for more
# The lengths of a step along an axis, along a diagonal, and of a knight's move, in OpenCV's 16 binary digits.
_STEP, _DIAGONAL, _KNIGHT = (round(length * 65536) / 65536 for length in (1.0, 1.4, 2.1969))


def spatter(pixels: tf.Tensor, draws: Draws, parameters: tuple) -> tf.Tensor:
    """Where smoothed normal noise passes a threshold there is liquid: light water is added, or dark mud covers.

    Args:
        pixels: `(batch, height, width, channels)`.
        draws: Where the random numbers come from.
        parameters: Mean, deviation, smoothing and threshold of the liquid; the strength of the water or the sigma
            that rounds the mud; whether it is mud.
    """
    mean, deviation, sigma, threshold, strength, is_mud = parameters
    liquid = gaussian(mean + deviation * draws.normal("liquid", (*pixels.shape[1:3], 1)), sigma)
    colour = _colour(MUD if is_mud else WATER, pixels.shape[-1])
    if is_mud:
        covered = gaussian(tf.cast(liquid > threshold, tf.float64), strength)
        covered = tf.where(covered < 0.8, tf.zeros_like(covered), covered)
        return pixels * (1 - covered) + covered * colour
    layer = tf.where(liquid < threshold, tf.zeros_like(liquid), liquid)
    return pixels + strength * shaded(tf.floor(tf.clip_by_value(layer, 0.0, 1.0) * 255)) * colour


def _colour(colour: tuple[int, int, int], channels: int) -> np.ndarray:
    return np.array(colour) / 255 if channels == 3 else np.array([np.dot(colour, LUMA) / 255])


def shaded(liquid: tf.Tensor) -> tf.Tensor:
    """How bright the water is at each pixel, the brightest point of each image 1; without liquid nothing is."""
    distance = distance_to(canny(liquid, low=50, high=150), _FAR)
    relief = _equalised(tf.floor(tf.cast(tf.cast(_box_sum(distance) / 9, tf.float32), tf.float64)))
    relief = tf.clip_by_value(_filtered(relief, _EMBOSS), 0.0, 255.0)
    water = liquid * tf.round(_box_sum(relief) / 9)
    return tf.math.divide_no_nan(water, tf.reduce_max(water, axis=(1, 2, 3), keepdims=True))


def canny(layer: tf.Tensor, *, low: int, high: int) -> tf.Tensor:
    """Canny's edges with 3 x 3 Sobel gradients and |dx| + |dy| as their size, the image's edge repeated.

    Args:
        layer: Whole grey levels, `(batch, height, width, 1)`.
        low: An edge goes on while its gradient is larger than this.
        high: An edge must have a gradient larger than this somewhere.

    Returns:
        bool, the shape of `layer`.
    """
    padded = tf.cast(tf.pad(layer, [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC"), tf.int32)
    right, left = _at(padded, 0, 1), _at(padded, 0, -1)
    up, down = _at(padded, -1, 0), _at(padded, 1, 0)
    up_left, up_right, down_left, down_right = (_at(padded, y, x) for y in (-1, 1) for x in (-1, 1))
    dx = (up_right + 2 * right + down_right) - (up_left + 2 * left + down_left)
    dy = (down_left + 2 * down + down_right) - (up_left + 2 * up + up_right)
    size = tf.abs(dx) + tf.abs(dy)
    possible = _is_peak(size, dx, dy) & (size > low)
    return _grown(possible & (size > high), possible)


def _is_peak(size: tf.Tensor, dx: tf.Tensor, dy: tf.Tensor) -> tf.Tensor:
    """Whether a gradient is the largest across its edge, whose direction is one of four; integers as in OpenCV."""
    padded = tf.pad(size, [[0, 0], [1, 1], [1, 1], [0, 0]])
    flat = tf.abs(dx) * 13573  # tan(22.5°) · 2¹⁵
    steep = flat + tf.abs(dx) * 65536  # tan(67.5°) = tan(22.5°) + 2
    slope = tf.abs(dy) * 32768
    across = (size > _at(padded, 0, -1)) & (size >= _at(padded, 0, 1))
    down = (size > _at(padded, -1, 0)) & (size >= _at(padded, 1, 0))
    falling = (size > _at(padded, -1, -1)) & (size > _at(padded, 1, 1))
    rising = (size > _at(padded, -1, 1)) & (size > _at(padded, 1, -1))
    diagonal = tf.where((dx < 0) == (dy < 0), falling, rising)
    return tf.where(slope < flat, across, tf.where(slope > steep, down, diagonal))


def _grown(strong: tf.Tensor, possible: tf.Tensor) -> tf.Tensor:
    """Every possible point that a chain of possible points, each touching the next, joins to a strong one."""

    def grow(edges: tf.Tensor, changed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        near = tf.nn.max_pool2d(tf.cast(edges, tf.float32), 3, 1, "SAME") > 0
        return near & possible, tf.reduce_any(near & possible & ~edges)

    return tf.while_loop(lambda edges, changed: changed, grow, (strong, tf.constant(True)))[0]


def distance_to(marked: tf.Tensor, far: int) -> tf.Tensor:
    """The chamfer distance to the nearest marked pixel, in pixels, and `far` where that is further or there is none.

    A path is made of steps along an axis (length 1), along a diagonal (1.4) and of knight's moves (2.1969).
    """
    lengths = np.array([[0, 1, 2], [1, 1.4, 2.1969], [2, 2.1969, 0]])
    lengths[1, 1], lengths[1, 2], lengths[2, 1] = _DIAGONAL, _KNIGHT, _KNIGHT
    lengths[0, 2] = lengths[2, 0] = lengths[2, 2] = 2 * far  # two steps: found by going one step twice
    moves = lengths[np.abs(np.arange(-2, 3))[:, np.newaxis], np.abs(np.arange(-2, 3))]
    filters = tf.constant(-moves[..., np.newaxis])  # erosion subtracts

    def step(at: tf.Tensor, distance: tf.Tensor, changed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        nearer = tf.nn.erosion2d(distance, filters, [1, 1, 1, 1], "SAME", "NHWC", [1, 1, 1, 1])
        return at + 1, nearer, tf.reduce_any(nearer < distance)

    start = tf.where(marked, tf.constant(0.0, tf.float64), tf.constant(float(far), tf.float64))
    going = (tf.constant(0), start, tf.constant(True))
    return tf.while_loop(lambda at, distance, changed: changed & (at < far), step, going)[1]


def _equalised(levels: tf.Tensor) -> tf.Tensor:
    """Histogram equalisation of whole levels 0 … `_FAR` to 0 … 255; an image of one level stays as it is."""
    flat = tf.cast(tf.reshape(levels, (-1, levels.shape[1] * levels.shape[2])), tf.int32)
    below = tf.cumsum(tf.reduce_sum(tf.one_hot(flat, _FAR + 1, dtype=tf.float64), axis=1), axis=1)
    total = float(flat.shape[1])
    darkest = tf.reduce_min(tf.where(below > 0, below, total), axis=1, keepdims=True)
    spread = tf.round(tf.math.divide_no_nan(tf.constant(255.0, tf.float64), total - darkest) * (below - darkest))
    equal = tf.where(darkest == total, tf.range(_FAR + 1, dtype=tf.float64), spread)
    return tf.reshape(tf.gather(equal, flat, batch_dims=1), tf.shape(levels))


def _filtered(layer: tf.Tensor, kernel: np.ndarray) -> tf.Tensor:
    """Correlation with a 3 x 3 kernel, the image mirrored at its edge."""
    padded = tf.pad(layer, [[0, 0], [1, 1], [1, 1], [0, 0]], "REFLECT")
    return tf.add_n([_at(padded, y - 1, x - 1) * float(kernel[y, x]) for y in range(3) for x in range(3)])


def _box_sum(layer: tf.Tensor) -> tf.Tensor:
    return _filtered(layer, np.ones((3, 3)))


def _at(padded: tf.Tensor, down: int, right: int) -> tf.Tensor:
    """The neighbour of every pixel of an image that was padded by one pixel on each side."""
    height, width = padded.shape[1] - 2, padded.shape[2] - 2
    return padded[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width]
