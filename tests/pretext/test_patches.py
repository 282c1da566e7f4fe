"""Patches: where each pixel goes, how orders are drawn, and the encoder's own layers on patches."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.encoders import ENCODERS, boundary, build_encoder, fused, hoisted, layers_through, norm_branch
from advss_tf.encoders.handoff import describe
from advss_tf.errors import InvalidInput
from advss_tf.pretext.patches import cut, draw_orders, patch_network
from advss_tf.randomness import seed_for
from advss_tf.training.strategy import get_strategy

SMALL = {"resnet18": {"width": 2}, "resnet20": {"width": 2}, "resnet50v2": {"width": 1}, "wide_resnet": {"depth": 10}}


def test_two_by_two_patches_by_hand():
    image = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    expected = [[[0, 1], [4, 5]], [[2, 3], [6, 7]], [[8, 9], [12, 13]], [[10, 11], [14, 15]]]
    np.testing.assert_array_equal(cut(tf.constant(image), grid=2)[0, ..., 0], expected)


@pytest.mark.parametrize(("grid", "height", "width"), [(1, 4, 4), (3, 9, 6), (4, 8, 12)])
def test_patches_are_numpys_slices(grid, height, width):
    images = np.random.default_rng(0).random((3, height, width, 2), dtype=np.float32)
    patches = cut(tf.constant(images), grid=grid).numpy()
    h, w = height // grid, width // grid
    for number in range(grid**2):
        row, column = number // grid, number % grid
        expected = images[:, row * h : (row + 1) * h, column * w : (column + 1) * w]
        np.testing.assert_array_equal(patches[:, number], expected)


@pytest.mark.parametrize("same", [False, True])
def test_every_row_is_a_permutation_that_follows_from_the_seed(same):
    one, again, other = (draw_orders(seed_for(0, step, "pose"), 64, 9, same=same).numpy() for step in (3, 3, 4))
    np.testing.assert_array_equal(np.sort(one, axis=1), np.tile(np.arange(9), (64, 1)))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    assert (len({tuple(row) for row in one}) == 1) is same


def test_every_patch_comes_equally_often_to_every_place():
    """5,000 rows of 4: each of 16 counts is near 1,250, whose standard deviation is 31; six of them are allowed."""
    orders = draw_orders(seed_for(1, 0, "pose"), 5000, 4, same=False).numpy()
    counts = np.array([[np.sum(orders[:, place] == patch) for place in range(4)] for patch in range(4)])
    assert np.abs(counts - 1250).max() < 6 * 31


@pytest.mark.parametrize("same", [False, True])
def test_two_replicas_draw_the_rows_of_one(same):
    seed = seed_for(0, 0, "pose")
    strategy = get_strategy("mirrored")
    drawn = strategy.run(lambda: draw_orders(seed, 4, 9, same=same))
    both = np.concatenate([part.numpy() for part in strategy.experimental_local_results(drawn)])
    np.testing.assert_array_equal(both, draw_orders(seed, 8, 9, same=same))


@pytest.mark.parametrize("kind", sorted(ENCODERS))
def test_the_patch_network_is_the_first_stages_on_each_patch(kind):
    """Against an encoder that was built for patches from the start, with the same weights: its map, averaged."""
    encoder = build_encoder(kind, (32, 32, 3), branches=("clean", "adversarial"), **SMALL[kind])
    network = patch_network(encoder, boundary=boundary(encoder), grid=4)
    small = build_encoder(kind, (8, 8, 3), branches=("clean", "adversarial"), **SMALL[kind])
    small.set_weights(encoder.get_weights())
    last = layers_through(small, boundary(small))[-1].output
    expected = keras.Model(small.input, keras.layers.GlobalAveragePooling2D()(last))
    patches = np.random.default_rng(0).random((4, 8, 8, 3), dtype=np.float32)
    for branch in ("clean", "adversarial"):
        with norm_branch(branch):
            np.testing.assert_allclose(network(patches), expected(patches), atol=1e-5)
            np.testing.assert_allclose(hoisted(network)(patches), expected(patches), atol=1e-5)
            # Two formulas for the variance of as few as 16 numbers, 40 layers deep, where values reach 2.7.
            np.testing.assert_allclose(fused(network)(patches), expected(patches, training=True), atol=5e-5)


def test_layers_are_shared_and_the_encoder_stays_what_it_was(tiny_encoder, tiny_images):
    before, description = tiny_encoder(tiny_images), describe(tiny_encoder)
    for grid in (2, 4):
        network = patch_network(tiny_encoder, boundary="stage1", grid=grid)
        assert network.get_layer("stage1_conv") is tiny_encoder.get_layer("stage1_conv")
        assert network.input_shape == (None, 8 // grid, 8 // grid, 3) and network.output_shape == (None, 6)
        assert "stage2_conv" not in [layer.name for layer in network.layers]
    np.testing.assert_array_equal(tiny_encoder(tiny_images), before)
    assert describe(tiny_encoder) == description
    copy = keras.models.clone_model(tiny_encoder)
    copy.set_weights(tiny_encoder.get_weights())
    np.testing.assert_allclose(copy(tiny_images), before, atol=1e-6)


def test_a_sequential_encoder_and_a_boundary_that_is_a_vector_serve_as_well():
    layers = [keras.layers.Conv2D(3, 3, name="a"), keras.layers.GlobalMaxPooling2D(name="b"), keras.layers.Dense(5)]
    encoder = keras.Sequential([keras.Input((8, 8, 1)), *layers])
    network = patch_network(encoder, boundary="b", grid=2)
    patches = np.random.default_rng(0).random((2, 4, 4, 1), dtype=np.float32)
    np.testing.assert_allclose(network(patches), layers[1](layers[0](patches)), atol=1e-6)


def test_what_cannot_be_cut_is_refused(tiny_encoder):
    with pytest.raises(InvalidInput, match=r"does not divide the images.*a divisor of 8, for images of 8x8.*grid=3"):
        patch_network(tiny_encoder, boundary="stage1", grid=3)
    with pytest.raises(
        InvalidInput, match=r"too small for the patch network.*sides of 2 pixels or more.*patches of 1x1"
    ):
        patch_network(tiny_encoder, boundary="stage1", grid=8)
    with pytest.raises(InvalidInput, match="No layer of 'tiny' bears this mark"):
        patch_network(tiny_encoder, boundary="stage7", grid=2)
    with pytest.raises(InvalidInput, match="cannot be cut at this boundary"):
        patch_network(tiny_encoder, boundary="images", grid=2)
    images = keras.Input((None, None, 3))
    free = keras.Model(images, keras.layers.GlobalAveragePooling2D(name="stage1_pool")(images))
    with pytest.raises(InvalidInput, match="Patches need images of one size"):
        patch_network(free, boundary="stage1", grid=2)


def test_layers_that_a_patch_does_not_fit_are_refused_in_our_words():
    images = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(2, 5, name="stage1_conv")(images)
    encoder = keras.Model(images, keras.layers.GlobalAveragePooling2D()(x))
    assert patch_network(encoder, boundary="stage1", grid=1).output_shape == (None, 2)
    with pytest.raises(InvalidInput, match="The patches are too small for the patch network"):
        patch_network(encoder, boundary="stage1", grid=2)
