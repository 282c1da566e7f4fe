"""Wide residual networks: pre-activated basic blocks, few layers with many channels.

Synopsis:

    encoder = wide_resnet((32, 32, 3), depth=28, width=10)     # WRN-28-10: (B, 32, 32, 3) -> (B, 640)

Zagoruyko and Komodakis, "Wide Residual Networks", BMVC 2016, arXiv 1605.07146.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from advss_tf.encoders.blocks import Blocks, positive
from advss_tf.errors import InvalidInput


def wide_resnet(
    input_shape: Sequence[int],
    *,
    depth: int = 28,
    width: int = 10,
    branches: Sequence[str] = (),
    synchronized: bool = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    seed: int = 0,
    name: str = "wide_resnet",
) -> keras.Model:
    """WRN-`depth`-`width`: three stages of (depth - 4) / 6 pre-activated basic blocks, and a last norm and ReLU.

    Args:
        input_shape: (height, width, channels) of the images, sides of 4 pixels or more.
        depth: Number of layers, 6n + 4: 10, 16, 22, 28, 34, ...
        width: How many times wider than 16, 32 and 64 channels the stages are.
        branches: Names of batch-norm branches; empty for plain batch norm.
        synchronized: Whether batch norm normalises by the images of all replicas; see `Blocks`.
        mean: Mean per channel; None for ImageNet's (RGB) or 0.5 (grey).
        std: Standard deviation per channel; None for ImageNet's (RGB) or 0.5 (grey).
        seed: The seed of the initial weights.
        name: The model's name.

    Returns:
        A Functional model: pixels (B, H, W, C) float32 in [0, 1] -> features (B, 64 * width) float32.

    Raises:
        InvalidInput: if an argument cannot be used.
    """
    count, width = _blocks_per_stage(depth), positive("width", width)
    blocks = Blocks(seed, tuple(branches), synchronized)
    images, x = blocks.images(input_shape, smallest=4, mean=mean, std=std)
    x = blocks.convolution(x, 16, name="stem_conv")
    for stage in (1, 2, 3):
        for number in range(1, count + 1):
            strides = 2 if stage > 1 and number == 1 else 1
            filters = 16 * width * 2 ** (stage - 1)
            x = _wide_block(blocks, x, filters, strides=strides, name=f"stage{stage}_block{number}")
    return blocks.encoder(images, blocks.norm_relu(x, name="final"), name=name)


def _blocks_per_stage(depth: int) -> int:
    if not isinstance(depth, int) or depth < 10 or (depth - 4) % 6:
        raise InvalidInput(
            "`depth` does not divide into three stages of whole blocks.",
            expected="6n + 4 with n >= 1: 10, 16, 22, 28, 34, ...",
            received=f"depth={depth!r}",
        )
    return (depth - 4) // 6


def _wide_block(blocks: Blocks, x: Any, filters: int, *, strides: int, name: str) -> Any:
    shortcut = x
    x = blocks.norm_relu(x, name=name, number=1)
    if shortcut.shape[-1] != filters or strides > 1:
        shortcut = blocks.convolution(x, filters, size=1, strides=strides, name=f"{name}_shortcut_conv")
    x = blocks.convolution(x, filters, strides=strides, name=f"{name}_conv1")
    x = blocks.convolution(blocks.norm_relu(x, name=name, number=2), filters, name=f"{name}_conv2")
    return keras.layers.Add(name=f"{name}_add")([x, shortcut])
