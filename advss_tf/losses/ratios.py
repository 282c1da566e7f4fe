"""The difference of logits ratio: a margin that no shift and no scale of the logits can change.

Synopsis:

    difference_of_logits_ratio(logits, labels)                        # (batch,), > 0 where the prediction is wrong
    targeted_difference_of_logits_ratio(logits, labels, targets)      # (batch,), > 0 where the target beats the label

Both are climbed by an attack. A network that multiplies its logits by a large number drives the gradient of the
cross-entropy to zero, and its robustness is overrated; the ratio does not see the factor.

Reference: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
attacks", 2020 (arXiv 2003.01690): the DLR loss, equation 6, and its targeted form, equation 7.
"""

from __future__ import annotations

import tensorflow as tf

from advss_tf.errors import InvalidInput
from advss_tf.losses.classification import margin

# What the authors' code adds to the denominator: equal logits give a finite number.
_TINY = 1e-12


def difference_of_logits_ratio(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """`-(z_y - max_{i != y} z_i) / (z_1st - z_3rd)`, where `z_1st >= z_2nd >= …` are the sorted logits.

    Equation 6 of Croce and Hein 2020.

    Args:
        logits: `(batch, classes)`, at least three classes.
        labels: `(batch,)` integers in [0, classes).

    Returns:
        `(batch,)` float32; positive where the prediction is wrong, in [-1, 0] where it is right.

    Raises:
        InvalidInput: if there are fewer than three classes; climb `margin` where there are two.
    """
    _at_least(3, logits, "difference_of_logits_ratio", instead="`margin` as the loss")
    logits = tf.cast(logits, tf.float32)
    highest = tf.math.top_k(logits, 3).values
    return margin(logits, labels) / (highest[:, 0] - highest[:, 2] + _TINY)


def targeted_difference_of_logits_ratio(logits: tf.Tensor, labels: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """`-(z_y - z_t) / (z_1st - (z_3rd + z_4th) / 2)`, with the sorted logits in the denominator.

    Equation 7 of Croce and Hein 2020.

    Args:
        logits: `(batch, classes)`, at least four classes.
        labels: `(batch,)` integers in [0, classes).
        targets: `(batch,)` integers in [0, classes), the class that the attack is after.

    Returns:
        `(batch,)` float32; positive where the target's logit is above the label's.

    Raises:
        InvalidInput: if there are fewer than four classes.
    """
    instead = "`difference_of_logits_ratio` for three classes, `margin` as the loss for two"
    _at_least(4, logits, "targeted_difference_of_logits_ratio", instead=instead)
    logits = tf.cast(logits, tf.float32)
    highest = tf.math.top_k(logits, 4).values
    of_label, of_target = (tf.gather(logits, classes, axis=1, batch_dims=1) for classes in (labels, targets))
    return (of_target - of_label) / (highest[:, 0] - (highest[:, 2] + highest[:, 3]) / 2 + _TINY)


def _at_least(number: int, logits: tf.Tensor, name: str, *, instead: str) -> None:
    classes = tf.TensorShape(getattr(logits, "shape", tf.convert_to_tensor(logits).shape))[-1]
    if classes is not None and classes < number:
        raise InvalidInput(
            f"`{name}` is not defined for so few classes.",
            expected=f"logits (batch, classes) of at least {number} classes; or {instead}",
            received=f"classes={classes}",
        )
