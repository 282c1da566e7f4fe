"""The filters that corruptions share, on cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from advss_tf.data.corruptions.filters import (
    along,
    divided,
    gaussian,
    motion_blurred,
    reflected,
    sampled,
    smoothing_matrix,
    symmetric,
    zoom_matrix,
)


def test_a_division_in_a_graph_is_a_division():
    levels = np.tile(np.arange(256.0), (2, 1))
    graph = tf.function(lambda values: divided(values, 255.0)).get_concrete_function(
        tf.TensorSpec((None, 256), tf.float64)
    )
    np.testing.assert_array_equal(graph(tf.constant(levels)), levels / 255.0)


@pytest.mark.parametrize("sigma", [0.05, 0.6, 3.0])
def test_a_gaussian_is_that_of_scipy_to_the_last_bit(sigma):
    images = np.random.default_rng(0).random((2, 7, 9, 3))
    expected = ndimage.gaussian_filter(images, (0, sigma, sigma, 0), mode="nearest", truncate=4.0)
    np.testing.assert_array_equal(gaussian(tf.constant(images), sigma), expected)


def test_a_smoothing_matrix_is_scipys_filter_with_mirrored_edges():
    field = np.random.default_rng(0).random((1, 6, 11, 1))
    found = along(tf.constant(field), smoothing_matrix(6, 2.5), smoothing_matrix(11, 2.5))
    expected = ndimage.gaussian_filter(field, (0, 2.5, 2.5, 0), mode="reflect", truncate=3.0)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_zoom_by_two_spreads_the_middle_half():
    """Of 8 pixels the middle 4 become 8: places 0, 3/7, 6/7, … of 2, 3, 4, 5."""
    ramp = np.arange(8.0)
    np.testing.assert_allclose(zoom_matrix(8, 2.0) @ ramp, 2 + np.arange(8) * 3 / 7)
    np.testing.assert_array_equal(zoom_matrix(8, 1.0), np.eye(8))


def test_a_zoom_never_darkens_the_last_pixel():
    """Where SciPy's rounded coordinate passes the last pixel (25 pixels by 1.75) it fills black."""
    for size in range(4, 70):
        np.testing.assert_allclose(zoom_matrix(size, 1.75).sum(axis=1), 1)


def test_motion_goes_one_way_and_keeps_flat_images():
    """At 0 degrees a pixel takes from those on its right, so light moves to the left; at 90 it takes from below."""
    point = np.zeros((2, 9, 9, 1))
    point[:, 4, 4] = 255
    moved = motion_blurred(tf.constant(point), tf.constant([0.0, 90.0], tf.float64), radius=2, sigma=1.0).numpy()
    weights = np.exp(-(np.arange(5) ** 2) / 2)
    trail = np.floor(255 * weights / weights.sum() + 1 / 514)
    np.testing.assert_array_equal(moved[0, 4, :, 0], [*trail[::-1], 0, 0, 0, 0])
    np.testing.assert_array_equal(moved[1, :, 4, 0], [*trail[::-1], 0, 0, 0, 0])
    flat = tf.fill((1, 8, 8, 3), tf.constant(77.0, tf.float64))
    np.testing.assert_array_equal(motion_blurred(flat, tf.constant([33.0], tf.float64), radius=9, sigma=2.5), flat)


def test_edges_are_mirrored_with_and_without_the_edge_pixel():
    index = np.arange(-4, 8)
    np.testing.assert_array_equal(symmetric(index, 3), [2, 2, 1, 0, 0, 1, 2, 2, 1, 0, 0, 1])
    np.testing.assert_array_equal(reflected(index, 3), [0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2, 1])


def test_between_pixels_an_image_is_linear():
    image = tf.reshape(tf.range(12, dtype=tf.float64), (1, 3, 4, 1))
    rows = tf.fill((1, 3, 4), tf.constant(0.5, tf.float64))
    columns = tf.fill((1, 3, 4), tf.constant(1.25, tf.float64))
    assert np.unique(sampled(image, rows, columns, border=reflected)).tolist() == [3.25]
