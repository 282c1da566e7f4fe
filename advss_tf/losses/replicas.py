"""What a loss over the whole batch needs of the other replicas: their rows, with the gradient that flows back to them.

Synopsis:

    everyone, first = gathered(embeddings, axis=1)      # all rows of the global batch, and where this replica's begin

`N` replicas with `B/N` rows each so compute what one replica computes with `B` rows.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from advss_tf.errors import one_of

NEGATIVES = ("global", "local")


def gathered(values: tf.Tensor, *, axis: int = 0, negatives: str = "global") -> tuple[tf.Tensor, Any]:
    """The rows of all replicas along `axis`, and the place of this replica's first row among them.

    Every replica must call it at the same point of its step, and not inside a `tf.while_loop` such as that of an
    attack, where replicas of one process cannot meet: TensorFlow refuses that ("merge_call"). There, either gather
    before the loop or take `negatives="local"`.

    The gradient of a row is the sum of what all replicas send back to it. If each replica differentiates its share of
    one mean, every row's gradient is that of the mean over the global batch.

    Args:
        values: This replica's rows; the other axes have the same size on all replicas.
        axis: The axis of the rows.
        negatives: `"global"` gathers, `"local"` takes this replica's rows for all there are.

    Returns:
        All rows, and an integer (a scalar tensor where there are several replicas).

    Raises:
        InvalidInput: if `negatives` is neither.
    """
    one_of("negatives", negatives, NEGATIVES)
    replica = tf.distribute.get_replica_context()
    if negatives == "local" or replica is None or replica.num_replicas_in_sync == 1:
        return values, 0
    sizes = replica.all_gather(tf.shape(values)[axis : axis + 1], axis=0)
    number = tf.cast(replica.replica_id_in_sync_group, tf.int32)
    before = tf.range(replica.num_replicas_in_sync) < number
    first = tf.reduce_sum(tf.where(before, sizes, 0))
    return replica.all_gather(values, axis=axis), first
