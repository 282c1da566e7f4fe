"""Functions that are traced once: by one evaluation, or by several of the same model.

Synopsis:

    predict = traced(lambda images: model(images))             # a graph, made at the first call

    traces = Traces()
    for epoch in range(1, 4):
        train_one_epoch(model)
        evaluate(model, held_out, traces=traces)               # compiles its attacks in the first round alone
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import tensorflow as tf


def traced(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as a graph for each signature it is called with: tensors of the same shapes and dtypes.

    As `tf.function`, which however counts tracings by the lines of code that are traced, and warns where a program has
    made many functions of the same lines, as several evaluations do.
    """
    compiled = tf.function(function)
    graphs: dict[Any, Callable[..., Any]] = {}

    def run(*args: Any, **kwargs: Any) -> Any:
        # A graph does not notice by itself that it was made for another shape.
        signature = (*map(_type_of, args), *((name, _type_of(value)) for name, value in sorted(kwargs.items())))
        if signature not in graphs:
            graphs[signature] = compiled.get_concrete_function(*args, **kwargs)
        return graphs[signature](*args, **kwargs)

    return run


def _type_of(value: tf.Tensor) -> tuple[Any, ...]:
    return tuple(value.shape), value.dtype


class Traces:
    """What evaluations of one model have compiled, kept for the next; what is about anything else is forgotten.

    The graphs read the model's variables when they run, so the model may be trained in between.
    """

    def __init__(self) -> None:
        self._subject: tuple[Any, ...] = ()
        self._found: dict[Any, Any] = {}

    def about(self, *subject: Any) -> Self:
        """Makes these objects the subject; what was kept about others is dropped."""
        same = len(subject) == len(self._subject) and all(
            one is other or (not callable(one) and one == other)
            for one, other in zip(subject, self._subject, strict=True)
        )
        if not same:
            self._subject, self._found = subject, {}
        return self

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """What `make` made when this key was first asked for."""
        if key not in self._found:
            self._found[key] = make()
        return self._found[key]
