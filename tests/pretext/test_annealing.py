"""DynACL's schedules at their corner epochs, from the formulas and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from advss_tf.errors import InvalidInput
from advss_tf.pretext import Annealing

PAPER = Annealing(epochs=1000, steps_per_epoch=3)


@pytest.mark.parametrize(
    ("epoch", "strength", "weight"),
    [
        (1, 1.0, 1.0),
        (49, 1.0, 1.0),
        (50, 1.0, 1 + 2 / 3 * 0.05),
        (51, 0.95, 1 + 2 / 3 * 0.05),
        (100, 0.95, 1 + 2 / 3 * 0.1),
        (101, 0.9, 1 + 2 / 3 * 0.1),
        (1000, 0.05, 1 + 2 / 3),
    ],
)
def test_the_paper_at_corner_epochs(epoch, strength, weight):
    """Epochs from 1; the first and the last step of each."""
    for step in (3 * (epoch - 1), 3 * epoch - 1):
        np.testing.assert_allclose(PAPER.strength(step), strength, atol=1e-6)
        np.testing.assert_allclose(PAPER.weight(step), weight, atol=1e-6)


def test_behind_the_end_the_last_epoch_goes_on():
    np.testing.assert_allclose(PAPER.strength(10_000), PAPER.strength(2999))
    np.testing.assert_allclose(PAPER.weight(10_000), PAPER.weight(2999))


def test_it_is_traced_with_a_step_that_is_a_tensor():
    traced = tf.function(lambda step: (PAPER.strength(step), PAPER.weight(step)))
    np.testing.assert_allclose(traced(tf.constant(150, tf.int64)), (0.95, 1 + 2 / 3 * 0.05), atol=1e-6)


def test_as_a_dict_it_makes_itself_again():
    assert Annealing(**PAPER.as_dict()) == PAPER


@pytest.mark.parametrize(
    ("name", "value"), [("epochs", 0), ("steps_per_epoch", True), ("period", 1.5), ("growth", -0.1), ("growth", 1.1)]
)
def test_numbers_out_of_range_are_refused(name, value):
    with pytest.raises(InvalidInput, match=name):
        Annealing(**{"epochs": 10, "steps_per_epoch": 2, name: value})
