"""Selfie: scores by the definition, no leak from masked patches, each quirk, what is trained, and what is learned."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.attacks import Linf, ProjectedGradientDescent
from advss_tf.encoders import load_encoder, reset_after
from advss_tf.errors import InvalidInput
from advss_tf.pretext import Selfie
from advss_tf.pretext.selfie_options import CORRECTED, FAITHFUL
from advss_tf.randomness import seed_for
from advss_tf.serving import export_encoder
from advss_tf.training import Batch

ATTACK = ProjectedGradientDescent(Linf(0.05), num_steps=2)
SMALL = {"num_layers": 1, "num_heads": 1}


def selfie(encoder, **options):
    return Selfie(encoder, **{**SMALL, **options})


def posed(model, images, step=0):
    return model.pose(Batch(tf.constant(images)), seed_for(model.seed, step, "pose"))


def solved(model, images, **options):
    return model.solve(tf.constant(images), posed(model, images), training=False, stream="clean", **options)


# The definition ---------------------------------------------------------------------------------------------------


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def normalised(x):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)


def one_head_layer(x, block):
    """A Transformer layer of one head as it starts: biases are zeros, norms neither scale nor shift."""
    q, k, v, o = (
        np.asarray(getattr(block.attention, f"{n}_dense").kernel) for n in ("query", "key", "value", "output")
    )
    weights = softmax((x @ q[:, 0]) @ (x @ k[:, 0]).T / math.sqrt(q.shape[-1]))
    x = normalised(x + weights @ (x @ v[:, 0]) @ o[0])
    hidden = x @ np.asarray(block.hidden.kernel)
    hidden = 0.5 * hidden * (1 + np.tanh(math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden**3)))
    return normalised(x + hidden @ np.asarray(block.outputs.kernel))


def expected_scores(model, image, masked, seen, trunk):
    """Selfie on one image, patch by patch."""
    height, width = image.shape[0] // model.grid, image.shape[1] // model.grid

    def vector(number):
        row, column = number // model.grid, number % model.grid
        patch = image[row * height : (row + 1) * height, column * width : (column + 1) * width]
        return trunk(patch[None])[0].numpy().mean((0, 1))

    def place(number):
        return (
            np.asarray(model.positions.rows)[number // model.grid]
            + np.asarray(model.positions.columns)[number % model.grid]
        )

    context = [vector(n) + (place(n) if model.context_positions else 0) for n in seen]
    x = np.stack([np.asarray(model.pooling.token)[0, 0], *context])
    for block in model.pooling.blocks:
        x = one_head_layer(x, block)
    scores = np.array([[(x[0] + place(there)) @ vector(patch) for patch in masked] for there in masked])
    return scores / math.sqrt(x.shape[-1]) if model.scaled_scores else scores


@pytest.mark.parametrize("faithful", [False, True])
@pytest.mark.parametrize("grid", [2, 4])
def test_scores_loss_and_accuracy_are_those_of_the_definition(grid, faithful, tiny_encoder, tiny_images):
    model = selfie(tiny_encoder, grid=grid, faithful=faithful, seed=3)
    model.pooling.token.assign(np.random.default_rng(1).normal(size=(1, 1, 6)))
    patches = keras.Input((8 // grid, 8 // grid, 3))
    x = patches
    for layer in tiny_encoder.layers[1:7]:
        x = layer(x)
    trunk = keras.Model(patches, x)
    puzzle = posed(model, tiny_images)
    masked, seen = puzzle.fixed["masked"].numpy(), puzzle.fixed["seen"].numpy()
    scores = np.stack([expected_scores(model, *row, trunk) for row in zip(tiny_images, masked, seen, strict=True)])
    found = model.scores(tf.constant(tiny_images), puzzle, training=False, stream="clean")
    np.testing.assert_allclose(found, scores, atol=1e-4)
    losses = [
        [-math.log(softmax(softmax(row) if faithful else row)[place]) for place, row in enumerate(of_image)]
        for of_image in scores
    ]
    loss, accuracy = solved(model, tiny_images)
    np.testing.assert_allclose(loss, np.sum(losses, 1) if faithful else np.mean(losses, 1), atol=1e-4)
    np.testing.assert_allclose(accuracy, np.mean(scores.argmax(-1) == np.arange(model.num_masked), 1))


def test_the_layers_that_the_tests_take_are_those_of_stage_1(tiny_encoder):
    assert [layer.name for layer in tiny_encoder.layers[1:7]] == [
        "stem_conv", "stem_norm", "stem_relu", "stage1_conv", "stage1_norm", "stage1_relu",
    ]  # fmt: skip


def repainted(images, numbers, grid=4):
    """Copies of the images with other pixels in the patch `numbers[i]` of each image i."""
    changed, side = images.copy(), images.shape[1] // grid
    for image, number in zip(changed, numbers, strict=True):
        rows, columns = (slice(side * n, side * (n + 1)) for n in divmod(int(number), grid))
        image[rows, columns] = 1.0 - image[rows, columns]
    return changed


def test_masked_patches_do_not_leak_into_the_pooled_context(tiny_encoder, tiny_images):
    model = selfie(tiny_encoder)
    puzzle = posed(model, tiny_images)

    def pooled(images):
        return model.pooled(model.patch_vectors(tf.constant(images), training=False), puzzle, training=False).numpy()

    before = pooled(tiny_images)
    for place in range(model.num_masked):
        np.testing.assert_allclose(pooled(repainted(tiny_images, puzzle.fixed["masked"][:, place])), before, atol=1e-6)
    assert (np.abs(pooled(repainted(tiny_images, puzzle.fixed["seen"][:, 0])) - before).max(1) > 1e-4).all()


def test_a_masked_patch_changes_its_own_column_of_scores_alone(tiny_encoder, tiny_images):
    model = selfie(tiny_encoder)
    puzzle = posed(model, tiny_images)
    scores = [
        model.scores(tf.constant(images), puzzle, training=False, stream="clean").numpy()
        for images in (tiny_images, repainted(tiny_images, puzzle.fixed["masked"][:, 1]))
    ]
    np.testing.assert_allclose(scores[0][:, :, [0, 2, 3]], scores[1][:, :, [0, 2, 3]], atol=1e-5)
    assert np.abs(scores[0][:, :, 1] - scores[1][:, :, 1]).max() > 1e-3


# Quirks and options -----------------------------------------------------------------------------------------------


def test_masks_are_drawn_for_each_image_or_for_each_batch(tiny_encoder, tiny_images):
    for mask_per, expected in (("image", 8), ("batch", 1)):
        puzzles = [posed(selfie(tiny_encoder, mask_per=mask_per), tiny_images, step) for step in (0, 1)]
        masked, seen = puzzles[0].fixed["masked"].numpy(), puzzles[0].fixed["seen"].numpy()
        assert masked.shape == (8, 4) and seen.shape == (8, 12)
        assert [sorted(row) for row in np.concatenate([masked, seen], 1)] == [list(range(16))] * 8
        assert len({tuple(row) for row in masked}) == expected
        assert (masked != puzzles[1].fixed["masked"].numpy()).any()


def test_faithful_sets_every_quirk_and_a_given_option_wins(tiny_encoder):
    assert {name: getattr(selfie(tiny_encoder, faithful=True), name) for name in FAITHFUL} == FAITHFUL
    assert {name: getattr(selfie(tiny_encoder), name) for name in CORRECTED} == CORRECTED
    assert selfie(tiny_encoder, faithful=True, double_softmax=False).double_softmax is False


def test_the_faithful_form_has_thirteen_layers_and_a_bounded_loss(tiny_encoder, tiny_images):
    model = Selfie(tiny_encoder, faithful=True)
    assert len(model.pooling.blocks) == 13
    assert len(Selfie(tiny_encoder).pooling.blocks) == 12
    model.positions.rows.assign(1000 * np.asarray(model.positions.rows))
    loss, _ = solved(model, tiny_images)
    # Four queries, each between log(1 + 3 / e) and log(3 + e): what a softmax of a softmax can say.
    low, high = 4 * math.log(1 + 3 / math.e), 4 * math.log(3 + math.e)
    assert low == pytest.approx(2.974, abs=1e-3) and high == pytest.approx(6.974, abs=1e-3)
    assert (loss.numpy() > low - 1e-4).all() and (loss.numpy() < high + 1e-4).all()
    plain = Selfie(tiny_encoder, faithful=True, double_softmax=False)
    plain.set_weights(model.get_weights())
    assert solved(plain, tiny_images)[0].numpy().max() > high


def test_without_context_positions_the_pooling_sees_a_set(tiny_encoder, tiny_images):
    """Two patches that are seen change places: a set is the same, an image is not."""
    differences = {}
    for context_positions in (False, True):
        # Two layers: the token starts as zeros, so that the first takes the mean of what is seen.
        model = selfie(tiny_encoder, context_positions=context_positions, num_layers=2)
        puzzle = posed(model, tiny_images)
        vectors = model.patch_vectors(tf.constant(tiny_images), training=False).numpy()
        swapped, (one, other) = vectors.copy(), puzzle.fixed["seen"].numpy().T[:2]
        rows = np.arange(8)
        swapped[rows, one], swapped[rows, other] = vectors[rows, other], vectors[rows, one]
        pooled = [model.pooled(tf.constant(each), puzzle, training=False) for each in (vectors, swapped)]
        differences[context_positions] = float(tf.reduce_max(tf.abs(pooled[0] - pooled[1])))
    assert differences[False] < 1e-5 and differences[True] > 1e-3


@pytest.mark.parametrize(("num_masked", "chance"), [(None, 0.25), (2, 0.5), (15, 1 / 15)])
def test_chance_is_one_of_the_masked_patches(num_masked, chance, tiny_encoder, tiny_images):
    model = selfie(tiny_encoder, num_masked=num_masked)
    assert model.chance == chance
    assert model.predict(tiny_images, verbose=0).shape == (8, model.num_masked, model.num_masked)


def test_a_fresh_network_guesses_at_chance(tiny_encoder):
    """512 random images, four queries each: the mean of 2,048 guesses has a standard deviation of at most 0.01."""
    images = np.random.default_rng(1).random((512, 8, 8, 3), dtype=np.float32)
    assert float(tf.reduce_mean(solved(selfie(tiny_encoder), images)[1])) == pytest.approx(0.25, abs=0.05)


def test_dropout_is_drawn_for_each_stream_and_in_training_alone(tiny_encoder, tiny_images):
    model = selfie(tiny_encoder, dropout=0.5)
    puzzle, vectors = posed(model, tiny_images), model.patch_vectors(tf.constant(tiny_images), training=False)

    def pooled(training, stream):
        return model.pooled(vectors, puzzle, training=training, stream=stream).numpy()

    np.testing.assert_array_equal(pooled(False, "clean"), pooled(False, "adversarial"))
    np.testing.assert_array_equal(pooled(True, "clean"), pooled(True, "clean"))
    for one, other in ((True, False), (True, True)):
        assert np.abs(pooled(one, "clean") - pooled(other, "adversarial")).max() > 1e-3


@pytest.mark.parametrize("mode", ["inference", "training"])
def test_the_attack_moves_the_whole_image_and_raises_the_loss(mode, tiny_encoder, tiny_images):
    """One ball around the image, from whose attacked pixels both the seen and the masked patches are cut."""
    attack = ProjectedGradientDescent(Linf(0.05), num_steps=3, batch_norm=mode)
    model = selfie(tiny_encoder, attack=attack, dropout=0.0)
    puzzle = posed(model, tiny_images)
    attacked = model._attack(attack, model.climb, puzzle, seed_for(0, 0, "attack"))
    moved = np.abs(attacked.inputs["images"] - tiny_images)
    assert 0.03 < moved.max() <= 0.05 + 1e-6
    patches = moved.reshape(8, 4, 2, 4, 2, 3).max((2, 4, 5)).reshape(8, 16)
    assert (np.take_along_axis(patches, puzzle.fixed["masked"].numpy(), 1) > 0.01).all()
    assert (np.take_along_axis(patches, puzzle.fixed["seen"].numpy(), 1) > 0.01).all()
    assert solved(model, attacked.inputs["images"])[0].numpy().mean() > solved(model, tiny_images)[0].numpy().mean()


# What is trained, kept and handed over ----------------------------------------------------------------------------


def test_only_the_stages_through_the_boundary_are_trained(tiny_encoder, tiny_images, tmp_path):
    before = {variable.path: variable.numpy() for variable in tiny_encoder.variables}
    model = selfie(tiny_encoder, attack=ATTACK)
    model.compile(optimizer=keras.optimizers.SGD(0.1, weight_decay=0.01))
    model.fit(tiny_images, verbose=0)
    names = {variable.path.split("/")[0] for variable in model.trainable_variables}
    assert {"stem_conv", "stage1_conv", "pooling", "positions"} <= names and "stage2_conv" not in names
    for variable in tiny_encoder.variables:
        same = (variable.numpy() == before[variable.path]).all()
        assert same == variable.path.startswith("stage2"), variable.path
    encoder = load_encoder(export_encoder(model, tmp_path / "encoder", provenance=model.provenance))
    np.testing.assert_allclose(encoder(tiny_images), tiny_encoder(tiny_images), atol=1e-6)
    fresh = reset_after(encoder, "stage1")
    np.testing.assert_array_equal(fresh.get_layer("stage1_conv").kernel, tiny_encoder.get_layer("stage1_conv").kernel)


def test_saved_and_loaded_it_is_the_same(tiny_encoder, tiny_images, tmp_path):
    model = selfie(tiny_encoder, attack=ATTACK, clean_weight=0.25, seed=3, faithful=True, mask_per="image")
    model.compile(optimizer=keras.optimizers.SGD(0.1, momentum=0.9))
    model.fit(tiny_images, verbose=0)
    model.save(tmp_path / "selfie.keras")
    loaded = keras.models.load_model(tmp_path / "selfie.keras")
    configs = [{key: value for key, value in m.get_config().items() if key != "encoder"} for m in (loaded, model)]
    assert configs[0] == configs[1]
    assert [v.path for v in loaded.trainable_variables] == [v.path for v in model.trainable_variables]
    np.testing.assert_allclose(loaded.predict(tiny_images, verbose=0), model.predict(tiny_images, verbose=0), atol=1e-5)


@pytest.mark.slow
def test_it_learns_which_patch_belongs_where_beyond_chance_and_beyond_a_fresh_network():
    """Images redder to the right and greener below, so that a place tells its patch, at three seeds."""
    rng, ramp = np.random.default_rng(0), np.linspace(0, 1, 8)
    colours = np.stack(np.broadcast_arrays(ramp[None, :], ramp[:, None], 0.5), axis=-1)
    images = np.clip(colours + 0.05 * rng.normal(size=(128, 8, 8, 3)), 0, 1).astype(np.float32)
    for seed in range(3):
        pixels = keras.Input((8, 8, 3))
        start = keras.initializers.HeNormal(seed=seed)
        x = keras.layers.Conv2D(16, 3, padding="same", activation="relu", kernel_initializer=start, name="stage1")(
            pixels
        )
        encoder = keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(x))
        model = Selfie(encoder, boundary="stage1", num_layers=1, num_heads=2, dropout=0.0, seed=seed)
        model.compile(optimizer=keras.optimizers.Adam(1e-2))
        fresh = model.evaluate(images, verbose=0, return_dict=True)["accuracy"]
        model.fit(images, batch_size=32, epochs=15, verbose=0)
        trained = model.evaluate(images, verbose=0, return_dict=True)["accuracy"]
        assert fresh < 0.4 and trained > 0.7


def test_what_is_impossible_is_refused(tiny_encoder):
    with pytest.raises(InvalidInput, match="The grid does not divide the images"):
        selfie(tiny_encoder, grid=3)
    with pytest.raises(InvalidInput, match="The patches are too small for the patch network"):
        selfie(tiny_encoder, grid=8)
    with pytest.raises(InvalidInput, match="`num_masked` leaves no patch to see"):
        selfie(tiny_encoder, num_masked=16)
    with pytest.raises(InvalidInput, match="`clean_weight` leaves nothing"):
        selfie(tiny_encoder, attack=ATTACK, clean_weight=1.0)
