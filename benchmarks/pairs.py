"""How two programs are compared on a machine that others use as well: in turns, and by the ratio of each turn.

Synopsis:

    times = alternate({"ours": clocked(ours), "plain": clocked(plain)}, rounds=7)
    comparison = compare(times["ours"], times["plain"])
    comparison.ratio, comparison.low, comparison.high      # median and quartiles of ours ÷ plain, round by round

What slows the machine down slows both halves of a round, so a round's ratio is steadier than any time. Beside the wall
clock stands the processor time of the process, which neighbours disturb less.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Seconds(NamedTuple):
    """One run: seconds by the clock on the wall, and seconds that the process kept cores busy (all cores added)."""

    wall: float
    cpu: float


class Comparison(NamedTuple):
    """How one contestant compares with another: first ÷ second.

    Attributes:
        first: Median wall seconds of the first.
        second: Median wall seconds of the second.
        ratio: The median of the rounds' ratios by the wall clock.
        low: Their lower quartile.
        high: Their upper quartile.
        cpu_ratio: The median of the rounds' ratios of processor time.
        rounds: How many rounds there were.
    """

    first: float
    second: float
    ratio: float
    low: float
    high: float
    cpu_ratio: float
    rounds: int


Contestant = Callable[[], Seconds]


def clocked(function: Callable[[], object]) -> Contestant:
    """A contestant that calls `function` once, which must not return before its work is done."""

    def run() -> Seconds:
        wall, cpu = time.perf_counter(), time.process_time()
        function()
        return Seconds(time.perf_counter() - wall, time.process_time() - cpu)

    return run


def alternate(
    contestants: Mapping[str, Contestant], *, rounds: int, most: int | None = None, settled: float = 0.15
) -> dict[str, list[Seconds]]:
    """Runs the contestants in turns; every other round in the opposite order.

    Args:
        contestants: By name; the first two are what is to be compared.
        rounds: How often each runs.
        most: If the ratio of the first two spreads too much after `rounds`, further rounds are run, up to this many.
        settled: The spread, quartile to quartile and relative to the median, that is small enough.

    Returns:
        For each name, one `Seconds` a round.
    """
    times: dict[str, list[Seconds]] = {name: [] for name in contestants}
    names = list(contestants)
    for number in range(max(rounds, most or 0)):
        if number >= rounds and _spread(times, names) <= settled:
            break
        for name in names if number % 2 == 0 else reversed(names):
            times[name].append(contestants[name]())
    return times


def compare(first: Sequence[Seconds], second: Sequence[Seconds]) -> Comparison:
    """What the rounds of two contestants say."""
    walls = np.array([[one.wall, other.wall] for one, other in zip(first, second, strict=True)])
    cpus = np.array([[one.cpu, other.cpu] for one, other in zip(first, second, strict=True)])
    low, ratio, high = np.percentile(walls[:, 0] / walls[:, 1], (25, 50, 75))
    cpu_ratio = np.median(cpus[:, 0] / np.maximum(cpus[:, 1], 1e-9))
    medians = np.median(walls, axis=0)
    return Comparison(*(float(x) for x in (*medians, ratio, low, high, cpu_ratio)), rounds=len(walls))


def _spread(times: Mapping[str, Sequence[Seconds]], names: Sequence[str]) -> float:
    if len(names) < 2:
        return 0.0
    comparison = compare(times[names[0]], times[names[1]])
    return (comparison.high - comparison.low) / comparison.ratio
