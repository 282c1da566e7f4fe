"""Clean and adversarial accuracy of any classifier, with exact counts.

Synopsis:

    record = evaluate(model, data.test(), suite="standard", epsilons=("2/255", "8/255"))
    print(record)                      # clean 91.2 % [90.6, 91.7], Linf 8/255 45.1 % [44.1, 46.1] (n=10000)
    record.save("record.json")

The model is anything that maps (B, H, W, C) float32 images in [0, 1] to (B, classes) logits; it need not know this
library. Every image that is right cleanly is put to every attack at every epsilon, until a run of it succeeds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from advss_tf.attacks import get_threat
from advss_tf.data import check_labels
from advss_tf.errors import InvalidInput, one_of
from advss_tf.evaluation.attacked import AttackedImages
from advss_tf.evaluation.attempts import Plan, plan_attempts
from advss_tf.evaluation.autoattack import VERSIONS, autoattack
from advss_tf.evaluation.batches import Batch, Batches
from advss_tf.evaluation.cost import Estimate, estimate
from advss_tf.evaluation.flags import model_flags
from advss_tf.evaluation.models import Classifier, architecture_of
from advss_tf.evaluation.partial import Partial, go_through
from advss_tf.evaluation.records.record import Record
from advss_tf.evaluation.run import Progress, Run
from advss_tf.evaluation.shares import share_of_batch
from advss_tf.evaluation.summary import make_record
from advss_tf.evaluation.traces import Traces
from advss_tf.randomness import seed_for


def evaluate(
    model: Callable[..., Any],
    data: Any,
    *,
    suite: str = "quick",
    attacks: Any = None,
    epsilons: Sequence[float | str] | float | str | None = None,
    norm: str = "linf",
    num_steps: Sequence[int] | int = (20, 50),
    step_size: float | str | None = None,
    num_restarts: int = 1,
    autoattack_version: str = "standard",
    seed: int = 0,
    limit: int | None = None,
    batch_size: int = 256,
    model_name: str | None = None,
    data_info: Any = None,
    source: Callable[..., Any] | None = None,
    strategy: tf.distribute.Strategy | None = None,
    save_attacked: str | Path | None = None,
    partial: str | Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    announce: Callable[[Estimate], None] | None = None,
    traces: Traces | None = None,
) -> Record:
    """Measures clean accuracy and accuracy under projected gradient descent.

    An image counts as robust if it is classified right cleanly and after every restart of an attack; "worst" is that
    over all attacks at this epsilon and at the smaller ones. All epsilons share one compiled pass. What is drawn for an
    image comes from (`seed`, name of the attack, run, number of the image) alone: the size of the batches changes
    nothing but rounding.

    Args:
        model: A Keras model or any function from (B, H, W, C) float32 images in [0, 1] to (B, classes) logits. Outputs
            that are probabilities are found out, their logarithm is attacked, and the record carries a warning.
        data: A finite, ordered, batched `tf.data.Dataset` of (images, labels), or a pair of arrays: images
            (N, H, W, C) float32 in [0, 1], labels (N,) integers. A dataset is read twice.
        suite: "quick": clean accuracy and the first of `num_steps`; "standard": all of `num_steps`; "full": these and
            AutoAttack, as RobustBench runs it; "black_box": Square alone, which sees no gradient.
        autoattack_version: AutoAttack's version in the suite "full": "standard", "plus" or "rand" (for models that draw
            random numbers).
        attacks: Instead of a suite: an attack, a list of attacks or a dict of named attacks, of one norm.
        epsilons: Radii of the balls in pixels of [0, 1], numbers or fractions such as "8/255". Default: 8/255 for
            "linf", 0.5 for "l2", or those of `attacks`. The record's headline is at the default if it is listed, else
            at the largest.
        norm: "linf" or "l2".
        num_steps: Steps of the attacks, one attack for each number.
        step_size: Length of a step; default `2.5 * epsilon / num_steps`. Cut to epsilon in smaller balls.
        num_restarts: Independent starts of each attack.
        seed: The evaluation's seed.
        limit: Evaluate this many images only: the first of each class, in proportion to the classes.
        batch_size: Images a batch.
        model_name: The record's `name`; default: the model's own.
        data_info: What is known of the data: a mapping or an object with `name`, `split`, `fingerprint`,
            `class_names`, `training_epsilon`, `training_norm`, each optional. An `ImageData` fits.
        source: Another model that the attacks see instead of `model`, which is then only asked about the examples that
            were found: how well they transfer.
        strategy: A `tf.distribute` strategy whose replicas share the images of each call; default: the one in whose
            scope this is called. The numbers are those of one replica. No device is shown more than its share of a
            batch at a time.
        save_attacked: If given, a folder for the attacked images at the headline's epsilon, one `.npz` a batch; see
            `read_attacked`.
        partial: If given, a folder where every finished batch is kept: an evaluation that was killed goes on behind the
            last of them, with the record of one that was not. It is removed at the end.
        progress: Called with a `Progress` after every run of an attack on a batch.
        announce: Called once before the first attack with an `Estimate` of what all will cost at most, such as `print`;
            it takes a few seconds to make.
        traces: Keeps what is compiled for the next evaluation of the same model with the same settings; see `Traces`.

    Returns:
        The record; `record.save(path)` writes it.

    Raises:
        InvalidInput: if the data, the model's outputs or a setting are not what the evaluation works with.
    """
    started = time.perf_counter()
    plan = plan_attempts(
        suite,
        attacks=attacks,
        epsilons=epsilons,
        norm=norm,
        num_steps=num_steps,
        step_size=step_size,
        num_restarts=num_restarts,
    )
    one_of("autoattack_version", autoattack_version, VERSIONS)
    batches = Batches(data, batch_size=batch_size, limit=limit)
    replicas = (strategy or tf.distribute.get_strategy()).num_replicas_in_sync
    at_once = share_of_batch(batches.batch_size, replicas)
    look = next(iter(batches))
    classifier = Classifier(model, look.images, at_once=at_once)
    attacker = classifier if source is None else _checked_source(source, classifier, look.images, at_once)
    check_labels(batches.labels, num_classes=classifier.num_classes)
    if suite == "full" and attacks is None:
        threat = get_threat(plan.norm, plan.headline)
        attempts = autoattack(autoattack_version, threat, num_classes=classifier.num_classes)
        plan = plan.with_autoattack(autoattack_version, attempts)
    source_name = None if source is None else architecture_of(source) or "another model"
    kept = saved = None
    if partial is not None:
        description = _described(plan, batches, seed) | {"source": source_name}
        kept = Partial(partial, description, logits=classifier(look.images[:8]).numpy())
    if save_attacked is not None:
        saved = AttackedImages(save_attacked, goes_on=kept is not None and kept.load(0) is not None)
    about = [[attempt.name, attempt.num_restarts, attempt.parameters] for attempt in plan.attempts]
    traces = (traces or Traces()).about(
        model, source, strategy, classifier.output, attacker.output, about, plan.norm, look.images.shape
    )
    flags = model_flags(
        attacker, look.images, look.labels, seed_for(seed, 0, "evaluate flags"), traces=traces, at_once=at_once
    )
    if announce is not None:
        announce(estimate(plan, attacker, batches, replicas=replicas))
    run = Run(
        plan, classifier, batches, seed=seed, progress=progress, started=started, source=attacker, strategy=strategy,
        traces=traces, at_once=at_once,
    )  # fmt: skip

    def attack(number: int, batch: Batch) -> dict[str, np.ndarray]:
        left = run.attack_batch(number, batch)
        if saved:
            saved.save(number, run.tally.attacked())
        return left

    go_through(batches, kept, restore=run.restore, evaluate=attack)
    record = make_record(
        plan,
        batches,
        classifier,
        run.tally,
        run.costs,
        name=model_name or architecture_of(model) or "model",
        architecture=architecture_of(model),
        source=source_name,
        data_info=data_info,
        flags=flags,
        seed=seed,
        seconds=run.seconds,
    )
    if kept:
        kept.remove()
    return record


def _checked_source(source: Callable[..., Any], classifier: Classifier, images: np.ndarray, at_once: int) -> Classifier:
    attacker = Classifier(source, images, at_once=at_once)
    if attacker.num_classes != classifier.num_classes:
        raise InvalidInput(
            "The source's examples cannot be transferred: it tells other classes apart.",
            expected=f"a source with {classifier.num_classes} logits, as the model has",
            received=f"{attacker.num_classes} logits",
        )
    return attacker


def _described(plan: Plan, batches: Batches, seed: int) -> dict[str, Any]:
    """What tells one evaluation from another."""
    return {
        "attacks": [[attempt.name, attempt.num_restarts, attempt.parameters] for attempt in plan.attempts],
        "norm": plan.norm,
        "epsilons": plan.epsilons,
        "seed": seed,
        **batches.description,
    }
