"""Numbers that constructors take, and those that they refuse."""

from __future__ import annotations

import re

import numpy as np
import pytest

from advss_tf.attacks.arguments import at_least_one, number, whole, within
from advss_tf.errors import InvalidInput


@pytest.mark.parametrize("given", [3, 3.0, np.int64(3)])
def test_a_whole_number_comes_back_as_an_integer(given):
    found = at_least_one("num_steps", given)
    assert found == 3 and type(found) is int


@pytest.mark.parametrize("given", [0, -1, 1.5, True])
def test_a_number_that_is_no_count_of_one_or_more_is_refused(given):
    words = f"`num_steps` is too small. Expected: an integer >= 1. Received: num_steps={given!r}."
    with pytest.raises(InvalidInput, match=re.escape(words)):
        at_least_one("num_steps", given)


def test_a_number_within_its_range_comes_back_as_a_float():
    found = within("rho", 1, True, "a number in (0, 1]")
    assert found == 1.0 and type(found) is float


@pytest.mark.parametrize(("given", "inside"), [(1.5, False), (float("nan"), False), (True, True)])
def test_a_number_out_of_its_range_is_refused(given, inside):
    words = f"`rho` is out of its range. Expected: a number in (0, 1]. Received: rho={given!r}."
    with pytest.raises(InvalidInput, match=re.escape(words)):
        within("rho", given, inside, "a number in (0, 1]")


def test_numbers_and_whole_numbers_come_back_as_they_are():
    assert number("budget", 1) == 1.0 and type(number("budget", 1)) is float
    assert whole("kernel_size", 5, odd=True) == 5


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), True, "1", None])
def test_what_is_no_finite_number_from_the_least_on_is_refused(value):
    words = f"`budget` is out of its range. Expected: a finite number >= 0. Received: budget={value!r}."
    with pytest.raises(InvalidInput, match=re.escape(words)):
        number("budget", value)


@pytest.mark.parametrize("value", [2, 4, 3.0, True, "3"])
def test_what_is_no_odd_integer_from_the_least_on_is_refused(value):
    words = f"`kernel_size` is out of its range. Expected: an odd integer >= 3. Received: kernel_size={value!r}."
    with pytest.raises(InvalidInput, match=re.escape(words)):
        whole("kernel_size", value, least=3, odd=True)
