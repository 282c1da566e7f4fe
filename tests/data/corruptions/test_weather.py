"""Weather: moments of a NumPy implementation, frost from photographs and frost that is generated."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from advss_tf.data.corruptions import corrupt, frost_source
from advss_tf.errors import InvalidInput

EACH_SEVERITY = pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
LUMA = np.array([0.299, 0.587, 0.114])


def _plasma(rng, decay, side=32):
    grid, step, wobble = np.zeros((side, side)), side, 100.0
    while step >= 2:
        half = step // 2

        def shift(shape, size=wobble):
            return size * rng.uniform(-size, size, shape)

        corner = grid[::step, ::step].copy()
        right, below = np.roll(corner, -1, 1), np.roll(corner, -1, 0)
        centre = (corner + right + below + np.roll(right, -1, 0)) / 4 + shift(corner.shape)
        grid[half::step, half::step] = centre
        grid[::step, half::step] = (centre + np.roll(centre, 1, 0) + corner + right) / 4 + shift(corner.shape)
        grid[half::step, ::step] = (centre + np.roll(centre, 1, 1) + corner + below) / 4 + shift(corner.shape)
        step, wobble = half, wobble / decay
    return (grid - grid.min()) / (grid.max() - grid.min())


@EACH_SEVERITY
def test_fog_has_the_moments_of_an_independent_implementation(compare_moments, severity):
    amount, decay = ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))[severity - 1]

    def reference(image, rng):
        image = image / 255
        largest = image.max()
        return np.clip((image + amount * _plasma(rng, decay)[..., None]) * largest / (largest + amount), 0, 1) * 255

    compare_moments("fog", severity, reference, draws=48)


def _enlarged(layer, factor):
    inner = math.ceil(32 / factor)
    top = (32 - inner) // 2
    large = ndimage.zoom(layer[top : top + inner, top : top + inner], factor, order=1)
    trim = (len(large) - 32) // 2
    return large[trim : trim + 32, trim : trim + 32]


def _streaks(layer, angle, radius, sigma):
    weights = np.exp(-(np.arange(2 * radius + 1) ** 2) / (2 * sigma**2))
    total = np.zeros(layer.shape)
    for step, weight in enumerate(weights / weights.sum()):
        down, right = math.ceil(step * math.sin(angle) - 0.5), math.ceil(step * math.cos(angle) - 0.5)
        total += weight * ndimage.shift(layer, (-down, -right), order=0, mode="nearest")
    return np.floor(total + 1 / 514) / 255


_SNOW = (
    (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
    (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
    (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
    (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
    (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
)


@EACH_SEVERITY
def test_snow_has_the_moments_of_an_independent_implementation(compare_moments, severity):
    mean, deviation, zoom, threshold, radius, sigma, own = _SNOW[severity - 1]

    def reference(image, rng):
        image = image / 255
        layer = _enlarged(rng.normal(mean, deviation, (32, 32)), zoom)
        layer[layer < threshold] = 0
        layer = np.floor(np.clip(layer, 0, 1) * 255)
        layer = _streaks(layer, math.radians(rng.uniform(-135, -45)), radius, sigma)[..., None]
        white = np.maximum(image, (image @ LUMA)[..., None] * 1.5 + 0.5)
        return np.clip(own * image + (1 - own) * white + layer + np.rot90(layer, 2), 0, 1) * 255

    compare_moments("snow", severity, reference, draws=40)


_FROST = ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))


@EACH_SEVERITY
def test_frost_is_a_cut_of_a_photograph_laid_over_the_image(pictures, levels, severity):
    """A photograph whose levels name its pixels: the cut is read off the result, and must be one piece."""
    y, x = np.mgrid[:40, :44]
    photograph = np.stack([y * 5, x * 5, 0 * x], axis=-1).astype(np.uint8)[None]
    own, ice = _FROST[severity - 1]
    places = set()
    black = np.zeros((40, 32, 32, 3), np.uint8)
    for found in levels(black, "frost", severity, frost_images=photograph):
        top, left = (round(found[0, 0, axis] / (5 * ice) + 0.4) for axis in (0, 1))
        cut = photograph[0, top : top + 32, left : left + 32]
        np.testing.assert_array_equal(found, np.floor(np.minimum(ice * cut, 255.0)))
        places.add((top, left))
    assert len(places) > 20 and {top for top, _ in places} == set(range(9))
    exact = levels(pictures, "frost", severity, frost_images=np.full((1, 32, 32, 3), 200, np.uint8))
    np.testing.assert_array_equal(exact, np.floor(np.clip(own * pictures.astype(float) + ice * 200, 0, 255)))


def test_every_photograph_is_used_and_floats_mean_what_bytes_mean(levels):
    photographs = np.broadcast_to(np.array([50, 100, 150], np.uint8)[:, None, None, None], (3, 40, 40, 3))
    found = levels(np.zeros((60, 32, 32, 3), np.uint8), "frost", 1, frost_images=photographs)
    assert {int(level) for level in np.unique(found)} == {10, 20, 30}
    floats = levels(np.zeros((60, 32, 32, 3), np.uint8), "frost", 1, frost_images=photographs / 255.0)
    np.testing.assert_array_equal(floats, found)


def test_a_grey_image_takes_the_luma_of_the_photograph(levels):
    photographs = np.broadcast_to(np.array([250, 100, 50], np.uint8), (1, 16, 16, 3))
    found = levels(np.zeros((1, 16, 16, 1), np.uint8), "frost", 3, frost_images=photographs)
    assert np.unique(found).tolist() == [55]  # 0.4 · round(0.299 · 250 + 0.587 · 100 + 0.114 · 50) = 0.4 · 139


def test_generated_frost_is_bluish_and_differs_between_images(levels):
    layers = levels(np.zeros((8, 32, 32, 3), np.uint8), "frost", 5).astype(float)
    red, green, blue = layers.mean(axis=(0, 1, 2))
    assert red < green < blue and layers.std(axis=(1, 2)).min() > 5
    assert len({layer.tobytes() for layer in layers}) == 8


def test_the_source_of_frost_has_words():
    assert frost_source(None) == "generated"
    assert frost_source(np.zeros((1, 32, 32, 3), np.uint8)) == "user's images"


@pytest.mark.parametrize(
    ("photographs", "words"),
    [
        (np.zeros((2, 31, 40, 3), np.uint8), r"H >= 32, W >= 32\. Received: shape=\(2, 31, 40, 3\)"),
        (np.zeros((40, 40, 3), np.uint8), r"Received: shape=\(40, 40, 3\)"),
        (np.zeros((0, 40, 40, 3), np.uint8), "n >= 1"),
        (np.zeros((1, 40, 40, 3), np.int32), "Received: dtype=int32"),
        (np.full((1, 40, 40, 3), 2.0), "every value finite and in"),
    ],
)
def test_other_photographs_are_refused(photographs, words):
    with pytest.raises(InvalidInput, match=words):
        corrupt(np.zeros((1, 32, 32, 3), np.float32), "frost", 1, (0, 0), frost_images=photographs)
