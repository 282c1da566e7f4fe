"""The pieces that all networks here are made of: a door for images, convolutions, norms, and the last pooling.

Synopsis:

    blocks = Blocks(seed=0, branches=())
    images, x = blocks.images((32, 32, 3), smallest=8, mean=None, std=None)
    x = blocks.norm_relu(blocks.convolution(x, 16, name="stem_conv"), name="stem")
    encoder = blocks.encoder(images, x, name="tiny")

Three choices follow the PyTorch code of the published numbers: batch norm keeps 0.9 of its running averages and adds
1e-5 to the variance; kernels start normal with variance 2 / fan_out (He et al., 2015, arXiv 1502.01852); a strided
3x3 convolution pads one pixel on every side.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from advss_tf.encoders.normalization import BranchedBatchNormalization, valid_branches
from advss_tf.errors import InvalidInput
from advss_tf.randomness import derived_seed

RGB_MEAN, RGB_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
GREY_MEAN, GREY_STD = (0.5,), (0.5,)


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Makes layers that share a seed and a choice of batch norm.

    Attributes:
        seed: The seed of all initial weights. Each kernel is drawn from `seed` and its layer's name, so no layer's
            start depends on how many layers were built before it.
        branches: Names of batch-norm branches; empty for plain batch norm.
        synchronized: Whether batch norm normalises by the images of all replicas instead of its own, as Keras' argument
            of that name says. Replicas then meet in every layer, so that none may stand in a loop of the step.
    """

    seed: int = 0
    branches: tuple[str, ...] = ()
    synchronized: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "branches", valid_branches(self.branches) if self.branches else ())

    def images(
        self,
        shape: Sequence[int],
        *,
        smallest: int,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
    ) -> tuple[Any, Any]:
        """The input, (B, *shape) float32 pixels in [0, 1], and the same normalised per channel.

        Args:
            shape: (height, width, channels) of an image.
            smallest: The smallest height and width that the network can halve as often as it does.
            mean: Mean per channel; None for ImageNet's (RGB) or 0.5 (grey).
            std: Standard deviation per channel; None for ImageNet's (RGB) or 0.5 (grey).

        Raises:
            InvalidInput: if the shape or the statistics cannot be used.
        """
        sizes = valid_shape(shape, smallest=smallest)
        means, deviations = _statistics(sizes[-1], mean, std)
        images = keras.Input(sizes, name="images")
        # In float32 under mixed precision, too: bfloat16 pixels near 1 are 1/256 apart, a whole grey level.
        normalize = keras.layers.Normalization(
            mean=means, variance=np.square(deviations), name="normalization", dtype="float32"
        )
        return images, normalize(images)

    def convolution(self, x: Any, filters: int, *, size: int = 3, strides: int = 1, name: str) -> Any:
        """A convolution without bias, padded by `size // 2` on every side."""
        padding = "same"
        if strides > 1 and size == 1:
            # The pixels that a strided 1x1 convolution reads, and then one without strides: the same numbers. oneDNN's
            # kernel for the weights' gradient of the strided one writes past its buffer where it reads fewer than 16
            # channels: it crashes or returns wrong gradients (oneDNN issue 6035).
            x = keras.layers.AveragePooling2D(1, strides, name=f"{name}_subsample")(x)
            strides = 1
        elif strides > 1:
            # `same` of TensorFlow pads an even map only below and to the right when it strides, and so shifts every
            # feature half a pixel against the published networks, which pad both sides.
            x = keras.layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
            padding = "valid"
        convolution = keras.layers.Conv2D(
            filters, size, strides, padding, use_bias=False, kernel_initializer=self.kernel(name), name=name
        )
        return convolution(x)

    def kernel(self, name: str) -> keras.Initializer:
        """He's normal initial kernel by fan-out, of the layer `name`."""
        return keras.initializers.VarianceScaling(
            2.0, "fan_out", "untruncated_normal", seed=derived_seed(self.seed, f"encoder/{name}")
        )

    def norm(self, x: Any, *, name: str, dtype: str | None = None) -> Any:
        """Batch norm, branched if there are branches; in Keras' global precision unless `dtype` says otherwise."""
        options: dict[str, Any] = {"synchronized": self.synchronized, "name": name, "dtype": dtype}
        if self.branches:
            return BranchedBatchNormalization(self.branches, **options)(x)
        return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, **options)(x)

    def norm_relu(self, x: Any, *, name: str, number: int | str = "") -> Any:
        """Batch norm and ReLU, named `<name>_norm<number>` and `<name>_relu<number>`."""
        x = self.norm(x, name=f"{name}_norm{number}")
        return keras.layers.ReLU(name=f"{name}_relu{number}")(x)

    def encoder(self, images: Any, x: Any, *, name: str) -> keras.Model:
        """The model from the input to the spatial mean of `x`: (B, H, W, C) -> (B, F) float32."""
        features = keras.layers.GlobalAveragePooling2D(name="features", dtype="float32")(x)
        return keras.Model(images, features, name=name)


def valid_shape(shape: Sequence[int], *, smallest: int) -> tuple[int, int, int]:
    """`shape` as (height, width, channels), if its sides are at least `smallest`.

    Raises:
        InvalidInput: otherwise.
    """
    sizes = tuple(shape)
    if len(sizes) != 3 or not all(isinstance(size, int | np.integer) and size > 0 for size in sizes):
        raise InvalidInput(
            "`input_shape` must be the shape of one image.",
            expected="three positive integers (height, width, channels)",
            received=f"input_shape={shape!r}",
        )
    if min(sizes[:2]) < smallest:
        raise InvalidInput(
            "The images are too small for this network: its last map would be smaller than one pixel.",
            expected=f"height and width >= {smallest}",
            received=f"input_shape={sizes!r}",
        )
    height, width, channels = (int(size) for size in sizes)
    return height, width, channels


def positive(name: str, value: int) -> int:
    """`value`, if it is a positive integer.

    Raises:
        InvalidInput: otherwise.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InvalidInput(f"`{name}` is invalid.", expected="a positive integer", received=f"{name}={value!r}")
    return int(value)


def _statistics(channels: int, mean: Any, std: Any) -> tuple[np.ndarray, np.ndarray]:
    defaults = {3: (RGB_MEAN, RGB_STD), 1: (GREY_MEAN, GREY_STD)}.get(channels, (None, None))
    chosen = [default if given is None else given for given, default in zip((mean, std), defaults, strict=True)]
    if any(value is None for value in chosen):
        raise InvalidInput(
            "Images that are neither grey nor RGB have no default mean and standard deviation.",
            expected=f"`mean` and `std` with {channels} numbers each",
            received=f"mean={mean!r}, std={std!r}",
        )
    arrays = [np.asarray(value, dtype=np.float64) for value in chosen]
    if any(array.shape != (channels,) for array in arrays) or not np.all(arrays[1] > 0):
        raise InvalidInput(
            "`mean` or `std` does not fit the images.",
            expected=f"{channels} numbers each, `std` above 0",
            received=f"mean={mean!r}, std={std!r}",
        )
    return arrays[0], arrays[1]
