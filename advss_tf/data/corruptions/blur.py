"""Corruptions by blur: defocus, frosted glass, motion, zoom and Gaussian blur.

Synopsis:

    blurred = motion_blur(pixels, draws, PARAMETERS["motion_blur"][severity - 1])

Hendrycks & Dietterich 2019 (arXiv:1903.12261, section 4 and appendix A), with the parameters of CIFAR-10-C. `pixels`
are float64 `(batch, height, width, channels)`, in [0, 1]; so is the result. Each channel is blurred by itself, so grey
images mean what the channels of a colour image mean. Lengths are in pixels, whatever the size of the image.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from advss_tf.data.corruptions.draws import Draws
from advss_tf.data.corruptions.filters import along, divided, gaussian, motion_blurred, reflected, zoom_matrix

# Severities 1 to 5; lengths in pixels.
PARAMETERS: dict[str, tuple] = {
    # radius of the disk, sigma that smooths its edge
    "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)),
    # sigma, rounds of copying (a pixel is copied from one step away at most, at every severity)
    "glass_blur": ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2)),
    # radius, sigma
    "motion_blur": ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5)),
    # end of the zoom factors 1.00, 1.01, …
    "zoom_blur": (1.06, 1.11, 1.16, 1.21, 1.26),
    # sigma
    "gaussian_blur": (0.4, 0.6, 0.7, 0.8, 1.0),
}


def defocus_kernel(radius: float, sigma: float) -> np.ndarray:
    """The image of a point that is out of focus: a disk of `radius`, smoothed by 3 x 3 taps of `sigma`; float32.

    Below a radius of one pixel the disk is a point, and the kernel the nine taps alone.
    """
    reach = 8 if radius <= 8 else int(radius) + 1
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk = (x**2 + y**2 <= radius**2).astype(np.float32)
    disk /= disk.sum()
    side = np.exp(-1 / (2 * sigma**2))
    side, centre = np.float32(side / (1 + 2 * side)), np.float32(1 / (1 + 2 * side))
    for axis in (1, 0):  # the disk ends well inside of the array, so what `roll` brings round is zero
        disk = disk * centre + (np.roll(disk, 1, axis) + np.roll(disk, -1, axis)) * side
    return disk


def defocus_blur(pixels: tf.Tensor, draws: Draws, parameters: tuple[float, float]) -> tf.Tensor:
    """Correlation with `defocus_kernel(radius, sigma)`, the image mirrored at its edge."""
    kernel = defocus_kernel(*parameters)
    middle = len(kernel) // 2
    height, width = pixels.shape[1], pixels.shape[2]
    total = tf.zeros_like(pixels)
    for row, column in np.argwhere(kernel):
        rows = reflected(np.arange(height) + row - middle, height)
        columns = reflected(np.arange(width) + column - middle, width)
        total += float(kernel[row, column]) * tf.gather(tf.gather(pixels, rows, axis=1), columns, axis=2)
    return total


def glass_blur(pixels: tf.Tensor, draws: Draws, parameters: tuple[float, int]) -> tf.Tensor:
    """Gaussian blur, pixels replaced by a near one, Gaussian blur again.

    The published script walks from the last pixel to the third row and column and means to swap each with one that lies
    up to a step above and to the left. Its swap of two views of one array copies instead: the near pixel's value stands
    in both places. What is copied has not been reached by the walk yet, so a round is one gather from the image before.
    """
    sigma, rounds = parameters
    levels = tf.floor(gaussian(pixels, sigma) * 255)
    for round_ in range(rounds):
        levels = copied_from_near(levels, draws.below(f"near {round_}", (*pixels.shape[1:3], 2), 2))
    return gaussian(divided(levels, 255.0), sigma)


def copied_from_near(images: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
    """Each pixel from the third row and column on, replaced by the one that is `steps` above and to the left.

    Args:
        images: `(batch, height, width, channels)`.
        steps: `(batch, height, width, 2)`, 0 or 1: how far up, how far to the left.
    """
    height, width, channels = images.shape[1:]
    free = (np.arange(height) >= 2)[:, np.newaxis] & (np.arange(width) >= 2)
    steps = steps * free[..., np.newaxis].astype(np.int32)
    rows = np.arange(height, dtype=np.int32)[:, np.newaxis] - steps[..., 0]
    columns = np.arange(width, dtype=np.int32) - steps[..., 1]
    flat = tf.reshape(images, (-1, height * width, channels))
    return tf.gather(flat, rows * width + columns, batch_dims=1)


def motion_blur(pixels: tf.Tensor, draws: Draws, parameters: tuple[int, float]) -> tf.Tensor:
    """`motion_blurred` at an angle that is uniform in [-45, 45) degrees."""
    radius, sigma = parameters
    angles = draws.uniform("angle", (), -45.0, 45.0)
    return divided(motion_blurred(tf.round(pixels * 255), angles, radius=radius, sigma=sigma), 255.0)


def zoom_blur(pixels: tf.Tensor, draws: Draws, end: float) -> tf.Tensor:
    """The mean of the image and of its enlargements by 1.00, 1.01, …, `end`, in float32 as the published script."""
    height, width = pixels.shape[1], pixels.shape[2]
    single = tf.cast(pixels, tf.float32)
    exact = tf.cast(single, tf.float64)
    factors = np.arange(1, end, 0.01)
    maps = [np.stack([zoom_matrix(size, factor) for factor in factors]) for size in (height, width)]

    def add(total: tf.Tensor, both: list[tf.Tensor]) -> tf.Tensor:
        return total + tf.cast(along(exact, *both), tf.float32)

    total = tf.foldl(add, maps, initializer=tf.zeros_like(single))  # a loop, so that the order of the sum stands
    mean = divided(single + total, len(factors) + 1)
    return divided(tf.cast(tf.floor(tf.clip_by_value(mean, 0.0, 1.0) * 255), tf.float64), 255.0)


def gaussian_blur(pixels: tf.Tensor, draws: Draws, sigma: float) -> tf.Tensor:
    """A Gaussian of `sigma` pixels."""
    return gaussian(pixels, sigma)


BLUR: dict[str, Callable[..., tf.Tensor]] = {
    "defocus_blur": defocus_blur,
    "glass_blur": glass_blur,
    "motion_blur": motion_blur,
    "zoom_blur": zoom_blur,
    "gaussian_blur": gaussian_blur,
}
