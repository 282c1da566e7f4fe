"""Targets, traces and the ball, one compiled attack at a time."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from advss_tf.attacks import ElasticAttack, GaborAttack
from advss_tf.errors import InvalidInput
from advss_tf.evaluation.distortions.distortion_run import Attempted, CompiledDistortion, random_targets
from advss_tf.evaluation.models import Classifier
from advss_tf.evaluation.shares import Shares
from advss_tf.randomness import seed_each, seed_for

SEED = seed_for(0, 0, "evaluate")
IMAGES = np.random.default_rng(0).uniform(0.2, 0.8, (32, 8, 8, 1)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).normal(size=(64, 3)).astype(np.float32)


def model(images):
    return tf.reshape(images - 0.5, (-1, 64)) @ WEIGHTS


def compiled(attack, *, goal="away", function=model, batch_size=32):
    attempted = Attempted("made", attack, (1.0,), "sizes as given")
    return CompiledDistortion(
        attempted, Classifier(function, IMAGES[:2]), goal=goal, shares=Shares(None, batch_size=batch_size)
    )


def test_targets_are_wrong_classes_drawn_evenly_and_one_image_at_a_time():
    labels = tf.constant(np.arange(3000) % 5, tf.int64)
    seeds = seed_each(SEED, tf.range(3000))
    targets = random_targets(seeds, labels, 5).numpy()
    shifts = np.bincount((targets - labels.numpy()) % 5, minlength=5)
    assert shifts[0] == 0 and np.abs(shifts[1:] - 750).max() < 100
    np.testing.assert_array_equal(random_targets(seeds[7:9], labels[7:9], 5), targets[7:9])
    np.testing.assert_array_equal(random_targets(SEED, labels % 2, 2), 1 - labels.numpy() % 2)


def test_an_attack_is_traced_once_for_each_number_of_images_that_is_met():
    traced = []

    def counted(images):
        traced.append(images.shape)
        return model(images)

    attack = compiled(GaborAttack(1.0, num_steps=3), function=counted)
    labels, counts = np.argmax(model(IMAGES), axis=1), []
    for count, epsilon in ((32, 10.0), (17, 50.0), (16, 10.0), (9, 50.0)):
        right = attack(IMAGES[:count], labels[:count], np.arange(count), SEED, epsilon=epsilon)
        assert right.shape == (count,) and right.dtype == bool
        counts.append(len(traced))
    assert counts[0] == counts[1] < counts[2] == counts[3]


def test_away_from_the_label_is_no_weaker_than_towards_a_random_class():
    labels = np.argmax(model(IMAGES), axis=1)
    right = {
        goal: compiled(GaborAttack(1.0, num_steps=5), goal=goal)(IMAGES, labels, np.arange(32), SEED, epsilon=40.0)
        for goal in ("away", "random_target")
    }
    assert right["away"].sum() < right["random_target"].sum() < 32


def test_an_attack_that_leaves_its_ball_is_refused():
    class Escaping(ElasticAttack):
        def move(self, parameters, gradient, fixed, epsilon, step):
            return parameters + 1.0

    with pytest.raises(InvalidInput, match="'made' left its ball"):
        compiled(Escaping(1.0, num_steps=2))(IMAGES, np.zeros(32, int), np.arange(32), SEED, epsilon=0.5)


def test_an_attack_that_leaves_the_range_of_pixels_is_refused():
    class Glaring(ElasticAttack):
        def render(self, images, parameters, fixed, epsilon):
            return images + 0.5

    with pytest.raises(InvalidInput, match=r"Received: excess=inf"):
        compiled(Glaring(1.0, num_steps=2))(IMAGES, np.zeros(32, int), np.arange(32), SEED, epsilon=0.5)
