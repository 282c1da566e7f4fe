"""Corruptions by noise: Gaussian, shot, impulse and speckle noise.

Synopsis:

    noisy = gaussian_noise(pixels, draws, PARAMETERS["gaussian_noise"][severity - 1])

Hendrycks & Dietterich 2019 (arXiv:1903.12261, section 4 and appendix A), with the parameters of CIFAR-10-C. `pixels`
are float64 `(batch, height, width, channels)`, in [0, 1]; so is the result, which may leave [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from advss_tf.data.corruptions.draws import Draws
from advss_tf.data.corruptions.filters import divided

# Severities 1 to 5.
PARAMETERS: dict[str, tuple] = {
    "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),  # standard deviation
    "shot_noise": (500.0, 250.0, 100.0, 75.0, 50.0),  # photons of a white pixel
    "impulse_noise": (0.01, 0.02, 0.03, 0.05, 0.07),  # share of the values that are replaced
    "speckle_noise": (0.06, 0.10, 0.12, 0.16, 0.20),  # standard deviation, of the pixel's own value
}


def gaussian_noise(pixels: tf.Tensor, draws: Draws, scale: float) -> tf.Tensor:
    """x + scale · n with n standard normal, each value by itself."""
    return pixels + scale * draws.normal("noise", pixels.shape[1:])


def shot_noise(pixels: tf.Tensor, draws: Draws, photons: float) -> tf.Tensor:
    """Poisson(x · photons) / photons: the count of a sensor that catches `photons` where an image is white."""

    def counted(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return tf.random.stateless_poisson(tf.shape(image), seed, image * photons, tf.float64)

    signature = tf.TensorSpec(pixels.shape[1:], tf.float64)
    seeds = draws.seeds("photons")
    counts = tf.map_fn(lambda each: counted(*each), (pixels, seeds), fn_output_signature=signature)
    return divided(counts, photons)


def impulse_noise(pixels: tf.Tensor, draws: Draws, share: float) -> tf.Tensor:
    """Salt and pepper: each value is replaced with probability `share`, by 0 or by 1 with equal chance.

    The channels of a pixel are drawn one by one, so most replaced pixels are coloured.
    """
    replaced = draws.uniform("replaced", pixels.shape[1:]) < share
    salt = draws.uniform("salt", pixels.shape[1:]) < 0.5
    return tf.where(replaced, tf.cast(salt, tf.float64), pixels)


def speckle_noise(pixels: tf.Tensor, draws: Draws, scale: float) -> tf.Tensor:
    """x + x · scale · n with n standard normal: the noise grows with the pixel."""
    return pixels + pixels * (scale * draws.normal("noise", pixels.shape[1:]))


NOISE: dict[str, Callable[..., tf.Tensor]] = {
    "gaussian_noise": gaussian_noise,
    "shot_noise": shot_noise,
    "impulse_noise": impulse_noise,
    "speckle_noise": speckle_noise,
}
