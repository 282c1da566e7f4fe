"""What an exported SavedModel answers to: its signatures, as TensorFlow functions.

Synopsis:

    module, signatures = encoder_module(encoder, variables)
    module, signatures = classifier_module(logits, features, variables, image_shape=(32, 32, 3), class_names=names)
    tf.saved_model.save(module, folder, signatures=signatures)

The module tracks the variables in nested dicts that spell their Keras paths and nothing else, so these paths are the
names in the SavedModel's checkpoint. The networks themselves are closed over, not tracked: they would give each
variable a second name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from advss_tf.encoders.handoff import VARIABLES

Network = Callable[[tf.Tensor], tf.Tensor]
BYTES = "image_bytes"  # TensorFlow Serving's REST door decodes base64 for inputs whose name ends with `_bytes`.


def encoder_module(features: Network, variables: Mapping[str, Any], image_shape: Sequence[Any]) -> tuple[Any, dict]:
    """The module of an encoder and its one signature, `serving_default`: `images` -> `features`.

    The loaded module itself is callable, images -> features, as is its attribute `serve`, the name that
    `keras.layers.TFSMLayer` asks for by default.

    Args:
        features: The encoder, float32 images (B, H, W, C) -> (B, F).
        variables: The TensorFlow variables by Keras path.
        image_shape: (H, W, C); None where free.
    """
    images = _images(image_shape)
    features = tf.function(features, input_signature=[images])
    named = tf.function(lambda images: {"features": features(images)}, input_signature=[images])
    return _module(features, variables), {"serving_default": named}


def classifier_module(
    logits: Network,
    features: Network | None,
    variables: Mapping[str, Any],
    *,
    image_shape: Sequence[int],
    class_names: Sequence[str],
) -> tuple[Any, dict]:
    """The module of a classifier and its signatures.

    * `serving_default`: `images` -> `probabilities` (B, K) float32, `classes` (B,) int64, `labels` (B,) string
    * `logits`: `images` -> `logits` (B, K)
    * `features`: `images` -> `features` (B, F). Only for models that have one encoder
    * `encoded`: `image_bytes` (B,) string, JPEG, PNG, BMP or the first frame of a GIF -> as `serving_default`.
      Only for models of grey (C = 1) or RGB (C = 3) images: other pictures have no such files.

    Every signature refuses pixels outside [0, 1], and NaN, with an `InvalidArgumentError` that says so.

    Args:
        logits: The classifier, float32 images (B, H, W, C) -> (B, K).
        features: Its encoder, float32 images -> (B, F); None for a model that has not one.
        variables: The TensorFlow variables by Keras path.
        image_shape: (H, W, C).
        class_names: K names.
    """
    images = _images(image_shape)
    names = list(class_names)
    # Traced once each; the signatures call the one graph instead of holding a copy of the network each.
    logits = _checked(logits, images)

    def answers(images: tf.Tensor) -> dict[str, tf.Tensor]:
        values = logits(images)
        classes = tf.argmax(values, axis=-1, output_type=tf.int64)
        return {"probabilities": tf.nn.softmax(values), "classes": classes, "labels": tf.gather(names, classes)}

    signatures = {
        "serving_default": tf.function(answers, input_signature=[images]),
        "logits": tf.function(lambda images: {"logits": logits(images)}, input_signature=[images]),
    }
    if features is not None:
        encode = _checked(features, images)
        signatures["features"] = tf.function(lambda images: {"features": encode(images)}, input_signature=[images])
    if image_shape[-1] in (1, 3):
        files = tf.TensorSpec([None], tf.string, name=BYTES)
        signatures["encoded"] = tf.function(
            lambda image_bytes: answers(decoded(image_bytes, image_shape)), input_signature=[files]
        )
    return _module(logits, variables), signatures


def checked_pixels(images: tf.Tensor) -> tf.Tensor:
    """`images`, once the graph has seen that all pixels are numbers in [0, 1]."""
    # NaN compares false with everything, so it fails here too.
    valid = tf.reduce_all((images >= 0.0) & (images <= 1.0))
    sentence = "`images` hold pixels that are invalid. Expected: finite numbers in [0, 1]. Received (minimum, maximum):"
    check = tf.debugging.Assert(valid, [sentence, tf.reduce_min(images), tf.reduce_max(images)])
    with tf.control_dependencies([] if check is None else [check]):
        return tf.identity(images)


def decoded(files: tf.Tensor, image_shape: Sequence[int]) -> tf.Tensor:
    """Picture files as images: decoded, to the model's channels, resized with antialias, in [0, 1].

    Args:
        files: (B,) string, the bytes of JPEG, PNG, BMP or GIF files.
        image_shape: (H, W, C), C = 1 or 3. Grey becomes RGB by repetition, RGB becomes grey by luminance, and an
            alpha channel is dropped.

    Returns:
        (B, H, W, C) float32 in [0, 1].
    """
    height, width, channels = image_shape

    def image(file: tf.Tensor) -> tf.Tensor:
        pixels = tf.io.decode_image(file, dtype=tf.uint8, expand_animations=False)
        pixels = tf.cast(pixels, tf.float32) / 255.0
        pixels = _to_channels(tf.ensure_shape(pixels, [None, None, None]), channels)
        return tf.clip_by_value(tf.image.resize(pixels, (height, width), antialias=True), 0.0, 1.0)

    return tf.map_fn(image, files, fn_output_signature=tf.TensorSpec((height, width, channels), tf.float32))


def _to_channels(pixels: tf.Tensor, channels: int) -> tf.Tensor:
    grey = tf.shape(pixels)[-1] < 3  # grey, or grey with alpha
    if channels == 3:
        return tf.cond(grey, lambda: tf.repeat(pixels[..., :1], 3, axis=-1), lambda: pixels[..., :3])
    return tf.cond(grey, lambda: pixels[..., :1], lambda: tf.image.rgb_to_grayscale(pixels[..., :3]))


def _images(image_shape: Sequence[Any]) -> tf.TensorSpec:
    return tf.TensorSpec([None, *image_shape], tf.float32, name="images")


def _checked(network: Network, images: tf.TensorSpec) -> Any:
    return tf.function(lambda images: network(checked_pixels(images)), input_signature=[images])


def _module(call: Any, variables: Mapping[str, Any]) -> tf.Module:
    module = tf.Module()
    tree: dict[str, Any] = {}
    for path, variable in variables.items():
        *layers, name = path.split("/")
        inner = tree
        for layer in layers:
            inner = inner.setdefault(layer, {})
        inner[name] = variable
    setattr(module, VARIABLES, tree)
    module.serve = call
    # Looked up by name when the SavedModel is loaded, which makes the loaded object callable.
    module.__call__ = call
    return module
