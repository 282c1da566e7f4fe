"""Gradient ascent over the parameters of a distortion, in one `tf.while_loop`.

Synopsis:

    attack = ElasticAttack(2.0)
    attacked = attack(climb, {"images": images}, seed)["images"]
    found = attack.run(climb, {"images": images}, seed, epsilon=0.5)
    attack.threat.excess(found.parameters["images"], 0.5)         # (batch,): 0 inside the ball

A distortion draws the parameters it starts with, renders an image from them, and says which parameters are allowed. The
loop is the same for all: render, climb, take the gradient by the parameters, step, project. The ball is one of
parameters, so the attacked image may be far from the original in every pixel norm.

Reference: Kang et al., "Testing Robustness Against Unforeseen Adversaries", 2019 (arXiv 1908.08016). Parameters and the
order of operations are those of the published code (`ddkang/advex-uar`); what differs is said in each class.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, TypeAlias

import keras
import tensorflow as tf

from advss_tf.attacks.arguments import number, whole
from advss_tf.attacks.attack import Attack
from advss_tf.attacks.batches import shape_of, slopes
from advss_tf.errors import InvalidInput
from advss_tf.randomness import fold

Tensors: TypeAlias = dict[str, tf.Tensor]
Fixed: TypeAlias = tuple[tf.Tensor, ...]
Climb: TypeAlias = Callable[[Tensors], tf.Tensor]

PUBLISHED_STEPS = 200
# The step of the distortions whose parameters do not grow with epsilon, in the published runs of 200 steps.
PUBLISHED_STEP_SIZE = 0.002236


class Distorted(NamedTuple):
    """What an attack found.

    Attributes:
        inputs: The attacked images by name, same shapes as the inputs, float32 in [0, 1].
        parameters: The parameters of their distortions by name, `(batch, ...)`, inside the attack's ball.
    """

    inputs: Tensors
    parameters: Tensors


class Ball(ABC):
    """All parameters that a distortion of one size may have.

    Args:
        norm: The distortion's name, such as `"elastic"`.
        epsilon: The size in the distortion's own unit.

    Raises:
        InvalidInput: if `epsilon` is not a finite number >= 0.
    """

    def __init__(self, norm: str, epsilon: float) -> None:
        self.norm = norm
        self.epsilon = number("epsilon", epsilon)

    @abstractmethod
    def project(self, parameters: tf.Tensor, epsilon: Any) -> tf.Tensor:
        """The parameters `(batch, ...)`, brought back into the ball of size `epsilon`, a scalar or `(batch,)`."""

    def excess(self, parameters: tf.Tensor, epsilon: Any) -> tf.Tensor:
        """How far the projection moves an image's parameters, the largest over them: `(batch,)`, 0 inside the ball."""
        moved = tf.abs(parameters - self.project(parameters, epsilon))
        return tf.reduce_max(tf.reshape(moved, (tf.shape(moved)[0], -1)), axis=1)

    def __repr__(self) -> str:
        return f"{self.norm}(epsilon={self.epsilon:.6g})"


class Box(Ball):
    """Every parameter lies in [low, high], whatever epsilon is: there it is the strength of the rendering."""

    def __init__(self, norm: str, epsilon: float, *, low: float, high: float) -> None:
        super().__init__(norm, epsilon)
        self.low, self.high = low, high

    def project(self, parameters: tf.Tensor, epsilon: Any) -> tf.Tensor:
        del epsilon
        return tf.clip_by_value(parameters, self.low, self.high)


