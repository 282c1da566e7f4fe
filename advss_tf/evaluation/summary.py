"""From the tally of an evaluation to its record.

Synopsis:

    record = make_record(plan, batches, classifier, tally, costs, name="mine", data_info={"name": "digits"}, ...)

Adds what the counts alone do not say: intervals, costs, versions, the device, and signs that an attack was too weak.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import numpy as np
import tensorflow as tf

from advss_tf.evaluation.attempts import THREAT_NAMES, Plan
from advss_tf.evaluation.autoattack import AUTOATTACK
from advss_tf.evaluation.batches import Batches
from advss_tf.evaluation.flags import result_flags
from advss_tf.evaluation.models import Classifier
from advss_tf.evaluation.records.record import CLEAN, WORST, Record, Result
from advss_tf.evaluation.tally import Tally
from advss_tf.version import __version__

_LIBRARIES = ("tensorflow", "keras", "cleverhans", "numpy")


@dataclass
class Cost:
    """What one attack at one epsilon took: wall time, and passes summed over images."""

    seconds: float = 0.0
    forward: float = 0.0
    backward: float = 0.0

    def per_image(self, num_images: int) -> dict[str, float]:
        """The same as a `Result` has it: whole seconds, passes for one image."""
        return {
            "seconds": self.seconds,
            "forward_passes": self.forward / num_images,
            "backward_passes": self.backward / num_images,
        }


Costs = Mapping[tuple[str, float], Cost]


def make_record(
    plan: Plan,
    batches: Batches,
    classifier: Classifier,
    tally: Tally,
    costs: Costs,
    *,
    name: str,
    architecture: str | None,
    source: str | None,
    data_info: Any,
    flags: Sequence[str],
    seed: int,
    seconds: float,
) -> Record:
    """The record of a finished evaluation; `data_info` as in `evaluate`, `flags` what was said of the model before."""
    results = tuple(_results(plan, batches, tally, costs, classifier.num_classes))
    worst = next(row for row in results if row.attack == WORST and row.eps == plan.headline)
    return Record(
        threat=plan.threat,
        eps=plan.headline,
        robust_acc=worst.accuracy,
        autoattack_acc=_accuracy(results, AUTOATTACK, plan.headline),
        suite=plan.suite,
        source=source,
        results=results,
        examples=tally.examples(),
        **header_of(
            batches,
            classifier,
            results,
            name=name,
            architecture=architecture,
            data_info=data_info,
            flags=(*flags, *result_flags(results)),
            seed=seed,
            seconds=seconds,
        ),
    )


def header_of(
    batches: Batches,
    classifier: Classifier,
    results: Sequence[Result],
    *,
    name: str,
    architecture: str | None,
    data_info: Any,
    flags: Sequence[str],
    seed: int,
    seconds: float,
) -> dict[str, Any]:
    """The fields of a record's `Header`; `results` begin with "clean". Call it after the last pass over `batches`."""
    return {
        "name": name,
        "architecture": architecture,
        "clean_acc": results[0].accuracy,
        "seed": seed,
        "output": classifier.output,
        "warnings": (*classifier.warnings, *flags),
        "versions": _versions(),
        "device": _device(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": seconds,
        "forward_passes": sum(row.forward_passes for row in results),
        "backward_passes": sum(row.backward_passes for row in results),
        **_about_data(batches, data_info, classifier.num_classes),
    }


def _results(plan: Plan, batches: Batches, tally: Tally, costs: Costs, num_classes: int) -> Iterator[Result]:
    def result(attack: str, eps: float, right: np.ndarray, **more: Any) -> Result:
        by_class = np.bincount(batches.labels[right], minlength=num_classes).tolist()
        more |= costs.get((attack, eps), Cost()).per_image(len(right))
        return Result.from_counts(attack, int(right.sum()), len(right), eps=eps, class_correct=tuple(by_class), **more)

    yield result(CLEAN, 0.0, tally.clean())
    for eps in plan.epsilons:
        for attempt in plan.attempts:
            more = {"num_restarts": attempt.num_restarts, "parameters": attempt.parameters}
            yield result(attempt.name, eps, tally.robust(attempt.name, eps), threat=plan.threat, **more)
        if plan.autoattack is not None:
            version = {"version": plan.autoattack}
            yield result(AUTOATTACK, eps, tally.robust(AUTOATTACK, eps), threat=plan.threat, parameters=version)
        yield result(WORST, eps, tally.robust(WORST, eps), threat=plan.threat)


def _accuracy(results: Sequence[Result], attack: str, eps: float) -> float | None:
    found = [row.accuracy for row in results if (row.attack, row.eps) == (attack, eps)]
    return found[0] if found else None


def _about_data(batches: Batches, info: Any, num_classes: int) -> dict[str, Any]:
    def known(name: str) -> Any:
        return info.get(name) if isinstance(info, Mapping) else getattr(info, name, None)

    def text(name: str) -> str | None:
        value = known(name)
        return value if isinstance(value, str) else None

    return {
        "dataset": text("name"),
        "split": text("split"),
        "data_fingerprint": text("fingerprint"),
        "training_eps": known("training_epsilon"),
        "external": text("external"),
        "training_threat": THREAT_NAMES.get(known("training_norm")),
        "class_names": _class_names(known("class_names"), num_classes),
        "class_totals": tuple(np.bincount(batches.labels, minlength=num_classes).tolist()),
        "num_classes": num_classes,
        "num_images": len(batches.labels),
        "num_images_available": batches.num_available,
        "subset": batches.subset,
        "batch_size": batches.batch_size,
        "image_shape": batches.image_shape,
        "images_fingerprint": batches.fingerprint,
    }


def _class_names(names: Sequence[str] | None, num_classes: int) -> tuple[str, ...]:
    """One name per logit; the number stands in where a name is missing."""
    names = [str(name) for name in names or ()]
    return tuple(names[number] if number < len(names) else str(number) for number in range(num_classes))


def _versions() -> dict[str, str]:
    libraries = {name: metadata.version(name) for name in _LIBRARIES}
    return {"advss_tf": __version__, **libraries, "python": platform.python_version()}


def _device() -> str:
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "CPU"
    return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU"))
