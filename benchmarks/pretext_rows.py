"""What pretext tasks cost a step, one function a row.

Synopsis:

    for row in PRETEXT_ROWS["puzzles"](Settings(networks=("small",), rounds=7)):
        print(row.first, row.second, row.comparison.ratio)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.contestants import pretext, steps_of, unposed
from benchmarks.pairs import clocked
from benchmarks.results import Row
from benchmarks.turns import Settings, compared, networks_of, steadily


def puzzles(settings: Settings) -> Iterator[Row]:
    """A step of a task whose puzzle moves pixels beside the same step without it, and of Selfie beside rotation's."""
    for name, network in networks_of(settings):
        for kind in ("rotation", "jigsaw"):
            pair = {kind: pretext(network, kind, num_steps=settings.num_steps)}
            pair["no puzzle"] = unposed(network, pair[kind].num_answers, num_steps=settings.num_steps)
            yield compared("puzzles", name, steadily(pair, network), settings, target=1.05)
        pair = {"selfie": pretext(network, "selfie", num_steps=settings.num_steps, num_layers=2, num_heads=4)}
        pair["rotation"] = pretext(network, "rotation", num_steps=settings.num_steps)
        yield compared("puzzles", name, steadily(pair, network), settings)


def ensemble(settings: Settings) -> Iterator[Row]:
    """A step of ensemble pretraining beside a step of each of its tasks alone, one after the other."""
    tasks: dict[str, dict[str, Any]] = {"rotation": {}, "jigsaw": {}, "selfie": {"num_layers": 2, "num_heads": 4}}
    for name, network in networks_of(settings):
        alone = [pretext(network, kind, num_steps=settings.num_steps, **options) for kind, options in tasks.items()]
        members = [{"kind": kind, **options} for kind, options in tasks.items()]
        together = pretext(network, "ensemble", num_steps=settings.num_steps, tasks=members)
        steps = {"ensemble": [steps_of(together, network)], "tasks alone": [steps_of(one, network) for one in alone]}
        for each in steps.values():
            [step() for step in each]
        contestants = {label: clocked(lambda each=each: [step() for step in each]) for label, each in steps.items()}
        yield compared("ensemble", name, contestants, settings, target=3.0)


PRETEXT_ROWS: dict[str, Callable[[Settings], Iterator[Row]]] = {"puzzles": puzzles, "ensemble": ensemble}
