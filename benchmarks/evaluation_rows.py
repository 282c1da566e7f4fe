"""What the evaluation is compared with, one function a row: each yields `Row`s as they are measured.

Synopsis:

    for row in EVALUATION_ROWS["pgd"](EvaluationSettings(rounds=5)):
        print(row.name, row.comparison.ratio, row.note)
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator

import numpy as np

import advss_tf as advss
from advss_tf.evaluation import Traces
from benchmarks.attacked_models import DIGITS_RADII, Subject, digits_cnn, digits_resnet
from benchmarks.attackers import Attacked, Attacker, art_autoattack, art_restarts, installed, missing, right_on
from benchmarks.autoattacked import our_autoattack, torch_autoattack
from benchmarks.contestants import STEP_SIZE
from benchmarks.evaluation_pgd import pgd
from benchmarks.evaluation_settings import EvaluationSettings
from benchmarks.pairs import Seconds, clocked, compare, compare_figures
from benchmarks.results import Row
from benchmarks.workers import Worker


def autoattack(settings: EvaluationSettings) -> Iterator[Row]:
    """Our standard AutoAttack: what it takes, and what it leaves robust, beside all that ART has."""
    subject = digits_cnn(settings.network).first(settings.most(200))
    ours = our_autoattack(subject, "linf")
    if not installed("ART"):
        note = f"{missing('ART')}; ours: {ours}"
        yield Row("autoattack", settings.network, "ours", "ART", note=note, found=ours.plain())
        return
    epsilon = DIGITS_RADII["linf"]
    attackers = {
        "ART's AutoAttack": art_autoattack(subject, epsilon=epsilon),
        "ART's PGD-50 with 10 starts": art_restarts(subject, epsilon=epsilon),
    }
    taken, right = {}, {"clean": right_on(subject, subject.images, epsilon=epsilon)}
    for label, attacker in attackers.items():
        attacked, taken[label] = _once(attacker)
        right[label] = right_on(subject, attacked.images, epsilon=epsilon) & right["clean"]
    yield Row(
        "autoattack",
        settings.network,
        "ours",
        "ART's AutoAttack",
        compare([ours.taken], [taken["ART's AutoAttack"]]),
        note=f"ours: {ours}",
        found=ours.plain(),
    )
    counts = {label: int(each.sum()) for label, each in right.items()}
    yield Row(
        "autoattack",
        settings.network,
        "robust under ours",
        "robust under all of ART's",
        compare_figures([int(ours.verdicts.sum())], [int(np.logical_and.reduce(list(right.values())).sum())]),
        target=1.0,
        note=", ".join(f"{label} {counts[label]} ({seconds.wall:.0f} s)" for label, seconds in taken.items()),
        unit=f"of {len(subject.labels)}",
        found={"robust": counts, "taken": {label: seconds._asdict() for label, seconds in taken.items()}},
    )


def torchattacks(settings: EvaluationSettings) -> Iterator[Row]:
    """Our AutoAttack beside torchattacks' on the same weights, in both norms."""
    if settings.torch_python is None:
        note = "no environment with torchattacks: see --torch-python"
        yield Row("torchattacks", settings.network, "ours", "torchattacks", note=note)
        return
    subject = digits_cnn(settings.network).first(settings.most(None))
    for norm in settings.norms:
        ours, theirs = our_autoattack(subject, norm), torch_autoattack(settings.torch_python, subject, norm)
        agreed = int(np.sum(ours.verdicts == theirs.verdicts))
        yield Row(
            "torchattacks",
            settings.network,
            f"ours, {norm} {DIGITS_RADII[norm]:g}",
            f"torchattacks {theirs.versions['torchattacks']}",
            compare([ours.taken], [theirs.taken]),
            note=f"the same verdict on {agreed}; ours: {ours}; theirs: {theirs}",
            found={"ours": ours.plain(), "theirs": theirs.plain(), "same verdict": agreed},
        )


def memory(settings: EvaluationSettings) -> Iterator[Row]:
    """What the peak memory of an evaluation grows by with the number of images, beside the size of the images."""
    rounds = [[_streamed(count) for count in settings.memory_images] for _ in range((settings.rounds + 1) // 2)]
    size = 1000 * rounds[0][0]["images_mb"] / rounds[0][0]["images"]
    peaks = np.median([[point["peak_mb"] for point in points] for points in rounds], axis=0)
    shown = ", ".join(f"{peak:.0f} ({count:,})" for count, peak in zip(settings.memory_images, peaks, strict=True))
    yield Row(
        "memory",
        "linear",
        "growth of the peak by 1,000 images",
        "1,000 images",
        compare_figures([max(0.0, _growth(points)) * size for points in rounds], [size] * len(rounds)),
        target=0.1,
        note=f"peak in MB (images): {shown}",
        unit="MB",
        found={"rounds": rounds},
    )


def first(settings: EvaluationSettings) -> Iterator[Row]:
    """The first evaluation of a model with the suite "quick" beside the second, which keeps what the first compiled."""
    subject = digits_resnet(settings.network).first(settings.most(192))
    _quick(subject, settings)  # what a process does only once counts for neither
    times: dict[str, list[Seconds]] = {"first evaluation": [], "second": []}
    for _ in range((settings.rounds + 1) // 2):
        evaluated = clocked(functools.partial(_quick, subject.copied(), settings, traces=Traces()))
        for calls in times.values():
            calls.append(evaluated())
    yield Row("first", settings.network, *times, compare(*times.values()), times=times)


EVALUATION_ROWS: dict[str, Callable[[EvaluationSettings], Iterator[Row]]] = {
    "pgd": pgd,
    "autoattack": autoattack,
    "torchattacks": torchattacks,
    "memory": memory,
    "first": first,
}


def _quick(subject: Subject, settings: EvaluationSettings, traces: Traces | None = None) -> advss.Record:
    return advss.evaluate(
        subject.model,
        (subject.images, subject.labels),
        num_steps=settings.num_steps,
        step_size=STEP_SIZE,
        batch_size=settings.batch,
        traces=traces,
    )


def _once(attacker: Attacker) -> tuple[Attacked, Seconds]:
    found: list[Attacked] = []
    seconds = clocked(lambda: found.append(attacker()))()
    return found[0], seconds


def _streamed(count: int) -> dict[str, float]:
    with Worker([sys.executable, "-m", "benchmarks.streaming_memory", f"--images={count}"]) as worker:
        return worker.facts


def _growth(points: list[dict[str, float]]) -> float:
    """The slope of the peak over the size of the images, both in MB."""
    return float(np.polyfit(*([point[name] for point in points] for name in ("images_mb", "peak_mb")), deg=1)[0])
