"""Encoders by the name that a recipe gives them.

Synopsis:

    encoder = build_encoder("wide_resnet", (32, 32, 3), depth=28, width=10, seed=0)

A new architecture is one file and one line of `ENCODERS`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import keras

from advss_tf.encoders.resnet import resnet18, resnet20
from advss_tf.encoders.resnet50v2 import resnet50v2
from advss_tf.encoders.wide_resnet import wide_resnet
from advss_tf.errors import one_of

ENCODERS: dict[str, Callable[..., keras.Model]] = {
    "resnet18": resnet18,
    "resnet20": resnet20,
    "resnet50v2": resnet50v2,
    "wide_resnet": wide_resnet,
}


def build_encoder(kind: str, input_shape: Sequence[int], **options: Any) -> keras.Model:
    """The encoder that `ENCODERS` holds under `kind`.

    Args:
        kind: A key of `ENCODERS`.
        input_shape: (height, width, channels) of the images.
        **options: Keyword arguments of that encoder, such as `width`, `branches` or `seed`.

    Raises:
        InvalidInput: if the kind or an option is unknown, or a value cannot be used.
    """
    build = ENCODERS[one_of("kind", kind, ENCODERS)]
    known = [name for name in inspect.signature(build).parameters if name != "input_shape"]
    for option in options:
        one_of(f"option of {kind}", option, known)
    return build(input_shape, **options)
