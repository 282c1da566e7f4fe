"""Which images are for what: held-out, test, label budget. Record numbers in, record numbers out.

Synopsis:

    train, held_out = cut(numbers, labels, 0.1, seed=seed, role="held_out")
    labelled = label_budget(train, labels, labels_per_class=100, seed=seed)

Every choice is a prefix of one seeded permutation, so the images of a small budget are among those of a larger one.
Permutations come from NumPy's `RandomState`, whose stream NumPy has promised never to change (NEP 19).
"""

from __future__ import annotations

import numpy as np

from advss_tf.errors import InvalidInput
from advss_tf.randomness import derived_seed


def permutation(numbers: np.ndarray, *, seed: int, role: str) -> np.ndarray:
    """`numbers` in a seeded order of their own for each role."""
    return np.random.RandomState(derived_seed(seed, role)).permutation(numbers)


def cut(
    numbers: np.ndarray, labels: np.ndarray | None, share: float | int, *, seed: int, role: str
) -> tuple[np.ndarray, np.ndarray]:
    """Two sorted parts of `numbers`: what is kept, and the `share` that is cut off.

    Args:
        numbers: Record numbers, `(n,)`.
        labels: Labels by record number, for a stratified cut (every class gives the same share, to the nearest
            image), or None for a plain one.
        share: A fraction in [0, 1), or a whole number of images.
        seed: An integer; the same seed cuts the same images.
        role: What the cut is for, such as `"held_out"`.

    Raises:
        InvalidInput: if `share` is out of range or leaves nothing.
    """
    count = share if isinstance(share, int) else round(share * len(numbers))
    if not (share >= 0 and (isinstance(share, int) or share < 1) and count < len(numbers)):
        raise InvalidInput(
            f"`{role}` cannot be cut from {len(numbers)} images.",
            expected=f"a fraction in [0, 1) or fewer than {len(numbers)} images, so that one is left",
            received=f"{role}={share!r}",
        )
    shuffled = permutation(numbers, seed=seed, role=role)
    taken = shuffled[:count] if labels is None else _stratified(shuffled, labels[shuffled], count)
    return np.setdiff1d(numbers, taken), np.sort(taken)


def label_budget(
    numbers: np.ndarray,
    labels: np.ndarray,
    *,
    class_names: tuple[str, ...],
    labels_per_class: int | None = None,
    label_fraction: float | None = None,
    seed: int,
) -> np.ndarray:
    """The sorted record numbers whose labels may be used; all of them when neither budget is given.

    Args:
        numbers: Record numbers of the train split, `(n,)`.
        labels: Labels by record number.
        class_names: For the messages.
        labels_per_class: This many of every class.
        label_fraction: This fraction of every class, to the nearest image and one at least, in (0, 1].
        seed: An integer; one seed gives every method the same images.

    Raises:
        InvalidInput: if both budgets are given, or one is out of range or larger than a class.
    """
    if labels_per_class is None and label_fraction is None:
        return numbers
    if labels_per_class is not None and label_fraction is not None:
        raise InvalidInput(
            "The label budget is given twice.",
            expected="`labels_per_class` or `label_fraction`",
            received=f"labels_per_class={labels_per_class}, label_fraction={label_fraction}",
        )
    _check_budget(labels_per_class, label_fraction)
    shuffled = permutation(numbers, seed=seed, role="label_budget")
    chosen = []
    for number, name in enumerate(class_names):
        members = shuffled[labels[shuffled] == number]
        if labels_per_class is not None and labels_per_class > len(members):
            raise InvalidInput(
                f"The label budget is larger than class {name!r}.",
                expected=f"labels_per_class <= {len(members)}, the images of that class in train",
                received=f"labels_per_class={labels_per_class}",
            )
        wanted = labels_per_class or max(1, round((label_fraction or 0) * len(members)))
        chosen.append(members[:wanted])
    return np.sort(np.concatenate(chosen))


def _check_budget(labels_per_class: int | None, label_fraction: float | None) -> None:
    if labels_per_class is not None and labels_per_class < 1:
        raise InvalidInput(
            "The label budget is empty.",
            expected="labels_per_class >= 1",
            received=f"labels_per_class={labels_per_class}",
        )
    if label_fraction is not None and not 0 < label_fraction <= 1:
        raise InvalidInput(
            "The label budget is no fraction.",
            expected="0 < label_fraction <= 1",
            received=f"label_fraction={label_fraction}",
        )


def _stratified(shuffled: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """The first of each class, `count` together; classes share by the method of the largest remainder."""
    classes, sizes = np.unique(labels, return_counts=True)
    exact = sizes * count / len(shuffled)
    quotas = np.floor(exact).astype(int)
    for place in np.argsort(quotas - exact, kind="stable")[: count - quotas.sum()]:
        quotas[place] += 1
    return np.concatenate([shuffled[labels == name][:quota] for name, quota in zip(classes, quotas, strict=True)])
