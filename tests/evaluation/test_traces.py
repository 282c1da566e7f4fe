"""Graphs that are made once, and kept for as long as they are about the same."""

from __future__ import annotations

import logging

import keras
import numpy as np
import tensorflow as tf

from advss_tf.evaluation import evaluate
from advss_tf.evaluation.traces import Traces, traced

IMAGES = np.linspace(0, 1, 12 * 4 * 4, dtype=np.float32).reshape(12, 4, 4, 1)
LABELS = np.arange(12) % 3


def counting():
    """A linear model that says how often it was called from Python."""
    calls = []
    layer = keras.layers.Dense(3, kernel_initializer=keras.initializers.RandomNormal(seed=1))
    layer.build((None, 16))

    def model(images):
        calls.append(images.shape)
        return layer(tf.reshape(images, (-1, 16)))

    return model, layer, calls


def test_a_function_is_traced_once_and_reads_variables_when_it_runs():
    seen, value = [], tf.Variable(1.0)
    run = traced(lambda x: (seen.append(1), x + value)[1])
    assert run(tf.constant(1.0)) == 2.0
    value.assign(5.0)
    assert run(tf.constant(1.0)) == 6.0 and seen == [1]


def test_each_shape_has_a_graph_of_its_own():
    seen = []
    run = traced(lambda x, *, y: (seen.append(x.shape), x + y)[1])
    for shape in ((2,), (3, 3), (2,)):
        np.testing.assert_array_equal(run(tf.zeros(shape), y=tf.ones(shape)), np.ones(shape))
    assert seen == [(2,), (3, 3)]


def test_a_second_evaluation_traces_nothing_and_counts_as_a_fresh_one_would():
    model, layer, calls = counting()
    traces = Traces()
    evaluate(model, (IMAGES, LABELS), traces=traces, epsilons=0.1, num_steps=3)
    before = len(calls)
    layer.kernel.assign(-layer.kernel)
    again = evaluate(model, (IMAGES, LABELS), traces=traces, epsilons=0.1, num_steps=3)
    # What is still called from Python looks at the model's outputs, eagerly.
    assert len(calls) - before <= 2
    fresh = evaluate(model, (IMAGES, LABELS), epsilons=0.1, num_steps=3)
    assert [(row.attack, row.correct, row.forward_passes) for row in again.results] == [
        (row.attack, row.correct, row.forward_passes) for row in fresh.results
    ]


def test_what_is_about_another_model_or_other_settings_is_forgotten():
    traces, (model, _, calls), (other, _, others) = Traces(), counting(), counting()
    evaluate(model, (IMAGES, LABELS), traces=traces, epsilons=0.1, num_steps=3)
    evaluate(other, (IMAGES, LABELS), traces=traces, epsilons=0.1, num_steps=3)
    assert len(others) >= len(calls)
    before = len(others)
    evaluate(other, (IMAGES, LABELS), traces=traces, epsilons=0.1, num_steps=4)
    assert len(others) - before > 2


def test_subjects_are_told_apart_by_identity_if_they_can_be_called_and_by_value_if_not():
    traces = Traces().about(len, [1, 2])
    assert traces.once("key", lambda: "first") == "first"
    assert traces.about(len, [1, 2]).once("key", lambda: "second") == "first"
    assert traces.about(max, [1, 2]).once("key", lambda: "third") == "third"
    assert traces.about(max, [1, 3]).once("key", lambda: "fourth") == "fourth"


def test_many_evaluations_in_one_process_do_not_make_tensorflow_warn(caplog):
    model, _, _ = counting()
    with caplog.at_level(logging.WARNING, logger="tensorflow"):
        for _ in range(7):
            evaluate(model, (IMAGES, LABELS), epsilons=0.1, num_steps=2)
    assert not [line for line in caplog.messages if "retracing" in line]
