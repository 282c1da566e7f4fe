"""A Functional model as what it is: a list of layers to call one after the other.

Synopsis:

    graph = graph_of(encoder)                            # None if a call of the model is more than its layers
    steps = [(node, node.operation) for node in nodes_of(graph)]
    features = run(graph, steps, images)                 # what encoder(images) computes
    features = evaluator(encoder, steps_of, training=False)(images)      # with the list that steps_of(graph) gives

Whoever replaces an operation by a faster one of the same result does it in the list.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras
import tensorflow as tf

# A node of a Keras graph, and the function that is called in its place.
Step: TypeAlias = tuple[Any, Callable[..., Any]]


def graph_of(model: Any) -> keras.Model | None:
    """A Functional model of one input whose graph of layers is all that a call of `model` does; None if there is none.

    A subclass may be Functional, too, and do something else in a `call` of its own.
    """
    if isinstance(model, keras.Sequential) and type(model).call is keras.Sequential.call and model.built:
        model = keras.Model(model.inputs, model.outputs[0])
    plain = keras.src.models.functional.Functional
    runs_graph = isinstance(model, plain) and type(model).call is plain.call
    return model if runs_graph and len(model.inputs) == 1 else None


def nodes_of(graph: keras.Model) -> list[Any]:
    """The nodes of the graph in an order of evaluation, without its input."""
    by_depth = graph._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth] if not node.is_input]


def run(graph: keras.Model, steps: Sequence[Step], images: Any) -> Any:
    """The graph's output for `images`, with the function of each step in the place of its node's operation."""
    (source,) = graph.inputs
    values = {id(source): tf.cast(images, source.dtype)}
    for node, operation in steps:
        args, kwargs = node.arguments.fill_in(values)
        outputs = keras.tree.flatten(operation(*args, **kwargs))
        values.update((id(symbol), value) for symbol, value in zip(node.outputs, outputs, strict=True))
    return keras.tree.map_structure(lambda symbol: values[id(symbol)], graph.output)


def evaluator(model: Any, steps_of: Callable[[keras.Model], Sequence[Step]], *, training: bool) -> Callable[[Any], Any]:
    """The function `images -> model(images, training=training)` by the steps that `steps_of` makes of its graph, once.

    A model without a graph is called as it is.
    """
    graph = graph_of(model)
    if graph is None:
        return lambda images: model(images, training=training)
    steps = steps_of(graph)
    return lambda images: run(graph, steps, images)


def in_mode(operation: Any, *, training: bool) -> Callable[..., Any]:
    """The operation with its `training` argument set, if it has one."""
    if isinstance(operation, keras.Layer) and "training" in inspect.signature(operation.call).parameters:
        return lambda *args, **kwargs: operation(*args, **{**kwargs, "training": training})
    return operation
