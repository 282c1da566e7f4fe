"""An encoder in inference mode, with all arithmetic on its weights done once: what an attack's loop calls.

Synopsis:

    features_of = hoisted(encoder)                # here every batch norm is folded
    features = features_of(images)                # inside `tf.while_loop`: only what depends on the images

In inference mode batch norm is `scale * x + offset`. Right behind a convolution both go into its kernel and a bias
(Jacob et al., CVPR 2018, arXiv 1712.05877, section 3.2). The gradient by the images needs one thing more on a CPU:
TensorFlow's own gradient of a convolution takes up to three times as long as the convolution, so stride-1
convolutions get theirs as the convolution with the turned kernel, the same sums in another order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from advss_tf.encoders.graph import Step, evaluator, graph_of, in_mode, nodes_of
from advss_tf.encoders.normalization import in_current_branch, plain_norm

# The batch norms of a model as vectors, scale and offset, by the `id` of the layer.
Folded: TypeAlias = dict[int, tuple[tf.Tensor, tf.Tensor]]

# Onto fewer channels than this a forward convolution is slower than TensorFlow's own gradient (measured on a CPU).
_FEWEST_CHANNELS_TO_TURN = 8


def hoisted(encoder: keras.Model) -> Callable[[Any], Any]:
    """The function `images -> encoder(images, training=False)`, with the weights prepared at this moment.

    Call it before a loop and what it returns inside: the loop then holds no arithmetic on weights. Later changes of
    the weights are not seen. The batch-norm branch is the one of the `norm_branch` around *this* call. Gradients by
    the images are those of the encoder, up to rounding; there are none by its weights.

    Args:
        encoder: A Functional or Sequential model with one input. Of any other model only the branch is fixed.

    Returns:
        A function from the model's input to its output.
    """
    return in_current_branch(evaluator(encoder, _steps, training=False))


def _steps(graph: keras.Model) -> list[Step]:
    """The nodes of the model's graph in the order of evaluation, each with the function that takes its place."""
    nodes = nodes_of(graph)
    followers = _sole_followers(nodes, graph.outputs)
    norms = [norm for node in nodes if (norm := plain_norm(node.operation)) is not None]
    folded = _scales_and_offsets(list({id(norm): norm for norm in norms}.values()))
    steps: dict[Any, Callable[..., Any]] = {}
    for node in nodes:
        if node in steps:
            continue
        follower = followers.get(node)
        if _is_convolution(node.operation) and follower is not None and _folds(node.operation, follower.operation):
            steps[node] = _convolution(node.operation, plain_norm(follower.operation), folded)
            # The convolution already returns what the norm would.
            steps[follower] = lambda x, **_: x
        else:
            steps[node] = _hoisted_operation(node.operation, folded)
    return [(node, steps[node]) for node in nodes]


def _sole_followers(nodes: list[Any], outputs: list[Any]) -> dict[Any, Any]:
    """For each node with one output that one other node alone reads: that other node."""
    readers = defaultdict(list)
    for node in nodes:
        for symbol in node.input_tensors:
            readers[id(symbol)].append(node)
    for symbol in outputs:
        readers[id(symbol)].append(None)
    single = {node: readers[id(node.outputs[0])] for node in nodes if len(node.outputs) == 1}
    return {node: found[0] for node, found in single.items() if len(found) == 1 and found[0] is not None}


def _hoisted_operation(operation: Any, folded: Folded) -> Callable[..., Any]:
    norm = plain_norm(operation)
    if norm is not None:
        return _affine(norm, *folded[id(norm)])
    if _is_convolution(operation):
        return _convolution(operation, None, folded)
    if graph_of(operation) is not None:
        evaluate = evaluator(operation, _steps, training=False)
        return lambda x, **_: evaluate(x)
    return in_mode(operation, training=False)


def _is_convolution(operation: Any) -> bool:
    # Exactly Conv2D: a subclass, DepthwiseConv2D among them, may do something else with its kernel.
    return type(operation) is keras.layers.Conv2D


def _folds(convolution: keras.layers.Conv2D, operation: Any) -> bool:
    norm = plain_norm(operation)
    if norm is None or convolution.activation is not keras.activations.linear:
        return False
    return norm.axis in ((-1, 3) if convolution.data_format == "channels_last" else (1, -3))


def _affine(norm: keras.layers.BatchNormalization, scale: tf.Tensor, offset: tf.Tensor) -> Callable[..., Any]:
    """The batch norm as one product and one sum, in float32 at least, as Keras computes it."""

    def apply(x: Any, **_: Any) -> Any:
        shape = [1] * len(x.shape)
        shape[norm.axis] = -1
        wide = tf.cast(x, scale.dtype) * tf.reshape(scale, shape) + tf.reshape(offset, shape)
        return tf.cast(wide, norm.compute_dtype)

    return apply


