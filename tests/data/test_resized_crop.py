"""Random resized crops: the boxes against torchvision's rules, the resizing against Pillow's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from advss_tf.data.resized_crop import NUM_UNIFORMS, crop_boxes, resize_boxes
from advss_tf.errors import InvalidInput

RNG = np.random.default_rng(0)


def reference(uniforms, size, smallest_area):
    """torchvision's `RandomResizedCrop.get_params`, an image at a time, fed with our uniform numbers."""
    height, width = size
    for number in range(10):
        area = height * width * (smallest_area + (1 - smallest_area) * uniforms[number])
        low, high = math.log(3 / 4), math.log(4 / 3)
        aspect = math.exp(low + (high - low) * uniforms[10 + number])
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return math.floor(uniforms[20] * (height - h + 1)), math.floor(uniforms[21] * (width - w + 1)), h, w
    ratio = width / height
    w, h = width, height
    if ratio < 3 / 4:
        h = round(w / (3 / 4))
    elif ratio > 4 / 3:
        w = round(h * (4 / 3))
    return (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize("size", [(32, 32), (8, 8), (20, 50), (50, 20)])
@pytest.mark.parametrize("smallest_area", [0.1, 0.2, 1.0])
def test_the_boxes_are_those_of_the_reference(size, smallest_area):
    uniforms = RNG.random((500, NUM_UNIFORMS), dtype=np.float32)
    found = crop_boxes(tf.constant(uniforms), size, smallest_area=smallest_area).numpy()
    expected = np.array([reference(row.astype(np.float64), size, smallest_area) for row in uniforms])
    # In float32 a side may round to the other pixel: one box in a thousand is let differ.
    assert np.mean(np.any(found != expected, axis=1)) <= 0.002


@pytest.mark.parametrize("corner", [0.0, np.nextafter(np.float32(1), np.float32(0))])
def test_no_box_leaves_the_image(corner):
    uniforms = RNG.random((2000, NUM_UNIFORMS), dtype=np.float32)
    uniforms[:, 20:] = corner
    top, left, height, width = crop_boxes(tf.constant(uniforms), (32, 32), smallest_area=0.2).numpy().T
    assert min(top.min(), left.min()) >= 0 and min(height.min(), width.min()) >= 1
    assert (top + height).max() <= 32 and (left + width).max() <= 32


def test_areas_are_near_uniform_and_places_reach_every_side():
    boxes = crop_boxes(tf.constant(RNG.random((4000, NUM_UNIFORMS), dtype=np.float32)), (96, 96), smallest_area=0.2)
    top, left, height, width = boxes.numpy().T
    share = height * width / 96**2
    assert share.min() > 0.19 and 0.5 < share.mean() < 0.6  # 0.6 if no try failed; large areas fail more often
    assert (top == 0).any() and (left == 0).any() and (top + height == 96).any() and (left + width == 96).any()


def pillow(image, box, mirrored, how):
    """Each channel in Pillow's floating-point mode: crop, then resize."""
    top, left, height, width = (int(side) for side in box)
    channels = []
    for channel in range(image.shape[-1]):
        part = Image.fromarray(image[:, :, channel], mode="F").crop((left, top, left + width, top + height))
        channels.append(np.asarray(part.resize((image.shape[1], image.shape[0]), how)))
    stretched = np.clip(np.stack(channels, axis=-1), 0, 1)
    return stretched[:, ::-1] if mirrored else stretched


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(32, 32), (9, 14)])
def test_the_resizing_is_pillow_s(interpolation, size):
    images = RNG.random((40, *size, 3), dtype=np.float32)
    boxes = crop_boxes(tf.constant(RNG.random((40, NUM_UNIFORMS), dtype=np.float32)), size, smallest_area=0.05)
    mirrored = RNG.random(40) < 0.5
    found = resize_boxes(tf.constant(images), boxes, tf.constant(mirrored), interpolation=interpolation)
    how = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[interpolation]
    expected = [pillow(*each, how) for each in zip(images, boxes.numpy(), mirrored, strict=True)]
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_the_whole_image_stays_and_is_mirrored_by_hand():
    image = tf.constant([[[[0.1], [0.2]], [[0.3], [0.4]]]] * 2)
    found = resize_boxes(image, tf.constant([[0.0, 0.0, 2.0, 2.0]] * 2), tf.constant([False, True]))
    np.testing.assert_allclose(found[0, ..., 0], [[0.1, 0.2], [0.3, 0.4]], atol=1e-7)
    np.testing.assert_allclose(found[1, ..., 0], [[0.2, 0.1], [0.4, 0.3]], atol=1e-7)


def test_one_pixel_fills_the_image():
    image = tf.constant(RNG.random((1, 4, 4, 3), dtype=np.float32))
    found = resize_boxes(image, tf.constant([[2.0, 1.0, 1.0, 1.0]]), tf.constant([False]))
    np.testing.assert_allclose(found, np.broadcast_to(image[:, 2:3, 1:2], (1, 4, 4, 3)), atol=1e-7)


def test_another_interpolation_is_refused():
    with pytest.raises(InvalidInput, match="`interpolation` is not known"):
        resize_boxes(tf.zeros((1, 4, 4, 3)), tf.zeros((1, 4)), tf.constant([False]), interpolation="lanczos")
