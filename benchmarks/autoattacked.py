"""The standard AutoAttack of this library, and of torchattacks on the same weights, as figures that can be compared.

Synopsis:

    ours = our_autoattack(digits_cnn("small"), "linf")
    ours.robust["apgd-ce"], ours.seconds["apgd-ce"], ours.verdicts         # after that attack; of every image
    theirs = torch_autoattack("torch-env/bin/python", digits_cnn("small"), "linf")
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import advss_tf as advss
from advss_tf.evaluation.autoattack import VERSIONS
from benchmarks.attacked_models import DIGITS_RADII, Subject, cnn_weights
from benchmarks.pairs import Seconds, clocked
from benchmarks.workers import Worker

NAMES = VERSIONS["standard"]


class Outcome(NamedTuple):
    """What became of the images.

    Attributes:
        robust: How many images are right cleanly ("clean") and after each attack and those before it.
        seconds: What each attack took, compiling included.
        verdicts: `(n,)` bool, right cleanly and after all attacks.
        passes: Forward and backward passes of each attack, mean over all images; empty where nobody counted.
        versions: Of who attacked.
        taken: What all of it took, from arrays to verdicts.
    """

    robust: dict[str, int]
    seconds: dict[str, float]
    verdicts: np.ndarray
    passes: dict[str, tuple[float, float]]
    versions: dict[str, str]
    taken: Seconds

    def __str__(self) -> str:
        steps = (f"{name} {count}" for name, count in self.robust.items())
        return f"robust of {len(self.verdicts)} after {', '.join(steps)} in {self.taken.wall:.1f} s"

    def plain(self) -> dict[str, Any]:
        """The same as plain JSON data."""
        return {**self._asdict(), "verdicts": self.verdicts.tolist(), "taken": self.taken._asdict()}


def our_autoattack(subject: Subject, norm: str) -> Outcome:
    """AutoAttack's standard version, through `evaluate`, at the radius of `DIGITS_RADII`."""
    # The suite begins with PGD; one step of it takes next to nothing, and its verdict is not AutoAttack's.
    records: list[advss.Record] = []
    evaluated = clocked(
        lambda: records.append(
            advss.evaluate(
                subject.model,
                (subject.images, subject.labels),
                suite="full",
                norm=norm,
                epsilons=DIGITS_RADII[norm],
                num_steps=1,
                batch_size=len(subject.images),
            )
        )
    )
    taken, record = evaluated(), records[0]
    rows = {name: record.result(name) for name in NAMES}
    return Outcome(
        robust={"clean": record.result("clean").correct, **{name: row.correct for name, row in rows.items()}},
        seconds={name: row.seconds for name, row in rows.items()},
        verdicts=record.examples.outcome_robust,
        passes={name: (row.forward_passes, row.backward_passes) for name, row in rows.items()},
        versions=dict(record.versions),
        taken=taken,
    )


def torch_autoattack(python: str, subject: Subject, norm: str) -> Outcome:
    """torchattacks' four attacks on the weights of a `digits_cnn`, in a process of their own."""
    script = Path(__file__).with_name("torch_autoattack.py")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "subject.npz"
        np.savez(path, images=subject.images, labels=subject.labels, **cnn_weights(subject.model))
        command = [python, str(script), str(path), f"--norm={norm}", f"--epsilon={DIGITS_RADII[norm]}"]
        with Worker(command) as worker:
            facts = worker.facts
    return Outcome(
        robust=facts["robust"],
        seconds=facts["seconds"],
        verdicts=np.array(facts["verdicts"]),
        passes={},
        versions=facts["versions"],
        taken=Seconds(**facts["taken"]),
    )
