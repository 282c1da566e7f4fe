"""`hoisted` is the encoder in inference mode: same features, same gradients by the images."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from advss_tf.encoders import BranchedBatchNormalization, build_encoder, hoisted, norm_branch

NETWORKS = [
    ("resnet20", (8, 8, 3), {"width": 8}),
    ("resnet18", (9, 8, 1), {"width": 4}),
    ("resnet18", (64, 64, 3), {"width": 8}),
    ("resnet50v2", (8, 8, 3), {"width": 8}),
    ("wide_resnet", (8, 8, 3), {"depth": 10, "width": 1}),
]


def randomise(model: keras.Model) -> keras.Model:
    """Statistics, gammas and betas that are neither zero nor one nor alike; some gammas are negative."""
    rng = np.random.default_rng(0)
    for variable in model.variables:
        kind = variable.path.rsplit("/", 1)[-1]
        if kind == "moving_variance":
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif kind == "gamma":
            variable.assign(rng.uniform(0.5, 1.5, variable.shape) * rng.choice([-1, 1, 1, 1], variable.shape))
        elif kind in ("beta", "moving_mean", "bias"):
            variable.assign(rng.normal(0, 0.3, variable.shape))
    return model


def images_for(model: keras.Model, count: int = 3) -> tf.Tensor:
    return tf.random.stateless_uniform((count, *model.input_shape[1:]), (0, 1))


def features_and_gradient(function, images):
    with tf.GradientTape() as tape:
        tape.watch(images)
        features = function(images)
        score = tf.reduce_sum(tf.cast(features, tf.float32) * tf.random.stateless_normal(features.shape, (0, 2)))
    return np.array(tf.cast(features, tf.float32)), np.array(tape.gradient(score, images))


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def agree(model: keras.Model, *, images: tf.Tensor | None = None) -> None:
    images = images_for(model) if images is None else images
    expected = features_and_gradient(lambda images: model(images, training=False), images)
    for found, wanted in zip(features_and_gradient(hoisted(model), images), expected, strict=True):
        assert np.abs(wanted).max() > 1e-3
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize(("kind", "shape", "options"), NETWORKS)
def test_features_and_gradients_are_those_of_inference_mode(kind, shape, options):
    agree(randomise(build_encoder(kind, shape, **options)))


def test_the_branch_is_the_one_around_the_call_of_hoisted():
    encoder = randomise(build_encoder("wide_resnet", (8, 8, 3), depth=10, width=1, branches=("clean", "adversarial")))
    images = images_for(encoder)
    with norm_branch("adversarial"):
        agree(encoder)
        expected = encoder(images, training=False)
        adversarial = hoisted(encoder)
    np.testing.assert_allclose(adversarial(images), expected, rtol=1e-4, atol=1e-4)
    with norm_branch("adversarial"):
        assert relative_error(hoisted(encoder)(images), encoder(images, training=False)) < 1e-4
    clean = hoisted(encoder)
    with norm_branch("adversarial"):
        found = clean(images)
    np.testing.assert_allclose(found, encoder(images, training=False), rtol=1e-4, atol=1e-4)
    assert relative_error(found, np.array(expected)) > 0.01


@pytest.mark.parametrize(("kind", "shape", "options"), NETWORKS[:1] + NETWORKS[4:])
def test_under_mixed_precision_it_is_as_near_to_float32_as_the_encoder_itself(kind, shape, options):
    exact = randomise(build_encoder(kind, shape, **options))
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = build_encoder(kind, shape, **options)
    finally:
        keras.config.set_dtype_policy("float32")
    mixed.set_weights(exact.get_weights())
    images = images_for(exact, count=8)
    truth = features_and_gradient(lambda images: exact(images, training=False), images)
    plain = features_and_gradient(lambda images: mixed(images, training=False), images)
    found = features_and_gradient(hoisted(mixed), images)
    assert hoisted(mixed)(images).dtype == tf.float32
    for value, alternative, wanted in zip(found, plain, truth, strict=True):
        assert relative_error(value, wanted) < 2 * relative_error(alternative, wanted)


def test_it_works_before_a_loop_in_a_function_and_sees_the_weights_of_each_call():
    encoder = randomise(build_encoder("wide_resnet", (8, 8, 3), depth=10, width=1))

    @tf.function
    def climbed(images):
        features_of = hoisted(encoder)

        def body(step, images):
            with tf.GradientTape() as tape:
                tape.watch(images)
                score = tf.reduce_sum(features_of(images))
            return step + 1, images + 0.01 * tf.math.l2_normalize(tape.gradient(score, images))

        return tf.while_loop(lambda step, images: step < 2, body, (0, images))[1]

    images = images_for(encoder)
    for _ in range(2):
        expected = images
        for _ in range(2):
            with tf.GradientTape() as tape:
                tape.watch(expected)
                score = tf.reduce_sum(encoder(expected, training=False))
            expected += 0.01 * tf.math.l2_normalize(tape.gradient(score, expected))
        np.testing.assert_allclose(climbed(images) - images, expected - images, atol=1e-6)
        encoder.get_layer("stage1_block1_norm1").gamma.assign(np.full(16, 0.1))


def test_the_loop_holds_no_arithmetic_on_weights():
    encoder = build_encoder("resnet20", (8, 8, 3), width=8)

    @tf.function
    def looped(images):
        features_of = hoisted(encoder)
        body = lambda i, total: (i + 1, total + tf.reduce_sum(features_of(images)))  # noqa: E731
        return tf.while_loop(lambda i, total: i < 2, body, (0, 0.0))[1]

    graph = looped.get_concrete_function(images_for(encoder)).graph.as_graph_def()
    body = max(graph.library.function, key=lambda function: len(function.node_def))
    kinds = [node.op for node in body.node_def]
    assert kinds.count("Conv2D") == 21
    assert kinds.count("BiasAdd") == 21
    assert not {"ReadVariableOp", "Rsqrt", "Transpose", "FusedBatchNormV3"} & set(kinds)


def test_what_hoisted_returned_keeps_its_weights():
    encoder = randomise(build_encoder("wide_resnet", (4, 4, 3), depth=10, width=1))
    function, images = hoisted(encoder), images_for(encoder)
    before = np.array(function(images))
    for weight in encoder.weights:
        weight.assign(weight * 1.5)
    np.testing.assert_array_equal(function(images), before)


def convolutions(**options) -> keras.Model:
    """Two convolutions with batch norm; the options are those of the second."""
    x = images = keras.Input((8, 8, 8))
    x = layers.BatchNormalization()(layers.Conv2D(8, 3, use_bias=True)(x))
    x = layers.BatchNormalization(scale=False)(layers.Conv2D(8, **{"kernel_size": 3, "padding": "same", **options})(x))
    return randomise(keras.Model(images, layers.ReLU()(x)))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"groups": 2},
        {"dilation_rate": 2},
        {"activation": "tanh"},
        {"strides": 2},
        {"strides": (1, 2)},
        {"kernel_size": 2},
        {"kernel_size": (3, 1), "use_bias": False},
        {"kernel_size": 1, "padding": "valid"},
        {"kernel_size": 4, "padding": "valid"},
    ],
)
def test_every_kind_of_convolution_agrees(options):
    agree(convolutions(**options))


def test_a_convolution_that_others_read_is_not_folded():
    x = images = keras.Input((6, 6, 3))
    raw = layers.Conv2D(4, 3)(x)
    agree(randomise(keras.Model(images, layers.Add()([raw, layers.BatchNormalization()(raw)]))))
    model = keras.Model(images, [raw, layers.BatchNormalization()(raw)])
    randomise(model)
    for found, expected in zip(hoisted(model)(images_for(model)), model(images_for(model)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_layers_that_are_called_twice_agree():
    convolution, norm = layers.Conv2D(3, 3, padding="same"), layers.BatchNormalization()
    x = images = keras.Input((6, 6, 3))
    x = norm(convolution(x))
    x = layers.BatchNormalization()(convolution(x))
    x = norm(layers.Activation("tanh")(convolution(x)))
    agree(randomise(keras.Model(images, x)))


def test_a_norm_over_another_axis_is_not_folded_but_agrees():
    x = images = keras.Input((6, 5, 3))
    x = layers.BatchNormalization(axis=1)(layers.Conv2D(4, 3)(x))
    x = layers.BatchNormalization(axis=2)(x)
    agree(randomise(keras.Model(images, x)))


def test_channels_first_is_folded_along_its_channels():
    x = images = keras.Input((8, 6, 6))
    x = layers.Conv2D(8, 3, padding="same", data_format="channels_first")(x)
    x = layers.BatchNormalization(axis=1)(x)
    model = randomise(keras.Model(images, x))
    # TensorFlow has no such convolution on a CPU: the graph alone can be compared.
    graph = tf.function(hoisted(model)).get_concrete_function(images_for(model))
    assert graph.output_shapes == (3, 8, 6, 6)
    formats = {
        op.type: op.get_attr("data_format") for op in graph.graph.get_operations() if "data_format" in op.node_def.attr
    }
    assert formats == {"Conv2D": b"NCHW", "BiasAdd": b"NCHW"}


def test_other_layers_dropout_operators_and_nested_models_agree():
    inner = keras.Sequential([keras.Input((6, 6, 4)), layers.Conv2D(4, 3), layers.BatchNormalization()])
    x = images = keras.Input((6, 6, 3))
    y = layers.Conv2D(4, 3, padding="same")(x)
    nested = keras.Model(images, layers.BatchNormalization()(y))
    x = layers.Dropout(0.5)(nested(x)) * 2.0 + 1.0
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.BatchNormalization()(x, training=True)
    x = layers.Dense(2)(layers.Flatten()(inner(x)))
    agree(randomise(keras.Model(images, x)))


def test_a_sequential_model_agrees():
    stack = [layers.Conv2D(4, 3), BranchedBatchNormalization(("a", "b")), layers.LayerNormalization()]
    agree(randomise(keras.Sequential([keras.Input((6, 6, 3)), *stack])))


def test_a_model_with_a_call_of_its_own_is_called_as_it_is():
    class Doubled(keras.Model):
        def call(self, images, training=False):
            return super().call(images, training=training) * 2.0

    images = keras.Input((6, 6, 3))
    x = BranchedBatchNormalization(("a", "b"))(layers.Conv2D(4, 3)(images))
    model = randomise(Doubled(images, x))
    agree(model)
    with norm_branch("b"):
        function, expected = hoisted(model), model(images_for(model), training=False)
    np.testing.assert_array_equal(function(images_for(model)), expected)


def steepness(function, images):
    """The gradient of the squared length of a gradient, as a penalty on gradients needs it."""
    with tf.GradientTape() as outer:
        outer.watch(images)
        with tf.GradientTape() as inner:
            inner.watch(images)
            score = tf.reduce_sum(tf.sin(function(images)))
        length = tf.reduce_sum(inner.gradient(score, images) ** 2)
    return outer.gradient(length, images)


@pytest.mark.parametrize(("kind", "shape", "options"), [NETWORKS[0], NETWORKS[3]])
def test_second_derivatives_are_those_of_inference_mode(kind, shape, options):
    model = randomise(build_encoder(kind, shape, **options))
    images = images_for(model)
    found, expected = (np.array(steepness(f, images)) for f in (hoisted(model), lambda x: model(x, training=False)))
    assert np.abs(expected).max() > 1e-3 and relative_error(found, expected) < 1e-3


def test_second_derivatives_go_through_turned_kernels_as_well():
    """No convolution of stride 1 is left to TensorFlow's own gradient, at the first order or later."""
    x = images = keras.Input((8, 8, 8))
    for _ in range(3):
        x = layers.Conv2D(8, 3, padding="same", activation="tanh")(x)
    features_of = hoisted(keras.Model(images, x))
    graph = tf.function(lambda images: steepness(features_of, images)).get_concrete_function(tf.zeros((2, 8, 8, 8)))
    kinds = [operation.type for operation in graph.graph.get_operations()]
    assert kinds.count("Conv2D") >= 12 and "Conv2DBackpropInput" not in kinds
