"""The exact counts of an evaluation, image by image, and the few images that are kept to draw.

Synopsis:

    tally = Tally(plan, num_classes=10)
    tally.begin(batch, predictions, confidences)
    tally.add("pgd-20", 8 / 255, outcome)            # once for each attack, epsilon and restart
    tally.end()
    tally.robust("worst", 8 / 255)                    # (n,) bool
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from advss_tf.evaluation.attempts import Outcome, Plan
from advss_tf.evaluation.batches import Batch
from advss_tf.evaluation.record import WORST, Examples

MAX_EXAMPLES = 10


class Tally:
    """Who survived what. An image is robust if it is right cleanly and after every attack it was put to.

    Args:
        plan: What every image is put to.
        max_examples: How many images are kept to draw, the first of each class.
    """

    def __init__(self, plan: Plan, *, max_examples: int = MAX_EXAMPLES) -> None:
        self._plan = plan
        self._max_examples = max_examples
        self._names = [attempt.name for attempt in plan.attempts]
        self._robust: dict[tuple[str, float], list[np.ndarray]] = defaultdict(list)
        self._clean: dict[str, list[np.ndarray]] = defaultdict(list)
        self._drawn: list[dict[str, np.ndarray]] = []

    def begin(self, batch: Batch, predictions: np.ndarray, confidences: np.ndarray) -> None:
        """Starts a batch with what the model says of its clean images; rows that are not real end here."""
        rows = slice(batch.num_real)
        self._now = {"labels": batch.labels[rows], "predictions": predictions[rows], "confidences": confidences[rows]}
        self._images = batch.images[rows]
        for name, values in self._now.items():
            self._clean[name].append(values)
        right = self._now["predictions"] == self._now["labels"]
        for name in self._names:
            for eps in self._plan.epsilons:
                self._robust[name, eps].append(right.copy())
        self._shown: Outcome | None = None

    def add(self, name: str, eps: float, outcome: Outcome) -> None:
        """Adds one run of one attack on the batch that was begun."""
        count = len(self._images)
        outcome = Outcome(*(part[:count] for part in outcome))
        if eps == self._plan.headline:
            self._show(outcome)
        self._robust[name, eps][-1] &= outcome.robust

    def survivors(self, name: str, eps: float) -> int:
        """How many images of the batch that was begun have survived the runs of this attack so far."""
        return int(self._robust[name, eps][-1].sum())

    def end(self) -> None:
        """Ends the batch: keeps the first image of each class that was not met before."""
        met = {int(label) for drawn in self._drawn for label in drawn["labels"]}
        labels = self._now["labels"]
        rows = [row for row, label in enumerate(labels) if label not in met and label not in labels[:row]]
        rows = rows[: self._max_examples - len(met)]
        if rows and self._shown is not None:
            self._drawn.append(
                {
                    "images": self._images[rows],
                    "attacked": self._shown.images[rows],
                    "labels": labels[rows],
                    "clean_predictions": self._now["predictions"][rows],
                    "clean_confidences": self._now["confidences"][rows],
                    "attacked_predictions": self._shown.predictions[rows],
                    "attacked_confidences": self._shown.confidences[rows],
                }
            )

    def clean(self) -> np.ndarray:
        """(n,) bool: right on the clean image."""
        return np.concatenate(self._clean["predictions"]) == np.concatenate(self._clean["labels"])

    def robust(self, name: str, eps: float) -> np.ndarray:
        """(n,) bool: right cleanly and after every run of an attack at `eps`; "worst" is over all attacks."""
        if name != WORST:
            return np.concatenate(self._robust[name, eps])
        return np.logical_and.reduce([self.robust(each, eps) for each in self._names])

    def examples(self) -> Examples:
        """The images that were kept, and the outcome of every image."""
        drawn = {name: np.concatenate([each[name] for each in self._drawn]) for name in self._drawn[0]}
        outcomes = {f"outcome_{name}": np.concatenate(values) for name, values in self._clean.items()}
        return Examples(**drawn, **outcomes, outcome_robust=self.robust(WORST, self._plan.headline))

    def _show(self, outcome: Outcome) -> None:
        """Keeps for each image the run that fooled the model first, or the last run if none did."""
        if self._shown is None:
            self._shown = outcome
            return
        right = (self._now["predictions"] == self._now["labels"]) & self._shown.robust
        self._shown = Outcome(
            *(
                np.where(right.reshape(-1, *[1] * (new.ndim - 1)), new, old)
                for new, old in zip(outcome, self._shown, strict=True)
            )
        )
