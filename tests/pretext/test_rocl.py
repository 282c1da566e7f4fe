"""RoCL: its two terms from the definition, its attack, the side that its code holds."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.encoders import norm_branch
from advss_tf.errors import InvalidInput
from advss_tf.pretext import RoCL
from advss_tf.training import Batch

SEED = tf.constant([0, 0])


def test_the_terms_are_those_of_the_definition(two_stages, small_attack, views, naive_nt_xent):
    model = RoCL(two_stages(), attack=small_attack(), projection=(5,))
    given = views(2)
    moved, puzzle = given[:, 0] * 0.9, model.pose(Batch(given), SEED)
    z = np.stack([model(images) for images in (moved, given[:, 0], given[:, 1])])
    terms = model.descend({"images": moved}, puzzle, training=False)
    # The sum over the six ordered pairs, over 3 N, is twice the mean over pairs.
    np.testing.assert_allclose(model.total(terms), 2 * naive_nt_xent(z) + naive_nt_xent(z[::2]) / 256, rtol=1e-4)


def test_the_attack_turns_a_view_from_the_other(two_stages, small_attack, views, naive_nt_xent):
    model = RoCL(two_stages(), attack=small_attack(), projection=(5,))
    given = views(2)
    puzzle = model.pose(Batch(given), SEED)
    assert set(puzzle.inputs) == {"images"}
    climbed = model.climb({"images": given[:, 0] * 0.9}, puzzle, model.context(puzzle, training=False), training=False)
    np.testing.assert_allclose(
        climbed, naive_nt_xent(np.stack([model(given[:, 0] * 0.9), model(given[:, 1])])), rtol=1e-4
    )


def test_with_branches_the_attacked_view_goes_through_its_own(branched, scattered, small_attack, views, naive_nt_xent):
    """Through its own branch of encoder and projection, and both views that are not attacked through the clean one."""
    model = RoCL(branched("clean", "adversarial"), attack=small_attack(), projection=(6, 5), projection_norms="all")
    scattered(model)
    given = views(2)
    moved, puzzle, z = given[:, 0] ** 2, model.pose(Batch(given), SEED), []
    for branch, images in (("adversarial", moved), ("clean", given[:, 0]), ("clean", given[:, 1])):
        with norm_branch(branch):
            z.append(model.projector(model.encoder(images)))
    z = np.stack(z)
    climbed = model.climb({"images": moved}, puzzle, model.context(puzzle, training=False), training=False)
    np.testing.assert_allclose(climbed, naive_nt_xent(z[::2]), rtol=1e-4)
    terms = model.descend({"images": moved}, puzzle, training=False)
    np.testing.assert_allclose(terms["contrastive"], naive_nt_xent(z), rtol=1e-4)
    np.testing.assert_allclose(terms["adversarial_contrast"], naive_nt_xent(z[::2]), rtol=1e-4)


@pytest.mark.parametrize("training", [False, True])
def test_the_mode_says_whose_statistics_are_used(training, one_norm, small_attack, views, naive_nt_xent):
    """In training those of each stream's images, in inference the running ones, while attacking as well."""
    encoder, features = one_norm("clean", "adversarial")
    model = RoCL(encoder, attack=small_attack(), projection=(5,))
    kernel, bias = model.projector.get_weights()

    def embedded(images, branch):
        return features(images, training=training, branch=branch) @ kernel + bias

    first, other = views(2)[:, 0], 0.3 * views(2)[:, 1]
    moved, puzzle = first**2, model.pose(Batch(tf.stack([first, other], 1)), SEED)
    attacked, alone = embedded(moved, "adversarial"), embedded(other, "clean")
    clean = embedded(tf.concat([first, other], 0), "clean").reshape(2, 8, 5)
    climbed = model.climb({"images": moved}, puzzle, model.context(puzzle, training=training), training=training)
    np.testing.assert_allclose(climbed, naive_nt_xent(np.stack([attacked, alone])), rtol=1e-4)
    terms = model.descend({"images": moved}, puzzle, training=training)
    np.testing.assert_allclose(terms["contrastive"], naive_nt_xent(np.stack([attacked, *clean])), rtol=1e-4)


def test_one_sided_the_value_is_the_same_and_the_gradient_another(two_stages, small_attack, views):
    values, gradients = [], []
    for one_sided in (False, True):
        model = RoCL(two_stages(), attack=small_attack(), projection=(5,), one_sided=one_sided)
        puzzle = model.pose(Batch(views(2)), SEED)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model.total(model.descend(puzzle.inputs, puzzle, training=True)))
        values.append(float(loss))
        gradients.append(tape.gradient(loss, model.trainable_variables[0]).numpy())
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    assert np.abs(gradients[0] - gradients[1]).max() > 1e-3 * np.abs(gradients[0]).max()


def test_without_branches_all_views_share_the_statistics(two_stages, small_attack, views):
    """One pass as in the authors' code: what is normalised together moves together."""
    model = RoCL(two_stages(keras.layers.BatchNormalization), attack=small_attack(), projection=(5,))
    given = views(2)
    puzzle = model.pose(Batch(given), SEED)
    moved = given[:, 0] * 0.2
    found = model._embeddings({"images": moved}, puzzle, training=True)
    together = model(tf.concat([moved, given[:, 0], given[:, 1]], 0), training=True)
    np.testing.assert_allclose(tf.reshape(found, (24, 5)), together, atol=1e-5)


def test_the_attack_holds_what_the_loss_holds(two_stages, small_attack, views):
    """One-sided, the gradient reaches the attacked view as the anchor alone."""
    gradients = []
    for one_sided in (False, True):
        model = RoCL(two_stages(), attack=small_attack(), projection=(5,), one_sided=one_sided)
        puzzle = model.pose(Batch(views(2)), SEED)
        images = puzzle.inputs["images"]
        with tf.GradientTape() as tape:
            tape.watch(images)
            climbed = model.climb({"images": images}, puzzle, model.context(puzzle, training=False), training=False)
        gradients.append(tape.gradient(climbed, images).numpy())
    assert np.abs(gradients[0] - gradients[1]).max() > 1e-3 * np.abs(gradients[0]).max()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"views": ("strong",) * 3}, "two views"),
        ({"views": ()}, "two views"),
        ({"views": ("high_frequency", "strong")}, "no pixels"),
        ({"attack": None}, "attacks its views"),
        ({"adversarial_weight": -1.0}, "adversarial_weight"),
        ({"one_sided": True, "asymmetry": {}}, "held fixed"),
    ],
)
def test_impossible_options_are_refused(options, words, two_stages, small_attack):
    with pytest.raises(InvalidInput, match=words):
        RoCL(two_stages(), **{"attack": small_attack(), **options})
