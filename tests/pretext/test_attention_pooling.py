"""Attention pooling against the definition in NumPy, and the places of patches as sums of two vectors."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.pretext.attention_pooling import AttentionPooling, LayerNorm, PatchPositions, TransformerLayer
from advss_tf.randomness import seed_for


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def normalised(x, norm):
    gamma, beta = (np.asarray(v) for v in (norm.gamma, norm.beta))
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * gamma + beta


def transformer_layer(x, layer):
    """One sequence `(count, D)`, head by head: Vaswani et al. 2017, equation 1 and section 3.1, 3.3."""
    attention = layer.attention
    kernels = {
        name: np.asarray(getattr(attention, f"{name}_dense").kernel) for name in ("query", "key", "value", "output")
    }
    biases = {name: np.asarray(getattr(attention, f"{name}_dense").bias) for name in kernels}
    attended = np.zeros_like(x)
    for head in range(attention.num_heads):
        q, k, v = (x @ kernels[name][:, head] + biases[name][head] for name in ("query", "key", "value"))
        attended += softmax(q @ k.T / math.sqrt(q.shape[-1])) @ v @ kernels["output"][head]
    x = normalised(x + attended + biases["output"], layer.norms[0])
    hidden = x @ np.asarray(layer.hidden.kernel) + np.asarray(layer.hidden.bias)
    hidden = 0.5 * hidden * (1 + np.tanh(math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden**3)))
    return normalised(x + hidden @ np.asarray(layer.outputs.kernel) + np.asarray(layer.outputs.bias), layer.norms[1])


def scattered(layer, deviation=0.3):
    """Random values for every variable, so that each of them matters."""
    rng = np.random.default_rng(5)
    for variable in layer.variables:
        variable.assign(rng.normal(0.0, deviation, variable.shape) + ("gamma" in variable.path))
    return layer


def pooling(num_layers=2, num_heads=2, width=6, **options):
    layer = AttentionPooling(num_layers=num_layers, num_heads=num_heads, **options)
    layer.build((None, None, width))
    return layer


VECTORS = np.random.default_rng(0).normal(size=(3, 5, 6)).astype(np.float32)


@pytest.mark.parametrize(("num_layers", "num_heads", "head_width"), [(1, 1, None), (2, 3, None), (2, 2, 5)])
def test_pooling_is_the_token_after_the_layers_of_the_definition(num_layers, num_heads, head_width):
    layer = scattered(pooling(num_layers, num_heads, head_width=head_width))
    for vectors, pooled in zip(VECTORS, layer(VECTORS).numpy(), strict=True):
        x = np.concatenate([np.asarray(layer.token)[0], vectors])
        for block in layer.blocks:
            x = transformer_layer(x, block)
        np.testing.assert_allclose(pooled, x[0], atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_the_norm_gives_what_keras_does_with_the_weights_of_keras(dtype):
    x = tf.cast(3.0 + 2.0 * VECTORS, "bfloat16" if dtype == "mixed_bfloat16" else "float32")
    ours, theirs = LayerNorm(dtype=dtype), keras.layers.LayerNormalization(epsilon=1e-5, dtype=dtype)
    for layer in (ours, theirs):
        layer.build(x.shape)
    ours.set_weights(scattered(theirs).get_weights())
    assert [v.name for v in ours.variables] == [v.name for v in theirs.variables] == ["gamma", "beta"]
    assert ours(x).dtype == theirs(x).dtype == x.dtype
    # In bfloat16 two numbers near 2 that are rounded to either side are 2⁻⁷ apart.
    atol = 1e-5 if dtype == "float32" else 2**-6
    np.testing.assert_allclose(tf.cast(ours(x), tf.float32), tf.cast(theirs(x), tf.float32), atol=atol)


def norm_derivatives(x, w, u, epsilon=1e-5):
    """Of f = Σ w y with y = (x - mean) / s the gradient g, and the gradient of u · g, in float64.

    ∂y_k/∂x_j = (δ_kj - 1/N - y_k y_j/N) / s, so that J(v) below is Σ_k v_k ∂y_k/∂x, and g is J(w).
    """
    x, w, u = (np.asarray(v, np.float64) for v in (x, w, u))
    centred = x - x.mean()
    s = np.sqrt(np.mean(centred**2) + epsilon)
    y = centred / s

    def turned(v):
        return (v - v.mean() - y * np.mean(v * y)) / s

    # u · g = B / s with B = u · (w - mean of w) - (u · y) a and a = mean of w y; ∂(1/s)/∂x = -y / (N s²).
    a = np.mean(w * y)
    b = u @ (w - w.mean()) - (u @ y) * a
    return turned(w), -b * y / (len(x) * s**2) - (a * turned(u) + (u @ y) * turned(w) / len(x)) / s


def test_the_norm_is_right_in_its_second_derivative():
    """Keras' own holds the mean fixed in the variance, which only the second derivative shows."""
    rng = np.random.default_rng(2)
    x, w, u = rng.normal(size=(3, 6)).astype(np.float32)
    layer = LayerNorm()
    layer.build((None, 6))
    scattered(layer)

    def found(norm):
        point = tf.constant(x[None])
        with tf.GradientTape() as outer:
            outer.watch(point)
            with tf.GradientTape() as inner:
                inner.watch(point)
                height = tf.reduce_sum(w * norm(point))
            slope = inner.gradient(height, point)
            along = tf.reduce_sum(u * slope)
        return slope[0].numpy(), outer.gradient(along, point)[0].numpy()

    expected = norm_derivatives(x, w * np.asarray(layer.gamma), u)
    for ours, exact in zip(found(layer), expected, strict=True):
        np.testing.assert_allclose(ours, exact, rtol=1e-4, atol=1e-5)


