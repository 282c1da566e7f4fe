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
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Seconds(NamedTuple):
    """One run: seconds by the clock on the wall, and seconds that the process kept cores busy (all cores added)."""

    wall: float
    cpu: float


class Comparison(NamedTuple):
    """How one contestant compares with another: first ÷ second.

    Attributes:
        first: The first's median: wall seconds, where times are compared.
        second: The second's median.
        ratio: The median of the rounds' ratios.
        low: Their lower quartile.
        high: Their upper quartile.
        cpu_ratio: The median of the rounds' ratios of processor time; None where no times are compared.
        rounds: How many rounds there were.
    """

    first: float
    second: float
    ratio: float
    low: float
    high: float
    cpu_ratio: float | None
    rounds: int


Contestant = Callable[[], Seconds]
# What a ratio is taken to at least, where the second figure is 0.
_LEAST = 1e-9


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
    walls = compare_figures([one.wall for one in first], [other.wall for other in second])
    cpus = compare_figures([one.cpu for one in first], [other.cpu for other in second])
    return walls._replace(cpu_ratio=cpus.ratio)


def compare_figures(first: Sequence[float], second: Sequence[float]) -> Comparison:
    """The same of figures >= 0 that are no times: counts, or sizes, one a round."""
    figures = np.array(list(zip(first, second, strict=True)), np.float64)
    low, ratio, high = np.percentile(figures[:, 0] / np.maximum(figures[:, 1], _LEAST), (25, 50, 75))
    medians = np.median(figures, axis=0)
    return Comparison(*(float(x) for x in (*medians, ratio, low, high)), cpu_ratio=None, rounds=len(figures))


def fastest(times: Mapping[str, Sequence[Seconds]], labels: Iterable[str]) -> str:
    """Which of some contestants took least time by the clock on the wall."""
    return min(labels, key=lambda label: sum(seconds.wall for seconds in times[label]))


def _spread(times: Mapping[str, Sequence[Seconds]], names: Sequence[str]) -> float:
    if len(names) < 2:
        return 0.0
    comparison = compare(times[names[0]], times[names[1]])
    return (comparison.high - comparison.low) / comparison.ratio
