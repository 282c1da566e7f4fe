"""Records of a prepared tfds split, read in their own order or in a shuffled one, decoded when they are needed.

Synopsis:

    store = RecordStore(info.splits["train"], features, keys=("image", "label"))
    store.image_shape, len(store), store.labels()

TFRecord files can only be read from front to back. An epoch therefore visits the files in a seeded order, several at a
time, gathers a window of undecoded records and shuffles that window: a buffered shuffle, not a permutation of the
whole set. It still depends on `(seed, epoch)` alone, every record comes once an epoch, and memory is bounded by the
window. To begin in the middle of an epoch, the records before it are read and thrown away undecoded.

A small part of a split, such as the images of a label budget, would cost a walk through all files in every epoch. Its
records are kept, undecoded, when it is first asked for, and are then shuffled as a whole.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from advss_tf.data.memory import fingerprint, shuffled_numbers
from advss_tf.data.pixels import resize_tensor
from advss_tf.errors import InvalidInput
from advss_tf.randomness import fold

_OPEN_FILES = 8
_WINDOW = (256, 16384)  # fewest and most records that are shuffled together
_ORDERED_CHUNK = 64


class Undecoded(NamedTuple):
    """Some records as they lie in their files: `numbers` `(b,)` int64, and `records` `(b,)`, serialized examples."""

    numbers: tf.Tensor
    records: tf.Tensor


class RecordStore:
    """A `Store` over the TFRecord files of one split.

    Args:
        split: A `tfds.core.SplitInfo`, whole or sliced.
        features: The `tfds.features.FeaturesDict` of what is read.
        keys: The names of the image and of the label (or None) in `features`.
        resize: The `(height, width)` of every image; needed where records differ in size.
        memory_limit: Bounds the window that is shuffled, in bytes of decoded pixels. Half of it, in bytes of files, is
            room for small parts.

    Raises:
        InvalidInput: if the files are not TFRecords or the pixels not 8-bit.
    """

    def __init__(
        self,
        split: Any,
        features: Any,
        *,
        keys: tuple[str, str | None],
        resize: tuple[int, int] | None = None,
        memory_limit: int = 2 * 2**30,
    ) -> None:
        self.name = str(split.name)
        self._features, self._resize = features, resize
        self._image_key, self._label_key = keys
        self._check_format(split)
        self._open_files(split.file_instructions)
        self.image_shape = self._find_shape()
        self._window = int(np.clip(memory_limit // (2 * int(np.prod(self.image_shape))), *_WINDOW))
        self._bytes_left = memory_limit / 2
        self._kept: dict[str, Undecoded] = {}

    def __len__(self) -> int:
        return self._count

    def epoch(self, numbers: np.ndarray, seed: tf.Tensor | None, offset: Any) -> tf.data.Dataset:
        """Vectors of undecoded records; see `Store`."""
        kept = self._keep(numbers)
        if kept is not None:
            order = shuffled_numbers(np.arange(len(numbers)), seed, offset).unbatch().batch(_ORDERED_CHUNK)
            return order.map(lambda rows: Undecoded(*(tf.gather(each, rows) for each in kept)))
        if seed is None:
            return self._records(numbers, None).skip(offset).batch(_ORDERED_CHUNK).map(Undecoded)
        offset = tf.cast(offset, tf.int64)
        first = offset // self._window
        windows = self._records(numbers, seed).skip(first * self._window).batch(self._window)

        def shuffle(window: tf.Tensor, found: tuple[tf.Tensor, tf.Tensor]) -> Undecoded:
            order = tf.range(tf.shape(found[0])[0])
            order = tf.random.experimental.stateless_shuffle(order, fold(seed, window), alg="philox")
            order = order[tf.where(window == first, offset % self._window, 0) :]
            return Undecoded(*(tf.gather(each, order) for each in found))

        return windows.enumerate(first).map(shuffle)

    def read(self, references: Undecoded) -> tuple[tf.Tensor, tf.Tensor | None]:
        """The decoded images and labels of some records; see `Store`."""
        records = references.records
        image = tf.TensorSpec(self.image_shape, tf.uint8)
        if self._label_key is None:
            return tf.map_fn(lambda record: self._decode(record)[0], records, fn_output_signature=image), None
        label = tf.TensorSpec([], tf.int64)
        return tf.map_fn(self._decode, records, fn_output_signature=(image, label))

    def record_numbers(self, references: Undecoded) -> tf.Tensor:
        """The numbers that came with the records; see `Store`."""
        return references.numbers

    def labels(self) -> np.ndarray:
        """The label of every record, int64 `(n,)`; reads all files, decodes no image."""
        return np.concatenate(list(self._labels().batch(_WINDOW[1]).as_numpy_iterator()))

    def is_labelled(self) -> bool:
        """Whether the first record has a label; of sets without, some have -1 in its place."""
        try:
            return int(next(iter(self._labels()))) >= 0
        except tf.errors.OpError:  # whoever reads the images meets it again, and says which record it is
            return True

    def refusal(self, error: tf.errors.OpError) -> InvalidInput:
        """Says which record it was that could not be read, after reading failed; reads them again, one by one."""
        first = None
        records = enumerate(self._records(np.arange(self._count), None))
        try:
            for number, (_, record) in records:
                image = self._features.deserialize_example(record)[self._image_key]
                first = first or (number, tuple(image.shape))
                if self._resize is None and tuple(image.shape) != first[1]:
                    return self._mixed(first, (number, tuple(image.shape)))
        except tf.errors.OpError as found:
            number = 0 if first is None else number + 1
            return InvalidInput(
                f"Record {number} of split {self.name!r} cannot be read.",
                expected="a whole record with a whole image",
                received=found.message.splitlines()[0].rstrip("."),
            )
        return InvalidInput(
            f"Split {self.name!r} cannot be read.", expected="whole records", received=error.message.rstrip(".")
        )

    def _mixed(self, first: tuple[int, tuple[int, ...]], other: tuple[int, tuple[int, ...]]) -> InvalidInput:
        return InvalidInput(
            f"Images of split {self.name!r} differ in size.",
            expected="one size for all, or `resize=(height, width)`",
            received=f"record {first[0]} is {first[1]}, record {other[0]} is {other[1]} (height, width, channels)",
        )

    def _check_format(self, split: Any) -> None:
        file = os.path.basename(split.file_instructions[0].filename)
        if ".tfrecord" not in file:
            raise InvalidInput(
                f"Split {self.name!r} is in a format that is not read.",
                expected="TFRecord files, as tfds writes unless told otherwise",
                received=f"file {file!r}",
            )
        feature = self._features[self._image_key]
        if tf.as_dtype(feature.dtype) != tf.uint8 or feature.shape[-1] not in (1, 3):
            raise InvalidInput(
                f"Images of split {self.name!r} are not 8-bit grey or RGB.",
                expected="uint8 with 1 or 3 channels",
                received=f"dtype={tf.as_dtype(feature.dtype).name}, shape={feature.shape}",
            )

    def _open_files(self, parts: list[Any]) -> None:
        takes = np.array([part.take for part in parts], np.int64)
        self._count = int(takes.sum())
        files = {str(part.filename): part.examples_in_shard for part in parts}
        self._bytes_each = sum(map(os.path.getsize, files)) / max(1, sum(files.values()))
        with tf.device("/cpu:0"):
            self._paths = tf.constant([str(part.filename) for part in parts])
            self._skips = tf.constant([part.skip for part in parts], tf.int64)
            self._takes = tf.constant(takes)
            self._firsts = tf.constant(np.cumsum(takes) - takes)  # the record number that a file begins with

    def _find_shape(self) -> tuple[int, int, int]:
        height, width, channels = self._features[self._image_key].shape
        if self._resize is not None:
            return (*self._resize, channels)
        if height is None or width is None:
            _, record = next(iter(self._records(np.arange(self._count), None)))
            height, width, _ = self._features.deserialize_example(record)[self._image_key].shape
        return height, width, channels

    def _labels(self) -> tf.data.Dataset:
        """The labels of all records in their order, as they are written there."""
        import tensorflow_datasets as tfds

        feature = tfds.features.FeaturesDict({self._label_key: self._features[self._label_key]})

        def label(number: tf.Tensor, record: tf.Tensor) -> tf.Tensor:
            del number
            return feature.deserialize_example(record)[self._label_key]

        records = self._records(np.arange(self._count), None)
        return records.map(label, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

    def _keep(self, numbers: np.ndarray) -> Undecoded | None:
        """The records of a part in their own order, if it is no whole split and they have room in memory."""
        digest = fingerprint([numbers])
        size = len(numbers) * self._bytes_each
        if digest not in self._kept and 0 < len(numbers) < self._count and size <= self._bytes_left:
            try:
                with tf.init_scope(), tf.device("/cpu:0"):  # once, even where a pipeline is being traced
                    found = list(self._records(numbers, None).batch(_WINDOW[1]))
                    kept = Undecoded(*(tf.concat(pieces, 0) for pieces in zip(*found, strict=True)))
            except tf.errors.OpError:  # whoever reads the images meets it again, and says which record it is
                return None
            self._kept[digest] = kept
            self._bytes_left -= size
        return self._kept.get(digest)

    def _records(self, numbers: np.ndarray, seed: tf.Tensor | None) -> tf.data.Dataset:
        """Pairs of these numbers and their undecoded records; `seed` shuffles the files they come from."""
        order = tf.range(len(self._paths))
        if seed is not None:
            order = tf.random.experimental.stateless_shuffle(order, seed, alg="philox")
        files = tf.data.Dataset.from_tensor_slices(order)
        if seed is None:
            records = files.flat_map(self._file)
        else:
            records = files.interleave(
                self._file, cycle_length=_OPEN_FILES, block_length=16,
                num_parallel_calls=tf.data.AUTOTUNE, deterministic=True,
            )  # fmt: skip
        wanted = np.zeros(self._count, bool)
        wanted[numbers] = True
        mask = tf.constant(wanted)

        def is_wanted(number: tf.Tensor, record: tf.Tensor) -> tf.Tensor:
            return mask[number]

        return records.filter(is_wanted)

    def _file(self, number: tf.Tensor) -> tf.data.Dataset:
        records = tf.data.TFRecordDataset(self._paths[number])
        return records.skip(self._skips[number]).take(self._takes[number]).enumerate(self._firsts[number])

    def _decode(self, record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        example = self._features.deserialize_example(record)
        image = example[self._image_key]
        if self._resize is not None:
            image = resize_tensor(image, self._resize)
        hint = f"Images of split {self.name!r} differ in size; `resize=(height, width)` makes them equal."
        same = tf.debugging.assert_equal(tf.shape(image), self.image_shape, message=hint)
        with tf.control_dependencies([same] if same is not None else []):  # None when it ran eagerly
            image = tf.ensure_shape(tf.identity(image), self.image_shape)
        return image, self._checked_label(example[self._label_key]) if self._label_key else tf.constant(-1, tf.int64)

    def _checked_label(self, label: tf.Tensor) -> tf.Tensor:
        message = f"A record of split {self.name!r} has no valid label."
        tf.debugging.assert_non_negative(label, message=message)
        tf.debugging.assert_less(label, tf.constant(self._features[self._label_key].num_classes, tf.int64), message)
        return tf.cast(label, tf.int64)
