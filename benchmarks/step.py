"""The command that measures the training step: prints a table, and writes it as JSON under `runs/benchmarks/`.

Synopsis:

    .venv/bin/python -m benchmarks.step                                   # all rows, both networks
    .venv/bin/python -m benchmarks.step --rows steady --networks small --rounds 15
    .venv/bin/python -m benchmarks.step --rows torch --torch-python torch-env/bin/python
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.facts import machine_facts
from benchmarks.results import before_tensorflow, each, run

ROW_NAMES = ("steady", "puzzles", "ensemble", "advcl", "views", "first", "floor", "bfloat16", "xla", "onednn", "torch")
NETWORK_NAMES = ("small", "wide", "tiny")
PACKAGES = ("advss-tf", "tensorflow", "keras", "cleverhans", "numpy")


def main(arguments: Sequence[str] | None = None) -> Path:
    """Measures what the arguments ask for, and returns the path of the JSON file."""
    given = _arguments(arguments)
    before_tensorflow(given.onednn)
    from benchmarks.rows import ROWS
    from benchmarks.turns import Settings

    settings = Settings(**{name: getattr(given, name) for name in Settings._fields})
    return run(
        "step",
        each(ROWS, given.rows, settings),
        title="Time of the training step",
        facts=machine_facts(PACKAGES),
        settings=settings,
        folder=given.out,
    )


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.step", description=__doc__.split("\n")[0])
    parser.add_argument("--rows", nargs="+", choices=ROW_NAMES, default=ROW_NAMES, help="what is measured")
    parser.add_argument("--networks", nargs="+", choices=NETWORK_NAMES, default=NETWORK_NAMES[:2])
    parser.add_argument("--num-steps", type=int, default=10, help="steps of the attack")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of a pair; twice as many where it spreads")
    parser.add_argument("--long", action="store_true", help="bfloat16: compare the losses of 100 training steps, too")
    parser.add_argument("--force-bfloat16", action="store_true", help="also on a CPU without instructions for it")
    parser.add_argument("--onednn", choices=("default", "on", "off"), default="default", help="TensorFlow's kernels")
    parser.add_argument("--torch-python", help="the Python of an environment that has PyTorch")
    parser.add_argument("--torch-compile", action="store_true", help="let PyTorch's compiler take part")
    parser.add_argument("--out", default="runs/benchmarks", help="the folder of the JSON file")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
