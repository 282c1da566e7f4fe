"""What the options of an ensemble may be, and which encoders the diversity of its gradients can be worked out of.

Synopsis:

    boundary = checked_boundary(None, "trunk", encoder)       # "stage2"
    weight = checked_weight(0.1)
    check_second_derivatives(encoder)
"""

from __future__ import annotations

from typing import Any

import keras

from advss_tf.encoders.fused import fuses
from advss_tf.encoders.graph import graph_of
from advss_tf.encoders.stages import boundary as default_boundary
from advss_tf.errors import InvalidInput
from advss_tf.training.checks import checked_encoder


def checked_boundary(boundary: str | None, shared: str, encoder: Any) -> str | None:
    """Where the tasks part; None where they share all layers.

    Raises:
        InvalidInput: if there is a boundary where nothing parts, or the encoder has none by default.
    """
    if shared == "trunk":
        return boundary or default_boundary(checked_encoder(encoder))
    if boundary is not None:
        raise InvalidInput(
            "`boundary` ends a trunk, and with shared='encoder' there is none.",
            expected="boundary=None (Selfie has a `boundary` of its own among its options), or shared='trunk'",
            received=f"boundary={boundary!r}",
        )
    return None


def checked_weight(weight: float) -> float:
    """The weight of the diversity.

    Raises:
        InvalidInput: if it is negative, infinite or no number.
    """
    if not 0 <= weight < float("inf"):
        raise InvalidInput(
            "`diversity_weight` turns the sign of a term whose sign is fixed, or is no number.",
            expected="a finite number >= 0",
            received=f"diversity_weight={weight}",
        )
    return weight


def check_second_derivatives(encoder: keras.Model) -> None:
    """Refuses an encoder whose second derivatives Keras gets wrong, which the diversity of gradients descends.

    Group norm and layer norm of Keras take the variance from `tf.nn.moments`, which holds the mean fixed: what follows
    is right in the first derivative alone. So does a batch norm in training mode, unless TensorFlow's fused operation
    takes its place, as it does with plain ones of images (see `encoders.fused`), or it is synchronized.

    Raises:
        InvalidInput: if a layer, or one of a model inside of it, is such a norm.
    """
    for layer in encoder._flatten_layers():
        centred = isinstance(layer, keras.layers.LayerNormalization) and not layer.rms_scaling
        batch = isinstance(layer, keras.layers.BatchNormalization) and layer.trainable and not layer.synchronized
        left_to_keras = batch and (graph_of(encoder) is None or not fuses(layer))
        if centred or left_to_keras or isinstance(layer, keras.layers.GroupNormalization):
            raise InvalidInput(
                "The encoder has a norm whose second derivatives Keras gets wrong, and the diversity needs them.",
                expected="an encoder with plain batch norm of images, or diversity_weight=0",
                received=f"the layer {layer.name!r}, a {type(layer).__name__}",
            )
