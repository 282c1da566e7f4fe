"""Digital corruptions: Pillow's very levels, HSV written out, and SciPy's interpolation for the elastic transform."""

from __future__ import annotations

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy import ndimage

from advss_tf.data.corruptions.digital import affine_places
from advss_tf.data.corruptions.filters import reflected, sampled

EACH_SEVERITY = pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])


def _to_hsv(image):
    value, spread = image.max(axis=-1), np.ptp(image, axis=-1)
    red, green, blue = np.moveaxis(image, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        sixth = np.where(red == value, (green - blue) / spread, 0.0)
        sixth = np.where(green == value, 2.0 + (blue - red) / spread, sixth)
        sixth = np.where(blue == value, 4.0 + (red - green) / spread, sixth)
        saturation = spread / value
    grey = spread == 0
    return np.where(grey, 0.0, sixth / 6.0 % 1.0), np.where(grey, 0.0, saturation), value


def _to_rgb(hue, saturation, value):
    sector = np.floor(hue * 6)
    within = hue * 6 - sector
    p, q, t = value * (1 - saturation), value * (1 - within * saturation), value * (1 - (1 - within) * saturation)
    faces = [(value, t, p), (q, value, p), (p, value, t), (p, q, value), (t, p, value), (value, p, q)]
    return np.choose(sector.astype(int)[..., None] % 6, [np.stack(face, axis=-1) for face in faces])


@EACH_SEVERITY
def test_brightness_adds_to_the_value_of_hsv_to_the_grey_level(pictures, levels, severity):
    hue, saturation, value = _to_hsv(pictures / 255.0)
    value = np.clip(value + (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1], 0, 1)
    expected = np.uint8(np.clip(_to_rgb(hue, saturation, value), 0, 1) * 255)
    np.testing.assert_array_equal(levels(pictures, "brightness", severity), expected)


@EACH_SEVERITY
def test_saturate_changes_the_saturation_of_hsv_to_the_grey_level(pictures, levels, severity):
    times, plus = ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2))[severity - 1]
    hue, saturation, value = _to_hsv(pictures / 255.0)
    expected = np.uint8(np.clip(_to_rgb(hue, np.clip(saturation * times + plus, 0, 1), value), 0, 1) * 255)
    np.testing.assert_array_equal(levels(pictures, "saturate", severity), expected)


def test_a_grey_image_is_brightened_level_by_level_and_has_no_saturation(levels):
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    shifted = np.minimum(np.floor((ramp / 255.0 + 0.1) * 255), 255)
    np.testing.assert_array_equal(levels(ramp, "brightness", 2), shifted)
    np.testing.assert_array_equal(levels(ramp, "saturate", 5), ramp)


@EACH_SEVERITY
def test_contrast_shrinks_the_distance_from_the_mean_to_the_grey_level(pictures, levels, severity):
    share = (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1]
    images = pictures / 255.0
    means = np.stack([image.mean(axis=(0, 1), keepdims=True) for image in images])
    wanted = ((images - means) * share + means) * 255
    found = levels(pictures, "contrast", severity)
    tie = np.abs(wanted - np.rint(wanted)) < 1e-9  # where the last bit of the mean decides
    np.testing.assert_array_equal(found[~tie], np.floor(wanted[~tie]))
    assert (np.abs(found - wanted)[tie] < 1 + 1e-9).all()


@EACH_SEVERITY
@pytest.mark.parametrize("size", [(32, 32), (17, 40)])
def test_pixelate_is_pillows_box_filter_to_the_grey_level(pictures, levels, severity, size):
    share = (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1]
    height, width = size
    images = np.tile(pictures, (1, 2, 2, 1))[:, :height, :width]
    small = [
        Image.fromarray(image).resize((int(width * share), int(height * share)), Image.Resampling.BOX)
        for image in images
    ]
    expected = [np.array(image.resize((width, height), Image.Resampling.BOX)) for image in small]
    np.testing.assert_array_equal(levels(images, "pixelate", severity), expected)


@EACH_SEVERITY
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_what_pillow_writes_and_reads(pictures, levels, severity, channels):
    images, expected = pictures[..., :channels], []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image.squeeze()).save(file, "JPEG", quality=(80, 65, 58, 50, 40)[severity - 1])
        expected.append(np.array(Image.open(file)).reshape(image.shape))
    # The two libraries may come with different builds of libjpeg, whose last bit is not promised to agree.
    assert np.abs(levels(images, "jpeg_compression", severity) - np.array(expected)).max() <= 1


def _moved(image, shifts):
    """The affine map by least squares on the three points, read with SciPy; `mirror` repeats no edge."""
    height, width = image.shape[:2]
    reach = min(height, width) // 3
    middle = np.array([width // 2, height // 2])
    points = middle + reach * np.array([[1, 1], [1, -1], [-1, -1]])
    back = np.linalg.lstsq(np.c_[points + shifts, np.ones(3)], points, rcond=None)[0]
    rows, columns = np.mgrid[:height, :width]
    places = np.stack([columns, rows, np.ones_like(rows)], axis=-1) @ back
    return _read(image, places[..., 1], places[..., 0], "mirror")


def _read(image, rows, columns, mode):
    channels = np.moveaxis(image, -1, 0)
    return np.stack([ndimage.map_coordinates(c, [rows, columns], order=1, mode=mode) for c in channels], axis=-1)


def test_the_affine_map_is_that_of_scipy():
    rng = np.random.default_rng(0)
    images, shifts = rng.random((4, 20, 30, 3)), rng.uniform(-3, 3, (4, 3, 2))
    columns, rows = affine_places(20, 30, tf.constant(shifts))
    found = sampled(tf.constant(images), rows, columns, border=reflected)
    expected = [_moved(image, shift) for image, shift in zip(images, shifts, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-9)


@EACH_SEVERITY
def test_elastic_transform_has_the_moments_of_an_independent_implementation(compare_moments, severity):
    parts = ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03))
    amplitude, sigma, shift = (32 * part for part in parts[severity - 1])

    def reference(image, rng):
        image = _moved(image / 255, rng.uniform(-shift, shift, (3, 2)))
        fields = rng.uniform(-1, 1, (2, 32, 32))
        dx, dy = (ndimage.gaussian_filter(field, sigma, mode="reflect", truncate=3) * amplitude for field in fields)
        rows, columns = np.mgrid[:32, :32]
        return np.clip(_read(image, rows + dy, columns + dx, "reflect"), 0, 1) * 255

    compare_moments("elastic_transform", severity, reference, draws=48)
