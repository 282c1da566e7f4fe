"""From record numbers to batches: the order of an epoch, the step a batch belongs to, the slice of a worker.

    passes ─► epochs ─► permutation ─► references ─► batches ─► worker's rows ─► read ─► augment ─► prefetch

Synopsis:

    part = Part(store, numbers)
    dataset = training_batches(part, TrainingPlan(batch_size=128, seed=0, num_steps=1000), augment=augment)

Global position `p = step * batch_size + row` of a training stream is image `p % n` in the order of epoch `p // n`. An
epoch's order depends on `(seed, epoch)` alone, so batches are always full, they straddle epochs, no image is lost, and
a stream that starts at any step continues as if it had started at 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from advss_tf.data.pixels import as_float
from advss_tf.errors import InvalidInput
from advss_tf.randomness import seed_for

# No function here needs AutoGraph, which would double the time that a dataset takes to build.
_as_written = tf.autograph.experimental.do_not_convert

# Two images for each of 32 replicas.
_FEWEST = 64


class Store(Protocol):
    """Where pixels are kept: in memory, in files, in records."""

    image_shape: tuple[int, int, int]

    def __len__(self) -> int:
        """How many records there are; their numbers begin at 0."""

    def epoch(self, numbers: np.ndarray, seed: tf.Tensor | None, offset: Any) -> tf.data.Dataset:
        """References to the records `numbers` from place `offset` of the epoch on, in vectors of any length.

        `seed` (shape `(2,)`) decides the order; None means the given, ascending one. A reference is whatever `read`
        and `record_numbers` understand, a tensor or a `NamedTuple` of several, each with one row a record: a record
        number, or a record number and the record itself, undecoded.
        """

    def read(self, references: Any) -> tuple[tf.Tensor, tf.Tensor | None]:
        """The images `(b, height, width, channels)` and int64 labels `(b,)` (None if there are none)."""

    def record_numbers(self, references: Any) -> tf.Tensor:
        """Which records these are, int64 `(b,)`; reads nothing."""


@dataclass(frozen=True, eq=False)
class Part:
    """Some records of a store: `numbers` is an ascending int64 vector."""

    store: Store
    numbers: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)


@dataclass(frozen=True)
class TrainingPlan:
    """Which batches of the endless training stream, and which of their rows.

    Args:
        batch_size: Images in a global batch.
        seed: Decides order and augmentation.
        start_step: The first step.
        num_steps: How many steps; None means one epoch a pass, and another epoch at every new pass.
        worker: This worker, in [0, num_workers).
        num_workers: How many workers share a batch; each holds a contiguous slice.

    Raises:
        InvalidInput: if a number is out of range, or the workers cannot share a batch evenly.
    """

    batch_size: int
    seed: int = 0
    start_step: int = 0
    num_steps: int | None = None
    worker: int = 0
    num_workers: int = 1

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("start_step", 0), ("num_steps", 1), ("num_workers", 1), ("worker", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InvalidInput(f"`{name}` is too small.", expected=f"{name} >= {least}", received=f"{name}={value}")
        if self.worker >= self.num_workers:
            raise InvalidInput(
                "There is no such worker.",
                expected=f"worker in [0, {self.num_workers})",
                received=f"worker={self.worker}",
            )
        if self.batch_size % self.num_workers:
            raise InvalidInput(
                "The workers cannot share a batch evenly.",
                expected=f"a batch_size divisible by num_workers={self.num_workers}",
                received=f"batch_size={self.batch_size}",
            )

    @property
    def rows(self) -> slice:
        """This worker's rows of the global batch."""
        share = self.batch_size // self.num_workers
        return slice(self.worker * share, (self.worker + 1) * share)


