"""Blur: the very levels of SciPy's filters where nothing is drawn, and a pixel-by-pixel walk for frosted glass."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from advss_tf.data.corruptions.blur import copied_from_near, defocus_kernel

EACH_SEVERITY = pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])


def _smooth(image, sigma):
    return ndimage.gaussian_filter(image, (sigma, sigma, 0), mode="nearest", truncate=4.0)


@EACH_SEVERITY
def test_gaussian_blur_is_that_of_scipy_to_the_grey_level(pictures, levels, severity):
    sigma = (0.4, 0.6, 0.7, 0.8, 1.0)[severity - 1]
    expected = [np.uint8(np.clip(_smooth(image / 255.0, sigma), 0, 1) * 255) for image in pictures]
    np.testing.assert_array_equal(levels(pictures, "gaussian_blur", severity), expected)


def test_the_kernel_of_defocus_is_a_disk_that_is_smoothed():
    """Radius 1: five pixels of 1/5, then 3 x 3 taps with a ratio of exp(-1 / (2 · 0.2²)) to the middle."""
    ratio = math.exp(-12.5)
    middle, side = 1 / (1 + 2 * ratio), ratio / (1 + 2 * ratio)
    kernel = defocus_kernel(1.0, 0.2)
    assert kernel.shape == (17, 17) and kernel.dtype == np.float32
    assert kernel[8, 8] == pytest.approx((middle * middle + 4 * middle * side) / 5, rel=1e-6)
    assert kernel[8, 9] == pytest.approx((middle * middle + middle * side) / 5, rel=1e-6)
    assert kernel[7, 7] == pytest.approx((2 * middle * side + side * side) / 5, rel=1e-6)
    assert np.sum(kernel, dtype=float) == pytest.approx(1, abs=1e-6)


def test_a_radius_below_a_pixel_leaves_the_taps_alone():
    taps = np.exp([-1 / (2 * 0.16), 0, -1 / (2 * 0.16)])
    taps /= taps.sum()
    np.testing.assert_allclose(defocus_kernel(0.3, 0.4)[7:10, 7:10], np.outer(taps, taps), rtol=1e-6)
    assert np.count_nonzero(defocus_kernel(0.3, 0.4)) == 9


@EACH_SEVERITY
def test_defocus_correlates_with_its_kernel_to_the_grey_level(pictures, levels, severity):
    """`mirror` is SciPy's name for an edge that is not repeated. A sum in another order may end on the other side of
    a whole level, so pixels within 1e-9 of one are compared up to a level."""
    kernel = defocus_kernel(*((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))[severity - 1])
    wanted = ndimage.correlate(pictures / 255.0, kernel[None, :, :, None].astype(float), mode="mirror") * 255
    _same_up_to_ties(levels(pictures, "defocus_blur", severity), wanted)


def _same_up_to_ties(found, wanted):
    tie = np.abs(wanted - np.rint(wanted)) < 1e-9
    np.testing.assert_array_equal(found[~tie], np.floor(wanted[~tie]))
    assert (np.abs(found - wanted)[tie] < 1 + 1e-9).all()


def _zoomed(image, factor):
    height = len(image)
    inner = int(np.ceil(height / factor))
    top = (height - inner) // 2
    large = ndimage.zoom(image[top : top + inner, top : top + inner], (factor, factor, 1), order=1)
    trim = (len(large) - height) // 2
    return large[trim : trim + height, trim : trim + height]


@EACH_SEVERITY
def test_zoom_blur_is_the_mean_of_scipys_zooms_to_the_grey_level(pictures, levels, severity):
    factors = np.arange(1, (1.06, 1.11, 1.16, 1.21, 1.26)[severity - 1], 0.01)
    expected = []
    for image in (pictures / 255.0).astype(np.float32):
        total = np.zeros_like(image)
        for factor in factors:
            total += _zoomed(image, factor)
        expected.append(np.uint8(np.clip((image + total) / (len(factors) + 1), 0, 1) * 255))
    np.testing.assert_array_equal(levels(pictures, "zoom_blur", severity), expected)


def _walked(image, steps):
    """The published walk, with its swap of two views, pixel by pixel."""
    image = image.copy()
    height, width = image.shape[:2]
    for row in range(height - 1, 1, -1):
        for column in range(width - 1, 1, -1):
            up, left = steps[row, column]
            here, near = (row, column), (row - up, column - left)
            image[here], image[near] = image[near], image[here]
    return image


def test_a_round_of_frosted_glass_is_the_walk_of_the_published_script():
    rng = np.random.default_rng(0)
    images, steps = rng.integers(0, 256, (5, 9, 12, 3)), rng.integers(0, 2, (5, 9, 12, 2))
    found = copied_from_near(tf.constant(images), tf.constant(steps, tf.int32))
    expected = [_walked(image, step) for image, step in zip(images, steps, strict=True)]
    np.testing.assert_array_equal(found, expected)
    assert (np.array(expected) != images).any()


@EACH_SEVERITY
def test_glass_blur_has_the_moments_of_an_independent_implementation(compare_moments, severity):
    sigma, rounds = ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))[severity - 1]

    def reference(image, rng):
        image = np.uint8(_smooth(image / 255.0, sigma) * 255)
        for _ in range(rounds):
            image = _walked(image, rng.integers(0, 2, (*image.shape[:2], 2)))
        return np.clip(_smooth(image / 255.0, sigma), 0, 1) * 255

    compare_moments("glass_blur", severity, reference, draws=12)


@EACH_SEVERITY
def test_motion_blur_has_the_moments_of_an_independent_implementation(compare_moments, severity):
    radius, sigma = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))[severity - 1]

    def reference(image, rng):
        angle = math.radians(rng.uniform(-45, 45))
        weights = np.exp(-(np.arange(2 * radius + 1) ** 2) / (2 * sigma**2))
        total = np.zeros(image.shape)
        for step, weight in enumerate(weights / weights.sum()):
            down, right = math.ceil(step * math.sin(angle) - 0.5), math.ceil(step * math.cos(angle) - 0.5)
            total += weight * ndimage.shift(image.astype(float), (-down, -right, 0), order=0, mode="nearest")
        return total + 1 / 514

    compare_moments("motion_blur", severity, reference, draws=48)
