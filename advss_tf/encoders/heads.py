"""What stands on an encoder: one linear layer, or a small network that projects features.

Synopsis:

    logits = linear_head(10, name="logits", seed=0)(features)          # (B, F) -> (B, 10) float32
    projection = projection_head(512, outputs=128, hidden=(512,))      # a model: (B, 512) -> (B, 128) float32
"""

from __future__ import annotations

from collections.abc import Sequence

import keras

from advss_tf.encoders.blocks import Blocks, positive
from advss_tf.errors import one_of
from advss_tf.randomness import derived_seed

NORMS = ("hidden", "all", "none")


def linear_head(num_outputs: int, *, name: str = "logits", seed: int = 0, use_bias: bool = True) -> keras.layers.Dense:
    """A linear layer in float32, also under mixed precision, whose start depends on `seed` and `name` alone.

    The kernel starts as Glorot's uniform, the bias as zeros.

    Args:
        num_outputs: The number of classes.
        name: The layer's name; heads with different names start differently.
        seed: The seed of the initial kernel.
        use_bias: Whether there is a bias.

    Raises:
        InvalidInput: if `num_outputs` is not a positive integer.
    """
    start = keras.initializers.GlorotUniform(seed=derived_seed(seed, f"head/{name}"))
    return keras.layers.Dense(
        positive("num_outputs", num_outputs), use_bias=use_bias, kernel_initializer=start, name=name, dtype="float32"
    )


def projection_head(
    num_features: int,
    *,
    outputs: int = 128,
    hidden: Sequence[int] = (512,),
    norms: str = "hidden",
    branches: Sequence[str] = (),
    synchronized: bool = False,
    seed: int = 0,
    name: str = "projection",
) -> keras.Model:
    """Hidden layers, each linear - batch norm - ReLU, and a last linear layer.

    The contrastive loss is computed behind it, and it is dropped afterwards (Chen et al., "A Simple Framework for
    Contrastive Learning of Visual Representations", ICML 2020, arXiv 2002.05709).

    Args:
        num_features: F, the size of the features.
        outputs: The size of the projection.
        hidden: The sizes of the hidden layers.
        norms: Which layers have a batch norm behind them: `"hidden"`, `"all"` (ACL, DynACL: the last one too, which
            then has no bias) or `"none"` (RoCL; hidden ones then have a bias).
        branches: Names of batch-norm branches; empty for plain batch norm, shared by all streams.
        synchronized: Whether batch norm normalises by the rows of all replicas.
        seed: The seed of the initial weights.
        name: The model's name, and what its layers' names begin with.

    Returns:
        A Functional model: (B, F) -> (B, outputs) float32, not normalised to unit length.

    Raises:
        InvalidInput: if a size is not a positive integer, or `norms` is not known.
    """
    one_of("norms", norms, NORMS)
    blocks = Blocks(seed, tuple(branches), synchronized)
    features = keras.Input((positive("num_features", num_features),), name="features")
    x = features
    for number, width in enumerate(hidden, start=1):
        layer = keras.layers.Dense(
            positive("hidden", width),
            use_bias=norms == "none",
            kernel_initializer=blocks.kernel(f"{name}_dense{number}"),
            name=f"{name}_dense{number}",
        )
        x = layer(x)
        x = x if norms == "none" else blocks.norm(x, name=f"{name}_norm{number}")
        x = keras.layers.ReLU(name=f"{name}_relu{number}")(x)
    last = linear_head(outputs, name=f"{name}_outputs", seed=seed, use_bias=norms != "all")
    x = last(x)
    x = blocks.norm(x, name=f"{name}_outputs_norm", dtype="float32") if norms == "all" else x
    return keras.Model(features, x, name=name)
