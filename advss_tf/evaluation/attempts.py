"""Which attacks are run on a model, and one of them as a compiled function.

Synopsis:

    plan = plan_attempts("standard", norm="linf", epsilons=("8/255",), num_steps=(20, 50))
    attempt = CompiledAttempt(plan.attempts[0], classifier, batch_shape=(256, 32, 32, 3))
    outcome = attempt(images, labels, seed, epsilon=8 / 255)       # one trace, whatever epsilon is
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import tensorflow as tf

from advss_tf.attacks import ProjectedGradientDescent, get_threat, pixels
from advss_tf.errors import InvalidInput, one_of
from advss_tf.evaluation.models import Classifier
from advss_tf.losses import cross_entropy

SUITES = ("quick", "standard")
# Where the field compares models: RobustBench's CIFAR threat models.
STANDARD_EPSILON = {"linf": 8 / 255, "l2": 0.5}
THREAT_NAMES: dict[str, Literal["Linf", "L2"]] = {"linf": "Linf", "l2": "L2"}


@dataclass(frozen=True)
class Attempt:
    """One named attack: an example must survive each of its `num_restarts` runs."""

    name: str
    attack: Any
    num_restarts: int

    @property
    def parameters(self) -> dict[str, Any]:
        """The attack's own settings, without what varies from call to call."""
        config = self.attack.get_config() if hasattr(self.attack, "get_config") else {}
        return {
            "kind": type(self.attack).__name__,
            **{name: value for name, value in config.items() if name not in ("threat", "num_restarts")},
        }


@dataclass(frozen=True)
class Plan:
    """What is attempted on every image: each attempt at each epsilon."""

    suite: str
    norm: str
    epsilons: tuple[float, ...]
    attempts: tuple[Attempt, ...]

    @property
    def threat(self) -> Literal["Linf", "L2"]:
        """The norm as RobustBench writes it."""
        return THREAT_NAMES[self.norm]

    @property
    def headline(self) -> float:
        """The epsilon that stands for the record: the field's standard one if it is listed, else the largest."""
        standard = [eps for eps in self.epsilons if abs(eps - STANDARD_EPSILON[self.norm]) < 1e-9]
        return standard[0] if standard else max(self.epsilons)


class Outcome(NamedTuple):
    """What one attack did to a batch: attacked images, predictions and confidences, all with B rows."""

    images: np.ndarray
    robust: np.ndarray
    predictions: np.ndarray
    confidences: np.ndarray


def plan_attempts(
    suite: str = "quick",
    *,
    attacks: Any = None,
    epsilons: Sequence[float | str] | float | str | None = None,
    norm: str = "linf",
    num_steps: Sequence[int] | int = (20, 50),
    step_size: float | str | None = None,
    num_restarts: int = 1,
) -> Plan:
    """The attempts of a suite, or of the attacks that are given.

    Raises:
        InvalidInput: if a word is not known, an epsilon is not a number of pixels, or `attacks` are not attacks.
    """
    if isinstance(num_restarts, bool) or not isinstance(num_restarts, int) or num_restarts < 1:
        raise InvalidInput(
            "`num_restarts` is too small.", expected="a whole number >= 1", received=f"num_restarts={num_restarts!r}"
        )
    if attacks is not None:
        named = _named(attacks)
        norm = _common_norm(named)
        radii = _radii(epsilons if epsilons is not None else [attack.threat.epsilon for attack in named.values()])
        return Plan("attacks", norm, radii, tuple(_attempt(name, a, num_restarts) for name, a in named.items()))
    if suite == "full":
        raise InvalidInput(
            "The suite 'full' (AutoAttack) is not there yet.",
            expected=f"one of {list(SUITES)}",
            received="suite='full'",
        )
    one_of("suite", suite, SUITES)
    one_of("norm", norm, STANDARD_EPSILON)
    radii = _radii(STANDARD_EPSILON[norm] if epsilons is None else epsilons)
    counts = [num_steps] if isinstance(num_steps, int) else list(num_steps)
    made = [
        ProjectedGradientDescent(get_threat(norm, max(radii)), num_steps=count, step_size=step_size)
        for count in (counts[:1] if suite == "quick" else counts)
    ]
    return Plan(suite, norm, radii, tuple(_attempt(name, a, num_restarts) for name, a in _named(made).items()))


