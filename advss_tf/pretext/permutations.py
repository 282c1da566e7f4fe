"""Sets of permutations for jigsaw puzzles: which orders of the patches are there to be told apart.

Synopsis:

    permutations = make_permutations("max_hamming", 16, 30, seed=0)        # (30, 16), distinct, none the identity
    permutations[0]                                                      # patch permutations[0][j] comes to place j

The unshuffled image is a label of its own, so no set holds the identity, and every set is chosen as if it did.

References:
    Noroozi, Favaro, "Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles", ECCV 2016
    (arXiv 1603.09246), algorithm 1: a set grows by the permutation with the largest Hamming distance to those in it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from advss_tf.config.task_rules import MOST_PERMUTATIONS
from advss_tf.errors import InvalidInput, one_of
from advss_tf.randomness import derived_seed

# Up to 9 patches all permutations are looked through: 362,880 rows. 16 patches have 2 * 10**13.
_MOST_LOOKED_THROUGH = 9
_SAMPLES = 64


def make_permutations(kind: str, num_patches: int, num_permutations: int, *, seed: int = 0) -> np.ndarray:
    """Distinct permutations of the patches, none of them the identity; the same for the same arguments.

    The numbers come from NumPy's `RandomState`, whose stream NumPy has promised never to change (NEP 19).

    Args:
        kind: `"random"`, drawn uniformly, or `"max_hamming"`, see `max_hamming_permutations`.
        num_patches: Patches of an image, 2 or more.
        num_permutations: How many, from 1 to `num_patches! - 1`, and at most 10,000: the time that a large set takes
            grows with the square of it.
        seed: The run's seed.

    Returns:
        `(num_permutations, num_patches)` int32, each row the numbers 0 … num_patches - 1 in some order.

    Raises:
        InvalidInput: if the kind is not known, there are not so many permutations, or they are more than are made.
    """
    one_of("permutation_set", kind, KINDS)
    _refuse_more_than_exist(num_patches, num_permutations)
    rng = np.random.RandomState(derived_seed(seed, "permutations"))
    return _MAKERS[kind](num_patches, num_permutations, rng).astype(np.int32)


def random_permutations(num_patches: int, num_permutations: int, rng: np.random.RandomState) -> np.ndarray:
    """Uniform draws; one that was drawn before, or the identity, is drawn again."""
    taken = {tuple(range(num_patches))}
    drawn: list[np.ndarray] = []
    while len(drawn) < num_permutations:
        permutation = rng.permutation(num_patches)
        if tuple(permutation) not in taken:
            taken.add(tuple(permutation))
            drawn.append(permutation)
    return np.stack(drawn)


def max_hamming_permutations(num_patches: int, num_permutations: int, rng: np.random.RandomState) -> np.ndarray:
    """Greedy: from the identity on, each next permutation is the farthest from those that are there.

    Farthest is the one whose smallest Hamming distance to them is largest; at a tie, the one with the largest sum of
    distances. Algorithm 1 looks at the sum alone, which at 9 patches lets in pairs that differ in two places.

    Up to 9 patches every permutation is looked at (a tie that is left goes to the first in a shuffled order), with its
    smallest distance and its sum kept up to date: one pass over 9! rows a step, and never a matrix of distances. With
    more patches 64 candidates are drawn a step, see `_far_candidates`, and the farthest of them is taken.
    """
    if num_patches > _MOST_LOOKED_THROUGH:
        return _farthest_of_samples(np.arange(num_patches), num_permutations, rng)
    rows = _all_permutations(num_patches)
    rows = rows[rng.permutation(len(rows))]
    by_place = np.ascontiguousarray(rows.T)  # a row a place: the comparison below then runs along memory
    smallest, total = np.full(len(rows), num_patches, np.int64), np.zeros(len(rows), np.int64)
    chosen = [np.arange(num_patches, dtype=np.uint8)]
    for _ in range(num_permutations):
        distances = np.sum(by_place != chosen[-1][:, None], axis=0, dtype=np.uint8)
        np.minimum(smallest, distances, out=smallest)
        total += distances
        chosen.append(rows[np.argmax(_rank(smallest, total))])
    return np.stack(chosen[1:])


def checked_permutations(permutations: Any, *, num_patches: int, num_permutations: int) -> np.ndarray:
    """A given set as `(num_permutations, num_patches)` int32, if it is one.

    Raises:
        InvalidInput: if the shape is another, a row is no permutation of 0 … num_patches - 1, or two labels, one of
            them that of the whole image, would have the same puzzle.
    """
    given = np.asarray(permutations)
    whole = np.arange(num_patches)
    expected = f"({num_permutations}, {num_patches}) integers, each row 0 … {num_patches - 1} in some order"
    if given.shape != (num_permutations, num_patches) or given.dtype.kind not in "iu":
        _refuse_set("has not the shape of the puzzle", expected, f"{given.dtype} of shape {given.shape}")
    wrong = np.flatnonzero((np.sort(given, axis=1) != whole).any(axis=1))
    if wrong.size:
        _refuse_set("has a row that is no permutation", expected, f"row {wrong[0]}: {given[wrong[0]].tolist()}")
    if len(np.unique(np.vstack([whole, given]), axis=0)) <= num_permutations:
        _refuse_set("has the same puzzle twice", f"{expected}; distinct rows, none the identity", "a row twice")
    return given.astype(np.int32)


def _all_permutations(num_patches: int) -> np.ndarray:
    """Every permutation, `(num_patches!, num_patches)` uint8, in lexicographic order."""
    flat = itertools.chain.from_iterable(itertools.permutations(range(num_patches)))
    return np.fromiter(flat, np.uint8).reshape(-1, num_patches)


def _farthest_of_samples(whole: np.ndarray, num_permutations: int, rng: np.random.RandomState) -> np.ndarray:
    chosen, used = whole[None], np.eye(len(whole))
    while len(chosen) <= num_permutations:
        candidates = _far_candidates(used, rng)
        distances = np.sum(candidates[:, None] != chosen, axis=2)
        smallest = distances.min(axis=1)
        best = np.argmax(_rank(smallest, distances.sum(axis=1)))
        if smallest[best]:
            chosen = np.vstack([chosen, candidates[best]])
            used[whole, candidates[best]] += 1
    return chosen[1:]


def _far_candidates(used: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """Permutations far from a set, `(64, patches)`, where `used[place, patch]` counts how often the set has them.

    The distances of a permutation to a set of n sum to n * patches - Σ used[place, permutation[place]]. So the largest
    sum is a linear assignment problem, exact without looking at one other permutation; noise of up to two uses beside
    the counts draws many that are near it, among which the smallest distance can be looked at.
    """
    noise = 2.0 * rng.random_sample((_SAMPLES, *used.shape))
    return np.stack([linear_sum_assignment(used + each)[1] for each in noise])


def _rank(smallest: np.ndarray, total: np.ndarray) -> np.ndarray:
    """One number that orders by the smallest distance, then by the sum; -1 for what the set holds already."""
    return np.where(smallest == 0, -1, smallest * (int(total.max()) + 1) + total)


def _refuse_more_than_exist(num_patches: int, num_permutations: int) -> None:
    exist = math.factorial(num_patches) - 1
    most = min(exist, MOST_PERMUTATIONS)
    if not isinstance(num_permutations, int) or not 1 <= num_permutations <= most:
        raise InvalidInput(
            "There are not so many permutations." if most == exist else "So many permutations are not made.",
            expected=f"1 to {most} beside the identity, for {num_patches} patches",
            received=f"num_permutations={num_permutations}",
        )


def _refuse_set(what: str, expected: str, received: str) -> None:
    raise InvalidInput(f"`permutations` {what}.", expected=expected, received=received)


_MAKERS: dict[str, Callable[[int, int, np.random.RandomState], np.ndarray]] = {
    "max_hamming": max_hamming_permutations,
    "random": random_permutations,
}

KINDS = tuple(_MAKERS)
"""The sets that can be made, by the name that a recipe gives them."""
