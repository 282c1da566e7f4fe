"""The loss that tasks share: how clean and attacked images are weighed, and what is reported."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from advss_tf.attacks import Linf, ProjectedGradientDescent
from advss_tf.errors import InvalidInput
from advss_tf.pretext import MixedPuzzle, Rotation
from advss_tf.training import Batch, Puzzle

ATTACK = ProjectedGradientDescent(Linf(0.125), num_steps=1)
FROM_THE_IMAGES = ProjectedGradientDescent(Linf(0.125), num_steps=1, random_start=False)


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
        (ATTACK, "attack", 0.0, {"adversarial_loss", "robust_accuracy"}, {"clean_loss", "accuracy"}),
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


@pytest.mark.parametrize("clean_weight", [0.0, 0.5])
def test_where_evaluation_attacks_nothing_it_reports_nothing_as_robust(clean_weight, tiny_encoder, tiny_images):
    model = Rotation(tiny_encoder, attack=ATTACK, eval_attack=None, clean_weight=clean_weight)
    model.compile(optimizer="sgd")
    history = model.fit(tiny_images, validation_data=(tiny_images,), epochs=2, verbose=0).history
    measured = {name.removeprefix("val_"): values for name, values in history.items() if name.startswith("val_")}
    assert measured.keys() == {"loss", "clean_loss", "accuracy"}
    assert measured["loss"] == measured["clean_loss"] and len(measured["loss"]) == 2
    assert len(history["robust_accuracy"]) == len(history["adversarial_loss"]) == 2


@pytest.mark.parametrize(("attack", "delivered"), [(None, "clean"), (ATTACK, "adversarial")], ids=["P2", "P3"])
def test_what_is_measured_and_probed_is_the_branch_that_is_handed_over(attack, delivered, scattered_branches):
    images = tf.constant(np.random.default_rng(1).random((32, 8, 8, 3), np.float32))
    model = Rotation(scattered_branches(), attack=attack, eval_attack=FROM_THE_IMAGES)
    puzzle = model.pose(Batch(images), tf.constant([0, 1]))
    clean, attacked = puzzle.inputs["images"], 1.0 - puzzle.inputs["images"]
    solved = {
        stream: [model.solve(each, puzzle, training=False, stream=stream) for each in (clean, attacked)]
        for stream in ("clean", "adversarial")
    }
    terms = model.measure({"images": attacked}, puzzle)
    other = {"clean": "adversarial", "adversarial": "clean"}[delivered]
    assert model.delivered_branch == delivered
    for number, (loss, accuracy) in enumerate((("clean_loss", "accuracy"), ("adversarial_loss", "robust_accuracy"))):
        np.testing.assert_allclose(terms[loss], solved[delivered][number][0], rtol=1e-5)
        np.testing.assert_array_equal(terms[accuracy], solved[delivered][number][1])
        assert (terms[accuracy] != solved[other][number][1]).numpy().any()
    probed = model.probe({"images": attacked}, puzzle, None, training=False)
    np.testing.assert_allclose(probed, terms["adversarial_loss"], rtol=1e-5)
    # What the attack climbed at its start is the loss that is reported there, with prepared weights too.
    logs = model.test_step(images)
    assert float(logs["attack_climb"]) == pytest.approx(float(logs["clean_loss"]), rel=1e-4)


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
