"""Auto-PGD: gradient ascent that finds its step size by itself, in one `tf.while_loop`.

Synopsis:

    attack = AutoPGD(Linf("8/255"), num_steps=100)
    attacked = attack(climb, {"images": images}, seed)["images"]

    def climb(inputs):      # may also say which points need climb no further
        logits = network(inputs["images"])
        return Judged(cross_entropy(logits, labels), won=tf.argmax(logits, -1) != labels)

Reference: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
attacks", 2020 (arXiv 2003.01690), algorithm 1. Where the paper and its authors' code (`fra31/auto-attack`) part, this
follows the code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import keras
import tensorflow as tf

from advss_tf.attacks.arguments import at_least_one, within
from advss_tf.attacks.attack import Attack, AttackResult
from advss_tf.attacks.batches import (
    Images,
    as_float32,
    beside,
    choose,
    into_box,
    shape_of,
    slopes,
    start_each,
    zero_each,
)
from advss_tf.attacks.step_sizes import StepSizes, after_step, first_sizes
from advss_tf.attacks.threat import Threat
from advss_tf.errors import InvalidInput
from advss_tf.randomness import fold

# The share of a new step; the rest is the step before it.
_MOMENTUM = 0.75


class Judged(NamedTuple):
    """What a closure may return: how high the points climb, and which of them need climb no further.

    Attributes:
        values: `(batch,)` float32, to be ascended.
        won: `(batch,)` bool: the point already fools.
    """

    values: tf.Tensor
    won: tf.Tensor


Climb: TypeAlias = Callable[[Images], tf.Tensor | Judged]


class _Best(NamedTuple):
    """Of a path, example by example: the first point that won, else the first of the highest."""

    points: Images
    gradients: Images
    judged: Judged


class _Path(NamedTuple):
    """The variables of the loop; `value`, `(batch,)`, is that of the point before."""

    step: tf.Tensor
    points: Images
    previous: Images
    value: tf.Tensor
    sizes: StepSizes
    best: _Best


@keras.saving.register_keras_serializable(package="advss_tf")
class AutoPGD(Attack):
    """Gradient ascent with momentum whose step is halved, example by example, where it no longer pays.

    It starts at a random direction scaled to the bound, with a step of twice the radius. At each checkpoint (see
    `step_sizes`) a step is halved, and the path goes on from its best point, if no more than a share `rho` of the
    period's steps rose, or if the step was not halved at the last checkpoint and the best value has not risen since. As
    in the authors' code, the first step of all rose if it ended above 0, and the first after a return to the best point
    if it ended above the value before the return; in the paper both are compared with the point that they left.

    Args:
        threat: The ball, `Linf` or `L2`.
        num_steps: Number of steps; each costs one forward pass and one gradient by the input, and so does the start.
        num_restarts: Number of independent starts, of which the first that won is kept, else the highest.
        rho: The share of rising steps, in (0, 1], up to which a step is halved.
        eot_samples: Number of evaluations of the closure at each point, over which values and gradients are averaged:
            for closures that draw random numbers. `won` is the last one's. Keras' seed generators give other numbers
            at each evaluation, and the same in each run.

    Call arguments:
        climb: `climb(inputs) -> (batch,)`, or `Judged`.
        inputs: `{name: images}`, each `(batch, height, width, channels)` in [0, 1]. They are not modified, and stay the
            centre of every projection. Each has a ball of its own; an example's step size is shared by them.
        seed: int32, shape `(2,)` or `(batch, 2)`; see `advss_tf.randomness`.
        epsilon: Optional number, scalar tensor or one number per example `(batch,)`, instead of `threat.epsilon`.

    Returns, example by example, the first point that won, starts included; if none did, the first of the highest. Once
    all examples have won the loop ends, which changes no result.

    Raises:
        InvalidInput: if a number is out of its range, the norm is another, or the closure's numbers are not one per
            example.
    """

    norms = ("linf", "l2")

    def __init__(
        self, threat: Threat, *, num_steps: int = 100, num_restarts: int = 1, rho: float = 0.75, eot_samples: int = 1
    ) -> None:
        super().__init__(threat)
        self.num_steps = at_least_one("num_steps", num_steps)
        self.num_restarts = at_least_one("num_restarts", num_restarts)
        self.rho = within("rho", rho, 0 < rho <= 1, "a number in (0, 1]")
        self.eot_samples = at_least_one("eot_samples", eot_samples)

    def run(self, climb: Climb, inputs: Images, seed: tf.Tensor, *, epsilon: Any = None) -> AttackResult:
        """The same as a call, together with how strong the attack was; `climb` is that of the returned point."""
        centers, radius = as_float32(inputs), self._radius(epsilon)

        def start_again(restart: tf.Tensor, best: _Best) -> tuple[tf.Tensor, _Best]:
            start = self._start(centers, radius, fold(seed, restart))
            nothing = _nothing(start, won=best.judged.won)
            return restart + 1, _better(best, self._one_path(climb, nothing, centers, radius, restart))

        def goes_on(restart: tf.Tensor, best: _Best) -> tf.Tensor:
            return (restart < self.num_restarts) & ~tf.reduce_all(best.judged.won)

        path = (tf.constant(0), _nothing(centers))
        points, _, judged = tf.while_loop(goes_on, start_again, path, parallel_iterations=1)[1]
        return self._result(points, judged.values, centers, radius)

    def passes(self) -> tuple[int, int]:
        """`num_steps + 1` of each, times `eot_samples`: the start costs as much as a step."""
        looks = (self.num_steps + 1) * self.eot_samples
        return looks, looks

    def _one_path(self, climb: Climb, best: _Best, centers: Images, radius: tf.Tensor, restart: tf.Tensor) -> _Best:
        def ascend(*variables: Any) -> _Path:
            path = _Path(*variables)
            number = restart * (self.num_steps + 1) + path.step
            return self._ascend(path, self._judge(climb, path.points, number), centers, radius)

        def goes_on(step: tf.Tensor, *others: Any) -> tf.Tensor:
            return (step <= self.num_steps) & ~tf.reduce_all(others[-1].judged.won)

        zeros = tf.zeros_like(best.judged.values)
        path = _Path(tf.constant(0), best.points, best.points, zeros, first_sizes(zeros), best)
        return tf.while_loop(goes_on, ascend, path, parallel_iterations=1)[-1]

    def _start(self, centers: Images, radius: tf.Tensor, seed: tf.Tensor) -> Images:
        def start(center: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
            shape = shape_of(center)
            noise = self.threat.random(seed, shape, 1.0)
            length = tf.norm(tf.reshape(noise, (shape[0], -1)), ord=self.threat.order, axis=1)
            return into_box(center + radius * tf.math.divide_no_nan(noise, beside(length)))

        return start_each(centers, seed, start)

    def _ascend(self, path: _Path, found: tuple[Judged, Images], centers: Images, radius: tf.Tensor) -> _Path:
        """Note what was found where the path stands, and take a step; where the last step ends is not looked at."""
        judged, gradients = found
        under_way = path.step > 0
        best = _better(path.best, _Best(path.points, gradients, judged))
        rose, value = under_way & (judged.values > path.value), tf.where(under_way, judged.values, 0.0)
        sizes, returns = after_step(
            path.sizes, path.step, rose=rose, best=best.judged.values, num_steps=self.num_steps, rho=self.rho
        )
        points, gradients = choose(returns, (best.points, best.gradients), (path.points, gradients))
        share = tf.where(under_way, _MOMENTUM, 1.0)
        moved = {}
        for name, point in points.items():
            step = self.threat.step(gradients[name], beside(sizes.size) * radius)
            ahead = self._inside(point + step, centers[name], radius)
            along = share * (ahead - point) + (1 - share) * (point - path.previous[name])
            moved[name] = self._inside(point + along, centers[name], radius)
        return _Path(path.step + 1, moved, points, value, sizes, best)

    def _inside(self, point: tf.Tensor, center: tf.Tensor, radius: tf.Tensor) -> tf.Tensor:
        return into_box(center + self.threat.project(point - center, radius))

    def _judge(self, climb: Climb, points: Images, number: tf.Tensor) -> tuple[Judged, Images]:
        if self.eot_samples == 1:
            return _evaluate(climb, points, number)

        def another(sample: tf.Tensor, judged: Judged, gradients: Images) -> tuple[tf.Tensor, Judged, Images]:
            more, slopes = _evaluate(climb, points, number * self.eot_samples + sample)
            total = {name: gradient + slopes[name] / self.eot_samples for name, gradient in gradients.items()}
            return sample + 1, Judged(judged.values + more.values / self.eot_samples, more.won), total

        _, zeros, (values, won) = _nothing(points)
        start = (tf.constant(0), Judged(tf.zeros_like(values), won), zeros)
        return tf.while_loop(lambda sample, *_: sample < self.eot_samples, another, start, parallel_iterations=1)[1:]


class _FreshNoise(keras.StatelessScope):
    """No variable moves, but Keras' seed generators give other numbers at each evaluation."""

    def __init__(self, number: tf.Tensor) -> None:
        super().__init__()
        self._number = number

    def get_current_value(self, variable: Any) -> Any:
        value = super().get_current_value(variable)
        if value is None and variable.name == "seed_generator_state":
            seed = tf.convert_to_tensor(variable._value)
            value = tf.cast(fold(tf.cast(seed, tf.int32), self._number), seed.dtype)
        return value


