"""Who attacks: this library, foolbox and ART (the Adversarial Robustness Toolbox), on the same Keras model.

Synopsis:

    forms = pgd_forms(subject, num_steps=20, batch=64)          # {"ours": …, "foolbox": …, "ART, tf.function": …}
    attacked = forms["ours"]()                                  # Attacked(images, right)

Each peer is given the model as it is, as its documentation does it, and wrapped in `tf.function`. Who is not installed
is left out. From arrays of clean images to arrays of attacked images and whether the model is still right on each:
that is what a call does, for every one of them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

import advss_tf as advss
from advss_tf.evaluation.attempts import Attempt
from advss_tf.evaluation.compiled import CompiledAttempt
from advss_tf.evaluation.models import Classifier
from advss_tf.randomness import seed_for
from benchmarks.attacked_models import Subject
from benchmarks.contestants import EPSILON, NUM_CLASSES, STEP_SIZE

# What each peer imports, and what `pip` calls that. ART's AutoAttack needs `multiprocess` without asking for it.
PEERS = {
    "foolbox": (("foolbox",), "foolbox"),
    "ART": (("art", "multiprocess"), "adversarial-robustness-toolbox multiprocess"),
}


class Attacked(NamedTuple):
    """Attacked images `(n, h, w, c)`, and whether the model is right on them `(n,)`."""

    images: np.ndarray
    right: np.ndarray


Attacker = Callable[[], Attacked]


def installed(peer: str) -> bool:
    """Whether a key of `PEERS` can be imported here."""
    return all(importlib.util.find_spec(module) for module in PEERS[peer][0])


def missing(peer: str) -> str:
    """What is said of a peer that is not installed."""
    return f"{peer} is not installed: pip install {PEERS[peer][1]}"


def pgd_forms(subject: Subject, *, num_steps: int, batch: int) -> dict[str, Attacker]:
    """PGD in Linf, 8/255, in steps of 2/255 from the images themselves, by everyone that is installed."""
    makers = {"foolbox": _foolbox_pgd, "ART": _art_pgd}
    forms: dict[str, Attacker] = {"ours": _our_pgd(subject, num_steps=num_steps, batch=batch)}
    for peer, make in makers.items():
        if installed(peer):
            forms[peer] = make(subject, _eager(subject.model), num_steps=num_steps, batch=batch)
            forms[f"{peer}, tf.function"] = make(subject, _traced(subject.model), num_steps=num_steps, batch=batch)
    return forms


def art_autoattack(subject: Subject, *, epsilon: float) -> Attacker:
    """ART's AutoAttack in Linf as it comes: APGD on two losses, DeepFool, Square, with five starts each.

    Their first step is twice the radius, as in the published AutoAttack.
    """
    from art.attacks.evasion import AutoAttack

    classifier = _art_classifier(subject, _traced(subject.model))
    count = len(subject.images)
    attack = AutoAttack(classifier, norm=np.inf, eps=epsilon, eps_step=2 * epsilon, batch_size=count)
    for each in attack.attacks:
        each.verbose = False
    return _art_attacker(subject, attack)


def art_restarts(subject: Subject, *, epsilon: float, num_steps: int = 50, num_restarts: int = 10) -> Attacker:
    """ART's PGD in Linf with random starts; an image that one of them fools stays fooled."""
    classifier = _art_classifier(subject, _traced(subject.model))
    return _art_attacker(
        subject,
        _art_projected(
            classifier,
            eps=epsilon,
            eps_step=epsilon / 10,
            max_iter=num_steps,
            num_random_init=num_restarts,
            batch_size=len(subject.images),
        ),
    )


def right_on(subject: Subject, attacked: np.ndarray, *, epsilon: float) -> np.ndarray:
    """Whether the model is right on images that someone attacked; one that left its ball counts as the clean one."""
    far = np.abs(attacked - subject.images).reshape(len(attacked), -1).max(axis=1)
    inside = (far <= epsilon * (1 + 1e-4)) & np.isfinite(far)
    points = np.where(inside[:, None, None, None], np.clip(attacked, 0, 1), subject.images)
    return np.argmax(subject.model(points, training=False).numpy(), axis=1) == subject.labels


