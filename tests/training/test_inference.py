"""The fast door to the encoder is taken where it may be, and nowhere else."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from advss_tf.encoders import norm_branch, resnet20
from advss_tf.training.inference import encode, hoisting


def shifted(encoder, by):
    for variable in encoder.trainable_variables:
        variable.assign(variable + by)


def test_inside_hoisting_weights_are_those_of_its_beginning(tiny_encoder, tiny_images):
    before = encode(tiny_encoder, tf.constant(tiny_images), training=False)
    with hoisting(tiny_encoder):
        shifted(tiny_encoder, 0.1)
        np.testing.assert_allclose(encode(tiny_encoder, tf.constant(tiny_images), training=False), before, atol=1e-5)
    after = encode(tiny_encoder, tf.constant(tiny_images), training=False)
    assert np.abs(after - before).max() > 1e-3


def test_training_mode_and_other_branches_go_through_the_network(tiny_images):
    encoder = resnet20((8, 8, 3), width=2, branches=("clean", "adversarial"))
    images = tf.constant(tiny_images)
    with norm_branch("adversarial"), hoisting(encoder):
        shifted(encoder, 0.1)
        now = encoder(images, training=True)
        with norm_branch("clean"):
            clean = encoder(images, training=False)
            np.testing.assert_allclose(encode(encoder, images, training=False), clean, atol=1e-5)
        np.testing.assert_allclose(encode(encoder, images, training=True), now, atol=1e-5)


def test_several_encoders_are_hoisted_each_with_its_own_weights(tiny_images):
    encoders, images = [resnet20((8, 8, 3), width=width, seed=1) for width in (2, 3, 4)], tf.constant(tiny_images)
    before = [encode(encoder, images, training=False) for encoder in encoders]
    with hoisting(encoders[0], encoders[1], encoders[0]):
        for encoder in encoders:
            shifted(encoder, 0.1)
        after = [encode(encoder, images, training=False) for encoder in encoders]
    for one, other in zip(before[:2], after[:2], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert np.abs(after[2] - before[2]).max() > 1e-3


def test_without_an_encoder_nothing_is_hoisted(tiny_encoder, tiny_images):
    with hoisting():
        plain = encode(tiny_encoder, tf.constant(tiny_images), training=False)
    np.testing.assert_allclose(plain, tiny_encoder(tiny_images, training=False), atol=1e-6)
