"""Writes what a grid came to: a table for people, the numbers for programs, the figures, and the page of every record.

Synopsis:

    write_grid(outcomes, "runs/grid_digits", axes=["task", "pretraining", "finetuning"], title="grid_digits")

    grid.md       the table of means, the figures, what failed
    grid.csv      a row for each run
    grid.json     the means with their intervals, and the rows
    figures/      clean-robust.svg, robust-epochs*.svg, accuracy-epsilon*.svg
    report/       the page of all records
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from advss_tf.evaluation.report.document import Bullets, Figure, Figures, Paragraph
from advss_tf.evaluation.report.grid_figures import accuracy_by_epsilon, clean_against_robust, robust_by_epoch
from advss_tf.evaluation.report.grid_table import Outcome, ball_text, grid_table, measured, run_rows, summaries
from advss_tf.evaluation.report.markdown import block_lines, escape_markdown
from advss_tf.evaluation.report.writer import write_report
from advss_tf.workdir import replacing, write_json

_OURS = re.compile(r"clean-robust\.svg|(robust-epochs|accuracy-epsilon)(-[\w.+-]+)?\.svg")


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
    write_json(folder / "grid.json", {"name": title, "axes": list(axes), "groups": summaries(outcomes), "runs": rows})
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
    failures = tuple(f"{outcome.name}: {outcome.error}" for outcome in outcomes if outcome.error)
    if failures:
        yield "## Failed\n"
        yield from block_lines(Bullets(failures), files)
    if pictures:
        yield from block_lines(Figures(tuple(_figures(outcomes, axes))), files)


def _how_to_read(outcomes: Sequence[Outcome]) -> str:
    ball = ball_text(outcomes)
    return (
        f"Accuracies are of test images, under attack{f' in {ball}' if ball else ''}; means have their 95 % t-interval "
        "where a group has several runs. Epochs to best: when finetuning reached its highest robust accuracy on "
        "held-out images, where its model was picked by that and it is above 0. A pretraining that runs share counts "
        "whole for each. Stages that were interrupted and gone on with are left out of the seconds: what was lost of "
        "an epoch is not known, so that theirs would be lower bounds."
    )


def _figures(outcomes: Sequence[Outcome], axes: Sequence[str]) -> Iterator[Figure]:
    scatter = clean_against_robust(outcomes, axes=axes)
    if scatter is not None:
        caption = (
            "Clean against robust accuracy; the area of a marker is the number of epochs to the best, small if none"
        )
        yield Figure(scatter, caption, "clean-robust.svg")
    drawings = (
        ("robust-epochs", "Robust accuracy on held-out images over the epochs of finetuning", robust_by_epoch),
        ("accuracy-epsilon", "Worst-case accuracy over the radius of the ball", accuracy_by_epsilon),
    )
    for stem, what, draw in drawings:
        for panel in draw(outcomes, axes=axes):
            name = re.sub(r"[^\w.+-]+", "_", panel.name, flags=re.ASCII)
            caption = f"{what}{f', {panel.name}' if panel.name else ''}; bands reach from the lowest run to the highest"
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
