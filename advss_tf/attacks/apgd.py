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
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import keras
import tensorflow as tf

from advss_tf.attacks.pgd import AttackResult, Images, _at_least_one, _into_box, _per_example
from advss_tf.attacks.threat import Threat, get_threat
from advss_tf.errors import InvalidInput, one_of
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


def checkpoints(num_steps: int) -> list[int]:
    """The numbers of the steps after which the step size is looked at, in [1, num_steps].

    The first period is 22 % of the steps; each is 3 % shorter than the one before it, down to 6 %. Each share is
    rounded down, to one step at least. For 100 steps: 22, 41, 57, 70, 80, 87, 93, 99.
    """
    period, shorter, shortest = (max(int(share * num_steps), 1) for share in (0.22, 0.03, 0.06))
    steps = [period]
    while steps[-1] + max(period - shorter, shortest) <= num_steps:
        period = max(period - shorter, shortest)
        steps.append(steps[-1] + period)
    return steps


class _Best(NamedTuple):
    """Of a path, example by example: the first point that won, else the first of the highest."""

    points: Images
    gradients: Images
    judged: Judged


class _Path(NamedTuple):
    """The variables of the loop: images, and `(batch,)` numbers of which `size` is the step in radii."""

    step: tf.Tensor
    points: Images
    previous: Images
    value: tf.Tensor
    increases: tf.Tensor
    size: tf.Tensor
    halved: tf.Tensor
    best_at_checkpoint: tf.Tensor
    best: _Best


