"""Patches: an image cut by a grid, a drawn order of its patches, and the first stages of an encoder on each patch.

Synopsis:

    patches = cut(images, grid=4)                             # (B, 32, 32, 3) -> (B, 16, 8, 8, 3)
    order = draw_orders(seed, 128, 16, same=False)            # (128, 16), a permutation a row
    network = patch_network(encoder, boundary="stage3", grid=4)      # (B, 8, 8, 3) -> (B, 1024), the encoder's weights
"""

from __future__ import annotations

import math
from typing import Any, NoReturn

import keras
import tensorflow as tf

from advss_tf.encoders import layers_through
from advss_tf.encoders.graph import graph_of, nodes_of
from advss_tf.errors import InvalidInput
from advss_tf.randomness import batch_uniform


def cut(images: tf.Tensor, *, grid: int) -> tf.Tensor:
    """The patches of each image, row by row.

    Args:
        images: `(batch, height, width, channels)`; the grid divides both sides.
        grid: Patches along each side.

    Returns:
        `(batch, grid², height / grid, width / grid, channels)`; patch `row * grid + column` is in that row and column.
    """
    height, width, channels = (int(size) for size in images.shape[1:])
    rows, columns = height // grid, width // grid
    parts = tf.reshape(images, (-1, grid, rows, grid, columns, channels))
    return tf.reshape(tf.transpose(parts, (0, 1, 3, 2, 4, 5)), (-1, grid**2, rows, columns, channels))


def draw_orders(seed: tf.Tensor, batch: Any, num_patches: int, *, same: bool) -> tf.Tensor:
    """Random permutations of `0 … num_patches - 1`, int32 `(batch, num_patches)`.

    Args:
        seed: `(2,)`.
        batch: The number of rows of this replica.
        num_patches: The length of a permutation.
        same: One permutation for all rows of all replicas, else one a row.
    """
    if same:
        # A seed of one row draws for that row alone, so that every replica draws the same.
        row = tf.argsort(batch_uniform(tf.expand_dims(seed, 0), (1, num_patches)))
        return tf.repeat(row, batch, axis=0)
    return tf.argsort(batch_uniform(seed, (batch, num_patches)))


def patch_network(encoder: keras.Model, *, boundary: str, grid: int) -> keras.Model:
    """The encoder's layers through `boundary` as a network of patches; layers and weights are the encoder's own.

    Args:
        encoder: A Functional or Sequential model of images of one size.
        boundary: A stage or a layer of the encoder, see `encoders.layers_through`.
        grid: Patches along each side of an image.

    Returns:
        A Functional model, patches `(batch, height / grid, width / grid, channels)` -> the spatial mean of the last
        map, `(batch, width)` float32.

    Raises:
        InvalidInput: if the images have no fixed size, the grid does not divide it, the encoder has no such boundary,
            or the patches are too small for the layers.
    """
    shape, trunk = patch_shape(encoder, grid=grid), _trunk(encoder, boundary)
    _refuse_small(trunk, shape[:2], boundary=boundary)
    patches = keras.Input(shape, name="patches", dtype=trunk.inputs[0].dtype)
    try:
        network = keras.models.clone_model(trunk, input_tensors=patches, clone_function=lambda layer: layer)
    except ValueError as error:  # Keras' own, from the layer that the patch does not fit
        _refuse_patch(shape, f"layers that take such a patch; {str(error).splitlines()[0][:120]}")
    x = network.outputs[0]
    if len(x.shape) == 4:
        x = keras.layers.GlobalAveragePooling2D(name="patch_features", dtype="float32")(x)
    return keras.Model(patches, x, name="patch_network")


def patch_shape(encoder: keras.Model, *, grid: int) -> tuple[int, int, int]:
    """`(height, width, channels)` of a patch of the encoder's images.

    Raises:
        InvalidInput: if the images have no fixed size, or the grid does not divide it.
    """
    shape = getattr(encoder, "input_shape", None)
    sizes = tuple(shape[1:]) if isinstance(shape, tuple) else ()
    if len(sizes) != 3 or None in sizes:
        raise InvalidInput(
            "Patches need images of one size.",
            expected="an encoder with input (None, height, width, channels), all known",
            received=f"input shape {shape}",
        )
    height, width, channels = sizes
    if height % grid or width % grid:
        raise InvalidInput(
            "The grid does not divide the images into whole patches.",
            expected=f"a divisor of {math.gcd(height, width)}, for images of {height}x{width}",
            received=f"grid={grid}",
        )
    return height // grid, width // grid, channels


def _trunk(encoder: keras.Model, boundary: str) -> keras.Model:
    last = layers_through(encoder, boundary)[-1]
    graph = graph_of(encoder)
    # Not `last.output`, which a layer that was called twice does not have.
    found = [] if graph is None else [node for node in nodes_of(graph) if node.operation is last]
    if graph is None or not found or len(found[-1].outputs[0].shape) not in (2, 4):
        raise InvalidInput(
            "The encoder cannot be cut at this boundary.",
            expected="a stage or a layer of a Functional or Sequential model, whose output is a map or a vector",
            received=f"boundary={boundary!r}",
        )
    return keras.Model(graph.inputs[0], found[-1].outputs[0])


def _refuse_small(trunk: keras.Model, sides: tuple[int, int], *, boundary: str) -> None:
    """Refuses a patch with fewer pixels a side than the trunk makes one of: padding alone would keep its map alive."""
    images, maps = trunk.inputs[0].shape, trunk.outputs[0].shape
    if len(maps) == 4:
        smallest = [math.ceil(image / mapped) for image, mapped in zip(images[1:3], maps[1:3], strict=True)]
        if any(side < least for side, least in zip(sides, smallest, strict=True)):
            _refuse_patch(sides, f"sides of {max(smallest)} pixels or more for the boundary {boundary!r}")


def _refuse_patch(shape: tuple[int, ...], expected: str) -> NoReturn:
    raise InvalidInput(
        "The patches are too small for the patch network: take a coarser grid, larger images or an earlier boundary.",
        expected=expected,
        received=f"patches of {'x'.join(map(str, shape[:2]))} pixels",
    )
