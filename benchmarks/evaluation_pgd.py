"""Projected gradient descent on a batch of images: this library beside its peers, and beside its own passes.

Synopsis:

    for row in pgd(EvaluationSettings(rounds=5)):
        print(row.first, row.second, row.comparison.ratio)
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks.attacked_models import Subject, digits_resnet
from benchmarks.attackers import PEERS, Attacked, missing, pgd_forms
from benchmarks.contestants import NETWORKS, input_gradients
from benchmarks.evaluation_settings import EvaluationSettings
from benchmarks.pairs import alternate, clocked, compare
from benchmarks.results import Row


def pgd(settings: EvaluationSettings) -> Iterator[Row]:
    """Our compiled PGD beside foolbox's and ART's, from the same start, on the same images, in batches of one size.

    Each peer has two rows: given the model as its documentation does it, and wrapped in `tf.function`.
    """
    subject = digits_resnet(settings.network).first(settings.most(192))
    forms = pgd_forms(subject, num_steps=settings.num_steps, batch=settings.batch)
    found = {label: form() for label, form in forms.items()}
    times = alternate({label: clocked(form) for label, form in forms.items()}, rounds=settings.rounds)
    for peer in PEERS:
        if peer not in forms:
            note = f"{missing(peer)}; ours {_robust(found['ours'])}"
            yield Row("pgd", settings.network, "ours", peer, note=note, times={"ours": times["ours"]})
    for label in list(forms)[1:]:
        yield Row(
            "pgd",
            settings.network,
            "ours",
            label,
            compare(times["ours"], times[label]),
            target=0.5,
            note=_same(found["ours"], found[label]),
            times={name: times[name] for name in ("ours", label)},
        )
    yield _beside_its_passes(subject.first(settings.batch), settings)


def _beside_its_passes(subject: Subject, settings: EvaluationSettings) -> Row:
    """Our PGD on one batch beside as many forward passes with their gradients by the images as it has steps."""
    network = NETWORKS[settings.network]._replace(batch=len(subject.images))
    one_pass = input_gradients(network, folded=True)
    attack = pgd_forms(subject, num_steps=settings.num_steps, batch=settings.batch)["ours"]
    labels = "ours, one batch", f"{settings.num_steps} passes with folded batch norm"
    contestants = dict(zip(labels, (attack, lambda: [one_pass() for _ in range(settings.num_steps)]), strict=True))
    for contestant in contestants.values():
        contestant()
    times = alternate({label: clocked(each) for label, each in contestants.items()}, rounds=settings.rounds)
    return Row("pgd", settings.network, *labels, compare(*times.values()), times=times)


def _robust(attacked: Attacked) -> str:
    return f"{int(attacked.right.sum())} of {len(attacked.right)} robust"


def _same(ours: Attacked, theirs: Attacked) -> str:
    verdicts = int(np.sum(ours.right == theirs.right))
    # The sign of a gradient that is all but 0 depends on rounding: such a pixel ends elsewhere.
    pixels = float(np.mean(np.isclose(ours.images, theirs.images, atol=1e-5)))
    return f"ours {_robust(ours)}, theirs {_robust(theirs)}, same verdict on {verdicts}, {pixels:.1%} of pixels alike"
