"""The numbers of a corruption: one stream for each image and choice."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from advss_tf.data.corruptions.draws import Draws

SEED = tf.constant([3, 5])


def test_an_image_has_its_numbers_whoever_stands_beside_it():
    many, later = Draws(SEED, first=0, rows=6), Draws(SEED, first=4, rows=2)
    np.testing.assert_array_equal(many.uniform("a", (3,))[4:], later.uniform("a", (3,)))
    np.testing.assert_array_equal(many.normal("a", (3, 2))[4:], later.normal("a", (3, 2)))


def test_choices_images_and_seeds_have_streams_of_their_own():
    draws, other = Draws(SEED, first=0, rows=4), Draws(tf.constant([3, 6]), first=0, rows=4)
    streams = [draws.uniform("a", (2,)), draws.uniform("b", (2,)), other.uniform("a", (2,))]
    assert len(np.unique(np.concatenate(streams))) == 24


def test_numbers_lie_where_they_are_asked_for():
    draws = Draws(SEED, first=0, rows=500)
    angles = draws.uniform("angle", (), -45.0, 45.0).numpy()
    assert angles.shape == (500,) and angles.dtype == np.float64
    assert -45 <= angles.min() < -42 and 42 < angles.max() < 45 and abs(angles.mean()) < 5
    counts = np.bincount(draws.below("which", (4,), 5).numpy().ravel())
    assert len(counts) == 5 and counts.min() > 320  # 400 expected, standard deviation 18
