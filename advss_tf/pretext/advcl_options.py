"""What AdvCL refuses of its options.

Synopsis:

    checked_options(clean_views, attack, pseudo_sizes, pseudo_weight, perturbation, base_temperature)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from advss_tf.data.view_kinds import Spec, View
from advss_tf.errors import InvalidInput, one_of

PERTURBATIONS = ("separate", "shared")


def checked_options(
    clean_views: Sequence[Spec],
    attack: Any,
    pseudo_sizes: Sequence[int],
    pseudo_weight: float,
    perturbation: str,
    base_temperature: float | None,
) -> None:
    """Refuses options that leave nothing to learn from or that do not fit each other.

    Raises:
        InvalidInput: if there is no clean view, no attack, a head of fewer than two clusters or two of one size, or a
            word or a number is out of its range.
    """
    one_of("perturbation", perturbation, PERTURBATIONS)
    if isinstance(clean_views, str | Mapping | View) or not clean_views:
        raise InvalidInput(
            "`clean_views` leaves the attacked view no positive.",
            expected="a list of one view or more",
            received=f"{clean_views=}",
        )
    if attack is None:
        raise InvalidInput("AdvCL attacks a view.", expected="an attack, or SimCLR", received="attack=None")
    if any(size < 2 for size in pseudo_sizes) or len(set(pseudo_sizes)) < len(pseudo_sizes):
        raise InvalidInput(
            "`pseudo_sizes` are no numbers of clusters.",
            expected="different numbers >= 2",
            received=f"pseudo_sizes={tuple(pseudo_sizes)}",
        )
    if not 0 <= pseudo_weight < float("inf") or (pseudo_sizes and not pseudo_weight):
        expected = "a finite number > 0; no pseudo-labels are `pseudo_sizes=()`"
        raise InvalidInput("`pseudo_weight` is out of range.", expected=expected, received=f"{pseudo_weight=}")
    if base_temperature is not None and not 0 < base_temperature < float("inf"):
        raise InvalidInput(
            "`base_temperature` is no temperature.",
            expected="a number > 0, or None",
            received=f"{base_temperature=}",
        )
