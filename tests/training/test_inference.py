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


def test_without_an_encoder_nothing_is_hoisted(tiny_encoder, tiny_images):
    with hoisting(None):
        plain = encode(tiny_encoder, tf.constant(tiny_images), training=False)
    np.testing.assert_allclose(plain, tiny_encoder(tiny_images, training=False), atol=1e-6)
