"""Tests of `advss_tf.data.augment`, against an independent NumPy reference."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from advss_tf.data.augment import crop_and_flip

SEED = tf.constant([3, 4], tf.int32)


def _reference_views(image, padding, flip):
    """Every view that pad, crop and flip can make of an image, in a dict by its bytes."""
    height, width = image.shape[:2]
    padded = np.pad(image, [(padding, padding), (padding, padding), (0, 0)])
    views = {}
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            crop = padded[top : top + height, left : left + width]
            views[crop.tobytes()] = (top, left, False)
            if flip:
                views[np.ascontiguousarray(np.fliplr(crop)).tobytes()] = (top, left, True)
    return views


def _drawn(images, padding, flip, seed=SEED):
    """Which `(top, left, mirrored)` each image was given; fails if a result is no view of its image."""
    results = crop_and_flip(tf.constant(images), seed, crop_padding=padding, flip=flip).numpy()
    pairs = zip(images, results, strict=True)
    return [_reference_views(image, padding, flip)[result.tobytes()] for image, result in pairs]


def test_every_result_is_a_padded_crop_of_its_own_image_and_all_shifts_come_up(noise):
    drawn = _drawn(noise(400, 6, 7), padding=1, flip=True)
    assert len(set(drawn)) == 3 * 3 * 2
    mirrored = np.mean([view[2] for view in drawn])
    assert 0.42 < mirrored < 0.58  # three standard errors of a fair coin
    for axis in (0, 1):
        shares = np.bincount([view[axis] for view in drawn]) / 400
        assert shares.min() > 1 / 3 - 0.08 and shares.max() < 1 / 3 + 0.08


def test_images_of_one_batch_are_moved_each_by_themselves(noise):
    tops, lefts, mirrored = zip(*_drawn(noise(200), padding=2, flip=True), strict=True)
    assert abs(np.corrcoef(tops, lefts)[0, 1]) < 0.25
    assert abs(np.corrcoef(tops, mirrored)[0, 1]) < 0.25


def test_without_flip_no_image_is_mirrored(noise):
    assert not any(view[2] for view in _drawn(noise(50), padding=1, flip=False))


def test_without_padding_and_flip_nothing_changes(noise):
    images = noise(5)
    np.testing.assert_array_equal(crop_and_flip(tf.constant(images), SEED, crop_padding=0, flip=False), images)


def test_a_crop_worked_by_hand():
    image = np.arange(1, 5, dtype=np.float32).reshape(1, 2, 2, 1)
    views = {(0, 0): [[0, 0], [0, 1]], (1, 1): [[1, 2], [3, 4]], (2, 1): [[3, 4], [0, 0]]}
    found = {}
    for number in range(60):
        result = crop_and_flip(tf.constant(image), tf.constant([0, number]), crop_padding=1, flip=False)
        found[result.numpy()[0, ..., 0].tobytes()] = True
    for view in views.values():
        assert np.array(view, np.float32).tobytes() in found


def test_the_same_seed_draws_the_same_and_another_draws_another(noise):
    images = noise(20)
    assert _drawn(images, 2, True) == _drawn(images, 2, True)
    assert _drawn(images, 2, True) != _drawn(images, 2, True, seed=tf.constant([3, 5]))


def test_slices_of_workers_join_to_the_global_batch(noise):
    images = tf.constant(noise(12))
    whole = crop_and_flip(images, SEED, crop_padding=2, flip=True)
    parts = [
        crop_and_flip(images[at : at + 4], SEED, crop_padding=2, flip=True, batch_size=12, first=at) for at in (0, 4, 8)
    ]
    np.testing.assert_array_equal(tf.concat(parts, 0), whole)
