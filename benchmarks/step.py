"""The command that measures the training step: prints a table, and writes it as JSON under `runs/benchmarks/`.

Synopsis:

    .venv/bin/python -m benchmarks.step                                   # all rows, both networks
    .venv/bin/python -m benchmarks.step --rows steady --networks small --rounds 15
    .venv/bin/python -m benchmarks.step --rows torch --torch-python torch-env/bin/python
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROW_NAMES = ("steady", "first", "floor", "bfloat16", "xla", "onednn", "torch")
NETWORK_NAMES = ("small", "wide", "tiny")
PACKAGES = ("advss-tf", "tensorflow", "keras", "cleverhans", "numpy")


def main(arguments: Sequence[str] | None = None) -> Path:
    """Measures what the arguments ask for, and returns the path of the JSON file."""
    given = _arguments(arguments)
    _before_tensorflow(given.onednn)
    from benchmarks.facts import machine_facts
    from benchmarks.rows import ROWS, Settings

    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    facts = {**machine_facts(PACKAGES), "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default")}
    console.print(" · ".join(f"{key} {value}" for key, value in facts.items()), style="dim")
    settings = Settings(**{name: getattr(given, name) for name in Settings._fields})
    rows = []
    for name in given.rows:
        for row in ROWS[name](settings):
            rows.append(row)
            console.print(f"{row.name} · {row.network} · {_verdict(row)} {row.note}", style="dim")
    console.print(table(rows))
    path = write(Path(given.out), facts, settings, rows)
    console.print(f"Written: {path}")
    return path


def table(rows: Sequence[Any]) -> Table:
    """The rows for people: times are medians in seconds, the ratio is the median of the rounds' with its quartiles."""
    shown = Table(title="Time of the training step")
    for heading in ("row", "network", "first ÷ second", "first, s", "second, s"):
        shown.add_column(heading, justify="right" if heading.endswith(", s") else "left")
    for heading in ("ratio", "quartiles", "cpu ratio", "target", ""):
        shown.add_column(heading, justify="right")
    for row in rows:
        shown.add_row(row.name, row.network, f"{row.first} ÷ {row.second}", *_figures(row))
    return shown


def write(folder: Path, facts: dict[str, Any], settings: Any, rows: Sequence[Any]) -> Path:
    """Writes facts, settings and every single time as one JSON file, named by the moment."""
    now = datetime.datetime.now(datetime.UTC)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{now:%Y%m%dT%H%M%S%f}.json"
    content = {
        "when": now.isoformat(),
        "machine": facts,
        "settings": settings._asdict(),
        "rows": [_plain(r) for r in rows],
    }
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _before_tensorflow(onednn: str) -> None:
    """What TensorFlow reads when it is imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if onednn != "default":
        os.environ["TF_ENABLE_ONEDNN_OPTS"] = {"on": "1", "off": "0"}[onednn]


def _figures(row: Any) -> tuple[str, ...]:
    if row.comparison is None:
        return ("", "", row.note, "", "", "", "")
    found = row.comparison
    target = "" if row.target is None else f"≤ {row.target:g}"
    return (
        f"{found.first:.3f}",
        f"{found.second:.3f}",
        f"{found.ratio:.3f}",
        f"{found.low:.3f}–{found.high:.3f}",
        f"{found.cpu_ratio:.3f}",
        target,
        _verdict(row) if row.target is not None else row.note,
    )


def _verdict(row: Any) -> str:
    if row.comparison is None:
        return "not measured"
    ratio = row.comparison.ratio
    return f"{ratio:.3f}" if row.target is None else ("met" if ratio <= row.target else "missed")


def _plain(row: Any) -> dict[str, Any]:
    times = {label: [seconds._asdict() for seconds in many] for label, many in (row.times or {}).items()}
    comparison = None if row.comparison is None else row.comparison._asdict()
    return {**row._asdict(), "comparison": comparison, "times": times}


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
