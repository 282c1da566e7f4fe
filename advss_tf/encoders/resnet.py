"""ResNet-20 for small images and ResNet-18 for any: basic blocks, batch norm after the convolutions.

Synopsis:

    encoder = resnet20((32, 32, 3))       # (B, 32, 32, 3) -> (B, 64)
    encoder = resnet18((224, 224, 3))     # (B, 224, 224, 3) -> (B, 512)

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv 1512.03385.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from advss_tf.encoders.blocks import Blocks, positive, valid_shape


def resnet20(
    input_shape: Sequence[int],
    *,
    width: int = 16,
    branches: Sequence[str] = (),
    synchronized: bool = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    seed: int = 0,
    name: str = "resnet20",
) -> keras.Model:
    """The paper's CIFAR network of 20 layers: three stages of three basic blocks.

    A shortcut that changes shape is a 1x1 convolution with batch norm (the paper's option B).

    Args:
        input_shape: (height, width, channels) of the images, sides of 4 pixels or more.
        width: Channels of the first stage; the others have twice and four times as many.
        branches: Names of batch-norm branches; empty for plain batch norm.
        synchronized: Whether batch norm normalises by the images of all replicas; see `Blocks`.
        mean: Mean per channel; None for ImageNet's (RGB) or 0.5 (grey).
        std: Standard deviation per channel; None for ImageNet's (RGB) or 0.5 (grey).
        seed: The seed of the initial weights.
        name: The model's name.

    Returns:
        A Functional model: pixels (B, H, W, C) float32 in [0, 1] -> features (B, 4 * width) float32.

    Raises:
        InvalidInput: if an argument cannot be used.
    """
    blocks, width = Blocks(seed, tuple(branches), synchronized), positive("width", width)
    images, x = blocks.images(input_shape, smallest=4, mean=mean, std=std)
    x = _small_stem(blocks, x, width)
    for stage in (1, 2, 3):
        x = _stage(blocks, x, width * 2 ** (stage - 1), count=3, stage=stage)
    return blocks.encoder(images, x, name=name)


def resnet18(
    input_shape: Sequence[int],
    *,
    width: int = 64,
    branches: Sequence[str] = (),
    synchronized: bool = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    seed: int = 0,
    name: str = "resnet18",
) -> keras.Model:
    """ResNet-18: four stages of two basic blocks.

    Images with a side under 64 pixels enter by one 3x3 convolution, as in the field's CIFAR code; larger ones by
    ImageNet's 7x7 convolution with stride 2 and 3x3 maximum with stride 2.

    Args:
        input_shape: (height, width, channels) of the images, sides of 8 pixels or more.
        width: Channels of the first stage; each further stage has twice as many as the one before.
        branches: Names of batch-norm branches; empty for plain batch norm.
        synchronized: Whether batch norm normalises by the images of all replicas; see `Blocks`.
        mean: Mean per channel; None for ImageNet's (RGB) or 0.5 (grey).
        std: Standard deviation per channel; None for ImageNet's (RGB) or 0.5 (grey).
        seed: The seed of the initial weights.
        name: The model's name.

    Returns:
        A Functional model: pixels (B, H, W, C) float32 in [0, 1] -> features (B, 8 * width) float32.

    Raises:
        InvalidInput: if an argument cannot be used.
    """
    blocks, width = Blocks(seed, tuple(branches), synchronized), positive("width", width)
    stem = _small_stem if min(valid_shape(input_shape, smallest=8)[:2]) < 64 else _large_stem
    images, x = blocks.images(input_shape, smallest=8, mean=mean, std=std)
    x = stem(blocks, x, width)
    for stage in (1, 2, 3, 4):
        x = _stage(blocks, x, width * 2 ** (stage - 1), count=2, stage=stage)
    return blocks.encoder(images, x, name=name)


def _small_stem(blocks: Blocks, x: Any, width: int) -> Any:
    return blocks.norm_relu(blocks.convolution(x, width, name="stem_conv"), name="stem")


def _large_stem(blocks: Blocks, x: Any, width: int) -> Any:
    x = blocks.norm_relu(blocks.convolution(x, width, size=7, strides=2, name="stem_conv"), name="stem")
    # Zeros pad a maximum as well as minus infinity would: after a ReLU nothing is below zero.
    x = keras.layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
    return keras.layers.MaxPooling2D(3, 2, name="stem_pool")(x)


def _stage(blocks: Blocks, x: Any, filters: int, *, count: int, stage: int) -> Any:
    for number in range(1, count + 1):
        strides = 2 if stage > 1 and number == 1 else 1
        x = _basic_block(blocks, x, filters, strides=strides, name=f"stage{stage}_block{number}")
    return x


def _basic_block(blocks: Blocks, x: Any, filters: int, *, strides: int, name: str) -> Any:
    shortcut = x
    x = blocks.convolution(x, filters, strides=strides, name=f"{name}_conv1")
    x = blocks.norm_relu(x, name=name, number=1)
    x = blocks.norm(blocks.convolution(x, filters, name=f"{name}_conv2"), name=f"{name}_norm2")
    if shortcut.shape[-1] != filters or strides > 1:
        shortcut = blocks.convolution(shortcut, filters, size=1, strides=strides, name=f"{name}_shortcut_conv")
        shortcut = blocks.norm(shortcut, name=f"{name}_shortcut_norm")
    x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
    return keras.layers.ReLU(name=f"{name}_relu2")(x)
