"""NT-Xent against a loop over the paper's equation, by hand, at its minimum, and under what must not change it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf

from advss_tf.errors import InvalidInput
from advss_tf.losses import HardNegatives, inferior_positives, nt_xent, similarity_bytes

RNG = np.random.default_rng(0)


def drawn(views, batch=5, features=6):
    return RNG.normal(size=(views, batch, features))


def tensor(values):
    return tf.constant(values, tf.float32)


def reference(embeddings, temperature, weights=None):
    """The mean over anchors and positives, one exponential at a time: `(batch,)` in float64."""
    views, batch, _ = embeddings.shape
    unit = embeddings / np.linalg.norm(embeddings, axis=-1, keepdims=True)
    found = np.zeros(batch)
    for view, image in itertools.product(range(views), range(batch)):
        denominator = sum(
            np.exp(unit[view, image] @ unit[other, place] / temperature)
            for other, place in itertools.product(range(views), range(batch))
            if (other, place) != (view, image)
        )
        for positive in set(range(views)) - {view}:
            numerator = np.exp(unit[view, image] @ unit[positive, image] / temperature)
            weight = 1.0 if weights is None else weights[view, positive]
            found[image] -= weight * np.log(numerator / denominator) / (views * (views - 1))
    return found


@pytest.mark.parametrize("views", [2, 3, 4, 5])
@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_it_is_the_equation(views, temperature):
    embeddings = drawn(views)
    found = nt_xent(tensor(embeddings), temperature=temperature)
    assert found.shape == (5,) and found.dtype == tf.float32
    np.testing.assert_allclose(found, reference(embeddings, temperature), rtol=1e-5)


@pytest.mark.parametrize("views", [2, 3, 4, 5])
def test_each_pair_has_its_own_weight_and_the_diagonal_is_not_read(views):
    embeddings, weights = drawn(views), RNG.random((views, views))
    np.fill_diagonal(weights, np.nan)
    found = nt_xent(tensor(embeddings), weights=weights)
    np.testing.assert_allclose(found, reference(embeddings, 0.5, weights), rtol=1e-5)
    np.fill_diagonal(weights, 0.0)
    np.testing.assert_allclose(nt_xent(tensor(embeddings), weights=tensor(weights)), found, rtol=1e-6)


def test_two_views_of_two_images_by_hand():
    """Image 0 points right in both views, image 1 up and left; at temperature 1, with e = exp(1).

    Anchors: (0, 0) sees 1 (positive), 0, -1; (1, 0) the same; (0, 1), up, sees 0 (positive), 0, 0; (1, 1), left, sees
    0 (positive), -1, -1.
    """
    embeddings = [[[3.0, 0.0], [0.0, 2.0]], [[5.0, 0.0], [-1.0, 0.0]]]
    e = np.e
    first = np.log((e + 1 + 1 / e) / e)
    second = (np.log(3.0) + np.log(1 + 2 / e)) / 2
    np.testing.assert_allclose(nt_xent(tensor(embeddings), temperature=1.0), [first, second], rtol=1e-6)


@pytest.mark.parametrize("views", [2, 4])
def test_collapsed_embeddings_cost_the_logarithm_of_the_others(views):
    np.testing.assert_allclose(nt_xent(tf.ones((views, 6, 3))), np.full(6, np.log(views * 6 - 1)), rtol=1e-6)


@pytest.mark.parametrize("views", [2, 3])
def test_opposite_images_are_the_minimum_for_a_batch_of_two(views):
    """`log((m - 1) e^(1/T) + m e^(-1/T)) - 1/T`, with no gradient, and more at every step away."""
    best = np.repeat(np.array([[[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]]), views, axis=0)
    embeddings = tensor(best)
    with tf.GradientTape() as tape:
        tape.watch(embeddings)
        loss = nt_xent(embeddings)
    least = np.log((views - 1) * np.exp(2.0) + views * np.exp(-2.0)) - 2.0
    np.testing.assert_allclose(loss, [least, least], rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(loss, embeddings), np.zeros(best.shape), atol=1e-6)
    for _ in range(10):
        moved = nt_xent(tensor(best + 0.1 * RNG.normal(size=best.shape)))
        assert float(tf.reduce_mean(moved)) > least + 1e-5


def test_the_order_of_views_and_the_length_of_embeddings_do_not_matter():
    embeddings = drawn(4)
    found = nt_xent(tensor(embeddings))
    for order in itertools.permutations(range(4)):
        np.testing.assert_allclose(nt_xent(tensor(embeddings[list(order)])), found, rtol=1e-5)
    lengths = 10.0 ** RNG.uniform(-3, 3, size=(4, 5, 1))
    np.testing.assert_allclose(nt_xent(tensor(embeddings * lengths)), found, rtol=1e-5)


def test_images_keep_their_loss_in_another_order():
    embeddings, order = drawn(3), RNG.permutation(5)
    np.testing.assert_allclose(
        nt_xent(tensor(embeddings[:, order])), nt_xent(tensor(embeddings)).numpy()[order], rtol=1e-5
    )


def test_the_reference_scale_is_seven_times_the_plain_loss():
    embeddings = tensor(drawn(4))
    scaled = nt_xent(embeddings, temperature=0.5, base_temperature=0.07)
    np.testing.assert_allclose(scaled, 7.142857 * nt_xent(embeddings, temperature=0.5), rtol=1e-5)


def gradient(embeddings, **options):
    moved = tensor(embeddings)
    with tf.GradientTape() as tape:
        tape.watch(moved)
        loss = nt_xent(moved, **options)
    return tape.gradient(loss, moved).numpy()


def test_its_gradient_is_that_of_finite_differences():
    embeddings, weights = drawn(3, batch=3, features=4), RNG.random((3, 3))
    found = gradient(embeddings, weights=weights)
    for place in np.ndindex(embeddings.shape):
        sides = []
        for by in (1e-5, -1e-5):
            moved = embeddings.copy()
            moved[place] += by
            sides.append(reference(moved, 0.5, weights).sum())
        assert found[place] == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-3, abs=1e-5)


def test_held_pairs_keep_their_value_and_move_their_anchor_alone():
    embeddings = drawn(3)
    only = np.zeros((3, 3))
    only[1, 2] = 1.0
    free = nt_xent(tensor(embeddings), weights=only)
    everything = np.ones((3, 3), bool)
    np.testing.assert_allclose(nt_xent(tensor(embeddings), weights=only, held=everything), free, rtol=1e-6)
    moved = gradient(embeddings, weights=only, held=everything)
    assert (moved[[0, 2]] == 0).all() and (np.abs(moved[1]).max(axis=1) > 1e-3).all()
    assert (np.abs(gradient(embeddings, weights=only)) > 1e-6).any(axis=2).all()


def test_held_gradients_are_those_of_a_constant_second_operand():
    """RoCL's code: the similarities are `z · stop(z)ᵀ`. By finite differences of the anchors alone."""
    embeddings = drawn(2, batch=3, features=4)
    found = gradient(embeddings, held=np.ones((2, 2), bool))
    fixed = embeddings / np.linalg.norm(embeddings, axis=-1, keepdims=True)

    def loss(anchors):
        unit = anchors / np.linalg.norm(anchors, axis=-1, keepdims=True)
        scores = np.exp(np.einsum("abf,pcf->abpc", unit, fixed) / 0.5)
        total = 0.0
        for view, image in itertools.product(range(2), range(3)):
            row = scores[view, image]
            total -= np.log(row[1 - view, image] / (row.sum() - row[view, image])) / 2
        return total

    for place in np.ndindex(embeddings.shape):
        step = np.zeros(embeddings.shape)
        step[place] = 1e-5
        slope = (loss(embeddings + step) - loss(embeddings - step)) / 2e-5
        assert found[place] == pytest.approx(slope, rel=1e-3, abs=1e-5)


