"""Images padded to few sizes, and shared out among replicas."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from advss_tf.evaluation.shares import Shares, bucket, share_of_batch
from advss_tf.evaluation.traces import traced
from advss_tf.training.strategy import get_strategy


@pytest.mark.parametrize(
    "count,batch_size,size", [(256, 256, 256), (129, 256, 256), (128, 256, 128), (3, 256, 8), (1, 5, 5), (30, 250, 31)]
)
def test_images_are_padded_to_the_batch_size_halved(count, batch_size, size):
    assert bucket(count, batch_size) == size


@pytest.mark.parametrize("batch_size,replicas,share", [(256, 1, 256), (256, 8, 32), (30, 4, 8), (3, 8, 1)])
def test_a_device_has_its_share_rounded_up(batch_size, replicas, share):
    assert share_of_batch(batch_size, replicas) == share


def test_rows_are_padded_with_the_first_to_what_replicas_share_evenly():
    rows = np.array([4, 7, 9, 11, 12, 13, 14, 15, 16])
    np.testing.assert_array_equal(Shares(None, batch_size=11).padded(rows), [*rows, 4, 4])
    np.testing.assert_array_equal(Shares(get_strategy("mirrored"), batch_size=11).padded(rows), [*rows, 4, 4, 4])


def test_two_replicas_give_the_rows_of_one_in_their_order():
    seen = []

    def method(rows, others, *, factor):
        seen.append(tuple(rows.shape))
        return rows * factor, others + tf.cast(rows[:, 0], others.dtype)

    rows, others = np.arange(24, dtype=np.float32).reshape(8, 3), np.arange(8)
    for strategy in (None, get_strategy("mirrored")):
        call = traced(Shares(strategy, batch_size=8).of(method))
        found = call(tf.constant(rows), tf.constant(others), factor=tf.constant(2.0))
        for mine, expected in zip(found, (rows * 2, others + rows[:, 0].astype(int)), strict=True):
            np.testing.assert_array_equal(mine, expected)
    assert seen == [(8, 3), (4, 3), (4, 3)]
