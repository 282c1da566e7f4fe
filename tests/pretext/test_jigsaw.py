"""Jigsaw: every patch goes where the permutation says, labels are drawn as specified, and the set is saved."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.attacks import Linf, ProjectedGradientDescent
from advss_tf.errors import InvalidInput
from advss_tf.pretext import Jigsaw, make_permutations, shuffle_patches
from advss_tf.randomness import seed_for
from advss_tf.training import Batch

ATTACK = ProjectedGradientDescent(Linf(0.05), num_steps=2)


def glued(image, permutation, grid):
    """One image with its patches put together in another order: lists and loops, as the reference code has it."""
    height, width = image.shape[0] // grid, image.shape[1] // grid
    patches = [
        image[row * height : (row + 1) * height, column * width : (column + 1) * width]
        for row in range(grid)
        for column in range(grid)
    ]
    placed = [patches[number] for number in permutation]
    return np.concatenate([np.concatenate(placed[row * grid : (row + 1) * grid], 1) for row in range(grid)], 0)


def encoder_of(shape):
    images = keras.Input(shape)
    return keras.Model(images, keras.layers.GlobalAveragePooling2D()(images))


def posed(model, images, step=0):
    return model.pose(Batch(tf.constant(images)), seed_for(model.seed, step, "pose"))


def labels_of(model, size, steps):
    images = np.zeros((size, 8, 8, 3), np.float32)
    draw = tf.function(lambda step: posed(model, images, step).targets)
    return np.array([draw(tf.constant(step)).numpy() for step in range(steps)])


# The puzzle ------------------------------------------------------------------------------------------------------


def test_two_by_two_patches_by_hand():
    image = np.array([[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [13, 14, 15, 16]], np.float32).reshape(1, 4, 4, 1)
    puzzle = shuffle_patches(tf.constant(image), tf.constant([[1, 3, 0, 2]]), grid=2)
    expected = [[3, 4, 11, 12], [7, 8, 15, 16], [1, 2, 9, 10], [5, 6, 13, 14]]
    np.testing.assert_array_equal(puzzle[0, :, :, 0], expected)


@pytest.mark.parametrize(("grid", "height", "width"), [(2, 8, 8), (3, 9, 6), (4, 8, 12)])
def test_patches_are_glued_as_lists_and_loops_glue_them(grid, height, width):
    rng = np.random.default_rng(0)
    images = rng.random((5, height, width, 3), dtype=np.float32)
    permutations = np.stack([rng.permutation(grid**2) for _ in images])
    expected = [glued(image, order, grid) for image, order in zip(images, permutations, strict=True)]
    np.testing.assert_array_equal(shuffle_patches(tf.constant(images), tf.constant(permutations), grid=grid), expected)


@pytest.mark.parametrize("grid", [2, 4])
def test_each_label_is_the_permutation_of_its_number_and_zero_the_image_itself(grid, tiny_encoder, tiny_images):
    model = Jigsaw(tiny_encoder, grid=grid, num_permutations=7)
    orders = [list(range(grid**2)), *model.permutations]
    puzzle = posed(model, tiny_images)
    labels = puzzle.targets.numpy()
    assert sorted(labels) == list(range(8))
    for image, shuffled, label in zip(tiny_images, puzzle.inputs["images"].numpy(), labels, strict=True):
        np.testing.assert_array_equal(shuffled, glued(image, orders[label], grid))
        assert np.array_equal(shuffled, image) == (label == 0)


def test_the_attack_moves_the_puzzle(tiny_encoder, tiny_images):
    """The ball is around the puzzle, as in the reference code: attacked minus shuffled, not minus the original."""
    model = Jigsaw(tiny_encoder, attack=ATTACK)
    puzzle = posed(model, tiny_images)
    attacked = ATTACK(lambda points: model.climb(points, puzzle, None, training=False), puzzle.inputs, [0, 0])
    assert np.abs(attacked["images"] - puzzle.inputs["images"]).max() <= 0.05 + 1e-6
    assert np.abs(attacked["images"] - tiny_images).max() > 0.05


def test_what_the_grid_leaves_over_is_a_black_rim_and_the_size_stays():
    """7 x 8 pixels at grid 3: rows 0 … 5 and columns 1 … 6 are the puzzle, the rest is black."""
    images = np.random.default_rng(0).uniform(0.1, 1.0, (6, 7, 8, 3)).astype(np.float32)
    model = Jigsaw(encoder_of((7, 8, 3)), grid=3, num_permutations=4, remainder="crop")
    puzzle = posed(model, images)
    orders = [list(range(9)), *model.permutations]
    for image, shuffled, label in zip(images, puzzle.inputs["images"].numpy(), puzzle.targets.numpy(), strict=True):
        expected = np.zeros((7, 8, 3), np.float32)
        expected[0:6, 1:7] = glued(image[0:6, 1:7], orders[label], 3)
        np.testing.assert_array_equal(shuffled, expected)


def test_crop_changes_nothing_where_nothing_is_left_over(tiny_encoder, tiny_images):
    cropped, plain = (
        posed(Jigsaw(tiny_encoder, remainder=remainder), tiny_images).inputs["images"]
        for remainder in ("crop", "refuse")
    )
    np.testing.assert_array_equal(cropped, plain)


def test_an_encoder_of_any_size_takes_images_as_they_come():
    model = Jigsaw(encoder_of((None, None, 1)), grid=2, num_permutations=3)
    for height, width in ((4, 6), (8, 2)):
        assert posed(model, np.zeros((3, height, width, 1), np.float32)).inputs["images"].shape == (3, height, width, 1)
    with pytest.raises(InvalidInput, match=r"The grid does not divide the images.*\(5, 4\)"):
        posed(model, np.zeros((3, 5, 4, 1), np.float32))
    unknown = tf.function(lambda images: model.pose(Batch(images), tf.constant([0, 0])).targets, autograph=False)
    with pytest.raises(InvalidInput, match="The size of the images is not known when the step is traced"):
        unknown.get_concrete_function(tf.TensorSpec((None, None, None, 1)))


# The labels ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [31, 64, 12])
def test_labels_are_balanced_in_each_batch_and_over_many(size, tiny_encoder):
    """Over 300 batches each of 31 labels is expected 300 * size / 31 times; the bound is five standard errors."""
    drawn = labels_of(Jigsaw(tiny_encoder), size, 300)
    for labels in drawn[:50]:
        counts = np.bincount(labels, minlength=31)
        assert counts.max() - counts.min() <= 1
    shares = np.bincount(drawn.ravel(), minlength=31) / 300
    share = size / 31
    assert np.abs(shares - share).max() <= 5 * np.sqrt((share % 1) * (1 - share % 1) / 300) + 1e-9


def test_labels_depend_on_the_seed_and_the_step(tiny_encoder):
    first, again = (labels_of(Jigsaw(tiny_encoder, seed=0), 32, 2) for _ in range(2))
    other = labels_of(Jigsaw(tiny_encoder, seed=1), 32, 2)
    np.testing.assert_array_equal(first, again)
    assert (first[0] != first[1]).any() and (first != other).any()


@pytest.mark.parametrize("balanced", [True, False])
def test_the_identity_has_its_extra_share(balanced, tiny_encoder):
    """At 0.1 as in the reference code 0.1 + 0.9 / 31 = 12.9 % of the images, any other order 2.9 %.

    62,000 labels: the bounds are five standard errors of a binomial share.
    """
    model = Jigsaw(tiny_encoder, identity_share=0.1, balanced=balanced)
    shares = np.bincount(labels_of(model, 310, 200).ravel(), minlength=31) / 62000
    for share, expected in zip(shares, [0.1 + 0.9 / 31] + [0.9 / 31] * 30, strict=True):
        assert abs(share - expected) <= 5 * np.sqrt(expected * (1 - expected) / 62000)
    assert model.chance == pytest.approx(0.129, abs=5e-4)


def test_labels_that_are_not_balanced_are_drawn_one_by_one(tiny_encoder):
    """A label of 31 is missing among 31 draws with probability (30/31)^31 = 0.36; balanced ones are never missing."""
    drawn = labels_of(Jigsaw(tiny_encoder, balanced=False), 31, 100)
    missing = np.mean([np.bincount(labels, minlength=31) == 0 for labels in drawn])
    assert missing == pytest.approx(0.362, abs=0.04)
    assert labels_of(Jigsaw(tiny_encoder, balanced=False), 31, 100).max() == 30


def test_chance_is_the_share_of_the_best_constant_answer(tiny_encoder):
    assert Jigsaw(tiny_encoder).chance == pytest.approx(1 / 31)
    assert Jigsaw(tiny_encoder, grid=2, num_permutations=3).chance == 0.25
    assert Jigsaw(tiny_encoder, num_permutations=1, identity_share=0.5).chance == 0.75


# Options and saving ----------------------------------------------------------------------------------------------


def options_of(model):
    return (model.permutation_set, model.identity_share, model.balanced)


def test_faithful_is_the_reference_code_and_what_is_given_wins(tiny_encoder):
    assert options_of(Jigsaw(tiny_encoder)) == ("max_hamming", 0.0, True)
    faithful = Jigsaw(tiny_encoder, faithful=True)
    assert options_of(faithful) == ("random", 0.1, False)
    assert (faithful.grid, faithful.num_permutations, faithful.clean_weight) == (4, 30, 0.5)
    assert options_of(Jigsaw(tiny_encoder, faithful=True, identity_share=0.0)) == ("random", 0.0, False)
    assert options_of(Jigsaw(tiny_encoder, faithful=True, balanced=True)) == ("random", 0.1, True)
    assert options_of(Jigsaw(tiny_encoder, permutation_set="random", identity_share=0.2)) == ("random", 0.2, True)


@pytest.mark.parametrize("kind", ["max_hamming", "random"])
def test_the_set_is_that_of_its_kind_and_seed(kind, tiny_encoder):
    model = Jigsaw(tiny_encoder, grid=2, num_permutations=9, permutation_set=kind, seed=4)
    np.testing.assert_array_equal(model.permutations, make_permutations(kind, 4, 9, seed=4))


def test_a_given_set_is_used_and_named_so(tiny_encoder, tiny_images):
    model = Jigsaw(tiny_encoder, grid=2, num_permutations=1, permutations=[[3, 2, 1, 0]], faithful=True)
    assert model.permutation_set == "given"
    puzzle = posed(model, tiny_images)
    for image, shuffled, label in zip(tiny_images, puzzle.inputs["images"], puzzle.targets.numpy(), strict=True):
        np.testing.assert_array_equal(shuffled, glued(image, [3, 2, 1, 0], 2) if label else image)


@pytest.mark.parametrize("permutations", [None, [[3, 2, 1, 0], [1, 0, 3, 2]]], ids=["made", "given"])
def test_saved_and_loaded_it_has_the_same_set_and_answers(
    permutations, tiny_encoder, tiny_images, tmp_path, monkeypatch
):
    options = {"grid": 2, "num_permutations": 2, "identity_share": 0.25, "remainder": "crop", "faithful": True}
    model = Jigsaw(tiny_encoder, attack=ATTACK, seed=3, permutations=permutations, clean_weight=0.25, **options)
    model.compile(optimizer="sgd")
    model.fit(tiny_images, verbose=0)
    model.save(tmp_path / "jigsaw.keras")
    # The set is read from the file: a later version that makes other sets changes no saved model.
    monkeypatch.setattr("advss_tf.pretext.jigsaw.make_permutations", lambda *_, **__: pytest.fail("made again"))
    loaded = keras.models.load_model(tmp_path / "jigsaw.keras")
    np.testing.assert_array_equal(loaded.permutations, model.permutations)
    configs = [{key: value for key, value in m.get_config().items() if key != "encoder"} for m in (loaded, model)]
    assert configs[0] == configs[1]
    np.testing.assert_allclose(loaded.predict(tiny_images, verbose=0), model.predict(tiny_images, verbose=0), atol=1e-6)
    for one, other in zip(
        posed(loaded, tiny_images).inputs.values(), posed(model, tiny_images).inputs.values(), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_compiled_by_xla_a_puzzle_of_labels_drawn_one_by_one_is_posed(tiny_encoder, tiny_images):
    model = Jigsaw(tiny_encoder, grid=2, num_permutations=5, faithful=True)
    compiled = tf.function(lambda step: posed(model, tiny_images, step)[:2], jit_compile=True)
    inputs, labels = compiled(tf.constant(1))
    orders = [list(range(4)), *model.permutations]
    for image, shuffled, label in zip(tiny_images, inputs["images"].numpy(), labels.numpy(), strict=True):
        np.testing.assert_array_equal(shuffled, glued(image, orders[label], 2))


def test_it_learns_to_tell_orders_beyond_chance_and_beyond_a_fresh_network():
    """A slope of brightness cut in four: after 80 steps at least 0.9 at three seeds, a fresh network is below 0.5."""
    rng = np.random.default_rng(0)
    slope = np.linspace(0, 0.5, 8)[:, None] + np.linspace(0, 0.4, 8)[None, :]
    images = np.clip(slope[None, :, :, None] + 0.05 * rng.normal(size=(128, 8, 8, 1)), 0, 1).astype(np.float32)
    for seed in range(3):
        start = keras.initializers.HeNormal(seed=seed)
        pixels = keras.Input((8, 8, 1))
        x = keras.layers.Conv2D(8, 3, activation="relu", kernel_initializer=start)(pixels)
        model = Jigsaw(keras.Model(pixels, keras.layers.Flatten()(x)), grid=2, num_permutations=5, seed=seed)
        model.compile(optimizer=keras.optimizers.Adam(1e-2))
        fresh = model.evaluate(images, verbose=0, return_dict=True)["accuracy"]
        model.fit(images, batch_size=32, epochs=20, verbose=0)
        trained = model.evaluate(images, verbose=0, return_dict=True)["accuracy"]
        assert fresh < 0.5 and trained > 0.9


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"grid": 3}, r"The grid does not divide the images.*multiples of grid=3, or remainder='crop'.*\(8, 8\)"),
        ({"grid": 9, "remainder": "crop"}, "The images are too small for the grid.*at least 9 pixels"),
        ({"grid": 1}, "`grid` makes no puzzle.*grid=1"),
        ({"grid": 2.0}, "`grid` makes no puzzle.*grid=2.0"),
        ({"grid": 2, "num_permutations": 24}, "There are not so many permutations.*1 to 23"),
        ({"identity_share": 1.0}, "`identity_share` is no share"),
        ({"identity_share": -0.1}, "`identity_share` is no share"),
        ({"remainder": "cut"}, r"`remainder` is not known.*\['crop', 'refuse'\]"),
        ({"permutation_set": "given"}, r"`permutation_set` is not known.*\['auto', 'max_hamming', 'random'\]"),
        ({"permutations": [[1, 0, 2, 3]], "grid": 2}, r"has not the shape of the puzzle.*\(30, 4\) integers"),
        ({"clean_weight": 1.0}, "`clean_weight` leaves nothing"),
    ],
)
def test_what_makes_no_puzzle_is_refused(options, sentence, tiny_encoder):
    with pytest.raises(InvalidInput, match=sentence):
        Jigsaw(tiny_encoder, attack=ATTACK, **options)
