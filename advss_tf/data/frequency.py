"""Low and high frequencies of images: what is left on each side of a circle in the plane of the Fourier transform.

Synopsis:

    edges = high_frequency(images, radius=8.0)          # (batch, height, width, channels), about zero mean
    colours = low_frequency(images, radius=8.0)         # the two add up to the images
    low_bins(32, 32, radius=8.0).sum()                  # 193 of 1024

Reference: Wang et al., "High-Frequency Component Helps Explain the Generalization of Convolutional Neural Networks",
CVPR 2020 (arXiv 1905.13545); with radius 8 a view of AdvCL (Fan et al., NeurIPS 2021, arXiv 2111.01124).
"""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf

from advss_tf.errors import InvalidInput

SIZE = 32  # the height and width, in pixels, that a radius is said for


def high_frequency(images: tf.Tensor, *, radius: float = 8.0) -> tf.Tensor:
    """Images without their low frequencies, the mean among them; neither clipped nor scaled, as in AdvCL.

    So these are no pixels: values lie on both sides of zero. Differentiable, and compiled by XLA to the same.

    Args:
        images: `(batch, height, width, channels)`, floats; height and width must be known.
        radius: Bins of the Fourier transform nearer than this to the mean are taken out, said for 32 x 32 pixels:
            8 there is 24 at 96 x 96. > 0.

    Returns:
        float32 of the same shape.

    Raises:
        InvalidInput: if the images have another rank or dtype or an unknown size, or the radius is not positive.
    """
    return _filtered(images, radius, low=False)


def low_frequency(images: tf.Tensor, *, radius: float = 8.0) -> tf.Tensor:
    """What `high_frequency` takes out: the images minus their high frequencies. As there otherwise."""
    return _filtered(images, radius, low=True)


@functools.lru_cache(maxsize=32)
def low_bins(height: int, width: int, *, radius: float = 8.0) -> np.ndarray:
    """Which bins are low: booleans `(height, width)`, the mean at `[0, 0]`, as `np.fft.fft2` orders them.

    A bin `(i, j)` from the mean is low if `(32 i / height)² + (32 j / width)² < radius²`. AdvCL's code has its centre
    half a bin beside the mean where a size is odd; this has it on the mean.
    """
    rows, columns = (np.abs(np.fft.fftfreq(size)) * SIZE for size in (height, width))
    return rows[:, np.newaxis] ** 2 + columns**2 < radius**2


def _filtered(images: tf.Tensor, radius: float, *, low: bool) -> tf.Tensor:
    height, width = _checked(images, radius)
    # The transform of real images is symmetric, so half of its columns say all.
    keeps = (low_bins(height, width, radius=radius) == low)[:, : width // 2 + 1]
    planes = tf.transpose(tf.cast(images, tf.float32), (0, 3, 1, 2))
    spectrum = tf.signal.rfft2d(planes) * tf.constant(keeps, tf.complex64)
    return tf.transpose(tf.signal.irfft2d(spectrum, fft_length=(height, width)), (0, 2, 3, 1))


def _checked(images: tf.Tensor, radius: float) -> tuple[int, int]:
    shape = tuple(images.shape)
    if len(shape) != 4 or None in shape[1:3] or not tf.as_dtype(images.dtype).is_floating:
        raise InvalidInput(
            "`images` has no frequencies.",
            expected="floats (batch, height, width, channels) of a known height and width",
            received=f"dtype={tf.as_dtype(images.dtype).name}, shape={shape}",
        )
    if not (np.isfinite(radius) and radius > 0):
        raise InvalidInput("`radius` is out of range.", expected="a number > 0", received=f"{radius=}")
    return shape[1], shape[2]
