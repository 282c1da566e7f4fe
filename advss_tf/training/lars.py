"""LARS: a step that is as long, for every layer, as the layer's weights allow; for large batches.

Synopsis:

    optimizer = LARS(cosine(5.0, num_steps=1000, warmup_steps=100), weight_decay=1e-6)

Reference: You, Gitman and Ginsburg, "Large Batch Training of Convolutional Networks", 2017 (arXiv 1708.03888), equation
6 and algorithm 1, with the constants of SimCLR (Chen et al. 2020, arXiv 2002.05709).
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from advss_tf.errors import InvalidInput, one_of
from advss_tf.training.optimizers import SGD


@keras.saving.register_keras_serializable(package="advss_tf")
class LARS(SGD):
    """SGD with momentum whose rate is, layer by layer, in proportion to the layer's weights over its gradient.

    For a weight `w` with gradient `g` and decay `b`, learning rate `lr` and momentum `m`:

        ratio = trust_coefficient · |w| / (|g| + b · |w|),  or 1 where |w| or |g| is 0
        v = m · v + lr · ratio · (g + b · w)
        w = w - v

    The learning rate is inside the momentum, as in the paper. A layer that starts at zero takes its first step at the
    full learning rate. SimCLR's code divides by `|g + b · w|`, which is the same up to `b`.

    Args:
        learning_rate: Number or schedule; it multiplies ratios near `trust_coefficient`, so it is large: 0.3 for each
            256 images of a batch in SimCLR, 5 for batches of 512 in ACL (Jiang et al. 2020).
        momentum: Momentum, in [0, 1].
        trust_coefficient: How large a part of its own length a layer moves, at a learning rate of 1; > 0.
        adapt: `"kernels"` gives biases and normalisation weights the plain step of SGD, as SimCLR does (but not the
            biases of Keras' attention, which have two axes); `"all"` gives every variable a ratio of its own, as the
            code of ACL and DynACL does.
        **kwargs: As for `SGD`: `nesterov`, `weight_decay`, `decay`, `clip_norm`, `use_ema` and so on. ACL and DynACL
            decay everything: `decay="all"`.

    Raises:
        InvalidInput: if `trust_coefficient` is not a positive number, or `adapt` is not known.
    """

    def __init__(
        self,
        learning_rate: Any = 1.0,
        *,
        momentum: float = 0.9,
        trust_coefficient: float = 0.001,
        adapt: str = "kernels",
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, momentum=momentum, **kwargs)
        self.trust_coefficient = trust_coefficient
        self.adapt = one_of("adapt", adapt, ("kernels", "all"))
        if not (np.isfinite(trust_coefficient) and trust_coefficient > 0):
            raise InvalidInput(
                "`trust_coefficient` is out of range.", expected="a number > 0", received=f"{trust_coefficient=}"
            )

    def update_step(self, gradient: tf.Tensor, variable: Any, learning_rate: Any) -> None:
        if self.adapt == "all" or len(variable.shape) > 1:
            learning_rate = tf.cast(learning_rate, tf.float32) * self._trust_ratio(gradient, variable)
        super().update_step(gradient, variable, learning_rate)

    def _trust_ratio(self, gradient: tf.Tensor, variable: Any) -> tf.Tensor:
        decay = self.weight_decay if self.weight_decay and self._use_weight_decay(variable) else 0.0
        of_weight, of_gradient = (tf.norm(tf.cast(part, tf.float32)) for part in (variable, gradient))
        ratio = self.trust_coefficient * of_weight / (of_gradient + decay * of_weight)
        return tf.where((of_weight > 0) & (of_gradient > 0), ratio, 1.0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "trust_coefficient": self.trust_coefficient, "adapt": self.adapt}
