"""What is compared, one function a row: each yields `Row`s as they are measured.

Synopsis:

    for row in ROWS["steady"](Settings(networks=("small",), rounds=7)):
        print(row.name, row.comparison.ratio)
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.contestants import NETWORKS, Network, input_gradients, ours, plain, steps_of, weight_gradients
from benchmarks.facts import machine_facts
from benchmarks.pairs import Contestant, Seconds, alternate, clocked, compare, fastest
from benchmarks.pretext_rows import PRETEXT_ROWS
from benchmarks.results import Row
from benchmarks.turns import Settings, compared, in_turns, long_after, networks_of, steadily
from benchmarks.view_rows import VIEW_ROWS
from benchmarks.workers import Worker


def steady(settings: Settings) -> Iterator[Row]:
    """A step of ours beside the same step written plainly, both long after their first call."""
    for name, network in networks_of(settings):
        first, second = f"ours, {settings.num_steps} steps", f"plain, {settings.num_steps} steps"
        yield compared("steady", name, _pair(network, settings, (first, second)), settings, target=1.0)


def first(settings: Settings) -> Iterator[Row]:
    """The first call, which traces: ours beside the plain step, and ours with four times the steps."""
    _warm_up(settings.num_steps)
    few, many = settings.num_steps, 4 * settings.num_steps
    for name, network in networks_of(settings):
        contestants = {
            f"first call of ours, {few} steps": _first_call(lambda n=network: ours(n, num_steps=few), network),
            f"first call of plain, {few} steps": _first_call(lambda n=network: plain(n, num_steps=few), network),
        }
        yield compared("first", name, contestants, settings, rounds=_few(settings), target=0.5)
        # The graph of two images is that of the whole batch, and running it takes next to no time.
        short = network._replace(batch=2)
        contestants = {
            f"preparation of ours, {count} steps": _preparation(lambda n=short, c=count: ours(n, num_steps=c), short)
            for count in (many, few)
        }
        yield compared("first", name, contestants, settings, rounds=_few(settings), target=1.25)


def floor(settings: Settings) -> Iterator[Row]:
    """A step of ours beside the passes that it cannot do without, each measured alone."""
    for name, network in networks_of(settings):
        contestants = {
            f"ours, {settings.num_steps} steps": long_after(ours(network, num_steps=settings.num_steps), network)
        }
        passes = {
            "input gradient": input_gradients(network),
            "input gradient, folded": input_gradients(network, folded=True),
        }
        for label, one_pass in passes.items():
            one_pass()
            contestants[label] = clocked(lambda once=one_pass: [once() for _ in range(settings.num_steps)])
        weights = weight_gradients(network)
        weights()
        contestants["weight gradient"] = clocked(weights)
        times = alternate(contestants, rounds=settings.rounds)
        best = min(passes, key=lambda label: sum(seconds.wall for seconds in times[label]))
        floors = [_sum(*pair) for pair in zip(times[best], times["weight gradient"], strict=True)]
        ours_label = next(iter(contestants))
        yield Row(
            "floor",
            name,
            ours_label,
            f"{settings.num_steps} × {best} + 1 × weight gradient",
            compare(times[ours_label], floors),
            target=1.15,
            times=times,
        )


def bfloat16(settings: Settings) -> Iterator[Row]:
    """A step under `mixed_bfloat16` beside one in float32, where the processor has instructions for it."""
    labels = ("mixed_bfloat16", "float32")
    able = bool(machine_facts(())["bfloat16"])
    for name, network in networks_of(settings):
        if not able and not settings.force_bfloat16:
            yield Row("bfloat16", name, *labels, note="this CPU has no bfloat16 instructions")
            continue
        models = {policy: ours(network, num_steps=settings.num_steps, policy=policy) for policy in labels}
        note = _losses_apart(models, network) if settings.long else ""
        contestants = {policy: long_after(model, network) for policy, model in models.items()}
        yield compared("bfloat16", name, contestants, settings, target=0.7 if able else None, note=note)


def xla(settings: Settings) -> Iterator[Row]:
    """A step compiled by XLA beside one that is not."""
    for name, network in networks_of(settings):
        models = {
            label: ours(network, num_steps=settings.num_steps, jit_compile=label == "XLA")
            for label in ("XLA", "without XLA")
        }
        yield compared("xla", name, {label: long_after(model, network) for label, model in models.items()}, settings)


def onednn(settings: Settings) -> Iterator[Row]:
    """A step with TensorFlow's oneDNN kernels beside one with its own; a process has the one or the other."""
    for name, _ in networks_of(settings):
        workers = {label: _ours_worker(name, settings, label) for label in ("oneDNN on", "oneDNN off")}
        yield compared("onednn", name, workers, settings)


