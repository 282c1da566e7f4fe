"""The exact counts of an evaluation, image by image, and the few images that are kept to draw.

Synopsis:

    tally = Tally(plan, num_classes=10)
    tally.begin(batch, predictions, confidences)
    rows = tally.left(attempt, 8 / 255)               # the images of the batch that it has not fooled yet
    tally.add(attempt, 8 / 255, rows, outcome)        # once for each attack, epsilon and run
    tally.end()
    tally.robust("worst", 8 / 255)                    # (n,) bool
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from advss_tf.evaluation.attempts import Attempt, Plan
from advss_tf.evaluation.batches import Batch
from advss_tf.evaluation.compiled import Outcome
from advss_tf.evaluation.records.record import WORST, Examples

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
        self._attacked: dict[str, list[np.ndarray]] = defaultdict(list)
        self._drawn: list[dict[str, np.ndarray]] = []
        self._drew = False

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
        # A batch's images may be a view of the user's own: what is shown of them is written into.
        self._shown = {"images": self._images.copy(), "robust": right}
        self._shown |= {"predictions": predictions[rows].copy(), "confidences": confidences[rows].copy()}

    def start(self, attempt: Attempt, eps: float) -> None:
        """Starts an attempt on the batch: one of a chain goes on with what the one before it left robust."""
        names = [each.name for each in self._plan.attempts if each.chain == attempt.chain]
        place = names.index(attempt.name)
        if attempt.chain is not None and place:
            self._robust[attempt.name, eps][-1] = self._robust[names[place - 1], eps][-1].copy()

    def left(self, attempt: Attempt, eps: float) -> np.ndarray:
        """The rows of the batch that an attempt has not fooled yet, ascending."""
        return np.flatnonzero(self._robust[attempt.name, eps][-1])

    def add(self, attempt: Attempt, eps: float, rows: np.ndarray, outcome: Outcome) -> None:
        """Adds one run of one attack on some rows of the batch."""
        if eps == self._plan.headline:
            self._show(rows, outcome)
        self._robust[attempt.name, eps][-1][rows] &= outcome.robust

    def end(self) -> None:
        """Ends the batch: keeps the first image of each class that was not met before."""
        for name in ("predictions", "confidences"):
            self._attacked[name].append(self._shown[name])
        met = {int(label) for drawn in self._drawn for label in drawn["labels"]}
        labels = self._now["labels"]
        rows = [row for row, label in enumerate(labels) if label not in met and label not in labels[:row]]
        rows = rows[: self._max_examples - len(met)]
        self._drew = bool(rows)
        if rows:
            self._drawn.append(
                {
                    "images": self._images[rows],
                    "attacked": self._shown["images"][rows],
                    "labels": labels[rows],
                    "clean_predictions": self._now["predictions"][rows],
                    "clean_confidences": self._now["confidences"][rows],
                    "attacked_predictions": self._shown["predictions"][rows],
                    "attacked_confidences": self._shown["confidences"][rows],
                }
            )

    def attacked(self) -> dict[str, np.ndarray]:
        """The attacked images of the batch that was ended last, and what became of them, at the headline's epsilon."""
        robust = np.logical_and.reduce([masks[-1] for masks in self._masks(WORST, self._plan.headline)])
        found = {name: self._shown[name] for name in ("images", "predictions", "confidences")}
        return found | {"labels": self._now["labels"], "robust": robust}

    def last(self) -> dict[str, np.ndarray]:
        """What the batch that was ended left, as arrays by name: for `restore`."""
        robust = {f"robust/{place}": masks[-1] for place, masks in enumerate(self._robust.values())}
        clean = {f"clean/{name}": values[-1] for name, values in self._clean.items()}
        attacked = {f"attacked/{name}": values[-1] for name, values in self._attacked.items()}
        drawn = {f"drawn/{name}": rows for name, rows in self._drawn[-1].items()} if self._drew else {}
        return {**robust, **clean, **attacked, **drawn}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Adds a batch that was ended before, from what `last` returned then."""
        keys = [(name, eps) for name in self._names for eps in self._plan.epsilons]
        for place, key in enumerate(keys):
            self._robust[key].append(arrays[f"robust/{place}"])
        for name in ("labels", "predictions", "confidences"):
            self._clean[name].append(arrays[f"clean/{name}"])
        for name in ("predictions", "confidences"):
            self._attacked[name].append(arrays[f"attacked/{name}"])
        drawn = {name.removeprefix("drawn/"): rows for name, rows in arrays.items() if name.startswith("drawn/")}
        if drawn:
            self._drawn.append(drawn)

    def clean(self) -> np.ndarray:
        """(n,) bool: right on the clean image."""
        return np.concatenate(self._clean["predictions"]) == np.concatenate(self._clean["labels"])

    def robust(self, name: str, eps: float) -> np.ndarray:
        """(n,) bool: right cleanly and after every run of an attack at `eps`.

        The name of a chain is over the attacks of the chain. "worst" is over all attacks, and over all smaller balls of
        the plan as well, which lie inside: it can only fall as `eps` grows.
        """
        return np.logical_and.reduce([np.concatenate(masks) for masks in self._masks(name, eps)])

    def _masks(self, name: str, eps: float) -> list[list[np.ndarray]]:
        """Who survived each attack and ball that `name` at `eps` is over, batch by batch."""
        members = [each.name for each in self._plan.attempts if name in (WORST, each.chain)] or [name]
        radii = [radius for radius in self._plan.epsilons if radius < eps] if name == WORST else []
        return [self._robust[each, radius] for each in members for radius in (*radii, eps)]

    def examples(self) -> Examples:
        """The images that were kept, and the outcome of every image."""
        drawn = {name: np.concatenate([each[name] for each in self._drawn]) for name in self._drawn[0]}
        outcomes = {f"outcome_{name}": np.concatenate(values) for name, values in self._clean.items()}
        attacked = {f"outcome_attacked_{name}": np.concatenate(values) for name, values in self._attacked.items()}
        return Examples(**drawn, **outcomes, **attacked, outcome_robust=self.robust(WORST, self._plan.headline))

    def _show(self, rows: np.ndarray, outcome: Outcome) -> None:
        """Keeps for each image the run that fooled the model first, or the last run if none did."""
        fresh = self._shown["robust"][rows]
        for name, shown in self._shown.items():
            shown[rows[fresh]] = getattr(outcome, name)[fresh]
