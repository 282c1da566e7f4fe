"""One door to the encoder, which an attack's passes go through faster.

Synopsis:

    with hoisting(encoder):                                  # outside the attack's loop: weight arithmetic, once
        encode(encoder, images, training=False)              # inside the loop: convolutions with ready kernels

In inference mode an encoder is a fixed function of the images while the attack runs: batch norm is folded into the
convolutions and kernels are cast once a step instead of once a pass (see `encoders.inference`).
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

import keras
import tensorflow as tf

from advss_tf.encoders import current_branch, fused, hoisted

# The prepared functions by the `id` of the encoder and the batch-norm branch.
_Hoisted = Mapping[tuple[int, str | None], Callable[[tf.Tensor], tf.Tensor]]

# A context variable, not an attribute: replicas are traced in threads of their own, each with tensors of its own.
_HOISTED: contextvars.ContextVar[_Hoisted] = contextvars.ContextVar("advss_tf_hoisted", default=MappingProxyType({}))


@contextmanager
def hoisting(*encoders: keras.Model) -> Iterator[None]:
    """Inside the `with`, inference-mode calls of `encode` on these encoders and this branch use weights prepared here.

    Encoders that share layers are prepared one by one. One `with` inside another adds its encoders, as the members of
    an ensemble do; without any, those outside are taken away.
    """
    distinct = {id(encoder): encoder for encoder in encoders}
    prepared = {(key, current_branch()): hoisted(encoder) for key, encoder in distinct.items()}
    token = _HOISTED.set({**_HOISTED.get(), **prepared} if encoders else {})
    try:
        yield
    finally:
        _HOISTED.reset(token)


def encode(encoder: keras.Model, images: tf.Tensor, *, training: bool) -> tf.Tensor:
    """The features of `images` by `encoder`: `(batch, features)`."""
    prepared = None if training else _HOISTED.get().get((id(encoder), current_branch()))
    if prepared is not None:
        return prepared(images)
    return fused(encoder)(images) if training else encoder(images, training=False)