def torch(settings: Settings) -> Iterator[Row]:
    """The fastest of our forms beside the fastest of PyTorch's, each in a process of its own."""
    for name, network in networks_of(settings):
        if settings.torch_python is None:
            yield Row("torch", name, "ours", "PyTorch", note="no environment with PyTorch: see --torch-python")
            continue
        forms = {f"ours, {label}": _ours_worker(name, settings, label) for label in ("oneDNN on", "oneDNN off")}
        if _has_bfloat16(settings):
            forms["ours, bfloat16"] = _ours_worker(name, settings, "oneDNN on", policy="mixed_bfloat16")
        theirs = _torch_workers(network, settings)
        counts = {worker.facts["weights"] for worker in (*forms.values(), *theirs.values())}
        times = in_turns(forms | theirs, settings)
        best, rival = (fastest(times, labels) for labels in (forms, theirs))
        note = "" if len(counts) == 1 else f"the networks differ in size: {sorted(counts)} weights"
        yield Row("torch", name, best, rival, compare(times[best], times[rival]), note=note, times=times)


ROWS: dict[str, Callable[[Settings], Iterator[Row]]] = {
    "steady": steady,
    **PRETEXT_ROWS,
    **VIEW_ROWS,
    "first": first,
    "floor": floor,
    "bfloat16": bfloat16,
    "xla": xla,
    "onednn": onednn,
    "torch": torch,
}


def _pair(network: Network, settings: Settings, labels: tuple[str, str]) -> dict[str, Contestant]:
    models = (make(network, num_steps=settings.num_steps) for make in (ours, plain))
    return steadily(dict(zip(labels, models, strict=True)), network)


def _first_call(make: Callable[[], Any], network: Network) -> Contestant:
    """A new model each time; only its first step is on the clock."""

    def run() -> Seconds:
        step = clocked(steps_of(make(), network))
        return step()

    return run


def _preparation(make: Callable[[], Any], network: Network) -> Contestant:
    """What the first call takes longer than the second: tracing and optimising the graph."""

    def run() -> Seconds:
        step = clocked(steps_of(make(), network))
        first_call, second = step(), step()
        return Seconds(first_call.wall - second.wall, first_call.cpu - second.cpu)

    return run


def _warm_up(num_steps: int) -> None:
    """What a process does only once must not count for whoever comes first."""
    for make in (ours, plain):
        steps_of(make(NETWORKS["tiny"], num_steps=num_steps), NETWORKS["tiny"])()


def _few(settings: Settings) -> int:
    return max(1, settings.rounds // 3)


def _sum(passes: Seconds, weights: Seconds) -> Seconds:
    return Seconds(passes.wall + weights.wall, passes.cpu + weights.cpu)


def _losses_apart(models: dict[str, Any], network: Network, *, num_steps: int = 100) -> str:
    """How far the mean losses of the first 100 steps lie apart."""
    losses = {}
    for policy, model in models.items():
        step = steps_of(model, network)
        losses[policy] = [step() for _ in range(num_steps)][-1]
    (low, high), numbers = sorted(losses.values()), ", ".join(f"{key} {loss:.4f}" for key, loss in losses.items())
    return f"mean loss of {num_steps} steps: {numbers} ({(high - low) / low:.1%} apart)"


def _has_bfloat16(settings: Settings) -> bool:
    return bool(machine_facts(())["bfloat16"]) or settings.force_bfloat16


def _ours_worker(name: str, settings: Settings, label: str, *, policy: str = "float32") -> Worker:
    command = [sys.executable, "-m", "benchmarks.tensorflow_step", name]
    options = ["--num-steps", str(settings.num_steps), "--policy", policy]
    return Worker([*command, *options], environment={"TF_ENABLE_ONEDNN_OPTS": "1" if label == "oneDNN on" else "0"})


def _torch_workers(network: Network, settings: Settings) -> dict[str, Worker]:
    forms = {"PyTorch": [], "PyTorch, channels_last": ["--channels-last"]}
    if _has_bfloat16(settings):
        forms["PyTorch, channels_last, bfloat16"] = ["--channels-last", "--bfloat16"]
    if settings.torch_compile:
        forms["PyTorch, channels_last, compiled"] = ["--channels-last", "--compile"]
    sizes = {"width": network.width, "batch": network.batch, "size": network.size, "num-steps": settings.num_steps}
    script = Path(__file__).with_name("torch_step.py")
    command = [settings.torch_python, str(script), network.kind, *(f"--{key}={value}" for key, value in sizes.items())]
    return {label: Worker([*command, *flags]) for label, flags in forms.items()}
