"""Low and high frequencies against NumPy's FFT with the mask of AdvCL's code, Parseval's sum, and cosines by hand."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from advss_tf.data.frequency import high_frequency, low_bins, low_frequency
from advss_tf.errors import InvalidInput


@pytest.fixture
def noise():
    """`noise(count, height, width)`: random pixels, float32 in [0, 1], three channels."""
    return lambda *shape: np.random.default_rng(7).random((*shape, 3), dtype=np.float32)


def reference(images, radius):
    """AdvCL's: the centred transform of each channel, zero where a bin is nearer than `radius` to the middle."""
    batch, height, width, channels = images.shape
    mask = np.ones((height, width))
    for row in range(height):
        for column in range(width):
            if np.sqrt((row - height / 2) ** 2 + (column - width / 2) ** 2) < radius:
                mask[row, column] = 0
    found = np.zeros(images.shape)
    for number in range(batch):
        for channel in range(channels):
            centred = np.fft.fftshift(np.fft.fft2(images[number, :, :, channel].astype(np.float64)))
            found[number, :, :, channel] = np.real(np.fft.ifft2(np.fft.ifftshift(centred * mask)))
    return found


@pytest.mark.parametrize(("size", "radius", "there"), [(32, 8.0, 8), (32, 3.5, 3.5), (96, 8.0, 24), (8, 8.0, 2)])
def test_it_is_the_reference_with_the_radius_scaled_to_the_size(noise, size, radius, there):
    images = noise(2, size, size)
    found = high_frequency(tf.constant(images), radius=radius)
    assert found.shape == images.shape and found.dtype == tf.float32
    np.testing.assert_allclose(found, reference(images, there), atol=2e-6)


@pytest.mark.parametrize("shape", [(3, 32, 32, 3), (2, 7, 12, 1), (2, 9, 9, 3)])
def test_low_and_high_add_up_to_the_image(noise, shape):
    images = noise(shape[0], *shape[1:3])[..., : shape[3]]
    low, high = low_frequency(tf.constant(images)), high_frequency(tf.constant(images))
    np.testing.assert_allclose(low + high, images, atol=2e-6)
    assert float(tf.reduce_max(tf.abs(high))) > 0.1
    np.testing.assert_allclose(tf.reduce_mean(high, axis=(1, 2)), np.zeros((shape[0], shape[3])), atol=1e-6)
    np.testing.assert_allclose(tf.reduce_mean(low, axis=(1, 2)), images.mean(axis=(1, 2)), atol=1e-6)


def test_193_of_1024_bins_are_low_at_radius_8():
    low = low_bins(32, 32, radius=8.0)
    assert low.shape == (32, 32) and low.sum() == 193 and low[0, 0]
    assert low[7, 0] and not low[8, 0] and low[-7, 0] and not low[0, 8]
    assert low_bins(96, 96, radius=8.0).sum() == sum(
        i * i + j * j < 576 for i in range(-24, 25) for j in range(-24, 25)
    )


@pytest.mark.parametrize("size", [(32, 32), (9, 9), (7, 12)])
def test_the_mask_is_that_of_real_images(size):
    """A bin is low if and only if its mirror is, so nothing imaginary is thrown away."""
    low = low_bins(*size, radius=8.0)
    np.testing.assert_array_equal(low, np.roll(low[::-1, ::-1], (1, 1), axis=(0, 1)))


def test_parseval_holds(noise):
    """The energy of what is left is that of the bins that are left, over their number."""
    images = noise(1, 32, 32)
    spectrum = np.fft.fft2(images.astype(np.float64), axes=(1, 2))
    energy = np.abs(spectrum) ** 2 * ~low_bins(32, 32, radius=8.0)[None, :, :, None] / 1024
    high = high_frequency(tf.constant(images)).numpy().astype(np.float64)
    assert np.sum(high**2) == pytest.approx(energy.sum(), rel=1e-5)


@pytest.mark.parametrize(("waves", "stays"), [(0, False), (7, False), (8, True), (16, True)])
def test_a_cosine_stays_or_goes(waves, stays):
    wave = 0.5 + 0.4 * np.cos(2 * np.pi * waves * np.arange(32) / 32)
    images = np.broadcast_to(wave[None, None, :, None], (1, 32, 32, 1)).astype(np.float32)
    expected = images - images.mean() if stays else np.zeros_like(images)
    np.testing.assert_allclose(high_frequency(tf.constant(images)), expected, atol=1e-6)


def test_a_batch_of_unknown_size_half_precision_and_xla_give_the_same(noise):
    images = tf.constant(noise(3, 32, 32))
    expected = high_frequency(images)
    unknown = tf.function(high_frequency, input_signature=[tf.TensorSpec((None, 32, 32, 3))])
    np.testing.assert_allclose(unknown(images), expected, atol=1e-6)
    np.testing.assert_allclose(tf.function(high_frequency, jit_compile=True)(images), expected, atol=2e-6)
    assert high_frequency(tf.cast(images, tf.bfloat16)).dtype == tf.float32


def test_its_gradient_is_itself(noise):
    """The filter is linear and symmetric: the derivative of `<h(x), y>` by `x` is `h(y)`."""
    images, others = tf.constant(noise(2, 16, 16)), tf.constant(noise(2, 16, 16)[::-1].copy())
    with tf.GradientTape() as tape:
        tape.watch(images)
        product = tf.reduce_sum(high_frequency(images) * others)
    np.testing.assert_allclose(tape.gradient(product, images), high_frequency(others), atol=2e-6)


@pytest.mark.parametrize(
    ("images", "radius", "sentence"),
    [
        (tf.zeros((32, 32, 3)), 8.0, "`images` has no frequencies"),
        (tf.zeros((1, 8, 8, 3), tf.uint8), 8.0, "`images` has no frequencies.*dtype=uint8"),
        (tf.zeros((1, 8, 8, 3)), 0.0, r"`radius` is out of range.*radius=0.0"),
    ],
)
def test_what_has_no_frequencies_is_refused(images, radius, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        high_frequency(images, radius=radius)