class UnforeseenAttack(Attack, ABC):
    """The loop that the distortions share; they fill in `draw` and `render`.

    Args:
        threat: The ball of parameters.
        num_steps: Number of steps; each costs one forward pass and one gradient.
        step_size: Length of a step in the unit of the parameters. Defaults to the published one.

    Call arguments:
        climb: `climb(inputs) -> (batch,)`.
        inputs: `{name: images}`, each `(batch, height, width, channels)` in [0, 1] with sides >= 8 and 1 or 3
            channels. Height, width and channels must be known when a graph is traced, the batch need not be.
        seed: int32, `(2,)`, or `(batch, 2)` for one seed an image: then no image depends on those beside it.
        epsilon: Optional number, scalar tensor or one number per example `(batch,)`, instead of `threat.epsilon`.

    Raises:
        InvalidInput: if a setting is out of its range, or the inputs are not images.
    """

    scales_with_epsilon: ClassVar[bool]
    threat: Any  # a `Ball` of parameters, where other attacks have a `Threat` of pixels

    def __init__(self, threat: Ball, *, num_steps: int = PUBLISHED_STEPS, step_size: float | None = None) -> None:
        super().__init__(threat)
        self.num_steps = whole("num_steps", num_steps)
        self.step_size = None if step_size is None else number("step_size", step_size)

    @property
    def epsilon(self) -> float:
        """The size, in the distortion's own unit."""
        return self.threat.epsilon

    def passes(self) -> tuple[int, int]:
        """A forward pass and a gradient for each step."""
        return self.num_steps, self.num_steps

    @abstractmethod
    def draw(self, seed: tf.Tensor, images: tf.Tensor, epsilon: tf.Tensor) -> tuple[tf.Tensor, Fixed]:
        """Where the ascent begins.

        Args:
            seed: `(2,)` or `(batch, 2)`.
            images: `(batch, height, width, channels)`.
            epsilon: `(batch,)`.

        Returns:
            The parameters `(batch, ...)`, and whatever is drawn once and does not move.
        """

    @abstractmethod
    def render(self, images: tf.Tensor, parameters: tf.Tensor, fixed: Fixed, epsilon: tf.Tensor) -> tf.Tensor:
        """The distorted images, differentiable by the parameters; same shape as `images`, in [0, 1]."""

    def move(
        self, parameters: tf.Tensor, gradient: tf.Tensor, fixed: Fixed, epsilon: tf.Tensor, step: tf.Tensor
    ) -> tf.Tensor:
        """The parameters after step number `step`, counted from 0: a step along the gradient's signs, projected."""
        del fixed, step
        moved = parameters + across(self.step_length(epsilon), parameters) * tf.sign(gradient)
        return self.threat.project(moved, epsilon)

    def step_length(self, epsilon: tf.Tensor) -> tf.Tensor:
        """The length of a step, `(batch,)`.

        The published default is `epsilon / sqrt(num_steps)` where the ball grows with epsilon, and 0.002236 at 200
        steps where it does not; there the same root gives the length for another number of steps.
        """
        if self.step_size is not None:
            return tf.fill(tf.shape(epsilon), self.step_size)
        if self.scales_with_epsilon:
            return epsilon / math.sqrt(self.num_steps)
        return tf.fill(tf.shape(epsilon), PUBLISHED_STEP_SIZE * math.sqrt(PUBLISHED_STEPS / self.num_steps))

    def run(self, climb: Climb, inputs: Tensors, seed: tf.Tensor, *, epsilon: Any = None) -> Distorted:
        """The same as a call, together with the parameters of what was found."""
        images = {name: _checked(name, value) for name, value in sorted(inputs.items())}
        sizes = _per_example(self.threat.epsilon if epsilon is None else epsilon, next(iter(images.values())))
        with keras.StatelessScope():  # a forward pass may not move running statistics or any other variable
            return self._ascend(climb, images, seed, sizes)

    def _ascend(self, climb: Climb, images: Tensors, seed: tf.Tensor, epsilon: tf.Tensor) -> Distorted:
        drawn = {name: self.draw(fold(seed, place), images[name], epsilon) for place, name in enumerate(images)}
        fixed = {name: each[1] for name, each in drawn.items()}
        start = {name: _shaped(each[0], images[name].shape[0]) for name, each in drawn.items()}

        def rendered(parameters: Tensors) -> Tensors:
            return {name: self.render(images[name], parameters[name], fixed[name], epsilon) for name in images}

        def ascend(step: tf.Tensor, parameters: Tensors) -> tuple[tf.Tensor, Tensors]:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(parameters)
                values = tf.cast(climb(rendered(parameters)), tf.float32)
            gradients = slopes(tape, values, parameters)
            moved = {name: self.move(parameters[name], gradients[name], fixed[name], epsilon, step) for name in images}
            return step + 1, {name: tf.ensure_shape(moved[name], parameters[name].shape) for name in images}

        _, found = tf.while_loop(
            lambda step, _: step < self.num_steps, ascend, (tf.constant(0), start), parallel_iterations=1
        )
        found = {name: tf.stop_gradient(parameters) for name, parameters in found.items()}
        return Distorted({name: tf.stop_gradient(value) for name, value in rendered(found).items()}, found)


def across(values: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """One value per example `(batch,)`, or a scalar, shaped so that it multiplies `like`, `(batch, ...)`."""
    values = tf.convert_to_tensor(values, tf.float32)
    return values if values.shape.rank == 0 else tf.reshape(values, (-1, *[1] * (like.shape.rank - 1)))


def _checked(name: str, images: Any) -> tf.Tensor:
    images = tf.cast(images, tf.float32)
    shape = images.shape
    if shape.rank != 4 or None in shape[1:] or min(shape[1:3]) < 8 or shape[3] not in (1, 3):
        raise InvalidInput(
            f"{name!r} cannot be distorted.",
            expected="images (batch, height, width, channels) with known sides >= 8 and 1 or 3 channels",
            received=f"shape={tuple(shape) if shape.rank is not None else None}",
        )
    return images


def _per_example(epsilon: Any, images: tf.Tensor) -> tf.Tensor:
    epsilon = tf.cast(epsilon, tf.float32)
    return tf.broadcast_to(tf.reshape(epsilon, (-1,)), (shape_of(images)[0],))


def _shaped(parameters: tf.Tensor, batch: int | None) -> tf.Tensor:
    """The same with all that is known of its shape: the loop wants the shape that it began with."""
    return tf.ensure_shape(parameters, (batch, *parameters.shape[1:]))
