"""CIFAR-10-C as TensorFlow Datasets has it: ready-made corrupted images, one set for each type and severity.

Synopsis:

    sets = corrupted_catalogue(data_dir="prepared")              # 15 types, 5 severities; nothing is read yet
    for images, labels in sets["glass_blur", 3]:                 # float32 in [0, 1], int64
        ...
    record = evaluate_corruptions(model, cifar10.test(), source=sets)

These are the very images of Hendrycks & Dietterich 2019 (arXiv:1903.12261), which their authors published and others
report on. Types have the names of `CORRUPTIONS`; two of them are called otherwise in the catalogue.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

import tensorflow as tf

from advss_tf.data.catalogue import catalogue_source
from advss_tf.data.corruptions import CORRUPTIONS, EXTRA_CORRUPTIONS
from advss_tf.data.corruptions.registry import SEVERITIES
from advss_tf.data.pipeline import ordered_batches
from advss_tf.errors import InvalidInput, one_of

CATALOGUE_NAME = "cifar10_corrupted"
# What the catalogue calls otherwise than the authors' files do.
CATALOGUE_TYPES = {"glass_blur": "frosted_glass_blur", "elastic_transform": "elastic"}


class CorruptedCatalogue(Mapping[tuple[str, int], tf.data.Dataset]):
    """Batches `(images, labels)` by `(type, severity)`; a set is opened when it is asked for, and not kept.

    Args:
        corruptions: Types, of `CORRUPTIONS` and `EXTRA_CORRUPTIONS`.
        severities: Whole numbers from 1 to 5.
        data_dir: Where prepared tfds sets lie.
        batch_size: Images a batch.

    Attributes:
        name: "tfds cifar10_corrupted", what a record says of the source.
        frost: "the authors' photographs", what a record says of frost.
    """

    name = f"tfds {CATALOGUE_NAME}"
    frost = "the authors' photographs"

    def __init__(
        self,
        corruptions: Sequence[str],
        severities: Sequence[int],
        *,
        data_dir: str | os.PathLike[str] | None,
        batch_size: int,
    ) -> None:
        self._keys = tuple((kind, severity) for kind in corruptions for severity in severities)
        self._data_dir, self._batch_size = data_dir, batch_size

    def __getitem__(self, key: tuple[str, int]) -> tf.data.Dataset:
        if key not in self._keys:
            raise KeyError(key)
        kind, severity = key
        name = f"{CATALOGUE_NAME}/{CATALOGUE_TYPES.get(kind, kind)}_{severity}"
        source = catalogue_source(name, data_dir=self._data_dir)
        if source.test is None:
            raise InvalidInput(f"{name!r} has no test split.", expected="a split 'test'", received="none")
        return ordered_batches(source.test, self._batch_size)

    def __contains__(self, key: object) -> bool:
        return key in self._keys  # the inherited one would open the set

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def corrupted_catalogue(
    data_dir: str | os.PathLike[str] | None = None,
    *,
    corruptions: Sequence[str] = CORRUPTIONS,
    severities: Sequence[int] = SEVERITIES,
    batch_size: int = 256,
) -> CorruptedCatalogue:
    """The sets of tfds's `cifar10_corrupted`, as a mapping from `(type, severity)` to batches of its 10,000 images.

    Nothing is read before a set is asked for. tfds then prepares it if it is not there yet, which downloads 2.7 GB once
    for all of them. The order of the images is the same in every set; it need not be
    that of the set `cifar10`.

    Args:
        data_dir: Where prepared tfds sets lie. Defaults to tfds's own folder.
        corruptions: Types, by the names of `CORRUPTIONS` and `EXTRA_CORRUPTIONS`.
        severities: Of 1, 2, 3, 4, 5.
        batch_size: Images a batch.

    Raises:
        InvalidInput: for an unknown type or severity; on reading, if a set is missing and cannot be prepared.
    """
    check_types(corruptions, severities)
    return CorruptedCatalogue(corruptions, severities, data_dir=data_dir, batch_size=batch_size)


def check_types(corruptions: Sequence[str], severities: Sequence[int]) -> None:
    """Refuses types that are none of `CORRUPTIONS` and `EXTRA_CORRUPTIONS`, and severities that are not 1 to 5."""
    for kind in corruptions:
        one_of("corruptions", kind, CORRUPTIONS + EXTRA_CORRUPTIONS)
    for severity in severities:
        one_of("severities", str(severity), map(str, SEVERITIES))
