"""One door to the encoder, which an attack's passes go through faster.

Synopsis:

    with hoisting(encoder):                                  # outside the attack's loop: weight arithmetic, once
        encode(encoder, images, training=False)              # inside the loop: convolutions with ready kernels

In inference mode an encoder is a fixed function of the images while the attack runs: batch norm is folded into the
convolutions and kernels are cast once a step instead of once a pass (see `encoders.inference`).
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import keras
import tensorflow as tf

from advss_tf.encoders import current_branch, fused, hoisted


class _Hoisted(NamedTuple):
    encoder: keras.Model
    branch: str | None
    function: Callable[[tf.Tensor], tf.Tensor]


# A context variable, not an attribute: replicas are traced in threads of their own, each with tensors of its own.
_HOISTED: contextvars.ContextVar[tuple[_Hoisted, ...]] = contextvars.ContextVar("advss_tf_hoisted", default=())


@contextmanager
def hoisting(encoder: keras.Model | None) -> Iterator[None]:
    """Inside the `with`, inference-mode calls of `encode` on this encoder and branch use weights prepared here.

    One inside another adds its encoder, as the members of an ensemble do; None takes all of them away.
    """
    inner = () if encoder is None else (_Hoisted(encoder, current_branch(), hoisted(encoder)), *_HOISTED.get())
    token = _HOISTED.set(inner)
    try:
        yield
    finally:
        _HOISTED.reset(token)


def encode(encoder: keras.Model, images: tf.Tensor, *, training: bool) -> tf.Tensor:
    """The features of `images` by `encoder`: `(batch, features)`."""
    if training:
        return fused(encoder)(images)
    wanted = (encoder, current_branch())
    found = [prepared.function for prepared in _HOISTED.get() if (prepared.encoder, prepared.branch) == wanted]
    return found[0](images) if found else encoder(images, training=False)
