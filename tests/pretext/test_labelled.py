"""A puzzle with a label: the loss as weighed, the attack on the answer, chance, and what is refused."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.attacks import Linf, ProjectedGradientDescent
from advss_tf.errors import InvalidInput
from advss_tf.pretext import LabelledPuzzle
from advss_tf.training import Puzzle

ATTACK = ProjectedGradientDescent(Linf(0.05), num_steps=2)


@keras.saving.register_keras_serializable(package="tests")
class Negative(LabelledPuzzle):
    """Is the image its own negative? Every second one is."""

    def __init__(self, encoder, **options):
        super().__init__(encoder, task="negative", num_answers=2, **options)

    def pose(self, batch, seed):
        labels = tf.range(tf.shape(batch.images, tf.int64)[0]) % 2
        is_negative = tf.reshape(labels == 1, (-1, 1, 1, 1))
        return Puzzle({"images": tf.where(is_negative, 1.0 - batch.images, batch.images)}, labels)


def made(encoder, **options):
    model = Negative(encoder, **options)
    model.compile(optimizer="sgd")
    return model


def test_the_clean_loss_is_the_cross_entropy_of_the_answer(tiny_encoder, tiny_images):
    model = made(tiny_encoder)
    logs = model.evaluate(tiny_images, verbose=0, return_dict=True)
    labels = np.arange(8) % 2
    changed = np.where(labels[:, None, None, None] == 1, 1 - tiny_images, tiny_images)
    logits = np.asarray(model.head(tiny_encoder(changed, training=False)), np.float64)
    expected = np.log(np.exp(logits).sum(1)) - logits[np.arange(8), labels]
    assert logs["loss"] == logs["clean_loss"] == pytest.approx(expected.mean(), rel=1e-5)
    assert logs["accuracy"] == pytest.approx(np.mean(logits.argmax(1) == labels))
    assert "robust_accuracy" not in logs


@pytest.mark.parametrize("clean_weight", [0.0, 0.25])
def test_the_loss_mixes_clean_and_attacked_as_weighed(clean_weight, tiny_encoder, tiny_images):
    logs = made(tiny_encoder, attack=ATTACK, clean_weight=clean_weight).evaluate(
        tiny_images, verbose=0, return_dict=True
    )
    clean = logs.get("clean_loss", 0.0)
    assert logs["loss"] == pytest.approx(clean_weight * clean + (1 - clean_weight) * logs["adversarial_loss"], rel=1e-5)
    assert {"accuracy", "robust_accuracy"} <= logs.keys()


def test_a_puzzle_learned_clean_can_be_measured_attacked(tiny_encoder, tiny_images):
    logs = made(tiny_encoder, eval_attack=ATTACK).evaluate(tiny_images, verbose=0, return_dict=True)
    assert logs["loss"] == logs["clean_loss"] < logs["adversarial_loss"]
    assert "robust_accuracy" in logs


def test_the_head_is_named_and_started_by_the_task_and_the_seed(tiny_encoder):
    heads = [Negative(tiny_encoder, seed=seed).head for seed in (0, 0, 1)]
    kernels = [head.kernel.numpy() for head in heads]
    assert heads[0].name == "negative_logits" and kernels[0].shape == (6, 2)
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert (kernels[0] != kernels[2]).any()


def test_chance_and_provenance_say_what_was_asked(tiny_encoder):
    model = Negative(tiny_encoder)
    assert model.chance == 0.5
    assert model.provenance == {"task": "negative", "chance": 0.5}


@pytest.mark.parametrize("clean_weight", [1.0, -0.1, float("nan")])
def test_a_weight_that_leaves_no_attacked_puzzle_is_refused(clean_weight, tiny_encoder):
    with pytest.raises(InvalidInput, match="`clean_weight` leaves nothing for the attacked puzzle"):
        Negative(tiny_encoder, attack=ATTACK, clean_weight=clean_weight)
