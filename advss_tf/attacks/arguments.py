"""What the attacks' constructors refuse: numbers that are out of their range.

Synopsis:

    self.num_steps = at_least_one("num_steps", num_steps)
    self.rho = within("rho", rho, 0 < rho <= 1, "a number in (0, 1]")
"""

from __future__ import annotations

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
