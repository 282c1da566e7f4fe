"""Batches of images, and the numbers that stand beside them, one an image.

Synopsis:

    radius = beside(tf.constant([0.1, 0.2]))                  # (2,) to (2, 1, 1, 1): multiplies two images
    images = into_box(images + radius * noise)                # back to [0, 1]
    found = choose(higher, (points, values), found)           # image by image one of two findings
    gradients = slopes(tape, values, points)                  # finite, also of networks in half precision

Images are float32, `(batch, height, width, channels)`; an attack moves a dict of them, `{name: images}`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import tensorflow as tf

from advss_tf.errors import InvalidInput
from advss_tf.randomness import fold

Images: TypeAlias = dict[str, tf.Tensor]

_LIFT = 1024.0  # a power of two: no bit of a float32 changes when it is multiplied by it and divided again


def as_float32(inputs: Images) -> Images:
    """The same images as float32 tensors."""
    return {name: tf.cast(images, tf.float32) for name, images in inputs.items()}


def only_entry(inputs: Images, why: str) -> tuple[str, tf.Tensor]:
    """The name and the images, as float32, of a dict with one entry.

    Raises:
        InvalidInput: if there are none or several; `why` is the sentence that says why there must be one.
    """
    if len(inputs) != 1:
        raise InvalidInput(why, expected="`inputs` with exactly one entry", received=f"inputs={sorted(inputs)}")
    ((name, images),) = as_float32(inputs).items()
    return name, images


def beside(numbers: tf.Tensor) -> tf.Tensor:
    """Numbers, shaped so that they multiply a batch of images: `(batch,)` to `(batch, 1, 1, 1)`; a scalar stays."""
    return numbers if numbers.shape.rank == 0 else tf.reshape(numbers, (-1, 1, 1, 1))


def into_box(images: tf.Tensor) -> tf.Tensor:
    """The nearest images with pixels in [0, 1]."""
    return tf.clip_by_value(images, 0.0, 1.0)


def shape_of(images: tf.Tensor) -> list[Any]:
    """The shape, of which the batch is a tensor where the graph leaves it open."""
    return [tf.shape(images)[0] if images.shape[0] is None else images.shape[0], *images.shape[1:]]


def slopes(tape: tf.GradientTape, values: tf.Tensor, points: Images) -> Images:
    """The gradient of one number per example by what an attack moves; zeros where nothing leads there.

    A gradient that is not finite is 0: it must become no pixel, and a network's verdict on such an image means nothing.
    On the way back through a network in float16 numbers below 6e-8 would be lost, as the gradients of sure classifiers
    are, so what goes back is lifted. No optimizer's loss scale does that, which is of the weights' gradients alone.

    Args:
        tape: The tape that has watched `points` while `values` were computed.
        values: `(batch,)` float32.
        points: What is moved, by name.
    """
    lift = tf.fill(tf.shape(values), _LIFT)
    found = tape.gradient(values, points, lift, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return {name: tf.where(tf.math.is_finite(slope), slope / _LIFT, 0.0) for name, slope in found.items()}


def zero_each(images: Images) -> tf.Tensor:
    """A zero for each example, `(batch,)` float32."""
    return tf.zeros_like(next(iter(images.values()))[:, 0, 0, 0])


def choose(mask: tf.Tensor, one: Any, other: Any) -> Any:
    """Example by example `one` where the mask is true, else `other`.

    Args:
        mask: `(batch,)` bool.
        one: Tensors `(batch, …)`, by themselves or in tuples and dicts.
        other: The same of the same structure.
    """

    def pick(this: tf.Tensor, that: tf.Tensor) -> tf.Tensor:
        return tf.where(tf.reshape(mask, (-1, *[1] * (len(that.shape) - 1))), this, that)

    return tf.nest.map_structure(pick, one, other)


def start_each(centers: Images, seed: tf.Tensor, start: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> Images:
    """`start(center, seed)` of each entry, with a seed that its place in the order of the names decides."""
    return {name: start(center, fold(seed, number)) for number, (name, center) in enumerate(sorted(centers.items()))}
