"""An encoder in training mode, with each batch norm as the one operation that TensorFlow has for it.

Synopsis:

    features_of = fused(encoder)
    features = features_of(images)           # what encoder(images, training=True) returns; running statistics move

Keras 3 writes batch norm with means, products and sums. TensorFlow's fused operation computes the same numbers up to
rounding in fewer passes over memory, and a graph with it is traced and optimized sooner.

Reference: Ioffe and Szegedy, "Batch Normalization", ICML 2015 (arXiv 1502.03167), algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from advss_tf.encoders.graph import Step, evaluator, graph_of, in_mode, nodes_of
from advss_tf.encoders.normalization import in_current_branch, plain_norm

# What TensorFlow's operation computes in; float64 is left to Keras.
_DTYPES = ("float32", "bfloat16", "float16")


def fused(encoder: keras.Model) -> Callable[[Any], Any]:
    """The function `images -> encoder(images, training=True)`.

    Args:
        encoder: A Functional or Sequential model with one input; any other is called as it is.

    Returns:
        A function from the model's input to its output, in the batch-norm branch that is chosen at *this* call.
    """
    return in_current_branch(evaluator(encoder, _steps, training=True))


def _steps(graph: keras.Model) -> list[Step]:
    return [(node, _fused_operation(node.operation)) for node in nodes_of(graph)]


def _fused_operation(operation: Any) -> Callable[..., Any]:
    norm = plain_norm(operation)
    if norm is not None and fuses(norm):
        return lambda x, **_: batch_norm(norm, x)
    if norm is None and graph_of(operation) is not None:
        evaluate = evaluator(operation, _steps, training=True)
        return lambda x, **_: evaluate(x)
    return in_mode(operation, training=True)


def fuses(norm: keras.layers.BatchNormalization) -> bool:
    """Whether the operation computes what this layer does in training mode: a plain one of images, channels last."""
    images = type(norm) is keras.layers.BatchNormalization and norm.input_spec.ndim == 4 and norm.axis in (-1, 3)
    plain = not (norm.synchronized or norm.renorm or norm.activity_regularizer)
    return images and plain and norm.trainable and norm.compute_dtype in _DTYPES


def batch_norm(norm: keras.layers.BatchNormalization, x: Any) -> tf.Tensor:
    """What `norm(x, training=True)` returns, and its running statistics moved.

    Args:
        norm: A trainable batch norm on the last axis of images.
        x: `(batch, height, width, channels)`.
    """
    channels = norm.moving_mean.shape
    y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=tf.cast(x, norm.compute_dtype),
        scale=norm.gamma if norm.scale else tf.ones(channels),
        offset=norm.beta if norm.center else tf.zeros(channels),
        mean=tf.zeros((0,)),
        variance=tf.zeros((0,)),
        epsilon=norm.epsilon,
        is_training=True,
    )
    # The operation returns the unbiased variance, sum / (n - 1); Keras keeps the plain one, sum / n.
    count = tf.cast(tf.size(x) // channels[0], tf.float32)
    kept, new = norm.momentum, 1.0 - norm.momentum
    norm.moving_mean.assign(norm.moving_mean * kept + mean * new)
    norm.moving_variance.assign(norm.moving_variance * kept + variance * (new * (count - 1.0) / count))
    return y
