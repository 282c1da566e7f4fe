"""Attention pooling: a set of vectors read into one by a learned token, and the places of patches as vectors.

Synopsis:

    pooled = AttentionPooling(num_layers=2, num_heads=4)(vectors)        # (B, N, D) -> (B, D)
    places = PatchPositions(grid=4, width=64)(numbers)                   # (B, M) -> (B, M, 64)

Reference: Trinh, Luong, Le, "Selfie: Self-supervised Pretraining for Image Embedding", 2019 (arXiv 1906.02940): the
Transformer as pooling, and positions as the sum of a row's and a column's vector. The layers are those of Vaswani et
al., "Attention Is All You Need", 2017 (arXiv 1706.03762), norm after the sum, with GELU, as in the code of Chen et al.,
CVPR 2020 (arXiv 2003.12862).
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from advss_tf.randomness import batch_uniform, derived_seed, fold


@keras.saving.register_keras_serializable(package="advss_tf")
class AttentionPooling(keras.layers.Layer):
    """Puts a learned token before the vectors, and returns what Transformer layers make of it.

    The layers know no order: the result does not depend on the order of the vectors.

    Args:
        num_layers: Transformer layers.
        num_heads: Attention heads of each.
        head_width: Width of a head's queries, keys and values; None for D / num_heads, at least 1.
        hidden_width: Width of the hidden layer behind the attention; None for 2 * D.
        dropout: Share of each sublayer's output that is dropped in training.
        seed: The seed of the initial weights. The token starts as zeros.
        **kwargs: `name`, `dtype` and `trainable`, as for every Keras layer.

    Call arguments:
        vectors: `(batch, count, D)`.
        dropout_seed: int32 `(2,)`, which what is dropped follows from; None drops nothing.

    Returns:
        `(batch, D)`.
    """

    def __init__(
        self,
        *,
        num_layers: int,
        num_heads: int,
        head_width: int | None = None,
        hidden_width: int | None = None,
        dropout: float = 0.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_layers, self.num_heads, self.head_width = num_layers, num_heads, head_width
        self.hidden_width, self.dropout, self.seed = hidden_width, dropout, seed

    def build(self, input_shape: Any) -> None:
        """The token `(1, 1, D)`, and the layers."""
        width = int(input_shape[-1])
        self.token = self.add_weight(shape=(1, 1, width), initializer="zeros", name="token")
        options = {
            "num_heads": self.num_heads,
            "head_width": self.head_width or max(1, width // self.num_heads),
            "hidden_width": self.hidden_width or 2 * width,
            "dropout": self.dropout,
            "dtype": self.dtype_policy,
        }
        self.blocks = [
            TransformerLayer(**options, seed=derived_seed(self.seed, f"layer{number}"), name=f"layer{number}")
            for number in range(1, self.num_layers + 1)
        ]
        for block in self.blocks:
            block.build((None, None, width))

    def call(self, vectors: tf.Tensor, dropout_seed: tf.Tensor | None = None) -> tf.Tensor:
        token = tf.cast(tf.convert_to_tensor(self.token), vectors.dtype)
        x = tf.concat([tf.repeat(token, tf.shape(vectors)[0], axis=0), vectors], axis=1)
        for number, block in enumerate(self.blocks):
            x = block(x, dropout_seed=None if dropout_seed is None else fold(dropout_seed, number))
        return x[:, 0]

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        names = ("num_layers", "num_heads", "head_width", "hidden_width", "dropout", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(package="advss_tf")
class TransformerLayer(keras.layers.Layer):
    """Self-attention and two dense layers with GELU, each added to its input and then normalised.

    Queries, keys, values and the output start as Glorot's normal by the widths of one head, as in the reference code.

    Args:
        num_heads: Attention heads.
        head_width: Width of a head.
        hidden_width: Width of the hidden dense layer.
        dropout: Share of each sublayer's output that is dropped where a seed is given.
        seed: The seed of the initial weights.
        **kwargs: `name`, `dtype` and `trainable`, as for every Keras layer.

    Call arguments:
        x: `(batch, count, D)`.
        dropout_seed: int32 `(2,)`; None drops nothing.
    """

    def __init__(
        self, *, num_heads: int, head_width: int, hidden_width: int, dropout: float, seed: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.num_heads, self.head_width, self.hidden_width = num_heads, head_width, hidden_width
        self.dropout, self.seed = dropout, seed

    def build(self, input_shape: Any) -> None:
        """The sublayers, with weights from the seed."""
        width, dtype = int(input_shape[-1]), self.dtype_policy
        self.attention = keras.layers.MultiHeadAttention(self.num_heads, self.head_width, name="attention", dtype=dtype)
        self.attention.build(input_shape, input_shape)
        self._start_attention(width)
        self.norms = [LayerNorm(name=f"norm{n}", dtype=dtype) for n in (1, 2)]
        self.hidden = self._dense(self.hidden_width, "hidden")
        self.outputs = self._dense(width, "outputs")
        for layer in (*self.norms, self.hidden):
            layer.build(input_shape)
        self.outputs.build((*input_shape[:-1], self.hidden_width))

    def call(self, x: tf.Tensor, dropout_seed: tf.Tensor | None = None) -> tf.Tensor:
        x = self.norms[0](x + self._dropped(self.attention(x, x), dropout_seed, 1))
        hidden = keras.activations.gelu(self.hidden(x), approximate=True)
        return self.norms[1](x + self._dropped(self.outputs(hidden), dropout_seed, 2))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        names = ("num_heads", "head_width", "hidden_width", "dropout", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    def _dense(self, width: int, name: str) -> keras.layers.Dense:
        start = keras.initializers.GlorotUniform(seed=derived_seed(self.seed, name))
        return keras.layers.Dense(width, kernel_initializer=start, name=name, dtype=self.dtype_policy)

    def _start_attention(self, width: int) -> None:
        # From one seeded initialiser Keras starts queries, keys and values with the same numbers.
        parts = {name: getattr(self.attention, f"{name}_dense") for name in ("query", "key", "value", "output")}
        for name, dense in parts.items():
            fans = width + self.head_width * (self.num_heads if name == "output" else 1)
            start = keras.initializers.RandomNormal(0.0, (2.0 / fans) ** 0.5, seed=derived_seed(self.seed, name))
            dense.kernel.assign(start(dense.kernel.shape, dtype=dense.kernel.dtype))

    def _dropped(self, x: tf.Tensor, seed: tf.Tensor | None, number: int) -> tf.Tensor:
        # Not Keras' Dropout: its generator holds a state, which a resumed run and an attack's loop would have to share.
        if seed is None or not self.dropout:
            return x
        size = tf.shape(x)[0] if x.shape[0] is None else x.shape[0]
        drawn = batch_uniform(fold(seed, number), (size, *map(int, x.shape[1:])))
        return tf.where(drawn >= self.dropout, x / tf.cast(1.0 - self.dropout, x.dtype), tf.zeros_like(x))


@keras.saving.register_keras_serializable(package="advss_tf")
class LayerNorm(keras.layers.Layer):
    """Layer norm with right derivatives of every order, in float32 (Ba et al. 2016, arXiv 1607.06450, equation 4).

    Keras' own takes the variance from `tf.nn.moments`, which holds the mean fixed: what follows from that is right in
    the first derivative and wrong in the second, and the diversity of an ensemble's gradients needs the second.

    Args:
        epsilon: What is added to the variance.
        **kwargs: `name`, `dtype` and `trainable`, as for every Keras layer.

    Call arguments:
        x: `(…, D)`; each vector is normalised by itself, scaled by `gamma` and moved by `beta`, `(D,)` each.
    """

    def __init__(self, *, epsilon: float = 1e-5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.epsilon = epsilon
        self.autocast = False

    def build(self, input_shape: Any) -> None:
        """The weights, in the order and by the names of Keras' layer, whose files can be read."""
        self.gamma, self.beta = (
            self.add_weight(shape=(int(input_shape[-1]),), initializer=start, name=name, autocast=False)
            for name, start in (("gamma", "ones"), ("beta", "zeros"))
        )

    def call(self, x: tf.Tensor) -> tf.Tensor:
        centred = tf.cast(x, tf.float32)
        centred -= tf.reduce_mean(centred, axis=-1, keepdims=True)
        variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
        normalised = centred * tf.math.rsqrt(variance + self.epsilon)
        gamma, beta = (tf.convert_to_tensor(weight) for weight in (self.gamma, self.beta))
        return tf.cast(normalised * gamma + beta, self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "epsilon": self.epsilon}


