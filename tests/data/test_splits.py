"""Tests of `advss_tf.data.splits`."""

from __future__ import annotations

import numpy as np
import pytest

from advss_tf.data.splits import cut, label_budget, permutation
from advss_tf.errors import InvalidInput

NUMBERS = np.arange(100)
LABELS = np.repeat([0, 1, 2], [50, 30, 20])
NAMES = ("ant", "bee", "cow")


def test_a_cut_loses_nothing_shares_nothing_and_is_stratified():
    kept, taken = cut(NUMBERS, LABELS, 0.1, seed=0, role="held_out")
    assert sorted([*kept, *taken]) == list(NUMBERS)
    np.testing.assert_array_equal(np.bincount(LABELS[taken]), [5, 3, 2])


def test_a_stratified_cut_gives_the_exact_count_where_shares_are_no_whole_numbers():
    _, taken = cut(NUMBERS, LABELS, 7, seed=0, role="held_out")  # 3.5, 2.1 and 1.4 by share
    np.testing.assert_array_equal(np.bincount(LABELS[taken]), [4, 2, 1])


def test_one_seed_cuts_the_same_and_another_seed_or_role_cuts_another():
    cuts = [
        tuple(cut(NUMBERS, None, 0.3, seed=seed, role=role)[1])
        for seed, role in ((1, "a"), (1, "a"), (2, "a"), (1, "b"))
    ]
    assert cuts[0] == cuts[1]
    assert len(set(cuts)) == 3


def test_the_permutation_is_pinned_to_known_numbers():
    # A test split that is cut from a source must be the same in every version of the library.
    assert permutation(np.arange(10), seed=0, role="test").tolist() == [3, 5, 0, 9, 6, 1, 2, 4, 7, 8]


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5, 100, -1])
def test_a_share_that_leaves_nothing_is_refused(share):
    with pytest.raises(InvalidInput, match=f"`held_out` cannot be cut from 100 images.*held_out={share}"):
        cut(NUMBERS, LABELS, share, seed=0, role="held_out")


def test_a_budget_of_labels_is_so_many_of_every_class_and_small_ones_lie_in_large_ones():
    few = label_budget(NUMBERS, LABELS, class_names=NAMES, labels_per_class=4, seed=0)
    many = label_budget(NUMBERS, LABELS, class_names=NAMES, labels_per_class=20, seed=0)
    np.testing.assert_array_equal(np.bincount(LABELS[few]), [4, 4, 4])
    assert set(few) < set(many)


def test_a_fraction_of_labels_is_that_fraction_of_every_class_and_one_at_least():
    tenth = label_budget(NUMBERS, LABELS, class_names=NAMES, label_fraction=0.1, seed=0)
    least = label_budget(NUMBERS, LABELS, class_names=NAMES, label_fraction=0.001, seed=0)
    np.testing.assert_array_equal(np.bincount(LABELS[tenth]), [5, 3, 2])
    np.testing.assert_array_equal(np.bincount(LABELS[least]), [1, 1, 1])


def test_without_a_budget_every_label_may_be_used():
    assert label_budget(NUMBERS, LABELS, class_names=NAMES, seed=0) is NUMBERS


@pytest.mark.parametrize(
    ("budget", "sentence"),
    [
        ({"labels_per_class": 21}, "larger than class 'cow'.*labels_per_class <= 20.*Received: labels_per_class=21"),
        ({"labels_per_class": 0}, "budget is empty"),
        ({"label_fraction": 0.0}, "0 < label_fraction <= 1"),
        ({"label_fraction": 1.1}, "0 < label_fraction <= 1"),
        ({"labels_per_class": 1, "label_fraction": 0.1}, "given twice"),
    ],
)
def test_a_wrong_budget_is_refused(budget, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        label_budget(NUMBERS, LABELS, class_names=NAMES, seed=0, **budget)
