"""The "ResNet-50v2" of Chen et al., as in their code: pre-activated bottlenecks after a 3x3 stem.

Synopsis:

    encoder = resnet50v2((32, 32, 3))     # (B, 32, 32, 3) -> (B, 2048)
    boundary(encoder)                     # "stage3": the part that their pretraining keeps

Chen et al., "Adversarial Robustness: From Self-Supervised Pre-Training to Fine-Tuning", CVPR 2020, arXiv 2003.12862.
It differs from `keras.applications.ResNet50V2`: a 3x3 stem without maximum, no biases, the stride in the 3x3
convolution of a stage's *first* block, batch norm on the shortcut's projection, and no norm after the last stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from advss_tf.encoders.blocks import Blocks, positive

_BLOCKS_PER_STAGE = (3, 4, 6, 3)
_EXPANSION = 4


def resnet50v2(
    input_shape: Sequence[int],
    *,
    width: int = 64,
    branches: Sequence[str] = (),
    synchronized: bool = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    seed: int = 0,
    name: str = "resnet50v2",
) -> keras.Model:
    """ResNet-50v2 for small images: four stages of 3, 4, 6 and 3 pre-activated bottlenecks.

    Args:
        input_shape: (height, width, channels) of the images, sides of 8 pixels or more.
        width: Channels of the stem and of the first stage's bottleneck; 64 in the paper.
        branches: Names of batch-norm branches; empty for plain batch norm.
        synchronized: Whether batch norm normalises by the images of all replicas; see `Blocks`.
        mean: Mean per channel; None for ImageNet's (RGB, also on CIFAR, as in the paper's code) or 0.5 (grey).
        std: Standard deviation per channel; None for ImageNet's (RGB) or 0.5 (grey).
        seed: The seed of the initial weights.
        name: The model's name.

    Returns:
        A Functional model: pixels (B, H, W, C) float32 in [0, 1] -> features (B, 32 * width) float32.

    Raises:
        InvalidInput: if an argument cannot be used.
    """
    blocks, width = Blocks(seed, tuple(branches), synchronized), positive("width", width)
    images, x = blocks.images(input_shape, smallest=8, mean=mean, std=std)
    x = blocks.norm_relu(blocks.convolution(x, width, name="stem_conv"), name="stem")
    for stage, count in enumerate(_BLOCKS_PER_STAGE, start=1):
        for number in range(1, count + 1):
            strides = 2 if stage > 1 and number == 1 else 1
            filters = width * 2 ** (stage - 1)
            x = _bottleneck(blocks, x, filters, strides=strides, name=f"stage{stage}_block{number}")
    return blocks.encoder(images, x, name=name)


def _bottleneck(blocks: Blocks, x: Any, filters: int, *, strides: int, name: str) -> Any:
    shortcut, outputs = x, filters * _EXPANSION
    x = blocks.norm_relu(x, name=name, number=0)
    if shortcut.shape[-1] != outputs or strides > 1:
        # The projection reads the pre-activated map and is normalised; an identity shortcut takes the raw one.
        shortcut = blocks.convolution(x, outputs, size=1, strides=strides, name=f"{name}_shortcut_conv")
        shortcut = blocks.norm(shortcut, name=f"{name}_shortcut_norm")
    x = blocks.norm_relu(blocks.convolution(x, filters, size=1, name=f"{name}_conv1"), name=name, number=1)
    x = blocks.norm_relu(blocks.convolution(x, filters, strides=strides, name=f"{name}_conv2"), name=name, number=2)
    x = blocks.convolution(x, outputs, size=1, name=f"{name}_conv3")
    return keras.layers.Add(name=f"{name}_add")([x, shortcut])
