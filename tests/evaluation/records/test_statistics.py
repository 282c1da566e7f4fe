"""Intervals against numbers worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from advss_tf.errors import InvalidInput
from advss_tf.evaluation import mcnemar, mean_interval, wilson_interval

Z = 1.959963984540054


@pytest.mark.parametrize("correct,total", [(0, 1), (0, 10), (1, 7), (45, 100), (500, 500), (9_999, 10_000)])
def test_the_bounds_are_the_proportions_at_which_the_score_test_just_rejects(correct, total):
    """Wilson's interval is defined as the roots of (share - p)^2 = z^2 p (1 - p) / total."""
    share = correct / total
    roots = np.roots([1 + Z**2 / total, -(2 * share + Z**2 / total), share**2])
    assert wilson_interval(correct, total) == pytest.approx(tuple(sorted(roots.real)), abs=1e-9)


def test_the_interval_of_45_in_100_is_the_one_worked_by_hand():
    # (0.45 + 1.92073 / 100) / 1.0384146 ± 1.959964 / 1.0384146 * sqrt(0.002475 + 0.9603647e-4)
    assert wilson_interval(45, 100) == pytest.approx((0.3561, 0.5476), abs=1e-4)


def test_nobody_robust_is_no_proof_of_zero():
    low, high = wilson_interval(0, 100)
    assert low == 0.0
    assert high == pytest.approx(Z**2 / (100 + Z**2))


def test_a_lower_confidence_gives_a_narrower_interval():
    wide, narrow = wilson_interval(45, 100), wilson_interval(45, 100, confidence=0.8)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


@pytest.mark.parametrize("correct,total", [(-1, 10), (11, 10), (0, 0)])
def test_counts_that_are_no_proportion_are_refused(correct, total):
    with pytest.raises(InvalidInput, match="counts of an accuracy do not fit"):
        wilson_interval(correct, total)


def test_a_confidence_of_one_is_refused():
    with pytest.raises(InvalidInput, match="`confidence` is a probability"):
        wilson_interval(1, 2, confidence=1.0)


def test_the_mean_over_three_seeds_has_the_interval_of_the_t_table():
    # mean 2, standard deviation 1, t(0.975, 2) = 4.302653: 4.302653 / sqrt(3)
    assert mean_interval([1.0, 2.0, 3.0]) == pytest.approx((2.0, 4.302653 / np.sqrt(3)), rel=1e-6)


def test_one_seed_has_no_interval():
    with pytest.raises(InvalidInput, match="more than one run"):
        mean_interval([0.5])


@pytest.mark.parametrize("only_first,only_second,p", [(0, 0, 1.0), (5, 0, 2 / 32), (0, 5, 2 / 32), (3, 1, 10 / 16)])
def test_mcnemar_by_hand(only_first, only_second, p):
    """Twice the lower tail of a fair coin: (1 + 4) / 16 for three heads to one tail."""
    assert mcnemar(only_first=only_first, only_second=only_second) == pytest.approx(p)


def test_mcnemar_refuses_negative_counts():
    with pytest.raises(InvalidInput, match="negative"):
        mcnemar(only_first=-1, only_second=2)
