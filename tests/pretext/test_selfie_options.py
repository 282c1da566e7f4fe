"""Selfie's options: the two forms, what a given option does to them, and every refusal."""

from __future__ import annotations

import pytest

from advss_tf.errors import InvalidInput
from advss_tf.pretext.selfie_options import CORRECTED, FAITHFUL, checked_sizes, chosen_quirks

SIZES = {"num_layers": 2, "num_heads": 2, "head_width": None, "hidden_width": None, "dropout": 0.1}
NOTHING = dict.fromkeys(CORRECTED)


def test_the_two_forms_differ_in_every_option():
    assert FAITHFUL.keys() == CORRECTED.keys()
    assert all(FAITHFUL[name] != CORRECTED[name] for name in CORRECTED)


@pytest.mark.parametrize(("faithful", "form"), [(False, CORRECTED), (True, FAITHFUL)])
def test_what_is_not_given_is_as_the_form_has_it(faithful, form):
    assert chosen_quirks(faithful=faithful, **NOTHING) == form
    for name, other in (FAITHFUL if form is CORRECTED else CORRECTED).items():
        assert chosen_quirks(faithful=faithful, **{**NOTHING, name: other}) == {**form, name: other}


@pytest.mark.parametrize(
    ("grid", "given", "masked"), [(2, None, 2), (3, None, 2), (4, None, 4), (7, None, 12), (2, 3, 3)]
)
def test_a_quarter_of_the_patches_is_masked_unless_something_else_is_asked(grid, given, masked):
    assert checked_sizes(grid=grid, num_masked=given, **SIZES) == masked


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"grid": 1}, r"`grid` is invalid. Expected: an integer >= 2. Received: grid=1"),
        ({"grid": True}, "`grid` is invalid"),
        ({"num_masked": 1}, r"`num_masked` is invalid. Expected: an integer >= 2 or None"),
        ({"num_masked": 16}, r"`num_masked` leaves no patch to see. Expected: an integer >= 2 and < 16"),
        ({"num_layers": 0}, r"`num_layers` is invalid. Expected: an integer >= 1. Received: num_layers=0"),
        ({"num_heads": 2.0}, "`num_heads` is invalid"),
        ({"head_width": 0}, r"`head_width` is invalid. Expected: an integer >= 1 or None"),
        ({"hidden_width": -1}, "`hidden_width` is invalid"),
        ({"dropout": 1.0}, r"`dropout` is invalid. Expected: a number in \[0, 1\)"),
        ({"dropout": -0.1}, "`dropout` is invalid"),
    ],
)
def test_impossible_sizes_are_refused(change, words):
    with pytest.raises(InvalidInput, match=words):
        checked_sizes(**{"grid": 4, "num_masked": None, **SIZES, **change})


def test_impossible_quirks_are_refused():
    with pytest.raises(InvalidInput, match=r"`mask_per` is not known \(did you mean 'image'\?\)"):
        chosen_quirks(faithful=False, **{**NOTHING, "mask_per": "imag"})
    with pytest.raises(InvalidInput, match=r"`double_softmax` is invalid. Expected: True, False or None"):
        chosen_quirks(faithful=False, **{**NOTHING, "double_softmax": 1})
