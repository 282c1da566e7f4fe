"""A-InfoNCE's options: what they become for the loss, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from advss_tf.errors import InvalidInput
from advss_tf.losses.asymmetric import HardNegatives
from advss_tf.pretext import Asymmetry


def test_both_by_default():
    options = Asymmetry().options(3, adversarial=(0,))
    # The attacked anchor has 0.8 of a pair's weight and the clean one 0.2, times two anchors; clean pairs are as ever.
    np.testing.assert_allclose(options["weights"], [[1, 1.6, 1.6], [0.4, 1, 1], [0.4, 1, 1]])
    assert options["held"].tolist() == [[False, True, True], [True, False, False], [True, False, False]]
    assert options["hard_negatives"] == HardNegatives(1.0, 0.1)


def test_each_alone():
    assert set(Asymmetry(beta=None).options(2, adversarial=(0,))) == {"weights", "held"}
    assert set(Asymmetry(clean_share=None).options(2, adversarial=(0,))) == {"hard_negatives"}


def test_as_a_dict_it_makes_itself_again():
    one = Asymmetry(clean_share=0.3, pair_weight=1.5, beta=None)
    assert Asymmetry(**one.as_dict()) == one


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"clean_share": None, "beta": None}, "Nothing is asymmetric"),
        ({"clean_share": None, "pair_weight": 1.5}, "pair_weight"),
        ({"clean_share": 1.1}, "clean_share"),
        ({"pair_weight": -1.0}, "pair_weight"),
        ({"beta": float("nan")}, "beta"),
        ({"tau_plus": 1.0}, "tau_plus"),
    ],
)
def test_numbers_out_of_range_are_refused(options, words):
    with pytest.raises(InvalidInput, match=words):
        Asymmetry(**options)