Augment = Callable[[tf.Tensor, tf.Tensor, TrainingPlan], tf.Tensor]  # images of `plan.rows`, the step, the plan


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Steps until `count` images have been seen, the last batch being filled up from the next epoch."""
    return -(-count // batch_size)


def training_batches(
    part: Part,
    plan: TrainingPlan,
    *,
    augment: Augment | None = None,
    labelled: bool = True,
    pseudo_labels: np.ndarray | None = None,
) -> tf.data.Dataset:
    """Full batches in the order of `plan`, float32 in [0, 1], augmented, with their labels if `labelled`.

    Args:
        part: The records.
        plan: Which batches, and which of their rows.
        augment: What makes the images that are trained on; drawn from `plan.seed` and the step alone.
        labelled: Whether labels come with the images.
        pseudo_labels: `(records, heads)` integers by record number, that come in place of labels; None for none.
    """
    read = _reader(part.store, labelled, pseudo_labels)
    steps = plan.num_steps or steps_per_epoch(len(part), plan.batch_size)
    passes = None if plan.num_steps else _Passes(plan.start_step, steps)
    if passes is None:
        numbered = _numbered(part, plan, plan.start_step).take(steps)
    else:
        once = tf.data.Dataset.from_tensors(0)
        numbered = once.flat_map(_as_written(lambda _: _numbered(part, plan, passes.first_step()).take(steps)))

    @_as_written
    def load(step: tf.Tensor, references: Any) -> tuple[tf.Tensor, Any]:
        images, labels = read(tf.nest.map_structure(lambda each: each[plan.rows], references))
        if augment is not None:
            images = augment(images, step, plan)
        return step, _batch(as_float(images), labels)

    dataset = numbered.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(steps)).prefetch(tf.data.AUTOTUNE)
    return dataset.map(lambda step, batch: batch) if passes is None else passes.count(dataset)


def ordered_batches(
    part: Part, batch_size: int, *, labelled: bool = True, pseudo_labels: np.ndarray | None = None
) -> tf.data.Dataset:
    """Every image of `part` once, in ascending order, in the batches that `ordered_sizes` says; else as above."""
    read = _reader(part.store, labelled, pseudo_labels)

    @_as_written
    def load(references: Any) -> Any:
        images, labels = read(references)
        return _batch(as_float(images), labels)

    sizes = ordered_sizes(len(part), batch_size)
    dataset = part.store.epoch(part.numbers, None, 0).rebatch(sizes)
    dataset = dataset.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(sizes))).prefetch(tf.data.AUTOTUNE)
    # Workers take turns at batches. Shared by files, as is the default, they would stop at the count of all.
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return dataset.with_options(options)


def ordered_sizes(count: int, batch_size: int) -> list[int]:
    """The sizes of the batches that `count` images are read in, none above `batch_size`.

    All but the last are full; a last one of fewer than 64 images, or than half of `batch_size`, shares with the one
    before. So several replicas have an image each, and what compares images has others to compare with.

    >>> ordered_sizes(17, 8), ordered_sizes(513, 256), ordered_sizes(359, 256)
    ([8, 5, 4], [256, 129, 128], [256, 103])
    """
    full, rest = divmod(count, batch_size)
    if full and 0 < rest < min(_FEWEST, batch_size // 2):
        both = batch_size + rest
        return [batch_size] * (full - 1) + [both - both // 2, both // 2]
    return [batch_size] * full + [rest] * (rest > 0)


def _reader(
    store: Store, labelled: bool, pseudo_labels: np.ndarray | None
) -> Callable[[Any], tuple[tf.Tensor, tf.Tensor | None]]:
    """From references to images and what comes with them: labels, pseudo-labels or nothing."""
    if pseudo_labels is None:
        return store.read if labelled else lambda references: (store.read(references)[0], None)
    with tf.device("/cpu:0"):  # the input pipeline runs there
        table = tf.constant(pseudo_labels, tf.int64)
    return lambda references: (store.read(references)[0], tf.gather(table, store.record_numbers(references)))


def _batch(images: tf.Tensor, labels: tf.Tensor | None) -> Any:
    return images if labels is None else (images, labels)


def _numbered(part: Part, plan: TrainingPlan, start_step: Any) -> tf.data.Dataset:
    """The endless stream of `(step, references)` from `start_step` on."""
    start = tf.cast(start_step, tf.int64)
    position = start * plan.batch_size
    first_epoch = position // len(part)

    @_as_written
    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        offset = tf.where(number == first_epoch, position % len(part), 0)
        return part.store.epoch(part.numbers, seed_for(plan.seed, number, "order"), offset)

    references = tf.data.Dataset.range(first_epoch, tf.int64.max).flat_map(epoch)
    return references.rebatch(plan.batch_size, drop_remainder=True).enumerate(start)


class _Passes:
    """Counts the complete passes over a dataset, so that each new one is another epoch.

    A pass counts when its last batch is handed out: peeking at the first batch, as Keras does to build a model under a
    distribution strategy, leaves the order of what follows alone. The count is kept in a table because, unlike a
    `tf.Variable`, a table is the same thing inside and outside a strategy's scope.
    """

    def __init__(self, start_step: int, steps: int) -> None:
        self._start, self._steps = start_step, steps
        with tf.init_scope(), tf.device("/cpu:0"):
            self._table = tf.lookup.experimental.MutableHashTable(tf.int64, tf.int64, default_value=start_step)
            self._key = tf.constant(0, tf.int64)

    def first_step(self) -> tf.Tensor:
        """The first step of the pass that begins now."""
        return self._table.lookup(self._key)

    def count(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """`(step, batch)` to `batch`, noting where the next pass begins. Nothing may read ahead of this."""

        @_as_written
        def note(step: tf.Tensor, batch: Any) -> Any:
            after = step + 1
            last = (after - self._start) % self._steps == 0
            tf.cond(last, lambda: self._table.insert(self._key, after), tf.no_op)
            return batch

        options = tf.data.Options()
        options.experimental_optimization.inject_prefetch = False
        return dataset.map(note).with_options(options)
