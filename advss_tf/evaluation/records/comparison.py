"""Two models on the same images: a sentence with a p-value.

Synopsis:

    found = compare(record, other)
    print(found)                  # "p3f4 is more robust than p1f4: … (exact McNemar test, p = 0.0031, 1,000 images)."
    found.p_value, found.only_first, found.only_second

Each image is put to both models, so the images on which they differ say more than the two accuracies do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from advss_tf.errors import InvalidInput
from advss_tf.evaluation.records.record import Record, epsilon_text
from advss_tf.evaluation.records.statistics import mcnemar

_SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Comparison:
    """How two models compare under attack.

    Attributes:
        first: The first model's name.
        second: The second's.
        only_first: Images on which the first alone is robust.
        only_second: Images on which the second alone is robust.
        num_images: How many images both were put to.
        p_value: Of McNemar's exact test, two-sided.
        ball: The ball of the attacks, in words.
    """

    first: str
    second: str
    only_first: int
    only_second: int
    num_images: int
    p_value: float
    ball: str

    def __str__(self) -> str:
        better, worse = (self.first, self.second) if self.only_first >= self.only_second else (self.second, self.first)
        most, fewest = sorted((self.only_first, self.only_second), reverse=True)
        test = f"exact McNemar test, p = {self.p_value:.2g}, {self.num_images:,} images, {self.ball}"
        if self.p_value >= _SIGNIFICANT:
            return f"No difference in robustness between {self.first} and {self.second} is shown ({test})."
        return (
            f"{better} is more robust than {worse}: it alone holds {most:,} images, {worse} alone {fewest:,} ({test})."
        )


def comparisons(records: Sequence[Record]) -> list[Comparison]:
    """Every pair of records that can be compared, in order.

    Records that share a name are runs of one recipe and are left out: how those differ, an interval over runs shows.
    """
    names = [record.name for record in records]
    alone = [record for record in records if names.count(record.name) == 1]
    return [compare(one, other) for one, other in combinations(alone, 2) if _differs_in(one, other) is None]


def compare(first: Record, second: Record) -> Comparison:
    """Compares two records image by image, under all attacks at their `eps`.

    Raises:
        InvalidInput: if they are not of the same images and ball, or lack the outcome of every image.
    """
    differs = _differs_in(first, second)
    if differs is not None or first.examples is None or second.examples is None:
        raise InvalidInput(
            "The two records cannot be compared image by image.",
            expected="the same images, norm, epsilon and suite, and the examples file beside each record",
            received=differs or "no examples",
        )
    ours, theirs = first.examples.outcome_robust, second.examples.outcome_robust
    only_first, only_second = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    return Comparison(
        first=first.name,
        second=second.name,
        only_first=only_first,
        only_second=only_second,
        num_images=len(ours),
        p_value=mcnemar(only_first=only_first, only_second=only_second),
        ball=f"{first.threat} {epsilon_text(first.eps, first.threat)}",
    )


def _differs_in(first: Record, second: Record) -> str | None:
    """What keeps two records from being compared, as `name=one and other`; None if nothing does."""
    for name in ("images_fingerprint", "threat", "suite"):
        ours, theirs = getattr(first, name), getattr(second, name)
        if ours != theirs:
            return f"{name}={ours!r} and {theirs!r}"
    if not math.isclose(first.eps, second.eps, abs_tol=1e-9):
        return f"eps={first.eps:g} and {second.eps:g}"
    if first.examples is None or second.examples is None:
        return f"examples={first.examples is not None} and {second.examples is not None}"
    return None
