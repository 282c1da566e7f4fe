"""Spatter: edges, distances and shading of OpenCV 5.0 as literals, and mud as SciPy smooths it."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from advss_tf.data.corruptions.spatter import canny, distance_to, shaded


def _layer():
    """A square with a bright point in it, a smaller one, and a lit corner: grey levels, (1, 10, 12, 1)."""
    layer = np.zeros((10, 12))
    layer[2:5, 2:6], layer[3, 3] = 190, 230
    layer[6:9, 8:11], layer[7, 9], layer[0, 11] = 180, 250, 200
    return tf.constant(layer[None, ..., None])


# What cv2.Canny(layer, 50, 150) gives.
_EDGES = (
    "...........#",
    "............",
    "..####......",
    "..#..#......",
    "..####......",
    "............",
    "........###.",
    "........#.#.",
    "........###.",
    "............",
)

# 255 - edges through distanceTransform, threshold, blur, equalizeHist, filter2D and blur, times the layer; the other
# places are zero.
_WATER = {(0, 11): 26400, (2, 4): 5320, (2, 5): 21470, (3, 2): 5320, (3, 3): 13110, (3, 4): 21470, (3, 5): 32300}
_WATER |= {(4, 2): 21470, (4, 3): 26980, (4, 4): 37620, (4, 5): 43130}


def _marked():
    return np.array([[mark == "#" for mark in row] for row in _EDGES])


def test_edges_are_those_of_opencv():
    np.testing.assert_array_equal(canny(_layer(), low=50, high=150)[0, ..., 0], _marked())


def test_a_weak_edge_counts_where_it_joins_a_strong_one():
    """Two steps of 40 levels, gradient 160 > 150, fade to 20, gradient 80 > 50; the lower step stands by itself."""
    layer = np.zeros((1, 12, 12, 1))
    layer[:, :6, 6:], layer[:, 6:, 6:] = 40, 20
    joined = canny(tf.constant(layer), low=50, high=150).numpy()[0, ..., 0]
    alone = canny(tf.constant(np.minimum(layer, 20)), low=50, high=150).numpy()
    assert joined[1:4].any(axis=1).all() and joined[9:11].any(axis=1).all() and not alone.any()


def test_distances_are_those_of_opencv_and_end_at_twenty():
    distance = distance_to(tf.constant(_marked()[None, ..., None]), 20).numpy()[0, ..., 0]
    column = [2.8, 2.1969, 2.0, 2.0, 2.0, 2.1969, 2.8, 3.5969, 4.3938, 5.3938]
    np.testing.assert_allclose(distance[:, 0], column, atol=1e-4)
    lonely = np.zeros((2, 3, 40, 1), bool)
    lonely[0, 1, 0] = True
    far = distance_to(tf.constant(lonely), 20).numpy()[..., 0]
    np.testing.assert_allclose(far[0, 1], np.minimum(np.arange(40), 20))
    assert (far[1] == 20).all()


def test_the_shading_of_water_is_that_of_opencv():
    expected = np.zeros((10, 12))
    for place, value in _WATER.items():
        expected[place] = value / 43130
    np.testing.assert_allclose(shaded(_layer())[0, ..., 0], expected, atol=1e-6)


def test_without_liquid_the_image_stays_dry():
    assert shaded(tf.zeros((1, 6, 6, 1), tf.float64)).numpy().max() == 0


@pytest.mark.parametrize("severity", [4, 5])
def test_mud_has_the_moments_of_an_independent_implementation(compare_moments, severity):
    sigma, threshold = ((0.7, 0.69), (0.5, 0.68))[severity - 4]

    def reference(image, rng):
        liquid = ndimage.gaussian_filter(rng.normal(0.65, 0.1, image.shape[:2]), sigma, mode="nearest")
        covered = ndimage.gaussian_filter((liquid > threshold).astype(float), 0.6, mode="nearest")[..., None]
        covered[covered < 0.8] = 0
        return np.clip(image / 255 * (1 - covered) + np.array([63, 42, 20]) / 255 * covered, 0, 1) * 255

    compare_moments("spatter", severity, reference, draws=48)


@pytest.mark.parametrize("severity", [1, 2, 3])
def test_water_only_adds_light_and_most_to_green_and_blue(levels, severity):
    black = np.zeros((16, 32, 32, 3), np.uint8)
    added = levels(black, "spatter", severity)
    np.testing.assert_array_equal(added.max(axis=(0, 1, 2)), [87, 119, 119])  # 0.5 · (175, 238, 238), truncated
    assert (added.max(axis=(1, 2, 3)) == 119).all() and 0.5 < (added == 0).mean() < 1
