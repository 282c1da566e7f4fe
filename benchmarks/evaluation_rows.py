"""What the evaluation is compared with, one function a row: each yields `Row`s as they are measured.

Synopsis:

    for row in EVALUATION_ROWS["pgd"](EvaluationSettings(rounds=5)):
        print(row.name, row.comparison.ratio, row.note)
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

import advss_tf as advss
from benchmarks.attacked_models import DIGITS_RADII, Subject, digits_cnn, digits_resnet
from benchmarks.attackers import (
    PEERS,
    Attacked,
    Attacker,
    art_autoattack,
    art_restarts,
    installed,
    missing,
    pgd_forms,
    right_on,
)
from benchmarks.autoattacked import our_autoattack, torch_autoattack
from benchmarks.contestants import STEP_SIZE
from benchmarks.pairs import Seconds, alternate, clocked, compare, compare_figures, fastest
from benchmarks.results import Row
from benchmarks.workers import Worker


class EvaluationSettings(NamedTuple):
    """What the command was asked for.

    Attributes:
        network: "small", or "tiny", which is not trained and only shows that a row runs.
        images: At most so many images in a row; default: what the row says.
        num_steps: Steps of PGD.
        batch: Images a batch of PGD.
        rounds: Rounds of a pair; a first call, and memory, get half of them.
        memory_images: How many images the streams hold whose memory is compared, ascending.
        norms: In which torchattacks takes part.
        torch_python: The Python of an environment with PyTorch and torchattacks, or None.
    """

    network: str = "small"
    images: int | None = None
    num_steps: int = 20
    batch: int = 64
    rounds: int = 5
    memory_images: tuple[int, ...] = (1000, 4000, 16000)
    norms: tuple[str, ...] = tuple(DIGITS_RADII)
    torch_python: str | None = None

    def most(self, count: int | None) -> int | None:
        """How many images a row takes that would take `count`."""
        return count if self.images is None else self.images


def pgd(settings: EvaluationSettings) -> Iterator[Row]:
    """Our compiled PGD beside foolbox's and ART's, from the same start, on the same images, in batches of one size."""
    subject = digits_resnet(settings.network).first(settings.most(192))
    tried = _tried(subject, settings)
    rivals = {
        peer: fastest(tried, [label for label in tried if label.startswith(peer)]) for peer in PEERS if peer in tried
    }
    forms = pgd_forms(subject, num_steps=settings.num_steps, batch=settings.batch)
    forms = {label: forms[label] for label in ("ours", *rivals.values())}
    found = {label: form() for label, form in forms.items()}
    times = alternate({label: clocked(form) for label, form in forms.items()}, rounds=settings.rounds)
    for peer in PEERS:
        if peer not in rivals:
            note = f"{missing(peer)}; ours {_robust(found['ours'])}"
            yield Row("pgd", settings.network, "ours", peer, note=note, times={"ours": times["ours"]})
            continue
        label = rivals[peer]
        yield Row(
            "pgd",
            settings.network,
            "ours",
            label,
            compare(times["ours"], times[label]),
            target=0.5,
            note=f"{_same(found['ours'], found[label])}; one batch, once: "
            + ", ".join(f"{form} {once.wall:.2f} s" for form, (once,) in tried.items()),
            times={name: times[name] for name in ("ours", label)},
            found={"one batch": {form: once.wall for form, (once,) in tried.items()}},
        )


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
    """The first evaluation of a model with the suite "quick" beside its second; both compile functions of their own."""
    subject = digits_resnet(settings.network).first(settings.most(192))
    _quick(subject, settings)  # what a process does only once counts for neither
    times: dict[str, list[Seconds]] = {"first evaluation": [], "second": []}
    for _ in range((settings.rounds + 1) // 2):
        evaluated = clocked(lambda copied=subject.copied(): _quick(copied, settings))
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


def _tried(subject: Subject, settings: EvaluationSettings) -> dict[str, list[Seconds]]:
    """What each form of each contestant takes for one batch, after its first call."""
    forms = pgd_forms(subject.first(settings.batch), num_steps=settings.num_steps, batch=settings.batch)
    for form in forms.values():
        form()
    return {label: [clocked(form)()] for label, form in forms.items()}


def _quick(subject: Subject, settings: EvaluationSettings) -> advss.Record:
    return advss.evaluate(
        subject.model,
        (subject.images, subject.labels),
        num_steps=settings.num_steps,
        step_size=STEP_SIZE,
        batch_size=settings.batch,
    )


def _once(attacker: Attacker) -> tuple[Attacked, Seconds]:
    found: list[Attacked] = []
    seconds = clocked(lambda: found.append(attacker()))()
    return found[0], seconds


def _robust(attacked: Attacked) -> str:
    return f"{int(attacked.right.sum())} of {len(attacked.right)} robust"


def _same(ours: Attacked, theirs: Attacked) -> str:
    verdicts = int(np.sum(ours.right == theirs.right))
    # The sign of a gradient that is all but 0 depends on rounding: such a pixel ends elsewhere.
    pixels = float(np.mean(np.isclose(ours.images, theirs.images, atol=1e-5)))
    return f"ours {_robust(ours)}, theirs {_robust(theirs)}, same verdict on {verdicts}, {pixels:.1%} of pixels alike"


def _streamed(count: int) -> dict[str, float]:
    with Worker([sys.executable, "-m", "benchmarks.streaming_memory", f"--images={count}"]) as worker:
        return worker.facts


def _growth(points: list[dict[str, float]]) -> float:
    """The slope of the peak over the size of the images, both in MB."""
    return float(np.polyfit(*([point[name] for point in points] for name in ("images_mb", "peak_mb")), deg=1)[0])
