"""AdvCL and A-InfoNCE: the terms from their definition, caching, perturbations, streams, schedules."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.encoders import norm_branch
from advss_tf.errors import InvalidInput
from advss_tf.pretext import AdvCL, AInfoNCE
from advss_tf.training import Batch

SEED = tf.constant([0, 0])
PSEUDO = tf.constant(np.stack([np.arange(8) % 2, np.arange(8) % 3], 1))
THREE = ("clean", "adversarial", "pseudo")


def test_the_terms_are_those_of_the_definition(branched, scattered, small_attack, views, naive_nt_xent):
    """Four views through two branches, the clusters through the third, each with its own perturbation."""
    model = scattered(AdvCL(branched(*THREE), attack=small_attack(), pseudo_sizes=(2, 3), projection=(6, 5)))
    given, puzzle, moved = _posed(model, views)
    embeddings = [_through(model, "adversarial", moved["contrastive"])]
    embeddings += [_through(model, "clean", given[:, number]) for number in (1, 2, 3)]
    terms = model.descend(moved, puzzle, training=False)
    np.testing.assert_allclose(terms["contrastive"], 0.5 / 0.07 * naive_nt_xent(np.stack(embeddings)), rtol=1e-4)
    with norm_branch("pseudo"):
        features = model.encoder(moved["pseudo"])
    expected = np.mean(
        [keras.losses.sparse_categorical_crossentropy(PSEUDO[:, k], head(features), from_logits=True)
         for k, head in enumerate(model.heads.heads)], axis=0
    )  # fmt: skip
    np.testing.assert_allclose(terms["pseudo"], expected, rtol=1e-4)
    np.testing.assert_allclose(model.total(terms), terms["contrastive"] + 0.2 * expected, rtol=1e-5)


def test_in_training_every_view_has_statistics_of_its_own(one_norm, small_attack, views, naive_nt_xent):
    encoder, features = one_norm("clean", "adversarial")
    model = AdvCL(encoder, attack=small_attack(), projection=(5,), projection_norms="none", base_temperature=None)
    given, puzzle, moved = _posed(model, lambda count: views(count) * np.array([1, 0.8, 0.5, 0.2])[:, None, None, None])
    seen = [(moved["contrastive"], "adversarial"), *((given[:, number], "clean") for number in (1, 2, 3))]
    kernel, bias = (weight.numpy() for weight in model.projector.weights)
    embeddings = [features(view, training=True, branch=branch) @ kernel + bias for view, branch in seen]
    terms = model.descend(moved, puzzle, training=True)
    np.testing.assert_allclose(terms["contrastive"], naive_nt_xent(np.stack(embeddings)), rtol=1e-3)


def test_the_attack_climbs_what_the_weights_descend(branched, scattered, small_attack, views):
    model = scattered(AdvCL(branched(*THREE), attack=small_attack(), pseudo_sizes=(2, 3), projection=(6, 5)))
    _, puzzle, moved = _posed(model, views)
    climbed = model.climb(moved, puzzle, model.context(puzzle, training=False), training=False)
    np.testing.assert_allclose(climbed, model.total(model.descend(moved, puzzle, training=False)), rtol=1e-5)


@pytest.mark.parametrize("mode", ["inference", "training"])
@pytest.mark.parametrize("pseudo_sizes", [pytest.param((), marks=pytest.mark.slow), (2, 3)])
def test_forwarding_clean_views_once_gives_the_same_step(mode, pseudo_sizes, branched, small_attack, views):
    """All weights after a step of a learning rate of 1, so gradients; and running statistics."""
    branches = THREE if pseudo_sizes else THREE[:2]
    after = []
    for cache in (True, False):
        model = AdvCL(
            branched(*branches), attack=small_attack(batch_norm=mode), pseudo_sizes=pseudo_sizes, projection=(6, 5),
            cache=cache,
        )  # fmt: skip
        model.compile(optimizer=keras.optimizers.SGD(1.0))
        before = model.get_weights()
        model.train_on_batch(views(4), PSEUDO if pseudo_sizes else None)
        after.append(model.get_weights())
    assert max(np.abs(one - other).max() for one, other in zip(before, after[0], strict=True)) > 0.1
    for one, other in zip(*after, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4)


def test_of_thirty_passes_fifteen_are_left(branched, small_attack, views, monkeypatch):
    """Five steps, four views, clusters, in the mode of the authors' code."""
    counted = {}
    for cache in (True, False):
        attack = small_attack(num_steps=5, batch_norm="training")
        model = AdvCL(branched(*THREE), attack=attack, pseudo_sizes=(2, 3), projection=(6, 5), cache=cache)
        model.compile(optimizer=keras.optimizers.SGD(0.1))
        counted[cache] = _passes(model, views, monkeypatch)
    # The loop's body is traced once: what it forwards counts for each of its five steps.
    outside, inside = counted[True]
    assert (outside, inside) == (3 + 2, 2) and outside + 5 * inside == 15
    outside, inside = counted[False]
    assert outside + 5 * inside == 30


