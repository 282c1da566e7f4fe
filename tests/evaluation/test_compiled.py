"""Images that are left, in batches of few sizes."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from advss_tf.attacks import Linf, ProjectedGradientDescent, SquareAttack
from advss_tf.evaluation.attempts import Attempt
from advss_tf.evaluation.compiled import CompiledAttempt
from advss_tf.evaluation.models import Classifier
from advss_tf.randomness import seed_for

SEED = seed_for(0, 0, "evaluate")


def test_one_trace_serves_every_epsilon_run_and_number_of_images_of_a_size(linear):
    traced = []

    def model(images):
        traced.append(images.shape)
        return linear(images)

    attempt = Attempt("pgd", ProjectedGradientDescent(Linf(0.1), num_steps=3), 2)
    compiled = CompiledAttempt(attempt, Classifier(model, linear.images[:2]), batch_size=32)
    counts = []
    for count, run, epsilon in ((32, 0, 0.1), (17, 1, 0.05), (16, 0, 0.1), (9, 1, 0.02), (8, 0, 0.1), (1, 1, 0.1)):
        compiled(linear.images[:count], linear.labels[:count], np.arange(count), SEED, run=run, epsilon=epsilon)
        counts.append(len(traced))
    assert counts[0] == counts[1] and counts[2] == counts[3] and counts[4] == counts[5]
    assert counts[1] < counts[2] < counts[4]


def test_a_run_in_pieces_finds_what_one_in_one_piece_finds_with_fewer_queries(linear):
    """Between the pieces fooled images are dropped; those that are left see the same queries."""
    epsilon = 0.03
    right = np.flatnonzero(linear.margins > 0)
    images, labels, classifier = linear.images[right], linear.labels[right], Classifier(linear, linear.images[:2])
    square = SquareAttack(Linf(epsilon), num_queries=60)
    outcomes = []
    for pieces in (1, 4):
        attempt = Attempt("square", square, objective="margin", pieces=pieces, piece_size=60 // pieces)
        compiled = CompiledAttempt(attempt, classifier, batch_size=64)
        outcomes.append(compiled(images, labels, right, SEED, run=0, epsilon=epsilon))
    for name in ("images", "robust", "predictions", "confidences"):
        np.testing.assert_array_equal(getattr(outcomes[0], name), getattr(outcomes[1], name))
    assert 0 < outcomes[0].robust.sum() < len(right)
    # Beside the queries: the image itself, its start, and the judge.
    assert set(outcomes[0].forward) == {60 + 3}
    assert outcomes[1].forward.sum() < outcomes[0].forward.sum() and outcomes[1].forward.max() >= 60


def test_a_model_that_draws_no_numbers_gives_the_same_logits_when_prepared(tiny_encoder, tiny_images):
    classifier = Classifier(tiny_encoder, tiny_images)
    with classifier.prepared() as function:
        np.testing.assert_allclose(function(tf.constant(tiny_images)), classifier(tiny_images), atol=1e-5)


def test_each_image_has_an_epsilon_of_its_own(linear):
    attempt = Attempt("pgd", ProjectedGradientDescent(Linf(0.1), num_steps=6))
    compiled = CompiledAttempt(attempt, Classifier(linear, linear.images[:2]), batch_size=50)
    radii = np.linspace(0.01, 0.1, 50).astype(np.float32)
    together = compiled(linear.images, linear.labels, np.arange(50), SEED, run=0, epsilon=radii)
    moved = np.abs(together.images - linear.images).max(axis=(1, 2, 3))
    np.testing.assert_allclose(moved, radii, atol=1e-6)
    alone = compiled(linear.images[7:8], linear.labels[7:8], np.array([7]), SEED, run=0, epsilon=radii[7])
    np.testing.assert_allclose(together.images[7], alone.images[0], atol=1e-6)
    assert set(together.forward) == {7} and set(together.backward) == {6}
