"""What was asked for, and how a pair of contestants becomes a row: in turns, long after their first call.

Synopsis:

    for name, network in networks_of(settings):
        yield compared("steady", name, steadily({"ours": ours_model, "plain": plain_model}, network), settings)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras

from benchmarks.contestants import NETWORKS, Network, steps_of
from benchmarks.pairs import Contestant, Seconds, alternate, clocked, compare
from benchmarks.results import Row
from benchmarks.workers import Worker


class Settings(NamedTuple):
    """What the command was asked for.

    Attributes:
        networks: Names in `NETWORKS`.
        num_steps: Steps of the attack.
        rounds: Rounds of a pair; a first call, which is long, gets a third of them.
        long: Whether to train 100 steps in bfloat16 and in float32, and to compare the losses.
        force_bfloat16: Whether to measure bfloat16 on a processor without instructions for it.
        torch_python: The Python of an environment with PyTorch, or None.
        torch_compile: Whether PyTorch's compiler takes part.
    """

    networks: tuple[str, ...] = ("small", "wide")
    num_steps: int = 10
    rounds: int = 7
    long: bool = False
    force_bfloat16: bool = False
    torch_python: str | None = None
    torch_compile: bool = False


def networks_of(settings: Settings) -> list[tuple[str, Network]]:
    return [(name, NETWORKS[name]) for name in settings.networks]


def compared(
    name: str,
    network: str,
    contestants: dict[str, Contestant],
    settings: Settings,
    *,
    rounds: int | None = None,
    target: float | None = None,
    note: str = "",
) -> Row:
    """Runs a pair, its workers' processes included, and says how it came out."""
    one, other = contestants
    times = in_turns(contestants, settings, rounds=rounds)
    return Row(name, network, one, other, compare(times[one], times[other]), target, note, times)


def in_turns(
    contestants: dict[str, Contestant], settings: Settings, *, rounds: int | None = None
) -> dict[str, list[Seconds]]:
    rounds = rounds or settings.rounds
    try:
        return alternate(contestants, rounds=rounds, most=2 * rounds)
    finally:
        for worker in contestants.values():
            if isinstance(worker, Worker):
                worker.__exit__()


def steadily(models: dict[str, keras.Model], network: Network) -> dict[str, Contestant]:
    return {label: long_after(model, network) for label, model in models.items()}


def long_after(model: Any, network: Network) -> Contestant:
    step = steps_of(model, network)
    step()
    step()
    return clocked(step)