def test_each_stream_moves_its_own_statistics(branched, small_attack, views):
    model = AdvCL(branched(*THREE), attack=small_attack(), pseudo_sizes=(2, 3), projection=(6, 5))
    for stream in THREE:
        before = {v.path: v.numpy() for v in model.encoder.variables}
        model.encode(views(1)[:, 0], training=True, stream=stream)
        moved = {v.path for v in model.encoder.variables if (v.numpy() != before[v.path]).any()}
        assert moved and all(f"/{stream}/" in path for path in moved)


def test_one_perturbation_for_both_goes_through_one_branch(branched, small_attack, views):
    model = AdvCL(
        branched("clean", "adversarial"), attack=small_attack(), pseudo_sizes=(2, 3), perturbation="shared",
        projection=(6, 5),
    )  # fmt: skip
    _, puzzle, moved = _posed(model, views)
    assert set(puzzle.inputs) == {"contrastive"}
    with norm_branch("adversarial"):
        features = model.encoder(moved["contrastive"])
    expected = model.heads.terms(features, PSEUDO)["pseudo"]
    np.testing.assert_allclose(model.descend(moved, puzzle, training=False)["pseudo"], expected, rtol=1e-4)


def test_without_high_frequencies_three_views_meet(two_stages, small_attack, views):
    model = AdvCL(two_stages(), attack=small_attack(), clean_views=("strong", "strong"), projection=(5,))
    assert model.views == ("weak", "strong", "strong") and model.contrasts == (3,)
    model.compile(optimizer=keras.optimizers.SGD(0.1))
    assert model.train_on_batch(views(3), return_dict=True)["loss"] > 0


@pytest.mark.slow
def test_held_out_images_need_no_pseudo_labels(branched, small_attack, tiny_images, tiny_labels):
    model = AdvCL(branched(*THREE), attack=small_attack(), pseudo_sizes=(2, 3), projection=(6, 5))
    model.compile(optimizer=keras.optimizers.SGD(0.1))
    logs = model.evaluate(tiny_images, tiny_labels, verbose=0, return_dict=True)
    assert logs["loss"] == logs["contrastive"] and "pseudo" not in logs
    # Keras' own CIFAR-10 brings labels (n, 1), which are no clusters either.
    again = model.evaluate(tiny_images, tiny_labels[:, np.newaxis] + 7, verbose=0, return_dict=True)
    assert again == logs


def test_training_with_heads_needs_pseudo_labels(branched, small_attack, views, tiny_labels):
    model = AdvCL(branched(*THREE), attack=small_attack(), pseudo_sizes=(2, 3), projection=(6, 5))
    model.compile(optimizer=keras.optimizers.SGD(0.1))
    for labels in (None, tiny_labels):
        with pytest.raises(InvalidInput, match="do not fit the heads"):
            model.train_on_batch(views(4), labels)