@keras.saving.register_keras_serializable(package="advss_tf")
class PatchPositions(keras.layers.Layer):
    """The place of a patch in a grid as the sum of a learned vector of its row and one of its column.

    Args:
        grid: Patches along each side.
        width: The size of the vectors.
        zero_columns: Whether rows start with variance 1 and columns as zeros, as in the code of Chen et al.; else both
            start with variance ½, so that a place has the same variance either way.
        seed: The seed of the initial vectors.
        **kwargs: `name`, `dtype` and `trainable`, as for every Keras layer.

    Call arguments:
        numbers: `(batch, count)` integers, `row * grid + column`.

    Returns:
        `(batch, count, width)`.
    """

    def __init__(self, *, grid: int, width: int, zero_columns: bool = False, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.grid, self.width, self.zero_columns, self.seed = grid, width, zero_columns, seed

    def build(self, input_shape: Any = None) -> None:
        """The vectors of the rows and of the columns, `(grid, width)` each."""
        deviations = {"rows": 1.0, "columns": 0.0} if self.zero_columns else {"rows": 0.5**0.5, "columns": 0.5**0.5}
        for name, deviation in deviations.items():
            start = keras.initializers.RandomNormal(0.0, deviation, seed=derived_seed(self.seed, name))
            setattr(self, name, self.add_weight(shape=(self.grid, self.width), initializer=start, name=name))

    def call(self, numbers: tf.Tensor) -> tf.Tensor:
        rows, columns = tf.convert_to_tensor(self.rows), tf.convert_to_tensor(self.columns)
        return tf.gather(tf.reshape(rows[:, None] + columns[None], (self.grid**2, self.width)), numbers)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape, self.width)

    def get_config(self) -> dict[str, Any]:
        names = ("grid", "width", "zero_columns", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
