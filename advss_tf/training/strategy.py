"""Which devices share a step, and how each gets its part of the global batch.

Synopsis:

    strategy = get_strategy("auto")                # all local GPUs, or the cluster in TF_CONFIG
    with strategy.scope():
        model = ...
    model.fit(distributed(strategy, make_dataset, batch_size), ...)
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from advss_tf.errors import InvalidInput, one_of

STRATEGIES = ("auto", "single", "mirrored", "multi_worker")


def get_strategy(kind: str = "auto") -> tf.distribute.Strategy:
    """The distribution strategy of a run.

    Args:
        kind: `"single"` (one device), `"mirrored"` (all local GPUs, or all logical CPUs where there is none),
            `"multi_worker"` (the cluster in `TF_CONFIG`), or `"auto"`: the cluster if `TF_CONFIG` names one of several
            workers, else all GPUs if there are several, else one device.

    Raises:
        InvalidInput: if the kind is not known, `multi_worker` is asked for without a cluster in `TF_CONFIG`, or
            `TF_CONFIG` cannot be read.
    """
    one_of("strategy", kind, STRATEGIES)
    if kind == "auto":
        several_gpus = len(tf.config.list_logical_devices("GPU")) > 1 if not _workers() else False
        kind = "multi_worker" if _workers() else "mirrored" if several_gpus else "single"
    if kind == "multi_worker":
        if not _workers():
            raise InvalidInput(
                "`strategy: multi_worker` finds no cluster.",
                expected="a TF_CONFIG in the environment that names at least two workers",
                received="none",
            )
        return tf.distribute.MultiWorkerMirroredStrategy()
    if kind == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return _mirrored(tuple(device.name for device in devices))
    return tf.distribute.get_strategy()


def local_strategy(cluster: tf.distribute.Strategy | None = None, *, kind: str = "GPU") -> tf.distribute.Strategy:
    """All GPUs of this process if there are several, else one device; a cluster in `TF_CONFIG` is left alone.

    For what one process does by itself, such as an evaluation: a cluster's strategy would wait for the other workers.

    Args:
        cluster: The strategy of the cluster that this process has joined, if it has: the devices of all workers are
            then listed.
        kind: Of which devices: `"GPU"` or `"CPU"`.
    """
    devices = [device.name for device in tf.config.list_logical_devices(kind)]
    if isinstance(cluster, tf.distribute.MultiWorkerMirroredStrategy):
        task, _, _ = cluster.extended.worker_devices[0].partition("/device:")
        devices = [name for name in devices if name.startswith(f"{task}/device:")]
    return _mirrored(tuple(devices)) if len(devices) > 1 else get_strategy("single")


def in_cluster(kind: str = "auto") -> bool:
    """Whether a run of this kind of strategy would be one worker of a cluster; nothing is joined."""
    return kind == "multi_worker" or (kind == "auto" and bool(_workers()))


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes the run's files: the only one, or the first worker of a cluster."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.task_type:
        return True
    return resolver.task_type == "chief" or (resolver.task_type == "worker" and resolver.task_id == 0)


def task_number(strategy: tf.distribute.Strategy) -> int:
    """The number of this worker among those of its kind in a cluster; 0 without one."""
    resolver = strategy.cluster_resolver
    return 0 if resolver is None else int(resolver.task_id or 0)


def distributed(strategy: tf.distribute.Strategy, make_dataset: Callable[..., tf.data.Dataset], batch_size: int) -> Any:
    """The data of `fit`: each replica gets its contiguous slice of every global batch.

    Args:
        strategy: The strategy that shares the step.
        make_dataset: `make_dataset(worker=…, num_workers=…)` gives the batches of one worker: its slice of each global
            batch.
        batch_size: Size of the global batch.

    Raises:
        InvalidInput: if the replicas cannot share the batch evenly.
    """
    share = share_of(strategy, batch_size)
    if strategy.num_replicas_in_sync == 1:
        return make_dataset(worker=0, num_workers=1)

    def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        dataset = make_dataset(worker=context.input_pipeline_id, num_workers=context.num_input_pipelines)
        return dataset.rebatch(share, drop_remainder=True)

    return strategy.distribute_datasets_from_function(of_worker)


def share_of(strategy: tf.distribute.Strategy, batch_size: int, *, name: str = "batch_size") -> int:
    """How many images of a global batch each replica has.

    Args:
        strategy: The strategy that shares the step.
        batch_size: Size of the global batch.
        name: What a refusal calls it.

    Raises:
        InvalidInput: if the replicas cannot share the batch evenly.
    """
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        raise InvalidInput(
            f"`{name}` cannot be shared evenly by the replicas.",
            expected=f"a multiple of {replicas}",
            received=f"{name}={batch_size}",
        )
    return batch_size // replicas


def spare_bytes() -> int:
    """What one device may have to spare for a single loss: a quarter of the machine's memory, or 4 GiB of a GPU's.

    TensorFlow does not tell how large a GPU is without making it anew; 4 GiB is a tenth to a half of those in use.
    """
    if tf.config.list_physical_devices("GPU"):
        return 4 * 2**30
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4


def global_size(images: tf.Tensor) -> tf.Tensor:
    """The number of images that all replicas have together, a float32 scalar; called by each of them in its step."""
    replica = tf.distribute.get_replica_context()
    count = tf.cast(tf.shape(images)[0], tf.float32)
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, count) if replica.num_replicas_in_sync > 1 else count


def never_empty(batch: Any, weights: tf.Tensor | None) -> tuple[Any, tf.Tensor | None]:
    """This replica's part of a batch, with a row of zeros that weighs nothing where it has none; of one replica as is.

    The last batch of a data set may have fewer rows than there are replicas. Networks and attacks want a row at least,
    and all replicas take the same step, so that none waits for another. Means and counts are of the real rows.

    Args:
        batch: Tensors whose first axis is that of the rows, in any structure; None stays None.
        weights: Float32 `(rows,)`, or None for ones.
    """
    first = tf.nest.flatten(batch)[0]
    if tf.distribute.get_replica_context().num_replicas_in_sync == 1 or first.shape[0]:
        return batch, weights
    rows = tf.shape(first)[0]
    lacking = tf.cast(rows == 0, tf.int32)

    def padded(rows_of: tf.Tensor | None) -> tf.Tensor | None:
        if rows_of is None:
            return None
        more = tf.zeros(tf.concat([[lacking], tf.shape(rows_of)[1:]], 0), rows_of.dtype)
        return tf.ensure_shape(tf.concat([rows_of, more], 0), (None, *rows_of.shape[1:]))

    return tf.nest.map_structure(padded, batch), padded(tf.ones((rows,)) if weights is None else weights)


@functools.cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    """One strategy for the same devices in a process: two would number their reductions alike, and mix them up."""
    return tf.distribute.MirroredStrategy(list(devices))


def _workers() -> int:
    """How many workers the cluster in TF_CONFIG has, or 0 if it is none of several."""
    try:
        tasks = tf.distribute.cluster_resolver.TFConfigClusterResolver().cluster_spec().as_dict()
    except (ValueError, TypeError) as error:
        raise InvalidInput(
            "TF_CONFIG in the environment cannot be read.",
            expected='JSON such as {"cluster": {"worker": ["host:port", "host:port"]}, "task": {...}}, or no TF_CONFIG',
            received=str(error),
        ) from error
    count = len(tasks.get("worker", [])) + len(tasks.get("chief", []))
    return count if count > 1 else 0
