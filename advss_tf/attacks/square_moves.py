"""What the Square Attack draws, and where it moves the images: the two norms, without the loop.

Synopsis:

    squares = get_squares("linf", p_init=0.8, shape=(32, 32, 3))
    points = squares.start(images, epsilon, squares.start_numbers(seed, batch))
    points = squares.move(points, images, epsilon, query, query_numbers(shared_seed, query, channels))

Numbers are drawn in one place and used in another, so that each move is a pure function of the numbers.

Reference: Andriushchenko et al., "Square Attack: a query-efficient black-box adversarial attack via random search",
2020 (arXiv 1912.00049), algorithms 2 (Linf) and 3 (L2); constants as in the code that is published with AutoAttack
(Croce and Hein 2020, arXiv 2003.01690). The positions of a window are `floor(uniform * (size - side))` as in that
code: the last row and column are reached only by a window that fills the image.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

from advss_tf.attacks.batches import into_box
from advss_tf.errors import one_of
from advss_tf.randomness import batch_uniform, fold

# The share of pixels is halved once for each of these numbers that the number of the query has passed.
HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)

_TINY = 1e-12  # what the published code adds to a length before it divides by it


def halvings(query: Any) -> tf.Tensor:
    """How often the share of pixels has been halved at a query (0, 1, …): a scalar int32 in 0 … 9."""
    return tf.reduce_sum(tf.cast(tf.cast(query, tf.int32) > tf.constant(HALVED_AFTER), tf.int32))


def query_numbers(seed: tf.Tensor, query: Any, channels: int) -> tf.Tensor:
    """All that one query draws: uniform float32 in [0, 1), `(5 + channels,)`.

    Row and column of the first window, row and column of the second, the turn of the pattern, one sign a channel. The
    numbers depend on the seed, int32 `(2,)`, and the number of the query alone. Linf does not use numbers 2 to 4.
    """
    return tf.random.stateless_uniform((5 + channels,), fold(seed, query), alg="philox")


def signs(numbers: tf.Tensor) -> tf.Tensor:
    """-1 or +1 with equal chances, from uniform numbers in [0, 1)."""
    return tf.where(numbers < 0.5, -1.0, 1.0)


def window(numbers: tf.Tensor, side: Any, shape: tuple[int, ...]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """A square window of an image: its mask, and where each row and column stands in it.

    Args:
        numbers: Two uniform numbers in [0, 1), for the row and the column of the upper left corner.
        side: Side of the window, a scalar integer no larger than height and width.
        shape: `(height, width, channels)`.

    Returns:
        `(height, width, 1)` float32, 1 inside and 0 outside; `(height,)` and `(width,)` int32, 0 at the corner.
    """
    room = tf.constant(shape[:2]) - side
    corner = tf.cast(numbers * tf.cast(room, tf.float32), tf.int32)
    rows, columns = tf.range(shape[0]) - corner[0], tf.range(shape[1]) - corner[1]
    inside_rows, inside_columns = ((at >= 0) & (at < side) for at in (rows, columns))
    mask = tf.cast(inside_rows[:, None] & inside_columns[None, :], tf.float32)
    return mask[..., None], rows, columns


def pattern(side: int) -> np.ndarray:
    """The pseudo-Gaussian pattern of the L2 attack: float32 `(side, side)` of length 1, equation 2 of the paper.

    A positive bump in the upper half and a negative one in the lower half. Both fall off in square rings around their
    middle, by `1 / (ring + 1) ** 2`.
    """
    upper = side // 2
    both = np.concatenate([_bump(upper, side), -_bump(side - upper, side)])
    return np.asarray(both / np.linalg.norm(both), np.float32)


def _bump(rows: int, columns: int) -> np.ndarray:
    if rows == 0:
        return np.zeros((0, columns))
    rings = max(rows // 2, columns // 2) + 1
    ring = np.maximum(
        np.abs(np.arange(rows) - rows // 2)[:, None],
        np.abs(np.arange(columns) - columns // 2)[None, :],
    )
    # Ring r lies in the squares r, r + 1, … around the middle, and each adds its own part.
    heights = np.cumsum(1.0 / np.arange(1, rings + 1)[::-1] ** 2)[::-1][ring]
    return np.asarray(heights / np.linalg.norm(heights))


class Squares:
    """The moves of one norm on images of one shape.

    Args:
        p_init: Share of the pixels that the first windows cover, in (0, 1].
        shape: `(height, width, channels)` of the images.

    Attributes:
        sides: The side of the window after 0, 1, … 9 halvings. Where a square of that many pixels is larger than the
            shorter side of the image, the window has the shorter side. The published code works on squares alone.
    """

    smallest = 1

    def __init__(self, p_init: float, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.sides = [self._side(p_init / 2**times) for times in range(len(HALVED_AFTER) + 1)]

    def start_numbers(self, seed: tf.Tensor, batch: Any) -> tf.Tensor:
        """All that a start draws, uniform in [0, 1): `(batch, …)`; `seed` is int32 `(2,)` or one a row."""
        return batch_uniform(seed, (batch, *self._start_shape()))

    def start(self, centers: tf.Tensor, epsilon: Any, numbers: tf.Tensor) -> tf.Tensor:
        """The first points of a run, `(batch, height, width, channels)`, from `start_numbers`."""
        raise TypeError(f"{type(self).__name__} has no start.")

    def move(self, points: tf.Tensor, centers: tf.Tensor, epsilon: Any, query: Any, numbers: tf.Tensor) -> tf.Tensor:
        """The points that a query tries, same shape as `points`, from `query_numbers`.

        Args:
            points: The best points so far, `(batch, height, width, channels)` in [0, 1].
            centers: The images that are attacked, same shape.
            epsilon: Radius of the ball, `()` or `(batch, 1, 1, 1)`.
            query: Number of the query, 0, 1, …; it sets the side of the window.
            numbers: `(5 + channels,)`, shared by all images.
        """
        raise TypeError(f"{type(self).__name__} has no move.")

    def _start_shape(self) -> tuple[int, ...]:
        raise TypeError(f"{type(self).__name__} has no start.")

    def _side(self, share: float) -> int:
        height, width, _ = self.shape
        return min(max(round(math.sqrt(share * height * width)), self.smallest), height, width)


class LinfSquares(Squares):
    """Linf: vertical stripes at the start, then squares of one colour, each channel at an end of its interval."""

    def start(self, centers: tf.Tensor, epsilon: Any, numbers: tf.Tensor) -> tf.Tensor:
        return into_box(centers + epsilon * signs(numbers))

    def move(self, points: tf.Tensor, centers: tf.Tensor, epsilon: Any, query: Any, numbers: tf.Tensor) -> tf.Tensor:
        mask, _, _ = window(numbers[:2], tf.gather(self.sides, halvings(query)), self.shape)
        moved = points + 2.0 * epsilon * mask * signs(numbers[5:])
        return into_box(tf.clip_by_value(moved, centers - epsilon, centers + epsilon))

    def _start_shape(self) -> tuple[int, ...]:
        return (1, *self.shape[1:])


class L2Squares(Squares):
    """L2: tiles of the pattern at the start, then the mass of one window is moved into the pattern of another.

    The start has five tiles along a square's side. On other images the tiles are a fifth of the shorter side, and fill
    the longer one as far as they fit. The published code draws a sign for each image at each query; here the images of
    a batch share it, as they share the window, so one image by itself sees the published distribution.
    """

    smallest = 3

    def __init__(self, p_init: float, shape: tuple[int, ...]) -> None:
        super().__init__(p_init, shape)
        largest = max(self.sides)
        self._patterns = np.stack([np.pad(pattern(side), (0, largest - side)) for side in self.sides])
        self._tile = max(min(shape[:2]) // 5, 1)
        self._margin = max((min(shape[:2]) - 5 * self._tile) // 2, 0)

    def start(self, centers: tf.Tensor, epsilon: Any, numbers: tf.Tensor) -> tf.Tensor:
        tile = pattern(self._tile)[:, :, None]
        turned = tf.where(numbers[:, :, :, None, None, :1] > 0.5, tile.transpose(1, 0, 2), tile)
        tiles = turned * signs(numbers[:, :, :, None, None, 1:])
        down, across, channels = self._start_shape()
        grid = (down * self._tile, across * self._tile)
        joined = tf.reshape(tf.transpose(tiles, (0, 1, 3, 2, 4, 5)), (-1, *grid, channels - 1))
        after = [size - self._margin - covered for size, covered in zip(self.shape[:2], grid, strict=True)]
        framed = tf.pad(joined, [[0, 0], [self._margin, after[0]], [self._margin, after[1]], [0, 0]])
        return into_box(centers + epsilon * _unit(framed, (1, 2, 3)))

    def move(self, points: tf.Tensor, centers: tf.Tensor, epsilon: Any, query: Any, numbers: tf.Tensor) -> tf.Tensor:
        level = halvings(query)
        side, delta = tf.gather(self.sides, level), points - centers
        to, rows, columns = window(numbers[:2], side, self.shape)
        source, _, _ = window(numbers[2:4], side, self.shape)
        new = self._placed(level, rows, columns, numbers[4]) * to * signs(numbers[5:]) + _unit(delta * to, (1, 2))
        # What the image does not use yet is dealt out over the channels; what both windows held goes to the new one.
        unused = tf.maximum(epsilon**2 - _length(delta, (1, 2, 3)) ** 2, 0.0) / self.shape[2]
        held = _length(delta * tf.maximum(to, source), (1, 2, 3)) ** 2
        new = _unit(new, (1, 2)) * tf.sqrt(unused + held)
        moved = delta * (1.0 - source) * (1.0 - to) + new
        return into_box(centers + epsilon * _unit(moved, (1, 2, 3)))

    def _placed(self, level: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor, turn: tf.Tensor) -> tf.Tensor:
        """The pattern of a level at its place in the image, `(height, width, 1)`; outside its window, anything."""
        chosen = tf.gather(tf.constant(self._patterns), level)
        chosen = tf.where(turn > 0.5, tf.transpose(chosen), chosen)
        last = max(self.sides) - 1
        chosen = tf.gather(chosen, tf.clip_by_value(rows, 0, last), axis=0)
        return tf.gather(chosen, tf.clip_by_value(columns, 0, last), axis=1)[..., None]

    def _start_shape(self) -> tuple[int, ...]:
        height, width, channels = self.shape
        down, across = ((size - self._margin) // self._tile for size in (height, width))
        return (down, across, 1 + channels)

    def _side(self, share: float) -> int:
        height, width, _ = self.shape
        side = max(round(math.sqrt(share * height * width)), self.smallest)
        return min(side + (side % 2 == 0), height, width)


SQUARES: dict[str, type[Squares]] = {"linf": LinfSquares, "l2": L2Squares}


def get_squares(norm: str, *, p_init: float, shape: tuple[int, ...]) -> Squares:
    """The moves of a norm, `"linf"` or `"l2"`, on images of a shape `(height, width, channels)`.

    Raises:
        InvalidInput: if the norm is not known.
    """
    return SQUARES[one_of("norm", norm, SQUARES)](p_init, shape)


def _length(images: tf.Tensor, axes: tuple[int, ...]) -> tf.Tensor:
    return tf.sqrt(tf.reduce_sum(tf.square(images), axis=axes, keepdims=True))


def _unit(images: tf.Tensor, axes: tuple[int, ...]) -> tf.Tensor:
    return images / (_length(images, axes) + _TINY)
