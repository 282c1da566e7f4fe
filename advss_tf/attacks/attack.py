"""What all attacks have in common: a threat, a config, a call, and the number of passes that a run costs.

Synopsis:

    class Ascent(Attack):
        def __init__(self, threat, *, num_steps=10): ...              # argument = attribute = key of the config
        def run(self, climb, inputs, seed, *, epsilon=None): ...      # its result has `inputs`, the attacked images
        def passes(self): ...                                         # (forward, backward)

    attacked = Ascent(Linf("8/255"))(climb, {"images": images}, seed)
    same = Ascent.from_config(Ascent(Linf("8/255")).get_config())
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Any, ClassVar, NamedTuple, Self

import tensorflow as tf

from advss_tf.attacks.batches import Images, beside
from advss_tf.attacks.threat import Threat, get_threat
from advss_tf.errors import one_of


class AttackResult(NamedTuple):
    """What an attack found.

    Attributes:
        inputs: The attacked images, same names and shapes as the inputs, float32 in [0, 1].
        climb: `(batch,)` float32: the climb at the returned points. With one start and `keep="last"`, projected
            gradient descent has it one step before them: no pass more.
        at_bound: `(batch,)` float32: the share of the ball that is used, mean over the inputs.
    """

    inputs: Images
    climb: tf.Tensor
    at_bound: tf.Tensor


class Attack:
    """An attack inside a threat's ball, which its constructor's arguments describe.

    A subclass keeps each argument in an attribute of the same name, and defines `run` and `passes`.

    Args:
        threat: The ball, such as `Linf("8/255")`.

    Attributes:
        norms: The norms that the attack knows; None for any.
        run: `run(goal, inputs, seed, *, epsilon=None)`, what the attack does: a result with `inputs`, the attacked
            images, and what else was found.

    Raises:
        InvalidInput: if the threat has another norm.
    """

    norms: ClassVar[Collection[str] | None] = None
    run: Callable[..., Any]
    threat: Threat

    def __init__(self, threat: Any) -> None:
        if self.norms is not None:
            one_of("norm", getattr(threat, "norm", repr(threat)), self.norms)
        self.threat = threat

    def __call__(self, *arguments: Any, **options: Any) -> Images:
        """The attacked images alone; takes what `run` takes."""
        return self.run(*arguments, **options).inputs

    def passes(self) -> tuple[int, int]:
        """The most passes that one run costs an image: `(forward, backward)`.

        A run is one start, and one target where there are targets; a call with restarts inside costs at most
        `num_restarts` runs. Counted are the evaluations of the closures that the attack is called with: what its caller
        does before or after the run, such as to judge the result, is not.
        """
        raise TypeError(f"{type(self).__name__} does not say its passes.")

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as plain data: `{"threat": {"norm", "epsilon"}, "num_steps": …}`."""
        config = self._arguments()
        return config | ({"threat": self.threat.get_config()} if "threat" in config else {})

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**config | ({"threat": get_threat(**config["threat"])} if "threat" in config else {}))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._arguments().items())})"

    def _arguments(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def _radius(self, epsilon: Any) -> tf.Tensor:
        """The radius of a call, shaped so that it multiplies a batch of images: `()` or `(batch, 1, 1, 1)`."""
        return beside(tf.convert_to_tensor(self.threat.epsilon if epsilon is None else epsilon, tf.float32))

    def _result(self, points: Images, climbed: tf.Tensor, centers: Images, radius: tf.Tensor) -> AttackResult:
        points = {name: tf.stop_gradient(point) for name, point in points.items()}
        used = [self.threat.at_bound(points[name] - centers[name], radius) for name in centers]
        return AttackResult(points, tf.stop_gradient(climbed), tf.add_n(used) / len(used))
