"""Any Keras model as a function for a loop that calls it many times: arithmetic on weights is done once, before it.

Synopsis:

    with prepared(model) as function:          # outside the attack's loop
        outputs = function(images)             # inside: model(images, training=False), up to rounding
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras

from advss_tf.encoders import hoisted
from advss_tf.training.inference import hoisting
from advss_tf.training.robust_model import RobustModel


@contextmanager
def prepared(model: keras.Model) -> Iterator[Callable[[Any], Any]]:
    """Inside the `with`: the function `images -> model(images, training=False)`, with the weights of its beginning.

    A `RobustModel` goes through the batch-norm branch that it delivers, with its encoder hoisted. A model with a
    method `prepared`, a context manager that gives such a function, prepares itself. Of any other model what
    `hoisted` can fold is folded.
    """
    with ExitStack() as stack:
        if isinstance(model, RobustModel):
            yield _through_delivered_branch(model, stack)
        elif hasattr(model, "prepared"):
            yield stack.enter_context(model.prepared())
        else:
            yield hoisted(model)


def _through_delivered_branch(model: RobustModel, stack: ExitStack) -> Callable[[Any], Any]:
    branch = model.delivered_branch or ""
    # The branch is left again before another model is prepared, and entered at each call.
    with model.stream(branch):
        stack.enter_context(hoisting(*model.networks))

    def outputs(images: Any) -> Any:
        with model.stream(branch):
            return model(images, training=False)

    return outputs
