"""Which attacks are run on a model: suites of them, AutoAttack among them, or the attacks that are given.

Synopsis:

    plan = plan_attempts("standard", norm="linf", epsilons=("8/255",), num_steps=(20, 50), num_classes=10)
    [attempt.name for attempt in plan.attempts]       # ["pgd-20", "pgd-50"]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from advss_tf.attacks import ProjectedGradientDescent, SquareAttack, Threat, get_threat, pixels
from advss_tf.errors import InvalidInput, one_of

SUITES = ("quick", "standard", "full", "black_box")
# Where the field compares models: RobustBench's CIFAR threat models.
STANDARD_EPSILON = {"linf": 8 / 255, "l2": 0.5}
# Between the pieces of Square, images that are fooled leave the batch.
_QUERIES_A_PIECE = 500
THREAT_NAMES: dict[str, Literal["Linf", "L2"]] = {"linf": "Linf", "l2": "L2"}


@dataclass(frozen=True)
class Attempt:
    """One named attack: an image must survive each of its runs.

    Attributes:
        name: The attack's name in the record.
        attack: Called as `attack(goal, {"images": images}, seeds, epsilon=epsilon)`; `seeds` is one seed an image,
            `epsilon` one radius an image, (B, 1, 1, 1).
        num_restarts: Number of runs; a targeted attack has one for each target and start.
        objective: What it climbs, a name of `objectives.OBJECTIVES`.
        chain: If given, the attempt goes on with the images that the attempts of this chain before it left robust, as
            AutoAttack's do, and its accuracy is that of the chain so far.
        pieces: In how many calls one run is cut; between them the images that are fooled are dropped.
        piece_size: Queries a call, where there are several.
    """

    name: str
    attack: Any
    num_restarts: int = 1
    objective: str = "cross_entropy"
    chain: str | None = None
    pieces: int = 1
    piece_size: int = 0

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
    """What is attempted on every image: each attempt at each epsilon; `autoattack` is the version, where it is run."""

    suite: str
    norm: str
    epsilons: tuple[float, ...]
    attempts: tuple[Attempt, ...]
    autoattack: str | None = None

    @property
    def threat(self) -> Literal["Linf", "L2"]:
        """The norm as RobustBench writes it."""
        return THREAT_NAMES[self.norm]

    @property
    def headline(self) -> float:
        """The epsilon that stands for the record: the field's standard one if it is listed, else the largest."""
        standard = [eps for eps in self.epsilons if abs(eps - STANDARD_EPSILON[self.norm]) < 1e-9]
        return standard[0] if standard else max(self.epsilons)

    def with_autoattack(self, version: str, attempts: Sequence[Attempt]) -> Plan:
        """The same with AutoAttack's attempts behind those that are there."""
        return replace(self, attempts=(*self.attempts, *attempts), autoattack=version)


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
    """The attempts of a suite, or of the attacks that are given; without AutoAttack's, which depend on the classes.

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
    one_of("suite", suite, SUITES)
    one_of("norm", norm, STANDARD_EPSILON)
    radii = _radii(STANDARD_EPSILON[norm] if epsilons is None else epsilons)
    if suite == "black_box":
        return Plan(suite, norm, radii, (square_attempt(get_threat(norm, max(radii)), num_restarts=num_restarts),))
    counts = [num_steps] if isinstance(num_steps, int) else list(num_steps)
    made = [
        ProjectedGradientDescent(get_threat(norm, max(radii)), num_steps=count, step_size=step_size)
        for count in (counts[:1] if suite == "quick" else counts)
    ]
    return Plan(suite, norm, radii, tuple(_attempt(name, a, num_restarts) for name, a in _named(made).items()))


def square_attempt(threat: Threat, *, num_restarts: int = 1, chain: str | None = None) -> Attempt:
    """Square, which asks for logits and no gradients, with AutoAttack's 5,000 queries."""
    square = SquareAttack(threat)
    pieces = square.num_queries // _QUERIES_A_PIECE
    return Attempt("square", square, num_restarts, "margin", chain, pieces=pieces, piece_size=_QUERIES_A_PIECE)


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
        if not callable(attack) or not hasattr(attack, "threat") or name in ("clean", "worst", "autoattack"):
            raise InvalidInput(
                f"{name!r} is not an attack.",
                expected="an object such as ProjectedGradientDescent(Linf('8/255')), "
                "not named 'clean', 'worst' or 'autoattack'",
                received=f"{name}={attack!r}",
            )
        if attack.threat.norm not in THREAT_NAMES:
            raise InvalidInput(
                f"{name!r} attacks in no ball of pixels.",
                expected=f"an attack whose threat has a norm of {sorted(THREAT_NAMES)}; unforeseen attacks go to "
                "`evaluate_unforeseen`",
                received=f"norm={attack.threat.norm!r}",
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