def test_some_pairs_held_and_some_free_add_up():
    embeddings, held = drawn(4), inferior_positives(4, adversarial=(0,))[1]
    parts = gradient(embeddings, weights=held, held=np.ones((4, 4), bool)) + gradient(embeddings, weights=~held)
    np.testing.assert_allclose(gradient(embeddings, held=held), parts, rtol=1e-4, atol=1e-6)


def test_half_precision_is_computed_in_float32():
    embeddings = tf.cast(drawn(3), tf.bfloat16)
    found = nt_xent(embeddings)
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, reference(tf.cast(embeddings, tf.float64).numpy(), 0.5), rtol=1e-5)


@pytest.mark.parametrize("hard", [None, HardNegatives()])
def test_small_temperatures_stay_finite(hard):
    embeddings = drawn(3)
    assert np.isfinite(nt_xent(tensor(embeddings), temperature=0.005, hard_negatives=hard)).all()
    assert np.isfinite(gradient(embeddings, temperature=0.005, hard_negatives=hard)).all()


def test_xla_and_a_batch_of_unknown_size_give_the_same():
    embeddings = tensor(drawn(3))
    compiled = tf.function(lambda values: nt_xent(values, hard_negatives=HardNegatives()), jit_compile=True)
    np.testing.assert_allclose(compiled(embeddings), nt_xent(embeddings, hard_negatives=HardNegatives()), rtol=1e-5)
    unknown = tf.function(nt_xent, input_signature=[tf.TensorSpec((3, None, 6))])
    np.testing.assert_allclose(unknown(embeddings), nt_xent(embeddings), rtol=1e-6)


def test_the_bytes_of_the_similarities_grow_with_the_square():
    assert similarity_bytes(4, 512) == 4 * 2048 * 2048
    assert similarity_bytes(2, 512, replicas=4) == 4 * 1024 * 256


@pytest.mark.parametrize(
    ("shape", "options", "sentence"),
    [
        ((1, 4, 2), {}, "`embeddings` has no positives"),
        ((4, 2), {}, "`embeddings` has no positives"),
        ((2, 1, 2), {}, "`embeddings` has no negatives"),
        ((2, 3, 2), {"temperature": 0.0}, "`temperature` is no temperature.*temperature=0.0"),
        ((2, 3, 2), {"temperature": float("nan")}, "`temperature` is no temperature"),
        ((2, 3, 2), {"base_temperature": -0.07}, "`base_temperature` is no temperature"),
        ((2, 3, 2), {"weights": np.ones((3, 3))}, r"`weights` does not fit the views. Expected: \(2, 2\)"),
        ((2, 3, 2), {"weights": np.eye(2)}, "`weights` leaves nothing to learn from"),
        ((2, 3, 2), {"weights": [[0, -1], [1, 0]]}, "`weights` leaves nothing to learn from, or learns backwards"),
        ((2, 3, 2), {"held": np.ones((2, 3), bool)}, "`held` does not fit the views"),
        ((2, 3, 2), {"held": np.ones((2, 2))}, "`held` is no matrix of booleans"),
        ((2, 3, 2), {"negatives": "all"}, "`negatives` is not known"),
    ],
)
def test_what_cannot_be_contrasted_is_refused(shape, options, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        nt_xent(tf.ones(shape), **options)
