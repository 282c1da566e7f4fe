"""Gabor: noise of a single band of frequencies, whose impulses are an adversary's.

Synopsis:

    attack = GaborAttack(12.5)
    attacked = attack(climb, {"images": images}, seed)["images"]

Reference: Kang et al. 2019 (arXiv 1908.08016), after the procedural noise of Co et al. 2019 (arXiv 1810.00470).
"""

from __future__ import annotations

import math

import keras
import tensorflow as tf

from advss_tf.attacks.arguments import number, whole
from advss_tf.attacks.batches import shape_of
from advss_tf.attacks.unforeseen.ascent import PUBLISHED_STEPS, Box, Fixed, UnforeseenAttack, across
from advss_tf.errors import one_of
from advss_tf.randomness import batch_uniform, fold

MOVES = ("all", "sparse", "others")
_MOST_SIDES, _LEAST_VARIANCE = 10, 0.001


@keras.saving.register_keras_serializable(package="advss_tf")
class GaborAttack(UnforeseenAttack):
    """Ascent over a plane of impulses in [-1, 1], which is convolved with a random Gabor kernel and made noise.

    `epsilon` is the most that the noise, from 0 to 1, adds to an image, in 8-bit levels; it does not bound the
    parameters. Nothing scales with the size of the image: the kernel has 23 x 23 pixels on any. With `epsilon` 0 the
    images come back as they were.

    The ascent begins at a sparse plane: one pixel in fourteen carries a number drawn uniformly from [-1, 1]. One
    difference: this is so for each image, where the published code has it on average over a batch.

    Args:
        epsilon: The size.
        num_steps: Number of steps; 200 in the published evaluation.
        step_size: Length of a step. Default: 0.002236 at 200 steps, the published one.
        moves: Which impulses are moved. "others" is what the published code does: the first step erases the sparse
            start, and from there on all other pixels move. "sparse" keeps to the pixels of the start, "all" moves all.
        density: Share of pixels at which the start is not 0.
        kernel_size: Side of the Gabor kernel in pixels; odd, 13 at least.

    Raises:
        InvalidInput: if a number is out of its range or a word is not known.
    """

    scales_with_epsilon = False

    def __init__(
        self,
        epsilon: float,
        *,
        num_steps: int = PUBLISHED_STEPS,
        step_size: float | None = None,
        moves: str = "others",
        density: float = 1 / 14,
        kernel_size: int = 23,
    ) -> None:
        super().__init__(Box("gabor", epsilon, low=-1.0, high=1.0), num_steps=num_steps, step_size=step_size)
        self.moves = one_of("moves", moves, MOVES)
        self.density = number("density", density)
        self.kernel_size = whole("kernel_size", kernel_size, least=13, odd=True)

    def draw(self, seed: tf.Tensor, images: tf.Tensor, epsilon: tf.Tensor) -> tuple[tf.Tensor, Fixed]:
        del epsilon
        batch, (height, width) = shape_of(images)[0], images.shape[1:3]
        count = min(max(1, round(height * width * self.density)), height * width)
        ranks = batch_uniform(fold(seed, 0), (batch, height * width))
        chosen = ranks >= tf.math.top_k(ranks, count).values[:, -1:]
        start = tf.where(chosen, batch_uniform(fold(seed, 1), (batch, height * width), -1.0, 1.0), 0.0)
        free = {"all": tf.ones_like(chosen), "sparse": chosen, "others": ~chosen}[self.moves]
        kernels = gabor_kernels(batch_uniform(fold(seed, 2), (batch, 4)), size=self.kernel_size)
        plane = (-1, height, width)
        return tf.reshape(start, plane), (kernels, tf.cast(tf.reshape(free, plane), tf.float32))

    def render(self, images: tf.Tensor, parameters: tf.Tensor, fixed: Fixed, epsilon: tf.Tensor) -> tf.Tensor:
        noise = gabor_noise(parameters, fixed[0])[..., tf.newaxis]
        return tf.clip_by_value(images + across(epsilon / 255.0, images) * noise, 0.0, 1.0)

    def move(
        self, parameters: tf.Tensor, gradient: tf.Tensor, fixed: Fixed, epsilon: tf.Tensor, step: tf.Tensor
    ) -> tf.Tensor:
        return super().move(parameters, gradient, fixed, epsilon, step) * fixed[1]


def gabor_kernels(chances: tf.Tensor, *, size: int) -> tf.Tensor:
    """Gabor kernels with one to ten orientations, spread evenly over half a turn from a random first one.

    A Gaussian of standard deviation 0.1 to 0.4 (the kernel is one long) times the sum of cosines of one frequency, 3 to
    a quarter of the size.

    Args:
        chances: `(batch, 4)`, uniform in [0, 1): number of orientations, deviation, frequency, first orientation.
        size: Side of the kernel in pixels.

    Returns:
        `(batch, size, size)`.
    """
    sides, deviation, frequency, turn = (
        each[:, tf.newaxis, tf.newaxis, tf.newaxis] for each in tf.unstack(chances, axis=1)
    )
    sides = 1 + tf.floor(sides * _MOST_SIDES)
    deviation = 0.1 + 0.3 * deviation + 1e-3
    frequency = 3 + (size / 4 - 3) * frequency
    places = tf.linspace(-0.5, 0.5, size)
    y, x = places[:, tf.newaxis, tf.newaxis], places[tf.newaxis, :, tf.newaxis]
    each = tf.range(_MOST_SIDES, dtype=tf.float32)
    angle = math.pi * (turn + each / sides)
    waves = tf.cos(2 * math.pi * frequency * (x * tf.cos(angle) + y * tf.sin(angle)))
    summed = tf.reduce_sum(tf.where(each < sides, waves, 0.0), axis=-1)
    return tf.exp(-0.5 * (x**2 + y**2) / deviation**2)[..., 0] * summed


def gabor_noise(impulses: tf.Tensor, kernels: tf.Tensor) -> tf.Tensor:
    """Impulses `(batch, height, width)` through their own kernels, evened out and stretched to [0, 1].

    What follows the convolution is held fixed but for one factor a pixel, as in the published code. Its "spectral
    variance" is the inverse transform of the transform of the squared deviations: these themselves, so neither is done.
    """
    # Every image has its own kernel: images become channels of one convolution.
    stacked = tf.transpose(impulses, (1, 2, 0))[tf.newaxis]
    filters = tf.transpose(kernels, (1, 2, 0))[..., tf.newaxis]
    noise = tf.transpose(tf.nn.depthwise_conv2d(stacked, filters, [1, 1, 1, 1], "SAME")[0], (2, 0, 1))
    mean = tf.reduce_mean(tf.stop_gradient(noise), axis=(1, 2), keepdims=True)
    deviation = tf.abs(tf.stop_gradient(noise) - mean)
    share = tf.math.divide_no_nan(deviation, tf.reduce_max(deviation, axis=(1, 2), keepdims=True))
    even = mean + (noise - mean) * (_LEAST_VARIANCE + 1) / (_LEAST_VARIANCE + share)
    low = tf.stop_gradient(tf.reduce_min(even, axis=(1, 2), keepdims=True))
    high = tf.stop_gradient(tf.reduce_max(even, axis=(1, 2), keepdims=True))
    return tf.math.divide_no_nan(even - low, high - low)