def test_the_order_of_the_vectors_does_not_matter():
    layer = scattered(pooling())
    np.testing.assert_allclose(layer(VECTORS[:, ::-1]), layer(VECTORS), atol=1e-5)


def test_queries_keys_and_values_start_differently_and_from_the_seed():
    one, again, other = (pooling(1, seed=seed) for seed in (0, 0, 1))
    query, key, value = (
        np.asarray(getattr(one.blocks[0].attention, f"{name}_dense").kernel) for name in ("query", "key", "value")
    )
    assert (query != key).any() and (query != value).any() and (key != value).any()
    for ours, theirs in zip(one.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert (np.asarray(other.blocks[0].attention.query_dense.kernel) != query).any()


def test_attention_starts_with_the_spread_of_the_reference_code():
    """√(2 / (D + d)) for queries, √(2 / (D + heads · d)) for the output: 4,096 draws are within 5 %."""
    attention = pooling(1, 4, width=64, head_width=16).blocks[0].attention
    assert np.std(attention.query_dense.kernel) == pytest.approx(math.sqrt(2 / 80), rel=0.05)
    assert np.std(attention.output_dense.kernel) == pytest.approx(math.sqrt(2 / 128), rel=0.05)


# Dropout --------------------------------------------------------------------------------------------------------------


def test_dropout_follows_from_its_seed_and_without_one_nothing_is_dropped():
    layer, none = scattered(pooling(dropout=0.5)), scattered(pooling())
    seed, other = seed_for(0, 1, "pose"), seed_for(0, 2, "pose")
    np.testing.assert_array_equal(layer(VECTORS), none(VECTORS))
    one, again = layer(VECTORS, dropout_seed=seed), layer(VECTORS, dropout_seed=seed)
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - layer(VECTORS, dropout_seed=other)).max() > 1e-3
    np.testing.assert_array_equal(none(VECTORS, dropout_seed=seed), none(VECTORS))


def test_what_is_kept_is_enlarged_by_what_is_dropped():
    layer = TransformerLayer(num_heads=1, head_width=2, hidden_width=4, dropout=0.25, seed=0)
    dropped = layer._dropped(tf.ones((100, 10, 10)), seed_for(0, 0, "pose"), 1).numpy()
    assert set(np.unique(dropped).round(5)) == {0.0, np.float32(4 / 3).round(5)}
    assert np.mean(dropped == 0) == pytest.approx(0.25, abs=0.02)


# Places ---------------------------------------------------------------------------------------------------------------


def test_a_place_is_its_row_and_its_column():
    places = PatchPositions(grid=3, width=2)
    places.build()
    places.rows.assign([[0, 1], [10, 11], [20, 21]])
    places.columns.assign([[0, 100], [0, 200], [0, 300]])
    expected = [[[0, 101], [0, 201]], [[10, 111], [20, 321]]]
    np.testing.assert_array_equal(places(tf.constant([[0, 1], [3, 8]])), expected)


@pytest.mark.parametrize(("zero_columns", "rows", "columns"), [(True, 1.0, 0.0), (False, 0.5, 0.5)])
def test_places_start_with_variance_one_either_way(zero_columns, rows, columns):
    places = PatchPositions(grid=4, width=2000, zero_columns=zero_columns)
    places.build()
    assert np.var(places.rows) == pytest.approx(rows, rel=0.1)
    assert np.var(places.columns) == pytest.approx(columns, rel=0.1)


def test_layers_are_made_again_from_their_configs():
    seen = keras.Input((5, 6))
    numbers = keras.Input((5,), dtype="int32")
    layer = AttentionPooling(num_layers=1, num_heads=2, dropout=0.1, seed=3)
    model = keras.Model([seen, numbers], layer(seen + PatchPositions(grid=3, width=6)(numbers)))
    again = keras.Model.from_config(model.get_config())
    for ours, theirs in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
