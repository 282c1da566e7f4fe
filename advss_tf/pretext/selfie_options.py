"""What Selfie's options may be, and what they are where they are not given.

Synopsis:

    quirks = chosen_quirks(faithful=False, mask_per=None, …)          # every option of CORRECTED, none of them None
    masked = checked_sizes(grid=4, num_masked=None, num_layers=2, …)  # 4
"""

from __future__ import annotations

from typing import Any

from advss_tf.errors import InvalidInput, one_of

FAITHFUL: dict[str, Any] = {
    "mask_per": "batch",
    "context_positions": False,
    "zero_columns": True,
    "extra_layer": True,
    "scaled_scores": False,
    "double_softmax": True,
    "summed_loss": True,
}
"""The options as in the public code of Chen et al. (CVPR 2020, arXiv 2003.12862)."""
CORRECTED: dict[str, Any] = {
    "mask_per": "image",
    "context_positions": True,
    "zero_columns": False,
    "extra_layer": False,
    "scaled_scores": True,
    "double_softmax": False,
    "summed_loss": False,
}
"""The options put right; `Selfie` says why."""

_LEAST = {"grid": 2, "num_masked": 2}
_OPTIONAL = ("num_masked", "head_width", "hidden_width")


def chosen_quirks(*, faithful: bool, **given: Any) -> dict[str, Any]:
    """The options of `CORRECTED`: what is given, else as `faithful` says.

    Raises:
        InvalidInput: if one is not what it may be.
    """
    defaults = FAITHFUL if faithful else CORRECTED
    chosen = {name: default if given[name] is None else given[name] for name, default in defaults.items()}
    one_of("mask_per", chosen["mask_per"], ("image", "batch"))
    for name, value in chosen.items():
        if name != "mask_per" and not isinstance(value, bool):
            raise InvalidInput(f"`{name}` is invalid.", expected="True, False or None", received=f"{name}={value!r}")
    return chosen


def checked_sizes(*, grid: int, num_masked: int | None, dropout: float, **sizes: int | None) -> int:
    """The number of masked patches, a quarter of all unless it is given.

    Raises:
        InvalidInput: if any of the sizes is impossible.
    """
    for name, value in {"grid": grid, "num_masked": num_masked, **sizes}.items():
        least, optional = _LEAST.get(name, 1), name in _OPTIONAL
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= least
        if not whole and not (optional and value is None):
            expected = f"an integer >= {least}" + " or None" * optional
            raise InvalidInput(f"`{name}` is invalid.", expected=expected, received=f"{name}={value!r}")
    if not 0 <= dropout < 1:
        raise InvalidInput("`dropout` is invalid.", expected="a number in [0, 1)", received=f"dropout={dropout!r}")
    masked = max(2, grid**2 // 4) if num_masked is None else num_masked
    if masked >= grid**2:
        raise InvalidInput(
            "`num_masked` leaves no patch to see.",
            expected=f"an integer >= 2 and < {grid**2}, the patches of grid={grid}",
            received=f"num_masked={num_masked!r}",
        )
    return masked
