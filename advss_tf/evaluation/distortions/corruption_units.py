"""Where corrupted images come from: made on the fly, or read from sets that are ready-made.

Synopsis:

    keys = planned_keys(("fog", "snow"), (1, 3, 5))                     # ("clean", 0), ("fog", 1), …
    for unit in made_units(batches, keys, seed=seed):
        for row, batch in unit: ...                        # `batch` under `keys[row]`
    for unit in read_units(batches, keys, source, limit=None): ...

A unit is what is kept or lost as a whole when an evaluation is killed. Where corruptions are made on the fly it is one
batch under everything, so the data are read once; where they are ready-made it is one of their sets, so one of them
is open at a time. Units make their images when they are asked for: one that is skipped costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from advss_tf.data.corrupted import check_types
from advss_tf.data.corruptions import corrupt, frost_source
from advss_tf.data.corruptions.weather import checked_photographs
from advss_tf.errors import InvalidInput
from advss_tf.evaluation.batches import Batch, Batches
from advss_tf.evaluation.records.record import CLEAN

Key: TypeAlias = tuple[str, int]
Unit: TypeAlias = Iterator[tuple[int, Batch]]


def planned_keys(
    corruptions: Sequence[str],
    severities: Sequence[int],
    *,
    source: Mapping[Key, Any] | None = None,
    frost_images: Any = None,
) -> list[Key]:
    """("clean", 0), then every type at every severity, type by type.

    Args:
        corruptions: As in `evaluate_corruptions`, and so are the others.
        severities: Whole numbers from 1.
        source: Ready-made sets, or None.
        frost_images: Photographs, or None.

    Raises:
        InvalidInput: if something is not known, not there, named twice, or of no use.
    """
    for name, chosen in (("corruptions", corruptions), ("severities", severities)):
        if not len(chosen) or len(set(chosen)) < len(chosen):
            raise InvalidInput(
                f"`{name}` is empty or repeats itself.",
                expected="one or more, each once",
                received=f"{name}={chosen!r}",
            )
    if source is None:
        check_types(corruptions, severities)
    keys = [(str(kind), int(severity)) for kind in corruptions for severity in severities]
    if source is not None:
        _check_source(source, keys, frost_images)
    return [(CLEAN, 0), *keys]


def _check_source(source: Mapping[Key, Any], keys: Sequence[Key], frost_images: Any) -> None:
    if not isinstance(source, Mapping):
        raise InvalidInput(
            "`source` is no mapping.",
            expected="sets of (images, labels) by (type, severity), such as `corrupted_catalogue()`",
            received=f"source={type(source).__name__}",
        )
    lacks = [f"{kind} {severity}" for kind, severity in keys if (kind, severity) not in source]
    if lacks:
        raise InvalidInput(
            "`source` lacks a type and severity that is asked for.",
            expected=f"`corruptions` and `severities` that it has: {sorted(source)}",
            received=f"no {', no '.join(lacks)}",
        )
    if frost_images is not None:
        raise InvalidInput(
            "`frost_images` are for frost that is made on the fly.",
            expected="`source` or `frost_images`",
            received="both",
        )


def photographs(frost_images: Any, image_shape: Sequence[int]) -> tf.Tensor | None:
    """The user's photographs of frost, checked once and kept in 8 bits, as every batch needs them.

    Raises:
        InvalidInput: if they are no photographs of the size of `image_shape`, (H, W, C), or more.
    """
    if frost_images is None:
        return None
    height, width, _ = image_shape
    return tf.cast(checked_photographs(frost_images, height=height, width=width), tf.uint8)


def source_notes(
    keys: Sequence[Key], batches: Batches, *, source: Mapping[Key, Any] | None, frost_images: Any
) -> dict[str, str]:
    """What a record's `notes` say of where the corruptions and the frost come from, and which images were chosen."""
    notes = {"source": "made on the fly" if source is None else getattr(source, "name", "user's sets")}
    if any(kind == "frost" for kind, _ in keys):
        notes["frost"] = frost_source(frost_images) if source is None else getattr(source, "frost", "user's sets")
    if source is not None and batches.subset:
        notes["subset"] = "chosen in each set by its own order; clean and corrupted images may not be the same ones"
    return notes


def made_units(
    batches: Batches, keys: Sequence[Key], *, seed: tf.Tensor, frost_images: tf.Tensor | None = None
) -> Iterator[Unit]:
    """One unit for each batch: the batch under every key, corrupted when its turn comes.

    Args:
        batches: The clean images; the first of them has the number 0.
        keys: ("clean", 0) and types with severities; a unit gives the place of each in this list.
        seed: A stateless seed, int32 (2,).
        frost_images: As `corrupt` takes them.
    """
    first = 0
    for batch in batches:
        yield _made(batch, keys, seed, first, frost_images)
        first += batch.num_real


def _made(batch: Batch, keys: Sequence[Key], seed: tf.Tensor, first: int, frost_images: tf.Tensor | None) -> Unit:
    images = tf.constant(batch.images)
    for row, (kind, severity) in enumerate(keys):
        harmed = images
        if kind != CLEAN:
            harmed = corrupt(images, kind, severity, seed, first=first, frost_images=frost_images)
        yield row, batch._replace(images=harmed)


def read_units(
    batches: Batches, keys: Sequence[Key], source: Mapping[Key, Any], *, limit: int | None
) -> Iterator[Unit]:
    """One unit for each clean batch, then one for each set of `source`, which is opened when its turn comes.

    Args:
        batches: The clean images.
        keys: ("clean", 0), then keys of `source`.
        source: Sets of (images, labels) by type and severity.
        limit: What `batches` was given; the same share of each class is taken.
    """
    yield from made_units(batches, keys[:1], seed=tf.zeros(2, tf.int32))
    for row, key in enumerate(keys[1:], start=1):
        yield _read(row, key, source, batches, limit)


def _read(row: int, key: Key, source: Mapping[Key, Any], batches: Batches, limit: int | None) -> Unit:
    found = Batches(source[key], batch_size=batches.batch_size, limit=limit)
    ours, theirs = _known(batches), _known(found)
    if ours != theirs:
        raise InvalidInput(
            f"The corrupted set {key[0]} {key[1]} is not one of the clean images.",
            expected=f"what the clean images have: {ours}",
            received=theirs,
        )
    for batch in found:
        yield row, batch._replace(images=tf.constant(batch.images))


def _known(batches: Batches) -> str:
    return f"{batches.image_shape}, {batches.num_available} images, classes {np.bincount(batches.labels).tolist()}"
