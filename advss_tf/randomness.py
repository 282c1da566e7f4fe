"""Every random choice of a run, from `(run seed, step, role)`.

Synopsis:

    seed = seed_for(run_seed, step, "attack")           # int32 tensor, shape (2,)
    restart_seed = fold(seed, restart)                   # a seed made from a seed
    noise = batch_uniform(seed, (32, 8, 8, 1), -1.0, 1.0)
    noise = batch_uniform(seed_each(seed, numbers), (32, 8, 8, 1))       # one seed an example: whoever stands beside it

No generator holds a state, so a run that is killed at any step and resumed draws the same numbers. The algorithm is
named (Philox), so CPU and GPU draw the same numbers; code compiled by XLA draws others, the same at every run. The
functions that begin with `batch_` draw for the *global* batch and keep the rows of the calling replica: N replicas with
B/N images each see the numbers that one replica with B images sees.
"""

from __future__ import annotations

import contextvars
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

# A context variable: replicas are traced in threads of their own.
_FOR_XLA: contextvars.ContextVar[bool] = contextvars.ContextVar("advss_tf_for_xla", default=False)


def role_number(role: str) -> int:
    """A stable number in [0, 2**31) for a role's name; the same in every process and version of Python."""
    return zlib.crc32(role.encode()) & 0x7FFFFFFF


def seed_for(run_seed: Any, step: Any, role: str) -> tf.Tensor:
    """The stateless seed of one random choice.

    Args:
        run_seed: The run's seed, an integer.
        step: The number of the training step, a Python integer or a scalar integer tensor.
        role: What the choice is for, such as `"attack"`.

    Returns:
        An int32 tensor of shape `(2,)`, for `tf.random.stateless_*`.
    """
    run = tf.stack([tf.cast(run_seed, tf.int32), tf.constant(role_number(role), tf.int32)])
    return fold(run, step)


def fold(seed: tf.Tensor, number: Any) -> tf.Tensor:
    """A new seed from a seed, `(2,)` or one a row, and an integer, such as the number of a restart."""
    seed = tf.convert_to_tensor(seed)
    if len(seed.shape) == 2:
        return tf.map_fn(lambda each: fold(each, number), seed)
    drawn = _philox(tf.raw_ops.StatelessRandomUniformFullIntV2, (), seed, tf.int32)
    return tf.stack([drawn, tf.cast(number, tf.int32)])


def seed_each(seed: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
    """One seed for each example, from a seed `(2,)` and the examples' numbers `(batch,)`: int32 `(batch, 2)`.

    What is drawn with it for an example does not depend on the other examples of its batch.
    """
    numbers = tf.cast(numbers, tf.int32)
    return tf.stack([tf.fill(tf.shape(numbers), fold(seed, 0)[0]), numbers], axis=1)


def derived_seed(run_seed: int, role: str) -> int:
    """A Python integer in [0, 2**31) from a run's seed and a role, for libraries that take nothing else."""
    return zlib.crc32(f"{run_seed}/{role}".encode()) & 0x7FFFFFFF


def batch_uniform(seed: tf.Tensor, shape: Sequence[Any], minval: Any = 0.0, maxval: Any = 1.0) -> tf.Tensor:
    """Uniform float32 numbers for a batch; `shape[0]` is the batch of this replica, `seed` `(2,)` or one a row."""

    def draw(full: Sequence[Any], each: tf.Tensor) -> tf.Tensor:
        return _philox(tf.raw_ops.StatelessRandomUniformV2, full, each, tf.float32) * (maxval - minval) + minval

    return _rows(draw, shape, seed)


def batch_normal(seed: tf.Tensor, shape: Sequence[Any]) -> tf.Tensor:
    """Standard normal float32 numbers; `shape[0]` is the batch of this replica, `seed` `(2,)` or one a row."""

    def draw(full: Sequence[Any], each: tf.Tensor) -> tf.Tensor:
        return _philox(tf.raw_ops.StatelessRandomNormalV2, full, each, tf.float32)

    return _rows(draw, shape, seed)


def batch_balanced(seed: tf.Tensor, batch: Any, num_values: int) -> tf.Tensor:
    """A shuffled, near-balanced draw of `0 … num_values - 1` for a batch: int64, `(batch,)`.

    Over the global batch each value occurs equally often, up to one.
    """

    def draw(full: Sequence[Any], one: tf.Tensor) -> tf.Tensor:
        values = tf.range(tf.cast(full[0], tf.int64)) % num_values
        if not _FOR_XLA.get():
            return tf.random.experimental.stateless_shuffle(values, one, alg="philox")
        ranks = _philox(tf.raw_ops.StatelessRandomUniformFullIntV2, full, one, tf.int32)
        return tf.gather(values, tf.argsort(ranks, stable=True))

    return _rows(draw, (batch,), seed)


@contextmanager
def drawing_for_xla(compiled: bool = True) -> Iterator[None]:
    """Inside the `with`, what is drawn can be compiled by XLA, which has no kernel that shuffles."""
    token = _FOR_XLA.set(compiled)
    try:
        yield
    finally:
        _FOR_XLA.reset(token)


def _philox(operation: Any, shape: Sequence[Any], seed: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """What `tf.random.fold_in` and `tf.random.stateless_*` draw by Philox, without the forty operations around it."""
    key, counter = tf.raw_ops.StatelessRandomGetKeyCounter(seed=seed)
    return operation(shape=shape, key=key, counter=counter, alg=int(tf.random.Algorithm.PHILOX.value), dtype=dtype)


def _rows(draw: Any, shape: Sequence[Any], seed: tf.Tensor) -> tf.Tensor:
    seed = tf.convert_to_tensor(seed)
    if len(seed.shape) == 2:
        spec = tf.TensorSpec(tuple(shape[1:]), tf.float32)
        return tf.map_fn(lambda each: draw(shape[1:], each), seed, fn_output_signature=spec)
    replica = tf.distribute.get_replica_context()
    count = replica.num_replicas_in_sync if replica is not None else 1
    if count == 1:
        return draw(shape, seed)
    local = shape[0]
    first = tf.cast(replica.replica_id_in_sync_group, tf.int32) * local
    return draw([local * count, *shape[1:]], seed)[first : first + local]
