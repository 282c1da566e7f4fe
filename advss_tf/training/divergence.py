"""A training that has diverged stops: it can only burn time, and overwrite what it was before.

Synopsis:

    model.fit(..., callbacks=[Finite(), Best(...), checkpoint])      # refuses at the end of the epoch, before any saves
    refuse_divergence(model, logs, where="step 12")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from advss_tf.errors import InvalidInput


class Finite(keras.callbacks.Callback):
    """Ends the training with a refusal after an epoch that has diverged; it stands before whatever saves or measures.

    Raises:
        InvalidInput: at the end of such an epoch, see `refuse_divergence`.
    """

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        refuse_divergence(self.model, logs or {}, where=f"the end of epoch {epoch + 1}")


def refuse_divergence(model: keras.Model, logs: Mapping[str, Any], *, where: str) -> None:
    """Refuses a model whose loss, or one of whose weights and running statistics, is not finite.

    With loss scaling (`mixed_float16`) the loss of a single step may overflow while the weights stay as they were; it
    has diverged where the scale has been halved to below 1, so that no step has been taken for long.

    Args:
        model: The model, with its optimizer.
        logs: The epoch's means so far; of interest is `loss`.
        where: The moment, such as `"the end of epoch 3"`.

    Raises:
        InvalidInput: if it has diverged.
    """
    loss = float(logs.get("loss", 0.0))
    bad = _not_finite(model.weights)
    if not bad and (np.isfinite(loss) or _skips(model.optimizer)):
        return
    weights = f", {len(bad)} weights that are not finite, such as {bad[0]}" if bad else ""
    raise InvalidInput(
        f"The training has diverged: at {where} it has no finite loss or weights any more. What was saved before is "
        "kept, and nothing since.",
        expected="numbers; the same again would come to the same, so try, in another folder, a lower learning rate, a "
        "longer warm-up, `clip_norm`, or `precision: float32`",
        received=f"loss={loss:g}{weights}",
    )


def _not_finite(variables: Sequence[Any]) -> list[str]:
    """The paths of those that hold a number that is not finite; the device is asked once, for all of them."""
    floats = [variable for variable in variables if keras.backend.is_float_dtype(variable.dtype)]
    if not floats:
        return []
    finite = tf.stack([tf.reduce_all(tf.math.is_finite(variable.value)) for variable in floats]).numpy()
    return [variable.path for variable, whole in zip(floats, finite, strict=True) if not whole]


def _skips(optimizer: Any) -> bool:
    """Whether the optimizer leaves out single steps that overflow, and still takes others."""
    scale = getattr(optimizer, "dynamic_scale", None)
    return scale is not None and float(scale.numpy()) >= 1
