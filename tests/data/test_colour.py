"""Changes of colour against a loop over torchvision's formulas with Python's own HSV, and against Pillow in 8 bits."""

from __future__ import annotations

import colorsys
import itertools

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance

from advss_tf.data.colour import BRIGHTNESS, CONTRAST, HUE, SATURATION, recolour, turn_hue

RNG = np.random.default_rng(0)
NEUTRAL = [1.0, 1.0, 1.0, 0.0]


def grey(image):
    return image @ [0.299, 0.587, 0.114] if image.shape[-1] == 3 else image[..., 0]


def turned(image, turn):
    pixels = [colorsys.rgb_to_hsv(*pixel) for pixel in image.reshape(-1, 3)]
    return np.array([colorsys.hsv_to_rgb((h + turn) % 1.0, s, v) for h, s, v in pixels]).reshape(image.shape)


def reference(image, factors, order, greyed):
    """One image in float64, the four changes in their order."""
    for which in order:
        factor = factors[which]
        if which == HUE:
            image = turned(image, factor) if image.shape[-1] == 3 else image
        else:
            base = {BRIGHTNESS: 0.0, CONTRAST: grey(image).mean(), SATURATION: grey(image)[..., None]}[which]
            image = np.clip(factor * image + (1 - factor) * base, 0, 1)
    return np.broadcast_to(grey(image)[..., None], image.shape) if greyed else image


def call(images, factors, order, greyed):
    order = tf.constant(order, tf.int32)
    return recolour(tf.constant(images), tf.constant(factors, tf.float32), order, tf.constant(greyed)).numpy()


@pytest.mark.parametrize("channels", [1, 3])
def test_every_order_of_the_four_is_the_reference(channels):
    orders = list(itertools.permutations(range(4)))
    images = RNG.random((24, 5, 4, channels), dtype=np.float32)
    factors = np.concatenate([RNG.uniform(0.4, 1.8, (24, 3)), RNG.uniform(-0.5, 0.5, (24, 1))], axis=1)
    greyed = np.arange(24) % 5 == 0
    found = call(images, factors, orders, greyed)
    expected = [reference(*each) for each in zip(images.astype(np.float64), factors, orders, greyed, strict=True)]
    # A hue turns faster than its channels move: rounding of the pixels is enlarged where colours are nearly grey.
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_neutral_factors_change_no_bit():
    images = RNG.random((3, 6, 6, 3), dtype=np.float32)
    found = call(images, [NEUTRAL] * 3, [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]], [False] * 3)
    np.testing.assert_array_equal(found, images)


def test_grey_and_a_dark_half_by_hand():
    """Red halved is 0.4; grey of that 0.1196. Contrast 0 leaves the mean of the grey image, saturation 0 grey."""
    images = np.zeros((3, 1, 2, 3), np.float32)
    images[:, :, :, 0] = [0.8, 0.0]
    factors = [[0.5, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 0]]
    found = call(images, factors, [[0, 1, 2, 3]] * 3, [False, False, False])
    np.testing.assert_allclose(found[0], [[[0.4, 0, 0], [0, 0, 0]]], atol=1e-6)
    np.testing.assert_allclose(found[1], np.full((1, 2, 3), 0.8 * 0.299 / 2), atol=1e-6)
    np.testing.assert_allclose(found[2], [[[0.2392] * 3, [0.0] * 3]], atol=1e-6)
    greyed = call(images[:1], factors[:1], [[0, 1, 2, 3]], [True])
    np.testing.assert_allclose(greyed[0], [[[0.1196] * 3, [0.0] * 3]], atol=1e-6)


def test_a_third_of_a_turn_makes_red_green_and_green_blue():
    pixels = tf.constant([[[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.2, 0.2, 0.2], [0.0, 0.0, 0.0]]]])
    found = tf.stack(turn_hue(tf.unstack(pixels, axis=-1), tf.constant([1 / 3])), axis=-1)
    expected = [[[[0, 1, 0], [0, 0, 1], [0.2, 0.2, 0.2], [0, 0, 0]]]]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_hue_is_turned_as_by_tensorflow():
    images = RNG.random((2, 16, 16, 3), dtype=np.float32)
    for turn in (-0.5, -0.1, 0.05, 0.5):
        found = tf.stack(turn_hue(tf.unstack(tf.constant(images), axis=-1), tf.constant([turn] * 2)), axis=-1)
        np.testing.assert_allclose(found, tf.image.adjust_hue(images, turn), atol=1e-5)


@pytest.mark.parametrize(
    ("which", "enhance"),
    [
        (BRIGHTNESS, ImageEnhance.Brightness),
        (CONTRAST, ImageEnhance.Contrast),
        (SATURATION, ImageEnhance.Color),
    ],
)
def test_one_change_is_pillow_s_up_to_its_rounding_to_8_bits(which, enhance):
    """Pillow cuts to whole grey levels, also the grey that it mixes with: two levels at most."""
    image = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    for factor in (0.6, 1.0, 1.4):
        factors = list(NEUTRAL)
        factors[which] = factor
        found = call(image[None].astype(np.float32) / 255, [factors], [[0, 1, 2, 3]], [False])[0]
        expected = np.asarray(enhance(Image.fromarray(image)).enhance(factor)).astype(np.float64) / 255
        np.testing.assert_allclose(found, expected, atol=2 / 255)
