"""How a refusal is worded: what is invalid · Expected … · Received ….

Synopsis:

    raise InvalidInput("`epsilon` must not be negative.", expected="a number >= 0", received="epsilon=-0.1")
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InvalidInput(ValueError):
    """A value that the library refuses, in the three beats that every message of the project has.

    Args:
        what: One sentence that says what is invalid and where.
        expected: What would have been accepted, the whole allowed set where it is finite.
        received: What came, as `name=value`.
    """

    # Keras wraps what a layer raises into a RuntimeError that repeats the call's arguments, unless it is told not to.
    _keras_call_info_injected = True

    def __init__(self, what: str, *, expected: str, received: str) -> None:
        self.what, self.expected, self.received = what, expected, received
        super().__init__(f"{what} Expected: {expected}. Received: {received}.")


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice that `word` was most likely meant to be, or None if none is near."""
    found = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.5)
    return found[0] if found else None


def one_of(name: str, value: str, choices: Iterable[str]) -> str:
    """`value`, if it is one of `choices`.

    Raises:
        InvalidInput: otherwise; the message lists the choices and the nearest of them.
    """
    choices = sorted(choices)
    if value in choices:
        return value
    near = nearest(str(value), choices)
    hint = f" (did you mean {near!r}?)" if near else ""
    raise InvalidInput(f"`{name}` is not known{hint}.", expected=f"one of {choices}", received=f"{name}={value!r}")