def _evaluate(climb: Climb, points: Images, number: tf.Tensor) -> tuple[Judged, Images]:
    with _FreshNoise(number), tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(points)
        judged = _judged(climb(points), tf.TensorShape(next(iter(points.values())).shape[:1]))
    return judged, slopes(tape, judged.values, points)


def _judged(returned: Any, shape: tf.TensorShape) -> Judged:
    values, won = returned if isinstance(returned, Judged) else (returned, None)
    values = tf.cast(values, tf.float32)
    won = tf.zeros_like(values, tf.bool) if won is None else tf.cast(won, tf.bool)
    for name, numbers in (("values", values), ("won", won)):
        if not shape.is_compatible_with(numbers.shape):
            message = f"`climb` does not return `{name}` of one number per example."
            raise InvalidInput(message, expected=f"shape {shape}", received=f"{name}.shape={numbers.shape}")
    return Judged(tf.ensure_shape(values, shape), tf.ensure_shape(won, shape))


def _nothing(points: Images, *, won: tf.Tensor | bool = False) -> _Best:
    values = zero_each(points)
    gradients = {name: tf.zeros_like(point) for name, point in points.items()}
    return _Best(points, gradients, Judged(values - float("inf"), tf.zeros_like(values, tf.bool) | won))


def _better(old: _Best, new: _Best) -> _Best:
    """Example by example the new one where it is the first that won, or where none won and it climbs higher."""
    takes = ~old.judged.won & (new.judged.won | (new.judged.values > old.judged.values))
    return choose(takes, new, old)
