"""Threat models: what an attack may do to an image.

Synopsis:

    threat = Linf("8/255")
    start = threat.random(seed, shape, epsilon)       # uniform in the ball
    move = threat.step(gradient, step_size)           # the steepest step of that length
    inside = threat.project(perturbation, epsilon)    # the nearest point of the ball

Three small holes per norm, as the one loop of `attacks.pgd` needs them. Steps and projections are cleverhans'.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import tensorflow as tf
from cleverhans.tf2.utils import clip_eta, optimize_linear

from advss_tf.errors import InvalidInput, one_of
from advss_tf.randomness import batch_normal, batch_uniform, fold

# An image counts as standing at the bound when it uses this share of the ball: rounding must not hide it.
_AT_BOUND = 0.999


def pixels(value: float | str, *, name: str = "epsilon") -> float:
    """A number of pixels in the scale [0, 1], from a number or from a fraction such as `"8/255"`.

    Raises:
        InvalidInput: if it is not a number, not finite or negative.
    """
    try:
        number = float(Fraction(value.replace(" ", ""))) if isinstance(value, str) else float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        number = float("nan")
    if not np.isfinite(number) or number < 0:
        raise InvalidInput(
            f"`{name}` is not a number of pixels.",
            expected='a finite number >= 0 in the scale [0, 1], or a fraction such as "8/255"',
            received=f"{name}={value!r}",
        )
    return number


class Threat:
    """All images within `epsilon` of the original, and inside [0, 1].

    Args:
        epsilon: Radius of the ball in pixels of the scale [0, 1]; a number or a fraction such as `"8/255"`.

    Raises:
        InvalidInput: if `epsilon` is negative or not a number.
    """

    norm: str
    order: Any

    def __init__(self, epsilon: float | str) -> None:
        self.epsilon = pixels(epsilon)

    def random(self, seed: tf.Tensor, shape: Sequence[Any], epsilon: Any) -> tf.Tensor:
        """A perturbation drawn uniformly from the ball: shape `shape`, float32."""
        raise TypeError(f"{type(self).__name__} draws no random start.")

    def step(self, gradient: tf.Tensor, step_size: Any) -> tf.Tensor:
        """The step of length `step_size` along which a linear function with this gradient grows most."""
        return optimize_linear(gradient, step_size, self.order)

    def project(self, perturbation: tf.Tensor, epsilon: Any) -> tf.Tensor:
        """The perturbation, brought back into the ball."""
        return clip_eta(perturbation, self.order, epsilon)

    def at_bound(self, perturbation: tf.Tensor, epsilon: Any) -> tf.Tensor:
        """How much of the ball is used: `(batch,)`, 1 where the perturbation can grow no more."""
        raise TypeError(f"{type(self).__name__} has no bound.")

    def get_config(self) -> dict[str, Any]:
        return {"norm": self.norm, "epsilon": self.epsilon}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(epsilon={self.epsilon:.6g})"


class Linf(Threat):
    """Each pixel moves by at most `epsilon`."""

    norm = "linf"
    order = np.inf

    def random(self, seed: tf.Tensor, shape: Sequence[Any], epsilon: Any) -> tf.Tensor:
        return epsilon * batch_uniform(seed, shape, -1.0, 1.0)

    def at_bound(self, perturbation: tf.Tensor, epsilon: Any) -> tf.Tensor:
        """The share of pixels that moved by `epsilon`: `(batch,)`."""
        used = tf.cast(tf.abs(perturbation) >= _AT_BOUND * epsilon, tf.float32)
        return tf.reduce_mean(used, axis=list(range(1, len(perturbation.shape))))


class L2(Threat):
    """The whole image moves by at most `epsilon` in Euclidean length."""

    norm = "l2"
    order = 2

    def random(self, seed: tf.Tensor, shape: Sequence[Any], epsilon: Any) -> tf.Tensor:
        """A uniform point of the ball: a direction from the normal distribution, a radius from U^(1/d)."""
        direction = self.step(batch_normal(fold(seed, 0), shape), 1.0)
        dimensions = tf.cast(tf.reduce_prod(shape[1:]), tf.float32)
        radius = batch_uniform(fold(seed, 1), (shape[0], *[1] * (len(shape) - 1))) ** (1.0 / dimensions)
        return epsilon * radius * direction

    def step(self, gradient: tf.Tensor, step_size: Any) -> tf.Tensor:
        # cleverhans does not normalise a gradient whose norm is below 1e-6, and a step would come out too short:
        # bring the largest entry to 1 first. A gradient of exactly zero stays zero.
        axes = list(range(1, len(gradient.shape)))
        largest = tf.reduce_max(tf.abs(gradient), axis=axes, keepdims=True)
        return super().step(tf.math.divide_no_nan(gradient, largest), step_size)

    def at_bound(self, perturbation: tf.Tensor, epsilon: Any) -> tf.Tensor:
        """1 where the perturbation is `epsilon` long, else 0: `(batch,)`."""
        flat = tf.reshape(perturbation, (tf.shape(perturbation)[0], -1))
        return tf.cast(tf.norm(flat, axis=1) >= _AT_BOUND * tf.reshape(epsilon, (-1,)), tf.float32)


THREATS: dict[str, type[Threat]] = {"linf": Linf, "l2": L2}


def get_threat(norm: str, epsilon: float | str) -> Threat:
    """The threat model of a norm's name, `"linf"` or `"l2"`.

    Raises:
        InvalidInput: if the norm is not known or `epsilon` is not a number of pixels.
    """
    return THREATS[one_of("norm", norm, THREATS)](epsilon)
