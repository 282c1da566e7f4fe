"""Snow: blurred flakes whose brightness is an adversary's.

Synopsis:

    attack = SnowAttack(0.25)
    attacked = attack(climb, {"images": images}, seed)["images"]

Flakes of seven kinds sit on a grid of four pixels; each kind falls along a short line of its own slant and width.

Reference: Kang et al. 2019 (arXiv 1908.08016).
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from advss_tf.attacks.arguments import number, whole
from advss_tf.attacks.batches import shape_of
from advss_tf.attacks.unforeseen.ascent import PUBLISHED_STEPS, Box, Fixed, UnforeseenAttack, across
from advss_tf.randomness import batch_uniform, fold

_KINDS, _SPACING, _REGION = 7, 4, 8
_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)
# Where in its cell of 4x4 pixels a flake of each kind sits: along the top, then down the left.
_PLACES = np.zeros((_SPACING, _SPACING, _KINDS), np.float32)
for _kind, _place in enumerate([(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (2, 0), (3, 0)]):
    _PLACES[(*_place, _kind)] = 1


class FlakeBall(Box):
    """Brightness in [1e-9, 1], and in each region of 8x8 flakes of one kind, on average at most `budget`."""

    def __init__(self, epsilon: float, *, budget: float) -> None:
        super().__init__("snow", epsilon, low=1e-9, high=1.0)
        self.budget = budget

    def project(self, parameters: tf.Tensor, epsilon: Any) -> tf.Tensor:
        inside = super().project(parameters, epsilon)
        down, along = (_regions(side) for side in inside.shape[1:3])
        means = tf.einsum("ri,bijf,cj->brcf", _averaging(down), inside, _averaging(along))
        dimmed = self.budget / tf.maximum(means, self.budget)
        return super().project(inside * tf.einsum("ri,brcf,cj->bijf", down, dimmed, along), epsilon)


@keras.saving.register_keras_serializable(package="advss_tf")
class SnowAttack(UnforeseenAttack):
    """Ascent over the brightness of flakes.

    `epsilon` multiplies the snow that is added to an image of [0, 1]; it does not bound the parameters. A flake of
    brightness b adds b⁴ times its line. Nothing scales with the size of the image: flakes are as large on 32 pixels as
    on 224, as in the published code, and sides that are no multiple of 4 are cut from the next larger ones. Beneath the
    snow an image fades to `0.75 x + 0.25 max(x, 1.5 luma + 0.5)`; this is what comes back with `epsilon` 0.

    Three differences: lines are drawn anew for each image, where the published code has one set for a batch; the budget
    is kept from the start and after the last step, where that code keeps it between steps; and images too small for a
    whole region of 8x8 flakes are one region, where that code has no budget.

    Args:
        epsilon: The size.
        num_steps: Number of steps; 200 in the published evaluation.
        step_size: Length of a step. Default: 0.002236 at 200 steps, the published one.
        budget: The most that flakes of one kind may be in a region on average; the start is drawn from an exponential
            distribution of about that mean.
        fading: How much of an image fades beneath the snow.
        flake_length: Side of the square that holds a line, in pixels; odd.

    Raises:
        InvalidInput: if a number is out of its range.
    """

    scales_with_epsilon = False

    def __init__(
        self,
        epsilon: float,
        *,
        num_steps: int = PUBLISHED_STEPS,
        step_size: float | None = None,
        budget: float = 0.2,
        fading: float = 0.25,
        flake_length: int = 13,
    ) -> None:
        self.budget = number("budget", budget, least=1e-3)
        super().__init__(FlakeBall(epsilon, budget=self.budget), num_steps=num_steps, step_size=step_size)
        self.fading = number("fading", fading)
        self.flake_length = whole("flake_length", flake_length, least=5, odd=True)

    def draw(self, seed: tf.Tensor, images: tf.Tensor, epsilon: tf.Tensor) -> tuple[tf.Tensor, Fixed]:
        batch = shape_of(images)[0]
        cells = [-(-side // _SPACING) for side in images.shape[1:3]]
        flakes = tf.exp(-batch_uniform(fold(seed, 0), (batch, *cells, _KINDS)) / self.budget)
        chances = batch_uniform(fold(seed, 1), (batch, 4 * _KINDS + 1))
        kernels = flake_kernels(chances, length=self.flake_length)
        return self.threat.project(flakes, epsilon), (kernels,)

    def render(self, images: tf.Tensor, parameters: tf.Tensor, fixed: Fixed, epsilon: tf.Tensor) -> tf.Tensor:
        snow = snowfall(parameters, fixed[0], images.shape[1:3])
        shares = _LUMA if images.shape[3] == 3 else np.ones(1, np.float32)
        luma = tf.reduce_sum(images * shares, axis=3, keepdims=True)
        faded = (1 - self.fading) * images + self.fading * tf.maximum(images, luma * 1.5 + 0.5)
        return tf.clip_by_value(faded + across(epsilon, images) * snow, 0.0, 1.0)


def snowfall(flakes: tf.Tensor, kernels: tf.Tensor, shape: Any) -> tf.Tensor:
    """Flakes `(batch, cells down, cells along, 7)` and lines `(batch, 7, n, n)` as snow `(batch, *shape, 1)`."""
    down, along, length = flakes.shape[1], flakes.shape[2], kernels.shape[2]
    spread = (flakes**4)[:, :, tf.newaxis, :, tf.newaxis, :] * _PLACES[:, tf.newaxis]
    grid = tf.reshape(spread, (-1, _SPACING * down, _SPACING * along, _KINDS))[:, : shape[0], : shape[1]]
    # Every image has its own lines: images become channels of one convolution.
    stacked = tf.reshape(tf.transpose(grid, (1, 2, 0, 3)), (1, *shape, -1))
    filters = tf.transpose(tf.reshape(kernels, (-1, length, length)), (1, 2, 0))[..., tf.newaxis]
    fallen = tf.reshape(tf.nn.depthwise_conv2d(stacked, filters, [1, 1, 1, 1], "SAME"), (*shape, -1, _KINDS))
    return tf.transpose(tf.reduce_sum(fallen, axis=-1), (2, 0, 1))[..., tf.newaxis]


def flake_kernels(chances: tf.Tensor, *, length: int) -> tf.Tensor:
    """Lines through the middle of a square, blurred.

    Each goes to a random point of the lower right quarter and as far the other way, is 1, 3 or 5 wide (six, three, one
    in ten) and is blurred by a Gaussian of standard deviation 0.41 to 0.6, cut to 3x3 pixels. Half of the sets are
    mirrored.

    Args:
        chances: `(batch, 29)`, uniform in [0, 1).
        length: Side of the square, odd.

    Returns:
        `(batch, 7, length, length)`.
    """
    down, along, thick, soft = tf.unstack(tf.reshape(chances[:, :-1], (-1, 4, _KINDS)), axis=1)
    half = length // 2
    down, along = 2 + tf.floor(down * (half - 1)), 2 + tf.floor(along * (half - 1))
    width = tf.where(thick < 0.6, 1.0, tf.where(thick < 0.9, 3.0, 5.0))
    quarter = line(down, along, width, reach=half)
    lower = tf.pad(quarter, [[0, 0], [0, 0], [half, 0], [half, 0]])
    whole_line = tf.maximum(lower, tf.reverse(lower, axis=[2, 3]))
    blurred = _blurred(whole_line, 0.41 + 0.19 * soft)
    return tf.where(chances[:, -1, tf.newaxis, tf.newaxis, tf.newaxis] < 0.5, tf.reverse(blurred, axis=[3]), blurred)


def line(down: tf.Tensor, along: tf.Tensor, width: tf.Tensor, *, reach: int) -> tf.Tensor:
    """An anti-aliased line from the corner (0, 0) of a square to the point (down, along).

    Args:
        down, along, width: `(...)` float32; the end lies in [0, reach], and one of its coordinates is not 0.
        reach: The largest coordinate.

    Returns:
        `(..., reach + 1, reach + 1)` in [0, 1].
    """
    down, along, width = (each[..., tf.newaxis, tf.newaxis] for each in (down, along, width))
    longer, shorter = tf.maximum(down, along), tf.minimum(down, along)
    slope = shorter / longer
    rows = tf.range(reach + 1, dtype=tf.float32)[:, tf.newaxis]
    columns = tf.range(reach + 1, dtype=tf.float32)
    half = width * tf.sqrt(1 + slope) / 4
    flat = tf.clip_by_value(1 + half - tf.abs(rows - slope * columns), 0.0, 1.0) * tf.cast(
        columns <= longer, tf.float32
    )
    return tf.where(along >= down, flat, tf.linalg.matrix_transpose(flat))


def _blurred(kernels: tf.Tensor, std: tf.Tensor) -> tf.Tensor:
    neighbour = tf.exp(-0.5 / std**2)[..., tf.newaxis, tf.newaxis]
    for axis in (2, 3):
        room = [[0, 0], [0, 0], [0, 0], [0, 0]]
        room[axis] = [1, 1]
        before, middle, after = (
            tf.gather(tf.pad(kernels, room), tf.range(shift, shift + kernels.shape[axis]), axis=axis)
            for shift in range(3)
        )
        kernels = (neighbour * (before + after) + middle) / (1 + 2 * neighbour)
    return kernels


def _regions(side: int) -> np.ndarray:
    """Which of `side` flakes belong to which region of eight or a little more: (regions, side) of 0 and 1."""
    count = max(1, side // _REGION)
    return (np.arange(side) * count // side == np.arange(count)[:, np.newaxis]).astype(np.float32)


def _averaging(regions: np.ndarray) -> np.ndarray:
    return regions / regions.sum(axis=1, keepdims=True)
