"""What the attacks' constructors refuse: numbers that are out of their range.

Synopsis:

    self.num_steps = at_least_one("num_steps", num_steps)
    self.rho = within("rho", rho, 0 < rho <= 1, "a number in (0, 1]")
    self.budget = number("budget", budget, least=1e-3)
    self.kernel_size = whole("kernel_size", kernel_size, odd=True)
"""

from __future__ import annotations

import math

from advss_tf.errors import InvalidInput


def at_least_one(name: str, number: int) -> int:
    """`number`, if it is an integer of 1 or more; also `3.0`, which comes back as `3`.

    Raises:
        InvalidInput: otherwise; `name` is what the message calls it.
    """
    if isinstance(number, bool) or int(number) != number or number < 1:
        raise InvalidInput(f"`{name}` is too small.", expected="an integer >= 1", received=f"{name}={number!r}")
    return int(number)


def within(name: str, number: float, inside: bool, expected: str) -> float:
    """`number` as a float, if it lies `inside` its range; `expected` is the range in words.

    Raises:
        InvalidInput: otherwise, and for True and False.
    """
    if not inside or isinstance(number, bool):
        raise InvalidInput(f"`{name}` is out of its range.", expected=expected, received=f"{name}={number!r}")
    return float(number)


def number(name: str, value: float, *, least: float = 0.0) -> float:
    """`value` as a float.

    Raises:
        InvalidInput: if it is not a finite number >= `least`.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < least:
        raise InvalidInput(
            f"`{name}` is out of its range.", expected=f"a finite number >= {least:g}", received=f"{name}={value!r}"
        )
    return float(value)


def whole(name: str, value: int, *, least: int = 1, odd: bool = False) -> int:
    """`value`, if it is an integer.

    Raises:
        InvalidInput: if it is not an integer >= `least`, or is even where it must be odd.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (odd and value % 2 == 0):
        kind = "an odd integer" if odd else "an integer"
        raise InvalidInput(
            f"`{name}` is out of its range.", expected=f"{kind} >= {least}", received=f"{name}={value!r}"
        )
    return value
