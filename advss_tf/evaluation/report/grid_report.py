"""Writes what a grid came to: a table for people, the numbers for programs, the figures, and the page of every record.

Synopsis:

    write_grid(outcomes, "runs/grid_digits", axes=["task", "pretraining", "finetuning"], title="grid_digits")

    grid.md       the table of means, that of differences to the baselines, the figures, what failed
    grid.csv      a row for each run
    grid.json     the means with their intervals, and the rows
    figures/      clean-robust*.svg, robust-epochs*.svg, accuracy-epsilon*.svg
    report/       the page of all records
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from advss_tf.evaluation.report.document import Bullets, Figure, Figures, Paragraph
from advss_tf.evaluation.report.grid_figures import accuracy_by_epsilon, robust_by_epoch
from advss_tf.evaluation.report.grid_numbers import run_rows, summaries
from advss_tf.evaluation.report.grid_pairs import difference_values, differences, differences_table
from advss_tf.evaluation.report.grid_scatter import clean_against_robust
from advss_tf.evaluation.report.grid_table import Outcome, ball_text, grid_table, measured
from advss_tf.evaluation.report.markdown import block_lines, escape_markdown
from advss_tf.evaluation.report.writer import write_report
from advss_tf.workdir import replacing, write_json

_OURS = re.compile(r"(clean-robust|robust-epochs|accuracy-epsilon)(-[\w.+-]+)?\.svg")
_WHICH = {
    "the ball of training": " (at the epsilon of training)",
    "several balls": " (at the epsilon of training where a run was attacked there, else the headline of its record)",
}
_HOW_TO_COMPARE = (
    "Each run less its baseline's run of the same seed, in percentage points: the mean over the pairs with the 95 % "
    "t-interval of the differences, where there are several, and how many of them are above 0. Robust is the worst "
    "case in the ball that the run is judged in. Epochs to the baseline's best: after how many epochs of finetuning "
    "robust accuracy on held-out images first was at least the highest that the baseline's run of the same seed ever "
    "has, in the mean over the pairs in which it was, and how many these are; beside it the epochs that the baseline's "
    "runs took themselves, in the mean over all pairs of which that is known."
)


def write_grid(
    outcomes: Sequence[Outcome], folder: str | Path, *, axes: Sequence[str], title: str, pictures: bool = True
) -> Path:
    """Writes the results of a grid into its folder; those of before are replaced.

    Args:
        outcomes: Every run of the grid, also those that failed or were not run yet.
        folder: Where to write.
        axes: The axes that tell groups apart, in order.
        title: The heading.
        pictures: Whether to draw the figures and write the page of all records as well, which takes longer.

    Returns:
        The path of the table, `grid.md`.
    """
    folder, files = Path(folder), dict[str, bytes]()
    lines = list(_markdown(outcomes, axes=axes, title=title, files=files, pictures=pictures))
    rows = run_rows(outcomes)
    write_json(folder / "grid.json", {"name": title, "axes": list(axes), "groups": _groups(outcomes), "runs": rows})
    for name, text in (("grid.csv", _csv(rows)), ("grid.md", "\n".join(lines) + "\n")):
        with replacing(folder / name) as file:
            file.write(text.encode())
    if pictures:
        _write_figures(folder / "figures", files)
        records = measured(outcomes)
        if records:
            write_report(records, folder / "report", title=title, max_examples=0)
    return folder / "grid.md"


def _markdown(
    outcomes: Sequence[Outcome], *, axes: Sequence[str], title: str, files: dict[str, bytes], pictures: bool
) -> Iterator[str]:
    done = sum(outcome.status == "finished" for outcome in outcomes)
    yield f"# {escape_markdown(title)}\n"
    yield from block_lines(Paragraph(f"{done} of {len(outcomes)} runs are finished. {_how_to_read(outcomes)}"), files)
    yield from block_lines(grid_table(outcomes, axes=axes), files)
    compared = differences_table(outcomes, axes=axes)
    if compared:
        yield "## Differences to the baseline\n"
        yield from block_lines(Paragraph(_HOW_TO_COMPARE), files)
        yield from block_lines(compared, files)
    failures = tuple(f"{outcome.name}: {outcome.error}" for outcome in outcomes if outcome.error)
    if failures:
        yield "## Failed\n"
        yield from block_lines(Bullets(failures), files)
    if pictures:
        yield from block_lines(Figures(tuple(_figures(outcomes, axes))), files)


def _groups(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """What JSON says of each group, with its differences where it has a baseline."""
    compared = {found.group: {"differences": difference_values(found)} for found in differences(outcomes)}
    return [{**group, **compared.get(group["group"], {})} for group in summaries(outcomes)]


def _how_to_read(outcomes: Sequence[Outcome]) -> str:
    ball = ball_text(outcomes)
    where = f" in {ball}{_WHICH.get(ball, '')}" if ball else ""
    return (
        f"Accuracies are of test images, under attack{where}; means have their 95 % t-interval "
        "where a group has several runs. Epochs to best: when finetuning reached its highest robust accuracy on "
        "held-out images, where its model was picked by that and it is above 0. A pretraining that runs share counts "
        "whole for each. Stages that were interrupted and gone on with are left out of the seconds: what was lost of "
        "an epoch is not known, so that theirs would be lower bounds."
    )


def _figures(outcomes: Sequence[Outcome], axes: Sequence[str]) -> Iterator[Figure]:
    area = "the area of a marker is the number of epochs to the best, small if none"
    bands = "bands reach from the lowest run to the highest"
    drawings = (
        ("clean-robust", "Clean against robust accuracy", area, clean_against_robust),
        ("robust-epochs", "Robust accuracy on held-out images over the epochs of finetuning", bands, robust_by_epoch),
        ("accuracy-epsilon", "Worst-case accuracy over the radius of the ball", bands, accuracy_by_epsilon),
    )
    for stem, what, how, draw in drawings:
        for panel in draw(outcomes, axes=axes):
            name = re.sub(r"[^\w.+-]+", "_", panel.name, flags=re.ASCII)
            caption = f"{what}{f', {panel.name}' if panel.name else ''}; {how}"
            yield Figure(panel.svg, caption, f"{stem}{f'-{name}' if name else ''}.svg")


def _csv(rows: Sequence[dict[str, object]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _write_figures(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        with replacing(folder / name) as file:
            file.write(content)
    for old in folder.glob("*.svg"):
        if old.name not in files and _OURS.fullmatch(old.name):
            old.unlink()
