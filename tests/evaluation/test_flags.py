"""Models that hide their gradients, each of which has to raise the right flag and no other."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from advss_tf.evaluation import evaluate
from advss_tf.evaluation.flags import model_flags, result_flags
from advss_tf.evaluation.models import Classifier
from advss_tf.evaluation.records.record import Result
from advss_tf.randomness import batch_uniform, seed_for

SEED = seed_for(0, 0, "flags")


def flags(model, linear):
    return model_flags(Classifier(model, linear.images[:4]), linear.images, linear.labels, SEED)


def test_an_honest_model_raises_none(linear, record):
    assert flags(linear, linear) == ()
    assert record.warnings == ()


def test_random_outputs_are_found(linear):
    (warning,) = flags(lambda images: linear(images) + tf.random.normal((2,), stddev=0.05), linear)
    assert "other logits for the same images" in warning and "'rand'" in warning


def test_huge_logits_lose_the_gradient_of_the_cross_entropy(linear):
    (warning,) = flags(lambda images: 1e4 * linear(images), linear)
    assert "cross-entropy loss has no gradient" in warning


def test_quantised_images_lose_every_gradient(linear):
    """Rounding passes no gradient on: the share is that of the points where the model is right, worked out in NumPy."""
    found = flags(lambda images: linear(tf.round(images * 8) / 8), linear)
    noise = np.float32(8 / 255) * batch_uniform(SEED, linear.images.shape, -1.0, 1.0).numpy()
    points = np.round(np.clip(linear.images + noise, 0, 1) * 8) / 8
    scores = np.sum(points.astype(np.float64) * linear.weights, axis=(1, 2, 3)) + linear.bias
    assert np.abs(scores).min() > 1e-4, "rounding could decide on which side an image falls"
    share = np.mean((scores > 0) == linear.labels)
    assert 0.5 < share < 1
    for name, flag in zip(("cross-entropy", "logit-ratio"), found, strict=True):
        assert flag.startswith(f"The {name} loss has no gradient at {share:.1%} of the images looked at:")


def test_images_that_are_wrong_already_raise_no_flag(linear):
    """The ratio is constant, 1, where the label's logit comes third."""

    def model(images):
        score = linear(images)[:, 1:]
        return tf.concat([tf.zeros_like(score), 5.0 + score, 9.0 + 2 * score], axis=1)

    assert model_flags(Classifier(model, linear.images[:4]), linear.images, np.zeros(50, np.int64), SEED) == ()


def row(attack, correct, eps=0.1):
    return Result.from_counts(attack, correct, 1000, threat="Linf", eps=eps, class_correct=(correct, 0))


@pytest.mark.parametrize("correct,raised", [(498, False), (497, True)])
def test_square_may_take_two_images_in_a_thousand_more_than_gradients_do(correct, raised):
    found = result_flags([row("apgd-ce", 510), row("fab-t", 500), row("square", correct)])
    assert bool(found) == raised
    assert all("Square, which sees no gradients" in flag for flag in found)


def test_a_quantised_model_is_flagged_in_its_record(linear):
    """Gradients find nothing, Square finds much: the record says so."""

    def model(images):
        return linear(tf.round(images * 20) / 20)

    record = evaluate(model, (linear.images, linear.labels), suite="full", epsilons=0.06, num_steps=2)
    assert record.result("apgd-ce").correct > record.result("square").correct
    assert {"no gradient", "Square"} <= {
        word for word in ("no gradient", "Square") if word in " ".join(record.warnings)
    }
    assert np.isclose(record.autoattack_acc, record.result("square").accuracy)
