"""A Functional model as a list of layers."""

from __future__ import annotations

import keras
import numpy as np

from advss_tf.encoders import build_encoder
from advss_tf.encoders.graph import evaluator, graph_of, in_mode, nodes_of, run

IMAGES = np.random.default_rng(0).random((2, 8, 8, 3), dtype=np.float32)


def test_running_the_nodes_is_calling_the_model():
    encoder = build_encoder("resnet20", (8, 8, 3), width=2)
    steps = [(node, in_mode(node.operation, training=False)) for node in nodes_of(encoder)]
    np.testing.assert_array_equal(run(encoder, steps, IMAGES), encoder(IMAGES))


def test_an_operation_can_be_replaced():
    source = keras.Input((8, 8, 3))
    model = keras.Model(source, keras.layers.ReLU()(keras.layers.Rescaling(2.0)(source)))
    steps = [
        (node, (lambda x: -x) if "rescaling" in node.operation.name else node.operation) for node in nodes_of(model)
    ]
    np.testing.assert_array_equal(run(model, steps, IMAGES), np.zeros_like(IMAGES))


def test_an_evaluator_makes_its_steps_once_and_calls_what_has_no_graph():
    asked = []

    def steps_of(graph):
        asked.append(graph)
        return [(node, lambda x: x + 1.0) for node in nodes_of(graph)]

    source = keras.Input((8, 8, 3))
    evaluate = evaluator(keras.Model(source, keras.layers.ReLU()(source)), steps_of, training=False)
    np.testing.assert_array_equal([evaluate(IMAGES), evaluate(IMAGES)], [IMAGES + 1.0] * 2)
    assert len(asked) == 1
    np.testing.assert_array_equal(evaluator(lambda x, training: x * training, steps_of, training=True)(IMAGES), IMAGES)


def test_only_what_is_nothing_but_its_layers_has_a_graph():
    class Twice(keras.Model):
        def call(self, images):
            return 2.0 * images

    class OwnCall(keras.Model):
        def call(self, inputs, training=None, mask=None):
            return 2.0 * super().call(inputs)

    source = keras.Input((4,))
    other = keras.Input((4,))
    assert graph_of(keras.Model(source, keras.layers.Dense(2)(source))) is not None
    assert graph_of(keras.Sequential([source, keras.layers.Dense(2)])) is not None
    assert graph_of(keras.Sequential([keras.layers.Dense(2)])) is None
    assert graph_of(OwnCall(source, keras.layers.Dense(2)(source))) is None
    assert graph_of(keras.Model([source, other], source + other)) is None
    assert graph_of(Twice()) is None and graph_of("no model") is None


def test_the_mode_reaches_what_has_one():
    dropout = in_mode(keras.layers.Dropout(0.5, seed=0), training=False)
    np.testing.assert_array_equal(dropout(IMAGES, training=True), IMAGES)
    assert in_mode(len, training=True) is len