def _convolution(
    layer: keras.layers.Conv2D, norm: keras.layers.BatchNormalization | None, folded: Folded
) -> Callable[..., Any]:
    """The convolution, with the batch norm behind it (None for none) folded into its kernel and bias."""
    kernel, bias = _wide(layer.kernel), _wide(layer.bias) if layer.use_bias else None
    if norm is not None:
        scale, offset = folded[id(norm)]
        kernel, bias = kernel * scale, offset if bias is None else bias * scale + offset
    kernel = tf.cast(kernel, layer.compute_dtype)
    bias = None if bias is None else tf.cast(bias, layer.compute_dtype)
    convolve = _turning_convolution(kernel) if _turns(layer) else lambda x: layer.convolution_op(x, kernel)
    data_format = "NHWC" if layer.data_format == "channels_last" else "NCHW"

    def apply(x: Any, **_: Any) -> Any:
        y = convolve(tf.cast(x, layer.compute_dtype))
        y = y if bias is None else tf.nn.bias_add(y, bias, data_format)
        return layer.activation(y) if norm is None else tf.cast(y, norm.compute_dtype)

    return apply


def _turns(layer: keras.layers.Conv2D) -> bool:
    """Whether the gradient by the input is the same kind of convolution with the turned kernel, and is faster so."""
    symmetric = layer.padding == "same" and all(size % 2 for size in layer.kernel_size)
    plain = set(layer.strides) == set(layer.dilation_rate) == {1} and layer.groups == 1
    wide = layer.kernel.shape[2] >= _FEWEST_CHANNELS_TO_TURN
    return symmetric and plain and wide and layer.data_format == "channels_last"


def _turning_convolution(kernel: tf.Tensor) -> Callable[[Any], Any]:
    return _each_others_gradient(kernel, tf.transpose(tf.reverse(kernel, [0, 1]), [0, 1, 3, 2]))


def _each_others_gradient(kernel: tf.Tensor, turned: tf.Tensor) -> Callable[[Any], Any]:
    """The convolution with `kernel`. Its gradient is the one with `turned`, whose gradient is the first again."""

    @tf.custom_gradient
    def convolve(x: Any) -> Any:
        return tf.nn.conv2d(x, kernel, 1, "SAME"), _each_others_gradient(turned, kernel)

    return convolve


def _scales_and_offsets(norms: Sequence[keras.layers.BatchNormalization]) -> Folded:
    """For each batch norm, by its `id`: the vectors of `scale * x + offset`.

    All channels of one dtype are computed at once, as one long vector: a few operations instead of a few for each
    layer, which is what tracing, optimizing the graph and starting kernels cost.
    """
    found: Folded = {}
    for double in (False, True):
        group = [norm for norm in norms if (norm.moving_variance.dtype == "float64") == double]
        if group:
            sizes = [int(norm.moving_variance.shape[0]) for norm in group]
            vectors = (tf.split(vector, sizes) for vector in _joined_scale_and_offset(group, sizes))
            found |= {id(norm): pair for norm, pair in zip(group, zip(*vectors, strict=True), strict=True)}
    return found


def _joined_scale_and_offset(
    norms: Sequence[keras.layers.BatchNormalization], sizes: Sequence[int]
) -> tuple[tf.Tensor, tf.Tensor]:
    dtype = _wide(norms[0].moving_variance).dtype
    variance = tf.concat([_wide(norm.moving_variance) for norm in norms], 0)
    epsilon = tf.constant(np.repeat([norm.epsilon for norm in norms], sizes), dtype)
    scale = tf.math.rsqrt(variance + epsilon)
    if any(norm.scale for norm in norms):
        ones = (tf.ones([size], dtype) for size in sizes)
        scale *= tf.concat([_wide(norm.gamma) if norm.scale else one for norm, one in zip(norms, ones, strict=True)], 0)
    offset = -tf.concat([_wide(norm.moving_mean) for norm in norms], 0) * scale
    if any(norm.center for norm in norms):
        zeros = (tf.zeros([size], dtype) for size in sizes)
        offset += tf.concat([_wide(norm.beta) if norm.center else z for norm, z in zip(norms, zeros, strict=True)], 0)
    return scale, offset


def _wide(variable: Any) -> tf.Tensor:
    """The variable's value in float32, or in float64 if it has that."""
    value = tf.convert_to_tensor(variable)
    return value if value.dtype == tf.float64 else tf.cast(value, tf.float32)
