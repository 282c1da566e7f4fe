"""Accuracy under attacks that a model was not trained for, by distortion and size.

Synopsis:

    record = evaluate_unforeseen(model, data.test(), attacks=("elastic", "fog"), limit=1000)
    record.result("elastic", 3).accuracy                 # at the third of six sizes
    uar([record.result("elastic", level).accuracy for level in record.levels], "elastic")

Every image that is right cleanly is put to every distortion at every size. The published protocol heads for a random
wrong class in 200 steps; attacks that only lead away from the label are a word away.

Reference: Kang et al., "Testing Robustness Against Unforeseen Adversaries", 2019 (arXiv 1908.08016).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from advss_tf.attacks.unforeseen import ATA, DISTORTIONS, UnforeseenAttack, make_attack, published_sizes
from advss_tf.data import check_labels
from advss_tf.errors import InvalidInput, one_of
from advss_tf.evaluation.batches import Batches
from advss_tf.evaluation.distortions.distortion_run import GOALS, Attempted, DistortionRun
from advss_tf.evaluation.flags import model_flags
from advss_tf.evaluation.models import Classifier, architecture_of
from advss_tf.evaluation.partial import Partial, go_through
from advss_tf.evaluation.records.distortion_record import DistortionRecord
from advss_tf.evaluation.records.record import CLEAN, Result
from advss_tf.evaluation.run import Progress
from advss_tf.evaluation.shares import Shares, share_of_batch
from advss_tf.evaluation.summary import header_of
from advss_tf.randomness import seed_for

# Those of the paper's tables: JPEG in L2 is left out there.
STANDARD = ("jpeg_linf", "jpeg_l1", "elastic", "fog", "gabor", "snow")


def evaluate_unforeseen(
    model: Callable[..., Any],
    data: Any,
    *,
    attacks: Sequence[str] | Mapping[str, UnforeseenAttack] | None = None,
    sizes: Mapping[str, Sequence[float]] | None = None,
    goal: str = "random_target",
    seed: int = 0,
    limit: int | None = None,
    batch_size: int = 256,
    model_name: str | None = None,
    data_info: Any = None,
    strategy: tf.distribute.Strategy | None = None,
    partial: str | Path | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> DistortionRecord:
    """Measures accuracy under distortions whose parameters an adversary chooses.

    An image counts if it is classified right cleanly and after the attack. What is drawn for an image comes from
    (`seed`, name of the attack, number of the image) alone: the size of the batches changes nothing but rounding, and
    all sizes of a distortion begin alike.

    Args:
        model: As in `evaluate`.
        data: As in `evaluate`.
        attacks: Names of distortions (see `attacks.unforeseen.DISTORTIONS`), or attacks by name. Default: "jpeg_linf",
            "jpeg_l1", "elastic", "fog", "gabor" and "snow", with the published settings.
        sizes: By name, the epsilons of a distortion, ascending; levels count from 1. Default: the six published for
            CIFAR-10. For fog, Gabor and snow these do not exist; their default is the six for ImageNet-100, which were
            calibrated on images of 224 pixels. The record's notes say which.
        goal: "random_target": climb towards a class drawn evenly from the wrong ones, as published; or "away": climb
            the label's cross-entropy, which is the stronger attack, but not what `ATA` was measured with.
        seed: The evaluation's seed.
        limit: Evaluate this many images only: the first of each class, in proportion to the classes.
        batch_size: Images a batch.
        model_name: The record's `name`; default: the model's own.
        data_info: As in `evaluate`.
        strategy: As in `evaluate`: its replicas share the images of each call, and the numbers are those of one.
        partial: As in `evaluate`: a folder where finished batches are kept until the end.
        progress: Called with a `Progress` after every attack on a batch; its `robust_acc` is the mean over what has
            been attempted on all images so far.

    Returns:
        The record, threat "unforeseen".

    Raises:
        InvalidInput: if the data, the model's outputs or a setting are not what the evaluation works with, or an attack
            leaves its ball.
    """
    started = time.perf_counter()
    attempted = planned(attacks, sizes)
    one_of("goal", goal, GOALS)
    batches = Batches(data, batch_size=batch_size, limit=limit)
    look = next(iter(batches))
    shares = Shares(strategy, batch_size=batches.batch_size)
    at_once = share_of_batch(batches.batch_size, shares.replicas)
    classifier = Classifier(model, look.images, at_once=at_once)
    check_labels(batches.labels, num_classes=classifier.num_classes)
    flags = model_flags(classifier, look.images, look.labels, seed_for(seed, 0, "evaluate flags"), at_once=at_once)
    run = DistortionRun(
        attempted, classifier, batches, goal=goal, seed=seed, progress=progress, started=started, shares=shares
    )
    kept = None
    if partial is not None:
        kept = Partial(partial, _described(run, batches, goal, seed), logits=classifier(look.images[:8]).numpy())
    go_through(batches, kept, restore=run.restore, evaluate=run.attack_batch)
    results = tuple(_results(run, batches.labels, classifier.num_classes))
    record = DistortionRecord(
        threat="unforeseen",
        corruptions_acc=float(np.mean([row.accuracy for row in results[1:]])),
        notes={"goal": GOALS[goal], **{each.name: each.source for each in attempted}},
        results=results,
        **header_of(
            batches,
            classifier,
            results,
            name=model_name or architecture_of(model) or "model",
            architecture=architecture_of(model),
            data_info=data_info,
            flags=flags,
            seed=seed,
            seconds=run.seconds,
        ),
    )
    if kept:
        kept.remove()
    return record


def _described(run: DistortionRun, batches: Batches, goal: str, seed: int) -> dict[str, Any]:
    """What tells one evaluation from another."""
    attacks = [[each.name, each.sizes, each.parameters] for each in run.attempted]
    return {"attacks": attacks, "goal": goal, "seed": seed, **batches.description}


def uar(accuracies: Sequence[float], attack: str, *, calibrated_on: str = "cifar-10") -> float:
    """Unforeseen attack robustness: the accuracies at the six sizes, relative to models trained for the attack.

    `sum(accuracies) / sum(ATA)`, 1 where a model that never saw the attack does as well as those that were trained
    against it (Kang et al. 2019). The denominator was measured with ResNet-56 on CIFAR-10 or ResNet-50 on
    ImageNet-100, in 200 steps towards random classes: with other data, sizes, steps or goals the quotient is none. It
    counts every image that is right after the attack; `evaluate_unforeseen` wants it right before as well.

    Args:
        accuracies: Fractions right at the published sizes of `SIZES[calibrated_on][attack]`, in their order.
        attack: The distortion's name.
        calibrated_on: "cifar-10" or "imagenet-100".

    Raises:
        InvalidInput: if nothing is published for the attack, or `accuracies` are not six fractions.
    """
    table = ATA[one_of("calibrated_on", calibrated_on, ATA)]
    published = table[one_of("attack", attack, table)]
    fractions = [float(accuracy) for accuracy in accuracies]
    if len(fractions) != len(published) or not all(0 <= fraction <= 1 for fraction in fractions):
        raise InvalidInput(
            "`accuracies` do not fit the published sizes.",
            expected=f"{len(published)} fractions in [0, 1]",
            received=f"accuracies={list(accuracies)}",
        )
    return sum(fractions) / sum(published)


def planned(attacks: Any = None, sizes: Mapping[str, Sequence[float]] | None = None) -> tuple[Attempted, ...]:
    """Which attacks are run at which sizes.

    Raises:
        InvalidInput: if a name is not known, an attack is none, or sizes are missing or not ascending.
    """
    named = _named(STANDARD if attacks is None else attacks)
    sizes = sizes or {}
    for name in sizes:
        one_of("sizes", name, named)
    return tuple(Attempted(name, attack, *_sizes(name, attack, sizes.get(name))) for name, attack in named.items())


def _named(attacks: Any) -> dict[str, UnforeseenAttack]:
    if isinstance(attacks, str):
        attacks = (attacks,)
    named = dict(attacks) if isinstance(attacks, Mapping) else {name: make_attack(name, 0.0) for name in attacks}
    for name, attack in named.items():
        if not isinstance(attack, UnforeseenAttack) or name in (CLEAN, "goal"):
            raise InvalidInput(
                f"{name!r} is not an unforeseen attack.",
                expected=f"one of {sorted(DISTORTIONS)}, or an object such as ElasticAttack(2.0), not named "
                "'clean' or 'goal'",
                received=f"{name}={attack!r}",
            )
    if not named:
        raise InvalidInput("There is no attack to run.", expected="at least one attack", received="attacks=()")
    return named


def _sizes(name: str, attack: UnforeseenAttack, given: Sequence[float] | None) -> tuple[tuple[float, ...], str]:
    """The sizes of an attack, and in words where they are from."""
    if given is None:
        found, data = published_sizes(attack.threat.norm)
        return found, f"sizes of Kang et al. 2019, calibrated on {data}"
    listed = tuple(float(size) for size in given)
    ascending = all(one < other for one, other in pairwise(listed))
    if not listed or not ascending or not all(math.isfinite(size) and size >= 0 for size in listed):
        raise InvalidInput(
            f"The sizes of {name!r} are not sizes.",
            expected="numbers >= 0, ascending, each once",
            received=f"sizes={list(given)}",
        )
    return listed, "sizes as given"


def _results(run: DistortionRun, labels: np.ndarray, num_classes: int) -> Any:
    def result(name: str, right: np.ndarray, **more: Any) -> Result:
        by_class = np.bincount(labels[right], minlength=num_classes).tolist()
        cost = run.cost(name, more.get("level", 0)).per_image(len(right))
        return Result.from_counts(name, int(right.sum()), len(right), class_correct=tuple(by_class), **cost, **more)

    yield result(CLEAN, run.right(CLEAN, 0))
    for each in run.attempted:
        for level, size in enumerate(each.sizes, 1):
            yield result(
                each.name,
                run.right(each.name, level),
                threat=each.attack.threat.norm,
                eps=size,
                level=level,
                num_restarts=1,
                parameters=each.parameters,
            )
