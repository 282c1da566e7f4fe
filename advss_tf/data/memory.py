"""Sources and the store that most of them use: images that stand in memory.

Synopsis:

    source = array_source("mine", (images, labels), (test_images, test_labels), class_names)
    source.train.store.image_shape

Sets are kept as they come, uint8 or float32, and become float32 in [0, 1] batch by batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from advss_tf.data.pipeline import Part, Store
from advss_tf.errors import InvalidInput


@dataclass(frozen=True, eq=False)
class Source:
    """What a source hands to `load_data`: records to train on, records to test on, and what they are.

    Args:
        name: What reports call it.
        train: The records of the train split.
        labels: Their labels by record number, or None where there are none or they have not been read.
        test: The official test split, or None if the source has none.
        class_names: One name a class; None when unlabelled.
        fingerprint: A SHA-256 in hexadecimal.
        stratify: Whether the cuts of test and held-out images look at `labels`; not where reading them is optional,
            since that must not change what is cut.
    """

    name: str
    train: Part
    labels: np.ndarray | None
    test: Part | None
    class_names: tuple[str, ...] | None
    fingerprint: str
    stratify: bool = True


class ArrayStore:
    """A `Store` that holds every image in memory."""

    def __init__(self, images: np.ndarray, labels: np.ndarray | None) -> None:
        self.image_shape = images.shape[1:]
        with tf.device("/cpu:0"):  # the input pipeline runs there
            self._images = tf.constant(images)
            self._labels = None if labels is None else tf.constant(labels, tf.int64)

    def __len__(self) -> int:
        return int(self._images.shape[0])

    def epoch(self, numbers: np.ndarray, seed: tf.Tensor | None, offset: Any) -> tf.data.Dataset:
        """One vector of record numbers; see `Store`."""
        return shuffled_numbers(numbers, seed, offset)

    def read(self, references: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | None]:
        """The images and labels of some record numbers; see `Store`."""
        labels = None if self._labels is None else tf.gather(self._labels, references)
        return tf.gather(self._images, references), labels

    def record_numbers(self, references: tf.Tensor) -> tf.Tensor:
        """The references, which are record numbers; see `Store`."""
        return references


def shuffled_numbers(numbers: np.ndarray, seed: tf.Tensor | None, offset: Any) -> tf.data.Dataset:
    """The epoch of a store with random access: all its record numbers in one vector, from `offset` on.

    A whole shuffle costs 2 ms for 50,000 images. `tf.random.experimental.index_shuffle`, which would permute one number
    at a time, knows only 256 orders of a set when two of its three seed words vary.
    """
    order = tf.constant(numbers, tf.int64)
    if seed is not None:
        order = tf.random.experimental.stateless_shuffle(order, seed, alg="philox")
    return tf.data.Dataset.from_tensors(order[offset:])


def all_of(store: Store, count: int) -> Part:
    """Every record of a store."""
    return Part(store, np.arange(count, dtype=np.int64))


def array_source(
    name: str,
    train: tuple[np.ndarray, np.ndarray | None],
    test: tuple[np.ndarray, np.ndarray | None] | None,
    class_names: Sequence[str] | None,
) -> Source:
    """A source of images that stand in memory; labels are already checked."""
    pairs = [train] if test is None else [train, test]
    shapes = [images.shape[1:] for images, _ in pairs]
    if shapes[0] != shapes[-1]:
        raise InvalidInput(
            "Train and test images differ in shape.",
            expected="one (height, width, channels) for all; `resize=(height, width)` gives it",
            received=f"train images {shapes[0]}, test images {shapes[-1]}",
        )
    stored = [all_of(ArrayStore(images, labels), len(images)) for images, labels in pairs]
    digest = fingerprint(array for pair in pairs for array in pair if array is not None)
    names = None if class_names is None else tuple(class_names)
    return Source(name, stored[0], train[1], None if test is None else stored[1], names, digest)


def fingerprint(arrays: Iterable[np.ndarray]) -> str:
    """SHA-256 over the dtype, shape and bytes of each array in turn."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