class CompiledAttempt:
    """An attempt on a classifier as one `tf.function` of one shape; epsilon is a tensor, so a sweep traces once."""

    def __init__(self, attempt: Attempt, classifier: Classifier, *, batch_shape: tuple[int, ...]) -> None:
        self.attempt = attempt
        self._classifier = classifier
        self._forward = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._backward = tf.Variable(0, dtype=tf.int64, trainable=False)
        signature = [
            tf.TensorSpec(batch_shape, tf.float32),
            tf.TensorSpec(batch_shape[:1], tf.int64),
            tf.TensorSpec((2,), tf.int32),
            tf.TensorSpec((), tf.float32),
        ]
        self._run = tf.function(self._attacked, input_signature=signature)

    def __call__(self, images: np.ndarray, labels: np.ndarray, seed: tf.Tensor, *, epsilon: float) -> Outcome:
        """Attacks a batch.

        Raises:
            InvalidInput: if the attack left its ball or the range of pixels; its number would mean nothing.
        """
        *outcome, used = self._run(images, labels, seed, np.float32(epsilon))
        # float32 rounds at 6e-8 a pixel; an attack that breaks its promise does so by far more.
        if not float(used) <= epsilon * (1 + 1e-4) + 1e-6:
            raise InvalidInput(
                f"The attack {self.attempt.name!r} left its ball, or the range of pixels.",
                expected=f"{self.attempt.attack.threat.norm} distance <= {epsilon:.6g} and pixels in [0, 1]",
                received=f"distance={float(used):.6g}",
            )
        return Outcome(*(part.numpy() for part in outcome))

    @property
    def forward_passes(self) -> int:
        """How many times the classifier was run on a batch since this was made."""
        return int(self._forward)

    @property
    def backward_passes(self) -> int:
        """How many times a gradient by the images was taken."""
        return int(self._backward)

    def _attacked(self, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, epsilon: tf.Tensor) -> Any:
        def climb(inputs: dict[str, tf.Tensor]) -> tf.Tensor:
            return cross_entropy(self._logits(inputs["images"]), labels)

        attacked = self.attempt.attack(climb, {"images": images}, seed, epsilon=epsilon)["images"]
        predictions, confidences = predicted(self._logits(attacked))
        used = _distance(attacked, images, self.attempt.attack.threat.norm)
        return attacked, predictions == labels, predictions, confidences, used

    def _logits(self, images: tf.Tensor) -> tf.Tensor:
        """The classifier, counted where it is run: what happens in the graph's loop is not seen from Python."""
        self._forward.assign_add(1)

        @tf.custom_gradient
        def counted(inputs: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
            def gradient(upstream: tf.Tensor) -> tf.Tensor:
                self._backward.assign_add(1)
                return upstream

            return tf.identity(inputs), gradient

        return self._classifier(counted(images))


def predicted(logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Predicted class (B,) int64 and its probability (B,) float32; class -1 where the logits are not finite."""
    finite = tf.reduce_all(tf.math.is_finite(logits), axis=-1)
    predictions = tf.where(finite, tf.argmax(logits, axis=-1), -1)
    return predictions, tf.where(finite, tf.reduce_max(tf.nn.softmax(logits), axis=-1), 0.0)


def _distance(attacked: tf.Tensor, images: tf.Tensor, norm: str) -> tf.Tensor:
    """The farthest that an image of the batch was moved; infinite if a pixel left [0, 1] or is not a number."""
    moved = tf.reshape(attacked - images, (tf.shape(images)[0], -1))
    lengths = tf.norm(moved, ord=np.inf if norm == "linf" else 2, axis=1)
    inside = tf.reduce_all((attacked >= 0) & (attacked <= 1))
    return tf.where(inside, tf.reduce_max(lengths), float("inf"))


def _attempt(name: str, attack: Any, num_restarts: int) -> Attempt:
    """Unrolls an attack's own restarts: kept inside, only the one with the highest loss would be judged."""
    inner = getattr(attack, "num_restarts", 1)
    if inner > 1:
        attack = type(attack).from_config(attack.get_config() | {"num_restarts": 1})
    return Attempt(name, attack, num_restarts * inner)


def _named(attacks: Any) -> dict[str, Any]:
    if isinstance(attacks, Mapping):
        named = dict(attacks)
    else:
        listed = list(attacks) if isinstance(attacks, list | tuple) else [attacks]
        named = {}
        for attack in listed:
            named.setdefault(_name(attack), attack)
        if len(named) != len(listed):
            raise InvalidInput(
                "Two attacks have the same name.",
                expected="a dict of named attacks",
                received=f"attacks={[_name(attack) for attack in listed]}",
            )
    for name, attack in named.items():
        if not callable(attack) or not hasattr(attack, "threat") or name in ("clean", "worst"):
            raise InvalidInput(
                f"{name!r} is not an attack.",
                expected="an object such as ProjectedGradientDescent(Linf('8/255')), not named 'clean' or 'worst'",
                received=f"{name}={attack!r}",
            )
    if not named:
        raise InvalidInput("There is no attack to run.", expected="at least one attack", received="attacks=[]")
    return named


def _name(attack: Any) -> str:
    steps = getattr(attack, "num_steps", None)
    if type(attack) is ProjectedGradientDescent:
        return f"pgd-{steps}"
    return type(attack).__name__.lower()


def _common_norm(named: dict[str, Any]) -> str:
    norms = sorted({attack.threat.norm for attack in named.values()})
    if len(norms) != 1:
        raise InvalidInput(
            "The attacks have different norms; the worst case over them would mean nothing.",
            expected="attacks of one norm, one evaluation for each norm",
            received=f"norms={norms}",
        )
    return norms[0]


def _radii(epsilons: Sequence[float | str] | float | str) -> tuple[float, ...]:
    """The radii ascending, each once; 0 is left out, as clean accuracy is always measured."""
    listed = [epsilons] if isinstance(epsilons, int | float | str) else list(epsilons)
    radii = tuple(sorted({pixels(epsilon, name="epsilons") for epsilon in listed} - {0.0}))
    if not radii:
        raise InvalidInput(
            "There is no ball to attack in.", expected="an epsilon > 0", received=f"epsilons={epsilons!r}"
        )
    return radii
