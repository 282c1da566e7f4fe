"""The command that measures the evaluation: prints a table, and writes it as JSON under `runs/benchmarks/`.

Synopsis:

    .venv/bin/python -m benchmarks.evaluation                              # all rows
    .venv/bin/python -m benchmarks.evaluation --rows pgd --rounds 7
    .venv/bin/python -m benchmarks.evaluation --rows torchattacks --torch-python torch-env/bin/python
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from benchmarks.facts import machine_facts
from benchmarks.results import before_tensorflow, each, run

ROW_NAMES = ("pgd", "autoattack", "torchattacks", "memory", "first")
PACKAGES = ("advss-tf", "tensorflow", "keras", "numpy")
PEER_PACKAGES = {"foolbox": "foolbox", "art": "adversarial-robustness-toolbox"}


def main(arguments: Sequence[str] | None = None) -> Path:
    """Measures what the arguments ask for, and returns the path of the JSON file."""
    given = _arguments(arguments)
    before_tensorflow(given.onednn)
    from benchmarks.evaluation_rows import EVALUATION_ROWS
    from benchmarks.evaluation_settings import EvaluationSettings

    settings = EvaluationSettings(**{name: getattr(given, name) for name in EvaluationSettings._fields})
    peers = [package for module, package in PEER_PACKAGES.items() if importlib.util.find_spec(module)]
    return run(
        "evaluation",
        each(EVALUATION_ROWS, given.rows, settings),
        title="Time, strength and memory of the evaluation",
        facts=machine_facts([*PACKAGES, *peers]),
        settings=settings,
        folder=given.out,
    )


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.evaluation", description=__doc__.split("\n")[0])
    parser.add_argument("--rows", nargs="+", choices=ROW_NAMES, default=ROW_NAMES, help="what is measured")
    parser.add_argument("--network", choices=("small", "tiny"), default="small", help="tiny: shows that a row runs")
    parser.add_argument("--images", type=int, help="images a row, instead of 192 (pgd, first), 200 (autoattack) or all")
    parser.add_argument("--num-steps", type=int, default=20, help="steps of PGD")
    parser.add_argument("--batch", type=int, default=64, help="images a batch of PGD")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of a pair; half as many of what takes long")
    parser.add_argument(
        "--memory-images", type=int, nargs="+", default=(1000, 4000, 16000), help="sizes of the streams"
    )
    parser.add_argument("--norms", nargs="+", choices=("linf", "l2"), default=("linf", "l2"), help="for torchattacks")
    parser.add_argument("--onednn", choices=("default", "on", "off"), default="default", help="TensorFlow's kernels")
    parser.add_argument("--torch-python", help="the Python of an environment that has PyTorch and torchattacks")
    parser.add_argument("--out", default="runs/benchmarks", help="the folder of the JSON file")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
