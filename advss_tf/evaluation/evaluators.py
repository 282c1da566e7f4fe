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
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from advss_tf.attacks import get_threat
from advss_tf.errors import InvalidInput, one_of
from advss_tf.evaluation.attempts import Attempt, Plan, plan_attempts
from advss_tf.evaluation.autoattack import VERSIONS, autoattack
from advss_tf.evaluation.batches import Batch, Batches
from advss_tf.evaluation.compiled import CompiledAttempt
from advss_tf.evaluation.flags import model_flags
from advss_tf.evaluation.models import Classifier, architecture_of
from advss_tf.evaluation.objectives import predicted
from advss_tf.evaluation.record import CLEAN, WORST, Record
from advss_tf.evaluation.summary import Cost, make_record
from advss_tf.evaluation.tally import Tally
from advss_tf.randomness import seed_for


@dataclass(frozen=True)
class Progress:
    """Where an evaluation stands; given to `progress` after every run of an attack on a batch.

    Attributes:
        attack: The attack that was run last.
        eps: The epsilon it was run at.
        images: Images whose batch has been begun.
        num_images: All images.
        clean_acc: Fraction right among `images`.
        robust_acc: Fraction of `images` that has survived everything at the record's `eps` so far.
        seconds: Since the evaluation began.
        seconds_left: As long as the rest takes at the mean pace so far.
    """

    attack: str
    eps: float
    images: int
    num_images: int
    clean_acc: float
    robust_acc: float
    seconds: float
    seconds_left: float

    def __str__(self) -> str:
        return (
            f"{self.images:,}/{self.num_images:,} images, {self.attack} at {self.eps:.4g}: clean {self.clean_acc:.1%}, "
            f"robust so far {self.robust_acc:.1%}, {self.seconds_left:.0f} s left"
        )


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
    progress: Callable[[Progress], None] | None = None,
) -> Record:
    """Measures clean accuracy and accuracy under projected gradient descent.

    An image counts as robust if it is classified right cleanly and after every restart of an attack; "worst" is that
    over all attacks of the same epsilon. What is drawn for an image comes from (`seed`, name of the attack, run, number
    of the image) alone: the size of the batches changes nothing but rounding.

    Args:
        model: A Keras model or any function from (B, H, W, C) float32 images in [0, 1] to (B, classes) logits. Outputs
            that are probabilities are found out, their logarithm is attacked, and the record carries a warning.
        data: A finite, ordered, batched `tf.data.Dataset` of (images, labels), or a pair of arrays: images
            (N, H, W, C) float32 in [0, 1], labels (N,) integers. A dataset is read twice.
        suite: "quick": clean accuracy and the first of `num_steps`; "standard": all of `num_steps`; "full": these and
            AutoAttack, as RobustBench runs it.
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
        progress: Called with a `Progress` after every run of an attack on a batch.

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
    classifier = Classifier(model, next(iter(batches)).images)
    _check_labels(batches.labels, classifier.num_classes)
    if suite == "full" and attacks is None:
        threat = get_threat(plan.norm, plan.headline)
        attempts = autoattack(autoattack_version, threat, num_classes=classifier.num_classes)
        plan = plan.with_autoattack(autoattack_version, attempts)
    look = next(iter(batches))
    flags = model_flags(classifier, look.images, look.labels, seed_for(seed, 0, "evaluate flags"))
    run = _Run(plan, classifier, batches, seed=seed, progress=progress, started=started)
    for number, batch in enumerate(batches):
        run.attack_batch(number, batch)
    return make_record(
        plan,
        batches,
        classifier,
        run.tally,
        run.costs,
        name=model_name or architecture_of(model) or "model",
        architecture=architecture_of(model),
        data_info=data_info,
        flags=flags,
        seed=seed,
        seconds=time.perf_counter() - started,
    )


class _Run:
    """One evaluation while it goes on."""

    def __init__(
        self,
        plan: Plan,
        classifier: Classifier,
        batches: Batches,
        *,
        seed: int,
        progress: Callable[[Progress], None] | None,
        started: float,
    ) -> None:
        self._plan, self._classifier, self._batches = plan, classifier, batches
        self._seed, self._progress, self._started = seed, progress, started
        self.tally = Tally(plan)
        self.costs: dict[tuple[str, float], Cost] = {}
        self._images = self._runs = 0
        self._compiled = [
            CompiledAttempt(attempt, classifier, batch_size=batches.batch_size) for attempt in plan.attempts
        ]
        self._predict = tf.function(lambda images: _prediction(classifier(images)))

    def attack_batch(self, number: int, batch: Batch) -> None:
        """Puts one batch to everything in the plan."""
        begun = time.perf_counter()
        predictions, confidences = (part.numpy() for part in self._predict(tf.constant(batch.images)))
        if np.any(predictions < 0):
            raise InvalidInput(
                "The model gives numbers that are not finite on clean images.",
                expected="finite logits",
                received=f"NaN or infinite logits in batch {number}",
            )
        self._cost(CLEAN, 0.0).seconds += time.perf_counter() - begun
        self._cost(CLEAN, 0.0).forward += batch.num_real
        self.tally.begin(batch, predictions, confidences)
        for compiled in self._compiled:
            for eps in self._plan.epsilons:
                self._attack(compiled, eps, batch, first=self._images)
        self._images += batch.num_real
        self.tally.end()

    def _attack(self, compiled: CompiledAttempt, eps: float, batch: Batch, *, first: int) -> None:
        attempt = compiled.attempt
        seed = seed_for(self._seed, 0, f"evaluate {attempt.name}")
        self.tally.start(attempt, eps)
        for run in range(attempt.num_restarts):
            rows = self.tally.left(attempt, eps)
            # Nobody left to fool: another run could change no count.
            if len(rows):
                before = time.perf_counter(), compiled.passes_forward, compiled.passes_backward
                outcome = compiled(batch.images[rows], batch.labels[rows], first + rows, seed, run=run, epsilon=eps)
                self.tally.add(attempt, eps, rows, outcome)
                cost = self._cost(attempt.name, eps)
                cost.seconds += time.perf_counter() - before[0]
                cost.forward += compiled.passes_forward - before[1]
                cost.backward += compiled.passes_backward - before[2]
            self._runs += 1
            self._tell(attempt, eps, images=first + batch.num_real)

    def _cost(self, attack: str, eps: float) -> Cost:
        return self.costs.setdefault((attack, eps), Cost())

    def _tell(self, attempt: Attempt, eps: float, *, images: int) -> None:
        if self._progress is None:
            return
        restarts = sum(each.num_restarts for each in self._plan.attempts)
        total = len(self._batches) * len(self._plan.epsilons) * restarts
        seconds = time.perf_counter() - self._started
        self._progress(
            Progress(
                attack=attempt.name,
                eps=eps,
                images=images,
                num_images=len(self._batches.labels),
                clean_acc=float(self.tally.clean().mean()),
                robust_acc=float(self.tally.robust(WORST, self._plan.headline).mean()),
                seconds=seconds,
                seconds_left=seconds / self._runs * (total - self._runs),
            )
        )


def _prediction(logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return predicted(logits), tf.reduce_max(tf.nn.softmax(logits), axis=-1)


def _check_labels(labels: np.ndarray, num_classes: int) -> None:
    if labels.max() >= num_classes:
        raise InvalidInput(
            "A label has no logit.",
            expected=f"labels in [0, {num_classes}), as the model gives {num_classes} logits",
            received=f"max(labels)={labels.max()}",
        )
