"""ACL and ACL-AIR: the two pairs, their branches, the invariances."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.encoders import norm_branch
from advss_tf.errors import InvalidInput
from advss_tf.pretext import ACL, ACLAIR
from advss_tf.training import Batch

SEED = tf.constant([0, 0])


def _embeddings(model, views, branch):
    """Of each view, through one branch of encoder and projection, in inference mode."""
    with norm_branch(branch):
        return np.stack([model.projector(model.encoder(view)) for view in tf.unstack(views, axis=1)])


def test_the_loss_is_half_of_each_pairs(branched, scattered, small_attack, views, naive_nt_xent):
    """Each pair through its own branch, and every branch says something else."""
    model = scattered(ACL(branched("clean", "adversarial"), attack=small_attack(), projection=(6, 5)))
    clean, moved = _two(views)
    puzzle = model.pose(Batch(clean), SEED)
    terms = model.descend({"first": moved[:, 0], "second": moved[:, 1]}, puzzle, training=False)
    expected = [naive_nt_xent(_embeddings(model, clean, "clean")),
                naive_nt_xent(_embeddings(model, moved, "adversarial"))]  # fmt: skip
    np.testing.assert_allclose(terms["clean_contrast"], expected[0], rtol=1e-4)
    np.testing.assert_allclose(terms["adversarial_contrast"], expected[1], rtol=1e-4)
    np.testing.assert_allclose(model.total(terms), (expected[0] + expected[1]) / 2, rtol=1e-4)


def test_the_attack_climbs_the_attacked_pair_alone(branched, scattered, small_attack, views, naive_nt_xent):
    model = scattered(ACL(branched("clean", "adversarial"), attack=small_attack(), projection=(6, 5)))
    clean, moved = _two(views)
    puzzle = model.pose(Batch(clean), SEED)
    climbed = model.climb({"first": moved[:, 0], "second": moved[:, 1]}, puzzle, None, training=False)
    np.testing.assert_allclose(climbed, naive_nt_xent(_embeddings(model, moved, "adversarial")), rtol=1e-4)


def test_in_training_the_two_views_of_a_pair_share_their_statistics(one_norm, small_attack, views, naive_nt_xent):
    """The second view has less contrast, which only statistics of its own would undo."""
    encoder, features = one_norm("clean", "adversarial")
    model = ACL(encoder, attack=small_attack(), projection=(5,), projection_norms="none")
    kernel, bias = model.projector.get_weights()
    clean = {"first": views(2)[:, 0], "second": 0.3 * views(2)[:, 1]}
    moved = {name: view**2 for name, view in clean.items()}
    expected = {}
    for branch, pair in (("clean", clean), ("adversarial", moved)):
        together = features(tf.concat(list(pair.values()), 0), training=True, branch=branch) @ kernel + bias
        expected[branch] = naive_nt_xent(together.reshape(2, 8, 5))
    puzzle = model.pose(Batch(tf.stack(list(clean.values()), 1)), SEED)
    climbed = model.climb(moved, puzzle, None, training=True)
    np.testing.assert_allclose(climbed, expected["adversarial"], rtol=1e-4)
    terms = model.descend(moved, puzzle, training=True)
    np.testing.assert_allclose(terms["clean_contrast"], expected["clean"], rtol=1e-4)
    np.testing.assert_allclose(terms["adversarial_contrast"], expected["adversarial"], rtol=1e-4)


def test_an_adversarial_pass_leaves_the_clean_branch_untouched(branched, small_attack, views):
    model = ACL(branched("clean", "adversarial"), attack=small_attack(), projection=(6, 5))
    of = {branch: [v for v in model.variables if f"/{branch}/moving" in v.path] for branch in ("clean", "adversarial")}
    assert len(of["clean"]) == len(of["adversarial"]) == 8  # two norms of the encoder, two of the projection
    before = {branch: [v.numpy() for v in variables] for branch, variables in of.items()}
    model.embed(views(1)[:, 0], training=True, stream="adversarial")
    for variable, value in zip(of["clean"], before["clean"], strict=True):
        np.testing.assert_array_equal(variable, value)
    assert all((v.numpy() != value).any() for v, value in zip(of["adversarial"], before["adversarial"], strict=True))


def test_both_views_are_attacked_at_once(two_stages, small_attack, views):
    model = ACL(
        two_stages(keras.layers.BatchNormalization), attack=small_attack(), projection=(6, 5), projection_norms="hidden"
    )
    puzzle = model.pose(Batch(views(2)), SEED)
    found = model._attack(model.attack, model.climb, puzzle, SEED)
    for name in ("first", "second"):
        distance = np.abs(found.inputs[name] - puzzle.inputs[name])
        assert 0.05 < distance.max() <= 0.1 + 1e-6


def test_the_invariances_see_the_image_as_it_was(branched, scattered, small_attack, views):
    """And through the clean branch, as the clean views."""
    model = scattered(ACLAIR(branched("clean", "adversarial"), attack=small_attack(), projection=(5,)))
    assert model.views == ("annealed", "annealed", "original") and model.loss_weights["sir"] == 0.25
    clean, moved = views(3), views(3)[:, :2] * 0.9
    puzzle = model.pose(Batch(clean), SEED)
    terms = model.descend({"first": moved[:, 0], "second": moved[:, 1]}, puzzle, training=False)
    z = [*_embeddings(model, clean, "clean"), *_embeddings(model, moved, "adversarial")]
    likeness = {
        pair: _log_likeness(z[pair[0]], z[pair[1]]) for pair in ((0, 2), (1, 2), (3, 2), (4, 2), (3, 0), (4, 1))
    }
    sir = 8 * np.exp(likeness[0, 2]) * (likeness[0, 2] - likeness[1, 2])
    one, other = likeness[3, 2] + likeness[3, 0], likeness[4, 2] + likeness[4, 1]
    np.testing.assert_allclose(terms["sir"], sir, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(terms["air"], 8 * np.exp(one) * (one - other), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"views": ("strong",)}, "two views"),
        ({"views": ("strong", "high_frequency")}, "no pixels"),
        ({"attack": None}, "attacks its views"),
        ({"sir_weight": -1.0}, "sir_weight"),
        ({"air_weight": float("inf")}, "air_weight"),
        ({"invariance": "cod"}, "did you mean 'code'"),
    ],
)
def test_impossible_options_are_refused(options, words, two_stages, small_attack):
    with pytest.raises(InvalidInput, match=words):
        ACL(two_stages(), **{"attack": small_attack(), **options})


def _two(views):
    clean = views(2)
    return clean, tf.clip_by_value(clean + 0.1 * tf.sign(clean - 0.5), 0.0, 1.0)


def _log_likeness(one, other, temperature=0.5):
    """The log of the softmax over the images of the cosine of the two, from its definition."""
    one, other = (np.asarray(side, np.float64) for side in (one, other))
    cosine = np.sum(one * other, 1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1) / temperature
    return cosine - np.log(np.exp(cosine).sum())