def _our_pgd(subject: Subject, *, num_steps: int, batch: int) -> Attacker:
    attack = advss.ProjectedGradientDescent(
        advss.Linf(EPSILON), num_steps=num_steps, step_size=STEP_SIZE, random_start=False
    )
    classifier = Classifier(subject.model, subject.images[:8])
    compiled = CompiledAttempt(Attempt("pgd", attack), classifier, batch_size=batch)
    seed = seed_for(0, 0, "benchmark")

    def attacked() -> Attacked:
        numbers = np.arange(len(subject.images))
        outcomes = [
            compiled(subject.images[rows], subject.labels[rows], numbers[rows], seed, run=0, epsilon=EPSILON)
            for rows in _batches(subject, batch)
        ]
        return _joined((outcome.images, outcome.robust) for outcome in outcomes)

    return attacked


def _foolbox_pgd(subject: Subject, model: Callable[..., Any], *, num_steps: int, batch: int) -> Attacker:
    import foolbox

    wrapped = foolbox.models.TensorFlowModel(lambda images: model(images, training=False), bounds=(0, 1))
    attack = foolbox.attacks.LinfPGD(abs_stepsize=STEP_SIZE, steps=num_steps, random_start=False)

    def attacked_batch(rows: slice) -> tuple[np.ndarray, np.ndarray]:
        images, labels = tf.constant(subject.images[rows]), tf.constant(subject.labels[rows])
        _, clipped, fooled = attack(wrapped, images, labels, epsilons=EPSILON)
        return clipped.numpy(), ~fooled.numpy()

    return lambda: _joined(attacked_batch(rows) for rows in _batches(subject, batch))


def _art_pgd(subject: Subject, model: Callable[..., Any], *, num_steps: int, batch: int) -> Attacker:
    classifier = _art_classifier(subject, model)
    return _art_attacker(
        subject, _art_projected(classifier, eps=EPSILON, eps_step=STEP_SIZE, max_iter=num_steps, batch_size=batch)
    )


def _art_projected(classifier: Any, **settings: Any) -> Any:
    from art.attacks.evasion import ProjectedGradientDescentTensorFlowV2

    return ProjectedGradientDescentTensorFlowV2(classifier, norm=np.inf, verbose=False, **settings)


def _art_classifier(subject: Subject, model: Callable[..., Any]) -> Any:
    from art.estimators.classification import TensorFlowV2Classifier

    return TensorFlowV2Classifier(
        model=model,
        nb_classes=NUM_CLASSES,
        input_shape=subject.images.shape[1:],
        loss_object=keras.losses.CategoricalCrossentropy(from_logits=True),
        clip_values=(0, 1),
        preprocessing=None,  # its default subtracts 0 and divides by 1, at every step
    )


def _art_attacker(subject: Subject, attack: Any) -> Attacker:
    labels = np.eye(NUM_CLASSES, dtype=np.float32)[subject.labels]

    def attacked() -> Attacked:
        images = attack.generate(subject.images, labels)
        return Attacked(images, np.argmax(attack.estimator.predict(images), axis=1) == subject.labels)

    return attacked


def _eager(model: keras.Model) -> Callable[..., Any]:
    return lambda images, training=False: model(images, training=training)


def _traced(model: keras.Model) -> Callable[..., Any]:
    return tf.function(lambda images, training=False: model(images, training=training), reduce_retracing=True)


def _batches(subject: Subject, batch: int) -> list[slice]:
    return [slice(first, first + batch) for first in range(0, len(subject.images), batch)]


def _joined(parts: Iterator[tuple[np.ndarray, np.ndarray]]) -> Attacked:
    return Attacked(*map(np.concatenate, zip(*parts, strict=True)))
