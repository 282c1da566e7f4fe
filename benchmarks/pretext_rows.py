"""What pretext tasks cost a step, one function a row.

Synopsis:

    for row in PRETEXT_ROWS["puzzles"](Settings(networks=("small",), rounds=7)):
        print(row.first, row.second, row.comparison.ratio)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from benchmarks.contestants import advcl, pretext, steps_of, unposed
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


def advcl_cache(settings: Settings) -> Iterator[Row]:
    """A step of AdvCL that forwards its clean views once beside one that does at every step of its attack.

    In both modes of the attack; the note says how far the weights are apart after one step at a learning rate of 1.
    """
    for name, network in networks_of(settings):
        data = network.views(4)
        for mode in ("training", "inference"):
            models = {
                label: advcl(network, cache=cache, num_steps=settings.num_steps, batch_norm=mode)
                for label, cache in ((f"clean views once, {mode}", True), ("at every step", False))
            }
            apart = _apart(list(models.values()), data)
            steps = {label: steps_of(model, network, data) for label, model in models.items()}
            for step in steps.values():
                step()
                step()
            contestants = {label: clocked(step) for label, step in steps.items()}
            yield compared("advcl", name, contestants, settings, note=f"gradients differ by {apart:.1e} of the largest")


def _apart(models: list[keras.Model], data: Any) -> float:
    """The largest difference of the weights' gradients in one step, over the largest gradient; the weights stay."""
    found = []
    for model in models:
        before, rate = model.get_weights(), model.optimizer
        model.compile(keras.optimizers.SGD(1.0), jit_compile=False)
        model.train_step(data)
        found.append([one - other for one, other in zip(model.get_weights(), before, strict=True)])
        model.set_weights(before)
        model.compile(rate, jit_compile=False)
    largest = max(np.abs(each).max() for each in found[0])
    return float(max(np.abs(one - other).max() for one, other in zip(*found, strict=True)) / largest)


PRETEXT_ROWS: dict[str, Callable[[Settings], Iterator[Row]]] = {
    "puzzles": puzzles,
    "ensemble": ensemble,
    "advcl": advcl_cache,
}