def test_the_schedule_weighs_pairs_with_the_attacked_view(two_stages, small_attack, views, naive_nt_xent):
    annealing = {"epochs": 2, "steps_per_epoch": 1, "period": 1, "growth": 1.0}
    model = AdvCL(two_stages(), attack=small_attack(), projection=(5,), base_temperature=None, annealing=annealing)
    model.compile(optimizer=keras.optimizers.SGD(0.1))
    given, puzzle, moved = _posed(model, views)
    embeddings = np.stack([model(moved["contrastive"]), *(model(given[:, number]) for number in (1, 2, 3))])
    weights = np.full((4, 4), 0.5)
    weights[0, :] = weights[:, 0] = 1.5
    expected = naive_nt_xent(embeddings, weights=weights)
    np.testing.assert_allclose(model.descend(moved, puzzle, training=False)["contrastive"], expected, rtol=1e-4)


def test_a_infonce_draws_the_attacked_view_more_than_it_is_drawn_to(two_stages, small_attack, views):
    """With a share of 0 no gradient reaches what a clean view says because of the attacked one."""
    symmetric = AdvCL(two_stages(), attack=small_attack(), clean_views=("strong",), projection=(5,))
    inferior = AInfoNCE(
        two_stages(), attack=small_attack(), clean_views=("strong",), projection=(5,),
        asymmetry={"clean_share": 0.0, "beta": None},
    )  # fmt: skip
    gradients = []
    for model in (symmetric, inferior):
        given = views(2)
        with tf.GradientTape() as tape:
            clean = model(given[:, 1])[tf.newaxis]
            tape.watch(clean)
            loss = tf.reduce_mean(
                model._terms({"contrastive": given[:, 0]}, clean, None, training=False)[0]["contrastive"]
            )
        gradients.append(np.abs(tape.gradient(loss, clean)).max())
    assert gradients[0] > 1e-3 and gradients[1] == 0


def test_the_attack_climbs_the_symmetric_loss(two_stages, small_attack, views):
    symmetric, inferior = (kind(two_stages(), attack=small_attack(), projection=(5,)) for kind in (AdvCL, AInfoNCE))
    climbed, descended = [], []
    for model in (symmetric, inferior):
        _, puzzle, moved = _posed(model, views)
        climbed.append(model.climb(moved, puzzle, model.context(puzzle, training=False), training=False))
        descended.append(model.descend(moved, puzzle, training=False)["contrastive"])
    np.testing.assert_allclose(climbed[0], climbed[1], rtol=1e-5)
    assert np.abs(descended[0] - descended[1]).max() > 1e-2


def test_a_infonce_without_asymmetry_is_refused(two_stages, small_attack):
    with pytest.raises(InvalidInput, match="AdvCL with an asymmetry"):
        AInfoNCE(two_stages(), attack=small_attack(), asymmetry=None)


def _posed(model, views):
    """Views, their puzzle, and inputs that were moved, each in another way."""
    given = views(4)
    labels = PSEUDO if model.heads is not None else None
    puzzle = model.pose(Batch(given, labels), SEED)
    moved = {"contrastive": given[:, 0] * 0.9, "pseudo": given[:, 0] * 0.8 + 0.1}
    return given, puzzle, {name: moved[name] for name in puzzle.inputs}


def _through(model, branch, images):
    with norm_branch(branch):
        return model.projector(model.encoder(images)).numpy()


def _passes(model, views, monkeypatch):
    """How often the step's graph forwards the encoder, outside of the attack's loop and in its body."""
    calls, inside = [], []
    loop = tf.while_loop
    encode = type(model).encode

    def counted(self, *args, **kwargs):
        calls.append(bool(inside))
        return encode(self, *args, **kwargs)

    def entered(cond, body, *args, **kwargs):
        def marked(*state):
            inside.append(True)
            try:
                return body(*state)
            finally:
                inside.pop()

        return loop(cond, marked, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(type(model), "encode", counted)
        patch.setattr(tf, "while_loop", entered)
        tf.function(lambda: model.train_step((views(4), PSEUDO))).get_concrete_function()
    return calls.count(False), calls.count(True)
