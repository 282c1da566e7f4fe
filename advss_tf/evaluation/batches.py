"""The images of an evaluation: checked at the door, chosen once, in batches of one shape.

Synopsis:

    batches = Batches(data, batch_size=256, limit=1000)
    for batch in batches:                    # images (256, H, W, C), labels (256,), `num_real` of them are real
        ...
    batches.fingerprint                      # sha256 over the pixels and labels that were read

The last batch is filled up with copies of its first image, so an attack is traced for one shape and no image is lost;
only the first `num_real` rows of a batch count.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from advss_tf.data import check_images, check_labels
from advss_tf.errors import InvalidInput


class Batch(NamedTuple):
    """Images (B, H, W, C) float32 and labels (B,) int64, of which the first `num_real` rows are real."""

    images: np.ndarray
    labels: np.ndarray
    num_real: int


class Batches:
    """A finite, ordered data set of images and labels, read once to look at it and once to evaluate.

    Args:
        data: A batched `tf.data.Dataset` of (images, labels), or a pair of arrays: images (N, H, W, C) float32 in
            [0, 1], labels (N,) integers.
        batch_size: Images a batch; cut to the number of images if that is smaller.
        limit: If given, evaluate this many images, in the proportions of the classes, the first of each class. The
            choice has no randomness in it, so every model and every seed sees the same images.

    Attributes:
        labels: (n,) int64, the labels of the images that are evaluated, in order.
        num_available: How many images `data` has.
        image_shape: (H, W, C).
        subset: In words, which images are evaluated; None when they are all.

    Raises:
        InvalidInput: if the data are empty or infinite, or pixels or labels are not what the library works with.
    """

    def __init__(self, data: Any, *, batch_size: int = 256, limit: int | None = None) -> None:
        _check_whole("batch_size", batch_size)
        self._data = _checked_data(data)
        self._everything = self._survey()
        self.num_available = len(self._everything)
        self._chosen = chosen_images(self._everything, limit)
        self.labels = self._everything[self._chosen]
        self.batch_size = min(batch_size, len(self.labels))
        self.subset = (
            None
            if self._chosen.all()
            else f"{len(self.labels)} of {self.num_available} images: the first of each class, in proportion"
        )
        self._digest = hashlib.sha256()

    @property
    def fingerprint(self) -> str:
        """sha256, as hex, over the labels and pixels of the last whole pass."""
        return self._digest.hexdigest()

    @property
    def description(self) -> dict[str, Any]:
        """What tells these batches from others before they have been read, as plain data."""
        labels = hashlib.sha256(self.labels.tobytes()).hexdigest()
        return {"batch size": self.batch_size, "labels": labels, "images": list(self.image_shape)}

    def __len__(self) -> int:
        return math.ceil(len(self.labels) / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        self._digest = hashlib.sha256(self.labels.tobytes())
        waiting: list[tuple[np.ndarray, np.integer]] = []
        read = 0
        for images, labels in self._source():
            rows = self._chosen[read : read + len(labels)]
            self._check_same(labels, read)
            read += len(labels)
            waiting.extend(zip(images[rows], labels[rows], strict=True))
            while len(waiting) >= self.batch_size:
                yield self._batch(waiting[: self.batch_size])
                del waiting[: self.batch_size]
        if waiting:
            yield self._batch(waiting)

    def _batch(self, rows: list[tuple[np.ndarray, np.integer]]) -> Batch:
        filled = rows + rows[:1] * (self.batch_size - len(rows))
        images = np.stack([image for image, _ in filled])
        self._digest.update(images[: len(rows)].tobytes())
        return Batch(images, np.array([label for _, label in filled], np.int64), len(rows))

    def _check_same(self, labels: np.ndarray, read: int) -> None:
        if not np.array_equal(labels, self._everything[read : read + len(labels)]):
            raise InvalidInput(
                "The dataset gave its images in another order at the second pass.",
                expected="an ordered dataset, without `shuffle`",
                received=f"other labels at image {read}",
            )

    def _survey(self) -> np.ndarray:
        """All labels in order; on the way every image and label is looked at."""
        labels, shapes = [], set()
        for number, (batch_images, batch_labels) in enumerate(self._source()):
            check_images(batch_images, f"images of batch {number}")
            check_labels(batch_labels, f"labels of batch {number}", count=len(batch_images))
            labels.append(batch_labels.astype(np.int64))
            shapes.add(batch_images.shape[1:])
        if not sum(map(len, labels)):
            raise InvalidInput("There is no image to evaluate.", expected="at least one image", received="data=empty")
        if len(shapes) != 1:
            raise InvalidInput(
                "The images have different sizes.", expected="one shape", received=f"shapes={sorted(shapes)}"
            )
        self.image_shape = tuple(int(size) for size in shapes.pop())
        return np.concatenate(labels)

    def _source(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        if isinstance(self._data, tf.data.Dataset):
            yield from self._data.as_numpy_iterator()
            return
        images, labels = self._data
        for first in range(0, len(labels), 256):
            yield images[first : first + 256], labels[first : first + 256]


def chosen_images(labels: np.ndarray, limit: int | None) -> np.ndarray:
    """Which images are evaluated: (N,) bool, the first of each class in proportion to the classes.

    The shares are rounded by largest remainder, so that they add up to `limit`.

    Args:
        labels: (N,) integers.
        limit: How many; None, or a number beyond N, for all.

    Raises:
        InvalidInput: if `limit` is not a whole number >= 1.
    """
    if limit is None:
        return np.ones(len(labels), bool)
    _check_whole("limit", limit)
    classes, places, totals = np.unique(labels, return_inverse=True, return_counts=True)
    shares = totals * min(limit, len(labels)) / len(labels)
    counts = np.floor(shares).astype(int)
    missing = min(limit, len(labels)) - counts.sum()
    counts[np.argsort(counts - shares, kind="stable")[:missing]] += 1
    chosen = np.zeros(len(labels), bool)
    for number in range(len(classes)):
        chosen[np.flatnonzero(places == number)[: counts[number]]] = True
    return chosen


def _checked_data(data: Any) -> Any:
    if isinstance(data, tf.data.Dataset):
        spec = data.element_spec
        if not (isinstance(spec, tuple) and len(spec) == 2 and data.cardinality() != tf.data.INFINITE_CARDINALITY):
            raise InvalidInput(
                "The dataset cannot be evaluated.",
                expected="a finite, batched tf.data.Dataset of (images, labels)",
                received=f"element_spec={spec}, cardinality={int(data.cardinality())}",
            )
        return data
    if isinstance(data, tuple | list) and len(data) == 2:
        images, labels = (np.asarray(part) for part in data)
        if images.ndim and labels.ndim and len(images) == len(labels):
            return images, labels
        received = f"shapes {images.shape} and {labels.shape}"
    else:
        received = f"data={type(data).__name__}"
    raise InvalidInput(
        "The data cannot be evaluated.",
        expected="a tf.data.Dataset of (images, labels), or a pair of arrays of one length",
        received=received,
    )


def _check_whole(name: str, number: int) -> None:
    if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 1:
        raise InvalidInput(f"`{name}` is too small.", expected="a whole number >= 1", received=f"{name}={number!r}")
