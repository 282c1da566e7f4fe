"""The images of a call, padded to one of few sizes and shared out among the replicas of a strategy.

Synopsis:

    shares = Shares(strategy, batch_size=256)
    rows = shares.padded(np.arange(37))                     # 64 numbers, 0 … 36 and the first of them again
    compiled = traced(shares.of(method))                    # called with (64, …), each of 4 replicas has (16, …)

A function is traced once for each size that it meets: of padded rows these are the batch size and its halves.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

_SMALLEST_BUCKET = 8


def bucket(count: int, batch_size: int) -> int:
    """The size that `count` images are padded to: `batch_size` halved as often as it holds them, 8 at least."""
    size = batch_size
    while size // 2 >= max(count, _SMALLEST_BUCKET):
        size //= 2
    return size


def share_of_batch(batch_size: int, replicas: int) -> int:
    """The images of a batch that each device has, rounded up."""
    return -(-batch_size // replicas)


class Shares:
    """How calls are shared out.

    Args:
        strategy: A `tf.distribute` strategy whose replicas work side by side; None for the one in whose scope this is
            made, which may have one replica alone.
        batch_size: The most images of a call.
    """

    def __init__(self, strategy: tf.distribute.Strategy | None, *, batch_size: int) -> None:
        self.strategy = strategy or tf.distribute.get_strategy()
        self.replicas = self.strategy.num_replicas_in_sync
        self._batch_size = batch_size

    def padded(self, rows: np.ndarray) -> np.ndarray:
        """Numbers of images `(n,)`, the first repeated behind them up to a size that all replicas share evenly."""
        size = bucket(len(rows), self._batch_size)
        size += -size % self.replicas
        return np.concatenate([rows, np.repeat(rows[:1], size - len(rows))])

    def of(self, method: Callable[..., tuple[tf.Tensor, ...]]) -> Callable[..., tuple[tf.Tensor, ...]]:
        """The method on all replicas, each with its share of the rows; results as if it had been one.

        Args:
            method: Takes tensors `(b, …)`, of a size that the replicas share evenly, and by name what all of them see
                whole; returns tensors `(b, …)`.
        """
        if self.replicas == 1:
            return method

        def share(*rows: tf.Tensor, **more: tf.Tensor) -> tuple[tf.Tensor, ...]:
            replica = tf.distribute.get_replica_context()
            size = rows[0].shape[0] // self.replicas
            first = tf.cast(replica.replica_id_in_sync_group, tf.int32) * size
            return method(
                *(tf.ensure_shape(each[first : first + size], (size, *each.shape[1:])) for each in rows), **more
            )

        def shared(*rows: tf.Tensor, **more: tf.Tensor) -> tuple[tf.Tensor, ...]:
            parts = self.strategy.run(share, args=rows, kwargs=more)
            return tuple(tf.concat(self.strategy.experimental_local_results(part), 0) for part in parts)

        return shared
