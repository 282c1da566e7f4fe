"""Sets of permutations: distinct, the same for a seed, and greedily as far apart as an exhaustive search finds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from advss_tf.errors import InvalidInput
from advss_tf.pretext.permutations import KINDS, checked_permutations, make_permutations
from advss_tf.randomness import derived_seed

SIZES = [(4, 1), (4, 23), (9, 30), (16, 30), (25, 40)]


def smallest_distance(permutations):
    """The smallest Hamming distance between two labels' orders, the identity's among them."""
    orders = np.vstack([np.arange(permutations.shape[1]), permutations])
    return min(int(np.sum(one != other)) for one, other in itertools.combinations(orders, 2))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("num_patches", "num_permutations"), SIZES)
def test_a_set_has_distinct_permutations_without_the_identity(kind, num_patches, num_permutations):
    made = make_permutations(kind, num_patches, num_permutations, seed=1)
    assert made.shape == (num_permutations, num_patches) and made.dtype == np.int32
    np.testing.assert_array_equal(np.sort(made, axis=1), np.tile(np.arange(num_patches), (num_permutations, 1)))
    assert smallest_distance(made) >= 2  # two permutations never differ in one place alone


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_patches", [9, 16])
def test_a_set_depends_on_the_seed_alone(kind, num_patches):
    first, again, other = (make_permutations(kind, num_patches, 20, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_random_permutations_are_those_that_numpy_draws():
    """NumPy's old generator never changes, so neither do the puzzles of a seed."""
    rng = np.random.RandomState(derived_seed(5, "permutations"))
    np.testing.assert_array_equal(make_permutations("random", 16, 3, seed=5), [rng.permutation(16) for _ in range(3)])


def transcribed(num_patches, num_permutations, seed):
    """The greedy choice with every distance in a matrix: smallest distance first, then the sum, then the order."""
    everything = np.array(list(itertools.permutations(range(num_patches))))
    everything = everything[np.random.RandomState(derived_seed(seed, "permutations")).permutation(len(everything))]
    chosen = [np.arange(num_patches)]
    while len(chosen) <= num_permutations:
        keys = []
        for candidate in everything:
            distances = [int(np.sum(candidate != one)) for one in chosen]
            keys.append((min(distances), sum(distances)) if min(distances) else (-1, -1))
        chosen.append(everything[keys.index(max(keys))])
    return np.array(chosen[1:])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("num_permutations", [1, 8, 23])
def test_four_patches_are_permuted_as_an_exhaustive_search_says(num_permutations, seed):
    np.testing.assert_array_equal(
        make_permutations("max_hamming", 4, num_permutations, seed=seed), transcribed(4, num_permutations, seed)
    )


def test_each_of_nine_patches_next_permutation_is_the_farthest_of_all():
    """One distance to each of the chosen for all 362,880: nothing is farther than what was taken."""
    everything = np.array(list(itertools.permutations(range(9))), np.int8)
    chosen = np.vstack([np.arange(9), make_permutations("max_hamming", 9, 12, seed=2)])
    distances = np.stack([np.sum(everything != one, axis=1) for one in chosen[:-1]])
    smallest = np.minimum.accumulate(distances, axis=0)
    for step, taken in enumerate(chosen[1:]):
        to_others = np.sum(taken != chosen[: step + 1], axis=1)
        assert to_others.min() == smallest[step].max()
        at_a_tie = smallest[step] == to_others.min()
        assert to_others.sum() == distances[: step + 1].sum(axis=0)[at_a_tie].max()


def test_the_first_permutations_share_no_place_with_each_other():
    """Hand-countable: n permutations of n patches can differ everywhere, a Latin square, and the greedy finds it."""
    for num_patches in (4, 9):
        made = make_permutations("max_hamming", num_patches, num_patches - 1)
        assert smallest_distance(made) == num_patches


@pytest.mark.parametrize(
    ("num_patches", "num_permutations", "least"), [(9, 30, 7), (9, 100, 6), (16, 30, 13), (16, 100, 12)]
)
def test_far_permutations_are_farther_apart_than_random_ones(num_patches, num_permutations, least):
    for seed in range(3):
        far = smallest_distance(make_permutations("max_hamming", num_patches, num_permutations, seed=seed))
        drawn = smallest_distance(make_permutations("random", num_patches, num_permutations, seed=seed))
        assert far >= least > drawn


def test_a_given_set_is_taken_as_it_is():
    given = [[1, 0, 2, 3], [3, 2, 1, 0]]
    np.testing.assert_array_equal(checked_permutations(given, num_patches=4, num_permutations=2), given)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ([[1, 0, 2, 3]], r"has not the shape of the puzzle.*\(2, 4\) integers.*int64 of shape \(1, 4\)"),
        ([[1.0, 0, 2, 3]] * 2, "has not the shape of the puzzle.*float64"),
        ([[1, 0, 2, 3], [1, 1, 2, 3]], r"has a row that is no permutation.*row 1: \[1, 1, 2, 3\]"),
        ([[4, 3, 2, 1], [1, 0, 2, 3]], "has a row that is no permutation.*row 0"),
        ([[1, 0, 2, 3], [1, 0, 2, 3]], "has the same puzzle twice"),
        ([[1, 0, 2, 3], [0, 1, 2, 3]], "has the same puzzle twice.*none the identity"),
    ],
)
def test_a_given_set_that_is_none_is_refused(given, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        checked_permutations(given, num_patches=4, num_permutations=2)


@pytest.mark.parametrize("num_permutations", [0, 24, 3.0])
def test_more_permutations_than_there_are_are_refused(num_permutations):
    with pytest.raises(InvalidInput, match=f"1 to 23 beside the identity, for 4 .*={num_permutations}"):
        make_permutations("random", 4, num_permutations)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_patches", [9, 25])
def test_more_permutations_than_are_made_are_refused_at_once(kind, num_patches):
    with pytest.raises(InvalidInput, match=r"So many permutations are not made\. Expected: 1 to 10000"):
        make_permutations(kind, num_patches, 10**9 if num_patches > 9 else 362_879)


def test_an_unknown_kind_is_refused_and_the_nearest_named():
    with pytest.raises(InvalidInput, match=r"`permutation_set` is not known \(did you mean 'max_hamming'\?\)"):
        make_permutations("hamming", 4, 2)
