"""The wording of refusals."""

from __future__ import annotations

import pytest

from advss_tf.errors import InvalidInput, nearest, one_of


def test_a_refusal_has_three_beats():
    error = InvalidInput("`epsilon` is negative.", expected="a number >= 0", received="epsilon=-1")
    assert str(error) == "`epsilon` is negative. Expected: a number >= 0. Received: epsilon=-1."
    assert isinstance(error, ValueError)
    assert (error.what, error.expected, error.received) == ("`epsilon` is negative.", "a number >= 0", "epsilon=-1")


def test_nearest_finds_slips_and_nothing_else():
    assert nearest("epoch", ["epochs", "batch_size"]) == "epochs"
    assert nearest("zzz", ["epochs", "batch_size"]) is None


def test_one_of_gives_the_choice_or_names_the_nearest():
    assert one_of("how", "trades", ("standard", "trades")) == "trades"
    with pytest.raises(InvalidInput, match=r"`how` is not known \(did you mean 'trades'\?\).*'standard', 'trades'"):
        one_of("how", "trade", ("standard", "trades"))
    with pytest.raises(InvalidInput, match=r"`how` is not known\. Expected"):
        one_of("how", "zzzzzz", ("standard", "trades"))
