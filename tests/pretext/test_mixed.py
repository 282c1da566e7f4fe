"""The loss that tasks share: how clean and attacked images are weighed, and what is reported."""

from __future__ import annotations

import pytest
import tensorflow as tf

from advss_tf.attacks import Linf, ProjectedGradientDescent
from advss_tf.errors import InvalidInput
from advss_tf.pretext import MixedPuzzle
from advss_tf.training import Batch, Puzzle

ATTACK = ProjectedGradientDescent(Linf(0.125), num_steps=1)


class Darkest(MixedPuzzle):
    """Its loss is the mean of an image, its accuracy says whether an image is brighter than grey."""

    chance = 0.5

    def pose(self, batch, seed):
        return Puzzle({"images": batch.images})

    def solve(self, images, puzzle, *, training, stream):
        mean = tf.reduce_mean(images, axis=(1, 2, 3))
        return mean, tf.cast(mean > 0.5, tf.float32)


GREY, LIGHT = tf.fill((2, 8, 8, 3), 0.5), tf.fill((2, 8, 8, 3), 0.75)


def test_the_terms_are_weighed_as_asked(tiny_encoder):
    model = Darkest(tiny_encoder, clean_weight=0.25, attack=ATTACK)
    terms = model.descend({"images": LIGHT}, Puzzle({"images": GREY}), training=True)
    assert {name: float(values[0]) for name, values in terms.items()} == {
        "clean_loss": 0.5, "accuracy": 0.0, "adversarial_loss": 0.75, "robust_accuracy": 1.0,
    }  # fmt: skip
    assert float(model.total(terms)[0]) == 0.25 * 0.5 + 0.75 * 0.75
    assert float(model.climb({"images": LIGHT}, Puzzle({"images": GREY}), None, training=True)[0]) == 0.75


@pytest.mark.parametrize(
    ("attack", "eval_attack", "clean_weight", "trained", "measured"),
    [
        (None, None, 0.5, {"clean_loss", "accuracy"}, {"clean_loss", "accuracy"}),
        (ATTACK, "attack", 0.0, {"adversarial_loss", "robust_accuracy"}, {"accuracy"}),
        (None, ATTACK, 0.5, {"clean_loss", "accuracy"}, {"adversarial_loss", "robust_accuracy"}),
    ],
    ids=["clean", "adversarial alone", "attacked in evaluation alone"],
)
def test_evaluation_reports_what_training_leaves_out(
    attack, eval_attack, clean_weight, trained, measured, tiny_encoder
):
    model = Darkest(tiny_encoder, clean_weight=clean_weight, attack=attack, eval_attack=eval_attack)
    puzzle = Puzzle({"images": GREY})
    assert model.descend({"images": LIGHT}, puzzle, training=True).keys() == trained
    assert model.measure({"images": LIGHT}, puzzle).keys() == trained | measured


def test_a_task_without_solve_says_so(tiny_encoder):
    with pytest.raises(TypeError, match="define `solve`"):
        MixedPuzzle(tiny_encoder).climb({"images": GREY}, Puzzle({"images": GREY}), None, training=False)


def test_a_task_that_cannot_be_drawn_or_rendered_says_so(tiny_encoder):
    with pytest.raises(TypeError, match="define `draw`, or `pose`"):
        MixedPuzzle(tiny_encoder).pose(Batch(GREY), tf.constant([0, 0]))
    with pytest.raises(TypeError, match="define `render`"):
        Darkest(tiny_encoder).render(GREY, Puzzle({}))


@pytest.mark.parametrize("clean_weight", [1.0, -0.1])
def test_a_weight_that_leaves_nothing_is_refused(clean_weight, tiny_encoder):
    with pytest.raises(InvalidInput, match="`clean_weight` leaves nothing"):
        Darkest(tiny_encoder, attack=ATTACK, clean_weight=clean_weight)
