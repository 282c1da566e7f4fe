"""Numbers that constructors take, and those that they refuse."""

from __future__ import annotations

import re

import numpy as np
import pytest

from advss_tf.attacks.arguments import at_least_one, within
from advss_tf.errors import InvalidInput


@pytest.mark.parametrize("number", [3, 3.0, np.int64(3)])
def test_a_whole_number_comes_back_as_an_integer(number):
    found = at_least_one("num_steps", number)
    assert found == 3 and type(found) is int


@pytest.mark.parametrize("number", [0, -1, 1.5, True])
def test_a_number_that_is_no_count_of_one_or_more_is_refused(number):
    words = f"`num_steps` is too small. Expected: an integer >= 1. Received: num_steps={number!r}."
    with pytest.raises(InvalidInput, match=re.escape(words)):
        at_least_one("num_steps", number)


def test_a_number_within_its_range_comes_back_as_a_float():
    found = within("rho", 1, True, "a number in (0, 1]")
    assert found == 1.0 and type(found) is float


@pytest.mark.parametrize(("number", "inside"), [(1.5, False), (float("nan"), False), (True, True)])
def test_a_number_out_of_its_range_is_refused(number, inside):
    words = f"`rho` is out of its range. Expected: a number in (0, 1]. Received: rho={number!r}."
    with pytest.raises(InvalidInput, match=re.escape(words)):
        within("rho", number, inside, "a number in (0, 1]")
