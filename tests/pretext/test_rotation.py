"""Rotation: the puzzle is NumPy's rot90, balanced, and learnable beyond chance."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.attacks import Linf, ProjectedGradientDescent
from advss_tf.errors import InvalidInput
from advss_tf.pretext import Rotation, rotate
from advss_tf.randomness import seed_for
from advss_tf.training import Batch

ATTACK = ProjectedGradientDescent(Linf(0.05), num_steps=2)


def test_rotate_equals_numpys_rot90(tiny_images):
    turns = np.array([0, 1, 2, 3, 3, 2, 1, 0])
    expected = [np.rot90(image, turn) for image, turn in zip(tiny_images, turns, strict=True)]
    np.testing.assert_array_equal(rotate(tf.constant(tiny_images), tf.constant(turns)), expected)


def test_a_quarter_turn_by_hand():
    image = np.array([[1, 2], [3, 4]], np.float32).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(rotate(image, tf.constant([1]))[0, :, :, 0], [[2, 4], [1, 3]])


@pytest.mark.parametrize("size", [8, 7])
def test_turns_are_balanced_and_depend_on_the_seed(size, tiny_encoder, tiny_images):
    model = Rotation(tiny_encoder)
    batch = Batch(tf.constant(tiny_images[:size]))
    turns = [model.pose(batch, seed_for(0, step, "pose")).targets.numpy() for step in (0, 0, 1, 2)]
    for drawn in turns:
        counts = np.bincount(drawn, minlength=4)
        assert counts.max() - counts.min() <= 1
    np.testing.assert_array_equal(turns[0], turns[1])
    assert len({tuple(drawn) for drawn in turns}) > 1


@pytest.mark.parametrize("clean_weight", [0.0, 0.5])
def test_the_loss_mixes_clean_and_attacked_as_weighed(clean_weight, tiny_encoder, tiny_images):
    model = Rotation(tiny_encoder, attack=ATTACK, clean_weight=clean_weight)
    model.compile(optimizer="sgd")
    logs = model.evaluate(tiny_images, verbose=0, return_dict=True)
    clean = logs.get("clean_loss", 0.0)
    assert logs["loss"] == pytest.approx(clean_weight * clean + (1 - clean_weight) * logs["adversarial_loss"], rel=1e-5)
    assert {"accuracy", "robust_accuracy", "attack_climb"} <= logs.keys()


def test_the_attack_moves_the_turned_image(tiny_encoder, tiny_images):
    """The ball is around the puzzle, as in the reference code: attacked minus turned, not minus the original."""
    model = Rotation(tiny_encoder, attack=ATTACK)
    puzzle = model.pose(Batch(tf.constant(tiny_images)), seed_for(0, 0, "pose"))
    attacked = ATTACK(lambda points: model.climb(points, puzzle, None, training=False), puzzle.inputs, [0, 0])
    assert np.abs(attacked["images"] - puzzle.inputs["images"]).max() <= 0.05 + 1e-6
    assert np.abs(attacked["images"] - tiny_images).max() > 0.05


def test_saved_and_loaded_it_is_the_same(tiny_encoder, tiny_images, tmp_path):
    model = Rotation(tiny_encoder, attack=ATTACK, clean_weight=0.25, seed=3)
    model.compile(optimizer="sgd")
    model.fit(tiny_images, verbose=0)
    model.save(tmp_path / "rotation.keras")
    loaded = keras.models.load_model(tmp_path / "rotation.keras")
    configs = [{key: value for key, value in m.get_config().items() if key != "encoder"} for m in (loaded, model)]
    assert configs[0] == configs[1]
    np.testing.assert_allclose(loaded.predict(tiny_images, verbose=0), model.predict(tiny_images, verbose=0), atol=1e-6)


def test_it_learns_to_tell_turns_beyond_chance_and_beyond_a_fresh_network():
    """Half-bright images: after 40 steps at least 0.9 at three seeds, where a fresh network is below 0.6."""
    rng = np.random.default_rng(0)
    images = np.clip(np.linspace(0, 1, 8)[None, :, None, None] + 0.1 * rng.normal(size=(128, 8, 8, 1)), 0, 1)
    images = images.astype(np.float32)
    for seed in range(3):
        start = keras.initializers.HeNormal(seed=seed)
        pixels = keras.Input((8, 8, 1))
        x = keras.layers.Conv2D(8, 3, activation="relu", kernel_initializer=start)(pixels)
        model = Rotation(keras.Model(pixels, keras.layers.Flatten()(x)), seed=seed)
        model.compile(optimizer=keras.optimizers.Adam(1e-2))
        fresh = model.evaluate(images, verbose=0, return_dict=True)["accuracy"]
        model.fit(images, batch_size=32, epochs=10, verbose=0)
        trained = model.evaluate(images, verbose=0, return_dict=True)["accuracy"]
        assert fresh < 0.6 and trained > 0.9


def test_what_cannot_be_turned_is_refused(tiny_encoder):
    images = keras.Input((8, 6, 3))
    oblong = keras.Model(images, keras.layers.Flatten()(images))
    with pytest.raises(InvalidInput, match="Only square images can be given quarter turns"):
        Rotation(oblong)
    for clean_weight in (1.0, -0.1):
        with pytest.raises(InvalidInput, match="`clean_weight` leaves nothing"):
            Rotation(tiny_encoder, attack=ATTACK, clean_weight=clean_weight)
