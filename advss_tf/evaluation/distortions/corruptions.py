"""Accuracy under the corruptions of CIFAR-10-C, for any classifier and any images, with exact counts.

Synopsis:

    record = evaluate_corruptions(model, data.test())             # 15 types, 5 severities, made on the fly
    record.corruptions_acc, record.result("fog", 3).accuracy
    record = evaluate_corruptions(model, data.test(), baseline=DistortionRecord.load("plain.json"))
    record.mce                                                    # errors in units of the baseline's
    record = evaluate_corruptions(model, cifar10.test(), source=corrupted_catalogue())       # the authors' own images

The model is anything that maps (B, H, W, C) float32 images in [0, 1] to (B, classes) logits; it need not know this
library. Types and severities are those of Hendrycks & Dietterich 2019 (arXiv:1903.12261).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from advss_tf.data import check_labels
from advss_tf.data.corruptions import CORRUPTIONS
from advss_tf.data.corruptions.registry import SEVERITIES
from advss_tf.evaluation.batches import Batches
from advss_tf.evaluation.distortions.corruption_errors import check_baseline, corruption_errors
from advss_tf.evaluation.distortions.corruption_run import CorruptionProgress, CorruptionRun
from advss_tf.evaluation.distortions.corruption_units import (
    Key,
    made_units,
    photographs,
    planned_keys,
    read_units,
    source_notes,
)
from advss_tf.evaluation.models import Classifier, architecture_of
from advss_tf.evaluation.partial import Partial, go_through
from advss_tf.evaluation.records import distortion_record
from advss_tf.evaluation.records.distortion_record import DistortionRecord, counted_rows
from advss_tf.evaluation.records.record import Result
from advss_tf.evaluation.summary import header_of
from advss_tf.randomness import seed_for

ROLE = "evaluate corruptions"
_THREAT = distortion_record.CORRUPTIONS


def evaluate_corruptions(
    model: Callable[..., Any],
    data: Any,
    *,
    corruptions: Sequence[str] = CORRUPTIONS,
    severities: Sequence[int] = SEVERITIES,
    source: Mapping[Key, Any] | None = None,
    baseline: DistortionRecord | None = None,
    frost_images: Any = None,
    seed: int = 0,
    limit: int | None = None,
    batch_size: int = 256,
    model_name: str | None = None,
    data_info: Any = None,
    partial: str | Path | None = None,
    progress: Callable[[CorruptionProgress], None] | None = None,
) -> DistortionRecord:
    """Measures clean accuracy and accuracy under each type of corruption at each severity.

    Each batch is read, put to every type and severity on the fly, and classified by one compiled function; memory does
    not grow with the number of images. What is drawn for an image comes from (`seed`, type, severity, number of the
    image) alone, whatever the batches are. The number counts the images that are evaluated, from 0, as in `evaluate`:
    with a `limit` an image may have another number, and other draws, than without. Image k under type t at severity s
    is `corrupt(image[None], t, s, seed_for(seed, 0, "evaluate corruptions"), first=k)`.

    Args:
        model: A Keras model or any function from (B, H, W, C) float32 images in [0, 1] to (B, classes) logits or
            probabilities.
        data: A finite, ordered, batched `tf.data.Dataset` of clean (images, labels), or a pair of arrays: images
            (N, H, W, C) float32 in [0, 1], labels (N,) integers. A dataset is read twice: for a look, and to evaluate.
        corruptions: Types, each once: the 15 of the benchmark unless given. `EXTRA_CORRUPTIONS` have rows as well, but
            the record's headlines are means over the others.
        severities: Of 1, 2, 3, 4, 5, each once.
        source: Instead of corrupting on the fly: a mapping from (type, severity) to sets of corrupted (images, labels),
            each like `data`, such as `corrupted_catalogue()`. A set must have as many images of each class as `data`,
            and need not have their order. Its types and severities are not limited to those of the benchmark.
        baseline: The record that `mce` is relative to, with the same types and severities.
        frost_images: Photographs for `frost`, as `corrupt` takes them; frost is generated without.
        seed: The evaluation's seed.
        limit: Evaluate this many images only: the first of each class, in proportion to the classes.
        batch_size: Images a batch.
        model_name: The record's `name`; default: the model's own.
        data_info: What is known of the clean data, as in `evaluate`. An `ImageData` fits.
        partial: If given, a folder where every finished unit is kept (a batch; with a `source`, a whole set): an
            evaluation that was killed goes on behind them, with the record of one that was not. It is removed at the
            end.
        progress: Called with a `CorruptionProgress` after every batch of a type and severity.

    Returns:
        The record: "clean", then type by type, each at all severities. Its `notes` say where the corruptions (`source`)
        and the frost (`frost`) come from.

    Raises:
        InvalidInput: if the data, the model's outputs, the baseline or a setting are not what is worked with.
    """
    started = time.perf_counter()
    keys = planned_keys(corruptions, severities, source=source, frost_images=frost_images)
    if baseline is not None:
        check_baseline(baseline, _THREAT, keys[1:])
    batches = Batches(data, batch_size=batch_size, limit=limit)
    frost = photographs(frost_images, batches.image_shape)
    look = next(iter(batches)).images
    classifier = Classifier(model, look)
    check_labels(batches.labels, num_classes=classifier.num_classes)
    notes = source_notes(keys, batches, source=source, frost_images=frost_images)
    run = CorruptionRun(keys, classifier, batches, progress=progress, started=started)
    kept = None
    if partial is not None:
        described = _described(keys, batches, seed, notes, frost)
        kept = Partial(partial, described, logits=classifier(tf.constant(look[:8])).numpy())
    if source is None:
        units = made_units(batches, keys, seed=seed_for(seed, 0, ROLE), frost_images=frost)
    else:
        units = read_units(batches, keys, source, limit=limit)
    go_through(
        units,
        kept,
        restore=lambda _, arrays: run.restore(arrays),
        evaluate=lambda _, unit: run.evaluate(unit),
    )
    results = run.results()
    header = header_of(
        batches,
        classifier,
        results,
        name=model_name or architecture_of(model) or "model",
        architecture=architecture_of(model),
        data_info=data_info,
        flags=(),
        seed=seed,
        seconds=run.seconds,
    )
    record = _record(header, results, notes, baseline)
    if kept:
        kept.remove()
    return record


def _record(
    header: dict[str, Any], results: tuple[Result, ...], notes: dict[str, str], baseline: DistortionRecord | None
) -> DistortionRecord:
    counted = counted_rows(_THREAT, results)
    record = DistortionRecord(
        **header | {"warnings": ()},  # whether outputs are probabilities matters to gradients alone
        threat="corruptions",
        corruptions_acc=sum(row.accuracy for row in counted) / len(counted),
        notes=notes,
        results=results,
    )
    if baseline is None:
        return record
    mce = corruption_errors(record, baseline).mce
    warnings = tuple(_differences(record, baseline))
    return record.model_copy(update={"mce": mce, "baseline": baseline.name, "warnings": warnings})


def _differences(record: DistortionRecord, baseline: DistortionRecord) -> Iterator[str]:
    """What else than the model may have moved the corruption error."""
    if record.images_fingerprint != baseline.images_fingerprint:
        yield "The baseline was measured on other images, so `mce` does not compare the models alone."
    for note in ("source", "frost"):
        ours, theirs = record.notes.get(note), baseline.notes.get(note)
        if ours != theirs:
            yield f"The baseline has {note}={theirs!r}, not {ours!r}, so `mce` does not compare the models alone."


def _described(
    keys: Sequence[Key], batches: Batches, seed: int, notes: dict[str, str], frost: tf.Tensor | None
) -> dict[str, Any]:
    """What tells one evaluation from another."""
    return {
        "types and severities": [list(key) for key in keys],
        "seed": seed,
        **batches.description,
        "source": notes["source"],
        "frost images": None if frost is None else hashlib.sha256(frost.numpy().tobytes()).hexdigest(),
    }
