"""How sure an accuracy is: an interval from exact counts, and an interval over seeds.

Synopsis:

    low, high = wilson_interval(correct=45, total=100)     # (0.356, 0.548)
    mean, half_width = mean_interval([0.51, 0.53, 0.52])    # 0.52 ± 0.025
    p = mcnemar(only_first=12, only_second=3)              # 0.035
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy import stats

from advss_tf.errors import InvalidInput


def wilson_interval(correct: int, total: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """The Wilson score interval of a proportion (Wilson 1927, eq. 1), inside [0, 1] for every count.

    Unlike `p ± 1.96·sqrt(p(1-p)/n)` it has a width at 0 % and 100 %, which robust accuracies often are.

    Args:
        correct: How many of the examples were right, in [0, `total`].
        total: How many examples there were, at least 1.
        confidence: The coverage, in (0, 1).

    Returns:
        `(low, high)`, fractions in [0, 1].

    Raises:
        InvalidInput: if the counts are not those of a proportion, or `confidence` is outside (0, 1).
    """
    if total < 1 or not 0 <= correct <= total:
        raise InvalidInput(
            "The counts of an accuracy do not fit each other.",
            expected="0 <= correct <= total and total >= 1",
            received=f"correct={correct}, total={total}",
        )
    z = float(stats.norm.ppf(0.5 + _checked_confidence(confidence) / 2))
    share = correct / total
    scale = 1 + z * z / total
    middle = (share + z * z / (2 * total)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    # At the ends the bound is exact by algebra; the clip removes what rounding leaves.
    return min(max(middle - half, 0.0), share), max(min(middle + half, 1.0), share)


def mean_interval(values: Sequence[float], *, confidence: float = 0.95) -> tuple[float, float]:
    """The mean over seeds and the half width of its Student-t interval.

    Args:
        values: One number a seed, two or more.
        confidence: The coverage, in (0, 1).

    Returns:
        `(mean, half_width)` in the unit of `values`; the interval is `mean ± half_width`.

    Raises:
        InvalidInput: if there are fewer than two values: one run says nothing about the spread of runs.
    """
    if len(values) < 2:
        raise InvalidInput(
            "An interval over seeds needs more than one run.",
            expected="two or more values",
            received=f"len(values)={len(values)}",
        )
    quantile = float(stats.t.ppf(0.5 + _checked_confidence(confidence) / 2, df=len(values) - 1))
    return float(math.fsum(values) / len(values)), quantile * float(stats.sem(values))


def mcnemar(*, only_first: int, only_second: int) -> float:
    """The two-sided p-value of McNemar's exact test: are two models right equally often on the same images?

    Images on which both are right, or both wrong, say nothing; of the others half would fall to each model by chance
    (McNemar 1947; the exact form is a sign test).

    Args:
        only_first: Images on which the first model alone is right.
        only_second: Images on which the second model alone is right.

    Returns:
        The probability, in (0, 1], of a split at least as uneven if the models were equally good.

    Raises:
        InvalidInput: if a count is negative.
    """
    if min(only_first, only_second) < 0:
        raise InvalidInput(
            "A count of images is negative.",
            expected="counts >= 0",
            received=f"only_first={only_first}, only_second={only_second}",
        )
    differ = only_first + only_second
    return float(stats.binomtest(only_first, differ).pvalue) if differ else 1.0


def _checked_confidence(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise InvalidInput(
            "`confidence` is a probability.", expected="a number in (0, 1)", received=f"confidence={confidence!r}"
        )
    return confidence
