"""What a benchmark found: rows, the table that people read, and the JSON file that holds every single figure.

Synopsis:

    row = Row("steady", "small", "ours", "plain", compare(times["ours"], times["plain"]), target=1.0, times=times)
    report([row], name="step", title="Time of the training step", facts=facts, settings=settings, folder=folder)
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks.pairs import Comparison, Seconds


class Row(NamedTuple):
    """One line of the table: what was compared with what, on which network, and how that came out.

    Attributes:
        name: The row's name.
        network: The network's name.
        first: What stands above the line of the ratio.
        second: What stands below it.
        comparison: The figures; None if nothing was measured, and `note` says why.
        target: What the ratio should not exceed; None for a row that only informs.
        note: A remark.
        times: All times, by contestant.
        unit: Of `comparison.first` and `comparison.second`.
        found: What else was found, as plain JSON data.
    """

    name: str
    network: str
    first: str
    second: str
    comparison: Comparison | None = None
    target: float | None = None
    note: str = ""
    times: dict[str, list[Seconds]] | None = None
    unit: str = "s"
    found: dict[str, Any] | None = None


def before_tensorflow(onednn: str) -> None:
    """Sets what TensorFlow reads when it is imported; `onednn` is "on", "off" or "default"."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if onednn != "default":
        os.environ["TF_ENABLE_ONEDNN_OPTS"] = {"on": "1", "off": "0"}[onednn]


def run(
    name: str,
    rows: Iterable[Row],
    *,
    title: str,
    facts: dict[str, Any],
    settings: NamedTuple,
    folder: str | Path,
) -> Path:
    """Shows the rows as they are measured, then the table and the remarks, and writes the JSON file.

    Args:
        name: The benchmark's, the first word of the file's name.
        rows: Measured while they are iterated.
        title: Above the table.
        facts: About the machine.
        settings: What was asked for.
        folder: Where the file goes.

    Returns:
        The path of the JSON file.
    """
    console = _console()
    facts = {**facts, "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default")}
    console.print(" · ".join(f"{key} {value}" for key, value in facts.items()), style="dim")
    measured = []
    for row in rows:
        measured.append(row)
        console.print(f"{_called(row)} · {_verdict(row)}", style="dim")
    console.print(table(measured, title=title))
    for row in measured:
        if row.note:
            console.print(f"{_called(row)}: {row.note}")
    path = write(Path(folder), name, facts, settings, measured)
    console.print(f"Written: {path}")
    return path


def each(rows: dict[str, Callable[[Any], Iterable[Row]]], names: Sequence[str], settings: Any) -> Iterable[Row]:
    """The rows of these names, one after the other."""
    for name in names:
        yield from rows[name](settings)


def table(rows: Sequence[Row], *, title: str) -> Table:
    """The rows for people: medians, the median of the rounds' ratios with its quartiles."""
    shown = Table(title=title)
    for heading in ("row", "network", "first ÷ second"):
        shown.add_column(heading)
    for heading in ("first", "second", "ratio", "quartiles", "cpu ratio", "target", ""):
        shown.add_column(heading, justify="right")
    for row in rows:
        shown.add_row(row.name, row.network, f"{row.first} ÷ {row.second}", *_figures(row))
    return shown


def write(folder: Path, name: str, facts: dict[str, Any], settings: Any, rows: Sequence[Row]) -> Path:
    """Writes facts, settings and every single time as one JSON file, named by the moment."""
    now = datetime.datetime.now(datetime.UTC)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{now:%Y%m%dT%H%M%S%f}.json"
    content = {
        "when": now.isoformat(),
        "machine": facts,
        "settings": settings._asdict(),
        "rows": [_plain(row) for row in rows],
    }
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=160)


def _figures(row: Row) -> tuple[str, ...]:
    if row.comparison is None:
        return ("", "", _verdict(row), "", "", "", "")
    found = row.comparison
    several = found.rounds > 1
    return (
        f"{found.first:.4g} {row.unit}",
        f"{found.second:.4g} {row.unit}",
        f"{found.ratio:.3f}",
        f"{found.low:.3f}–{found.high:.3f}" if several else "",
        "" if found.cpu_ratio is None else f"{found.cpu_ratio:.3f}",
        "" if row.target is None else f"≤ {row.target:g}",
        "" if row.target is None else _verdict(row),
    )


def _called(row: Row) -> str:
    return f"{row.name} · {row.network} · {row.first} ÷ {row.second}"


def _verdict(row: Row) -> str:
    if row.comparison is None:
        return "not measured"
    ratio = row.comparison.ratio
    return f"{ratio:.3f}" if row.target is None else ("met" if ratio <= row.target else "missed")


def _plain(row: Row) -> dict[str, Any]:
    times = {label: [seconds._asdict() for seconds in many] for label, many in (row.times or {}).items()}
    comparison = None if row.comparison is None else row.comparison._asdict()
    return {**row._asdict(), "comparison": comparison, "times": times}
