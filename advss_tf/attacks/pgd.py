"""Projected gradient ascent on any closure, in one `tf.while_loop`.

Synopsis:

    attack = ProjectedGradientDescent(Linf("8/255"), num_steps=10)
    attacked = attack(climb, {"images": images}, seed)["images"]

`climb` takes a dict of images and returns one number per example, `(batch,)`; the attack makes it as large as it can by
moving every entry of the dict inside its own ball and inside [0, 1]. It never sees a model or a label, so the same loop
attacks a classifier, a puzzle, or the agreement of two views.

Reference: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", 2018 (arXiv 1706.06083), eq.
2.1. Started at the same point, it returns what `cleverhans.tf2.attacks.projected_gradient_descent` returns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import keras
import tensorflow as tf

from advss_tf.attacks.arguments import at_least_one
from advss_tf.attacks.attack import Attack, AttackResult
from advss_tf.attacks.batches import Images, as_float32, choose, into_box, shape_of, slopes, start_each, zero_each
from advss_tf.attacks.threat import Threat, pixels
from advss_tf.errors import InvalidInput, one_of
from advss_tf.randomness import fold

Climb: TypeAlias = Callable[[Images], tf.Tensor]


@keras.saving.register_keras_serializable(package="advss_tf")
class ProjectedGradientDescent(Attack):
    """Steepest ascent in small steps, projected back to the ball and to [0, 1] after each.

    Args:
        threat: The ball, such as `Linf("8/255")`.
        num_steps: Number of steps; each costs one forward pass and one gradient by the input.
        step_size: Length of a step in the threat's norm, in pixels of [0, 1]; at most `threat.epsilon`. Defaults to
            `2.5 * epsilon / num_steps` (or `epsilon`, if that is smaller), with which the ball can be crossed from any
            start. Where a call brings another epsilon, the default follows it, and a given size is cut to it.
        random_start: Whether to start at a uniform point of the ball instead of at the images. Its pixels are in
            [0, 1], as those of every later point; code of AdvCL, ACL, DynACL and DeACL cuts later points alone.
        num_restarts: Number of independent starts. The strongest point is kept, example by example.
        keep: `"last"` returns the last point, as Madry et al. and cleverhans do; `"best"` the point of the whole path
            that climbs highest, example by example, at the cost of one more forward pass.
        batch_norm: How batch norm behaves in the attack's forward passes: `"inference"` (running statistics) or
            `"training"` (statistics of the attacked batch, as the public code of Chen et al. 2020). Read by the
            training step; a model is measured in inference mode, unless an attack of `evaluate` is given that says
            otherwise. The running statistics never move in either.

    Call arguments:
        climb: `climb(inputs) -> (batch,)`.
        inputs: `{name: images}`, each `(batch, height, width, channels)` in [0, 1]. They are not modified, and stay the
            centre of every projection.
        seed: int32, shape `(2,)`; see `advss_tf.randomness.seed_for`.
        epsilon: Optional number, scalar tensor or one number per example `(batch,)`, instead of `threat.epsilon`.

    Raises:
        InvalidInput: if a number is out of its range or a word is not known.
    """

    def __init__(
        self,
        threat: Threat,
        *,
        num_steps: int = 10,
        step_size: float | str | None = None,
        random_start: bool = True,
        num_restarts: int = 1,
        keep: str = "last",
        batch_norm: str = "inference",
    ) -> None:
        super().__init__(threat)
        self.num_steps = at_least_one("num_steps", num_steps)
        self.step_size = None if step_size is None else pixels(step_size, name="step_size")
        self.random_start = bool(random_start)
        self.num_restarts = at_least_one("num_restarts", num_restarts)
        self.keep = one_of("keep", keep, ("last", "best"))
        self.batch_norm = one_of("batch_norm", batch_norm, ("inference", "training"))
        self._check_step_size()
        if self.num_restarts > 1 and not self.random_start:
            raise InvalidInput(
                "Restarts without a random start would all find the same point.",
                expected="random_start=True, or num_restarts=1",
                received=f"random_start=False, num_restarts={num_restarts}",
            )

    def run(self, climb: Climb, inputs: Images, seed: tf.Tensor, *, epsilon: Any = None) -> AttackResult:
        """The same as a call, together with how strong the attack was."""
        centers, radius = as_float32(inputs), self._radius(epsilon)
        points, climbed = self._restarts(_moving_nothing(climb), centers, radius, seed)
        return self._result(points, climbed, centers, radius)

    def in_inference(self) -> ProjectedGradientDescent:
        """The same attack of a network in inference mode, which is the one that is measured."""
        if self.batch_norm == "inference":
            return self
        return type(self).from_config({**self.get_config(), "batch_norm": "inference"})

    def passes(self) -> tuple[int, int]:
        """`num_steps` of each, and one forward pass more with `keep="best"` or restarts, at the last point."""
        return self.num_steps + self._looks_at_the_last, self.num_steps

    @property
    def _looks_at_the_last(self) -> bool:
        return self.keep == "best" or self.num_restarts > 1

    def _restarts(self, climb: Climb, centers: Images, radius: tf.Tensor, seed: tf.Tensor) -> tuple[Images, tf.Tensor]:
        best = self._one_start(climb, centers, radius, fold(seed, 0))
        if self.num_restarts == 1:
            return best

        def again(restart: tf.Tensor, points: Images, climbed: tf.Tensor) -> tuple[tf.Tensor, Images, tf.Tensor]:
            found = self._one_start(climb, centers, radius, fold(seed, restart))
            return (restart + 1, *_higher((points, climbed), found))

        _, points, climbed = tf.while_loop(
            lambda restart, *_: restart < self.num_restarts, again, (tf.constant(1), *best), parallel_iterations=1
        )
        return points, climbed

    def _one_start(self, climb: Climb, centers: Images, radius: tf.Tensor, seed: tf.Tensor) -> tuple[Images, tf.Tensor]:
        start = self._start(centers, radius, seed)
        zeros = zero_each(start)

        def ascend(step: tf.Tensor, points: Images, climbed: tf.Tensor, best: Any) -> tuple[Any, ...]:
            climbed, gradients = _values_and_gradients(climb, points)
            best = _higher(best, (points, climbed)) if self.keep == "best" else best
            moved = {name: self._move(points[name], gradients[name], centers[name], radius) for name in points}
            return step + 1, moved, climbed, best

        nothing = (start, zeros - float("inf")) if self.keep == "best" else ()
        _, points, climbed, best = tf.while_loop(
            lambda step, *_: step < self.num_steps,
            ascend,
            (tf.constant(0), start, zeros, nothing),
            parallel_iterations=1,
        )
        if self._looks_at_the_last:
            climbed = tf.cast(climb(points), tf.float32)
        return _higher(best, (points, climbed)) if self.keep == "best" else (points, climbed)

    def _start(self, centers: Images, radius: tf.Tensor, seed: tf.Tensor) -> Images:
        if not self.random_start:
            return dict(centers)

        def start(center: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
            noise = self.threat.random(seed, shape_of(center), radius)
            return into_box(center + self.threat.project(noise, radius))

        return start_each(centers, seed, start)

    def _move(self, point: tf.Tensor, gradient: tf.Tensor, center: tf.Tensor, radius: tf.Tensor) -> tf.Tensor:
        moved = into_box(point + self.threat.step(gradient, self._step_length(radius)))
        return into_box(center + self.threat.project(moved - center, radius))

    def _step_length(self, radius: tf.Tensor) -> tf.Tensor:
        if self.step_size is None:
            return radius * min(1.0, 2.5 / self.num_steps)
        return tf.minimum(self.step_size, radius)

    def _check_step_size(self) -> None:
        # The slack lets a size that is written as the same fraction as epsilon through, whatever the last bit.
        if self.step_size is not None and not 0 < self.step_size <= self.threat.epsilon * (1 + 1e-6):
            raise InvalidInput(
                "`step_size` does not fit the ball.",
                expected=f"0 < step_size <= epsilon = {self.threat.epsilon:.6g}",
                received=f"step_size={self.step_size:.6g}",
            )


@keras.saving.register_keras_serializable(package="advss_tf")
class FastGradient(ProjectedGradientDescent):
    """One step of the whole radius: the fast gradient (sign) method.

    Reference: Goodfellow et al., "Explaining and Harnessing Adversarial Examples", 2015 (arXiv 1412.6572).

    Args:
        threat: The ball.
        random_start: Whether to start at a random point of the ball (Wong et al. 2020); defaults to False.
        batch_norm: As in `ProjectedGradientDescent`.
    """

    def __init__(self, threat: Threat, *, random_start: bool = False, batch_norm: str = "inference") -> None:
        super().__init__(threat, num_steps=1, random_start=random_start, batch_norm=batch_norm)


def _moving_nothing(climb: Climb) -> Climb:
    """The same closure, whose forward passes move no running statistics and no other variable."""

    def climbing(points: Images) -> tf.Tensor:
        # A scope for each pass: what one keeps of a pass inside a loop cannot be read outside, or in another loop.
        with keras.StatelessScope():
            return climb(points)

    return climbing


def _values_and_gradients(climb: Climb, points: Images) -> tuple[tf.Tensor, Images]:
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(points)
        values = tf.cast(climb(points), tf.float32)
    return values, slopes(tape, values, points)


def _higher(one: tuple[Images, tf.Tensor], other: tuple[Images, tf.Tensor]) -> tuple[Images, tf.Tensor]:
    """Example by example the one of two findings that climbs higher; the first at a tie."""
    return choose(other[1] > one[1], other, one)