@keras.saving.register_keras_serializable(package="advss_tf")
class AutoPGD:
    """Gradient ascent with momentum whose step is halved, example by example, where it no longer pays.

    It starts at a random direction scaled to the bound, with a step of twice the radius. At each of the `checkpoints` a
    step is halved, and the path goes on from its best point, if no more than a share `rho` of the period's steps rose,
    or if the step was not halved at the last checkpoint and the best value has not risen since. As in the authors'
    code, the first step of all rose if it ended above 0, and the first after a return to the best point if it ended
    above the value before the return; in the paper both are compared with the point that they left.

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

    def __init__(
        self, threat: Threat, *, num_steps: int = 100, num_restarts: int = 1, rho: float = 0.75, eot_samples: int = 1
    ) -> None:
        one_of("norm", threat.norm, ("linf", "l2"))
        self.threat = threat
        self.num_steps = _at_least_one("num_steps", num_steps)
        self.num_restarts = _at_least_one("num_restarts", num_restarts)
        if isinstance(rho, bool) or not 0 < rho <= 1:
            raise InvalidInput("`rho` is not a share.", expected="a number in (0, 1]", received=f"rho={rho!r}")
        self.rho = float(rho)
        self.eot_samples = _at_least_one("eot_samples", eot_samples)

    def __call__(self, climb: Climb, inputs: Images, seed: tf.Tensor, *, epsilon: Any = None) -> Images:
        return self.run(climb, inputs, seed, epsilon=epsilon).inputs

    def run(self, climb: Climb, inputs: Images, seed: tf.Tensor, *, epsilon: Any = None) -> AttackResult:
        """The same as a call, together with how strong the attack was; `climb` is that of the returned point."""
        centers = {name: tf.cast(images, tf.float32) for name, images in inputs.items()}
        radius = _per_example(self.threat.epsilon if epsilon is None else epsilon)

        def start_again(restart: tf.Tensor, best: _Best) -> tuple[tf.Tensor, _Best]:
            start = self._start(centers, radius, fold(seed, restart))
            nothing = _nothing(start, won=best.judged.won)
            return restart + 1, _better(best, self._one_path(climb, nothing, centers, radius, restart))

        def goes_on(restart: tf.Tensor, best: _Best) -> tf.Tensor:
            return (restart < self.num_restarts) & ~tf.reduce_all(best.judged.won)

        path = (tf.constant(0), _nothing(centers))
        points, _, judged = tf.while_loop(goes_on, start_again, path, parallel_iterations=1)[1]
        points = {name: tf.stop_gradient(point) for name, point in points.items()}
        used = [self.threat.at_bound(points[name] - centers[name], radius) for name in centers]
        return AttackResult(points, tf.stop_gradient(judged.values), tf.add_n(used) / len(used))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as plain data: `{"threat": {"norm", "epsilon"}, "num_steps": …}`."""
        names = ("num_steps", "num_restarts", "rho", "eot_samples")
        return {"threat": self.threat.get_config(), **{name: getattr(self, name) for name in names}}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> AutoPGD:
        config = dict(config)
        return cls(get_threat(**config.pop("threat")), **config)

    def __repr__(self) -> str:
        config = self.get_config() | {"threat": self.threat}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in config.items())})"

    def _one_path(self, climb: Climb, best: _Best, centers: Images, radius: tf.Tensor, restart: tf.Tensor) -> _Best:
        def ascend(*variables: Any) -> _Path:
            path = _Path(*variables)
            number = restart * (self.num_steps + 1) + path.step
            return self._ascend(path, self._judge(climb, path.points, number), centers, radius)

        def goes_on(step: tf.Tensor, *others: Any) -> tf.Tensor:
            return (step <= self.num_steps) & ~tf.reduce_all(others[-1].judged.won)

        zeros, yes = tf.zeros_like(best.judged.values), tf.ones_like(best.judged.won)
        # Every size counts as halved before the first checkpoint, so that `rho` alone decides there.
        path = _Path(tf.constant(0), best.points, best.points, zeros, zeros, zeros + 2, yes, zeros, best)
        return tf.while_loop(goes_on, ascend, path, parallel_iterations=1)[-1]

    def _start(self, centers: Images, radius: tf.Tensor, seed: tf.Tensor) -> Images:
        starts = {}
        for number, (name, center) in enumerate(sorted(centers.items())):
            shape = [tf.shape(center)[0] if center.shape[0] is None else center.shape[0], *center.shape[1:]]
            noise = self.threat.random(fold(seed, number), shape, 1.0)
            length = tf.norm(tf.reshape(noise, (shape[0], -1)), ord=self.threat.order, axis=1)
            starts[name] = _into_box(center + radius * tf.math.divide_no_nan(noise, _beside(length, noise)))
        return starts

    def _ascend(self, path: _Path, found: tuple[Judged, Images], centers: Images, radius: tf.Tensor) -> _Path:
        """Note what was found where the path stands, and take a step; where the last step ends is not looked at."""
        judged, gradients = found
        under_way = path.step > 0
        best = _better(path.best, _Best(path.points, gradients, judged))
        increases = path.increases + tf.cast(under_way & (judged.values > path.value), tf.float32)
        value = tf.where(under_way, judged.values, 0.0)
        path, returns = self._checkpoint(path._replace(best=best, increases=increases, value=value))
        points = _choose(returns, best.points, path.points)
        gradients = _choose(returns, best.gradients, gradients)
        share = tf.where(under_way, _MOMENTUM, 1.0)
        moved = {}
        for name, point in points.items():
            step = self.threat.step(gradients[name], _beside(path.size, point) * radius)
            ahead = self._inside(point + step, centers[name], radius)
            along = share * (ahead - point) + (1 - share) * (point - path.previous[name])
            moved[name] = self._inside(point + along, centers[name], radius)
        return path._replace(step=path.step + 1, points=moved, previous=points)

    def _checkpoint(self, path: _Path) -> tuple[_Path, tf.Tensor]:
        """The path with its steps halved where they should be, and where that is: `(batch,)` bool."""
        periods = {step: step - before for before, step in pairwise([0, *checkpoints(self.num_steps)])}
        period = tf.gather([periods.get(step, 0) for step in range(self.num_steps + 1)], path.step)
        due, value = period > 0, path.best.judged.values
        seldom = path.increases <= self.rho * tf.cast(period, tf.float32)
        halved = due & (seldom | (~path.halved & (path.best_at_checkpoint >= value)))
        checked = path._replace(
            increases=tf.where(due, 0.0, path.increases),
            size=tf.where(halved, path.size / 2, path.size),
            halved=tf.where(due, halved, path.halved),
            best_at_checkpoint=tf.where(due, value, path.best_at_checkpoint),
        )
        return checked, halved

    def _inside(self, point: tf.Tensor, center: tf.Tensor, radius: tf.Tensor) -> tf.Tensor:
        return _into_box(center + self.threat.project(point - center, radius))

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
    slopes = tape.gradient(judged.values, points, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    # A gradient that is not finite must not become a pixel: a network's verdict on such an image means nothing.
    return judged, {name: tf.where(tf.math.is_finite(slope), slope, 0.0) for name, slope in slopes.items()}


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
    values = tf.zeros_like(next(iter(points.values()))[:, 0, 0, 0])
    gradients = {name: tf.zeros_like(point) for name, point in points.items()}
    return _Best(points, gradients, Judged(values - float("inf"), tf.zeros_like(values, tf.bool) | won))


def _better(old: _Best, new: _Best) -> _Best:
    """Example by example the new one where it is the first that won, or where none won and it climbs higher."""
    takes = ~old.judged.won & (new.judged.won | (new.judged.values > old.judged.values))
    values = tf.where(takes, new.judged.values, old.judged.values)
    points, gradients = (_choose(takes, there, here) for there, here in zip(new[:2], old[:2], strict=True))
    return _Best(points, gradients, Judged(values, old.judged.won | new.judged.won))


def _choose(mask: tf.Tensor, chosen: Images, others: Images) -> Images:
    return {name: tf.where(_beside(mask, other), chosen[name], other) for name, other in others.items()}


def _beside(numbers: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    """One number per example, shaped so that it multiplies the images: `(batch, 1, 1, 1)`."""
    return tf.reshape(numbers, (-1, *[1] * (len(images.shape) - 1)))
