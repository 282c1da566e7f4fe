"""The report of one or several records: a page to read and Markdown to keep in a repository.

Synopsis:

    write_report(record, "report")
    write_report([record, baseline], "report", title="Digits", histories={"finetune": lines})

    report/
      index.html      the whole report in one file
      report.md       the same in Markdown
      figures/        the curves (SVG) and images (PNG) that report.md shows
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from advss_tf.errors import InvalidInput
from advss_tf.evaluation import figures
from advss_tf.evaluation.comparison import comparisons
from advss_tf.evaluation.page import html_page, lead
from advss_tf.evaluation.pictures import ExamplePictures, example_pictures
from advss_tf.evaluation.record import Record
from advss_tf.evaluation.svg import standalone
from advss_tf.evaluation.tables import (
    HOW_TO_READ,
    Cell,
    Table,
    accuracy_table,
    classes_table,
    distinct_names,
    facts,
    runs_table,
)
from advss_tf.workdir import replacing

_PIPE_ROW = "| {} |"
_OURS = re.compile(r"epsilon-\w+\.svg|training-\d+-\w+\.svg|example-\d+-\d+-\w+\.png")


def write_report(
    records: Record | Sequence[Record],
    folder: str | Path,
    *,
    title: str | None = None,
    histories: Mapping[str, figures.History] | None = None,
    max_examples: int = 8,
) -> Path:
    """Writes `index.html`, `report.md` and `figures/` into a folder.

    Args:
        records: One record or several; several are compared.
        folder: Where to write; made if it is not there. Files of an older report are replaced.
        title: The heading; default: "Robustness of" and the models.
        histories: Training histories by name, each a list with one dict per epoch as in `history.jsonl`. Drawn are
            `loss`, `val_loss`, `accuracy`, `val_accuracy`, `robust_accuracy`, `val_robust_accuracy`, where present.
        max_examples: How many images of each record are shown beside their attacked versions; 0 for none.

    Returns:
        The path of `index.html`.

    Raises:
        InvalidInput: if there is no record, or something else than records.
    """
    records = [records] if isinstance(records, Record) else list(records)
    if not records or not all(isinstance(record, Record) for record in records):
        raise InvalidInput(
            "There is nothing to report.",
            expected="one `Record` or several; `Record.load` reads them from disk",
            received=f"records={[type(record).__name__ for record in records]}",
        )
    folder, histories = Path(folder), histories or {}
    title = title or "Robustness of " + ", ".join(dict.fromkeys(record.name for record in records))
    page = html_page(records, title=title, histories=histories, max_examples=max_examples)
    files: dict[str, bytes] = {}
    text = "\n".join(_markdown(records, title, histories, max_examples, files))
    _write_figures(folder / "figures", files)
    for name, content in (("report.md", text), ("index.html", page)):
        with replacing(folder / name) as file:
            file.write(content.encode())
    return folder / "index.html"


def escape_markdown(words: str) -> str:
    """The words with every character that Markdown or HTML would read as markup escaped, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>|#~&$!])", r"\\\1", " ".join(str(words).split()))


def _write_figures(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        with replacing(folder / name) as file:
            file.write(content)
    for old in folder.glob("*"):
        # Only what a report has written: somebody may keep figures of their own here.
        if old.name not in files and _OURS.fullmatch(old.name):
            old.unlink()


def _markdown(
    records: Sequence[Record],
    title: str,
    histories: Mapping[str, figures.History],
    max_examples: int,
    files: dict[str, bytes],
) -> Iterator[str]:
    """The lines of `report.md`; the figures they point to are put in `files`."""
    names = distinct_names(records)
    yield f"# {escape_markdown(title)}\n\n{escape_markdown(lead(records))}\n"
    for record, name in zip(records, names, strict=True):
        for warning in record.warnings:
            yield f"> **⚠ {escape_markdown(name)}:** {escape_markdown(warning)}\n"
    yield f"## Results\n\n{HOW_TO_READ}\n"
    yield from _table(accuracy_table(records, names))
    runs = runs_table(records)
    if runs is not None:
        yield "### Over runs\n\nMean and 95 % t-interval over records of the same name.\n"
        yield from _table(runs)
    pairs = comparisons(records)
    if pairs:
        yield "### Pairs, image by image\n"
        yield from (f"- {escape_markdown(str(pair))}" for pair in pairs)
        yield ""
    yield from _curves(records, names, histories, files)
    for number, (record, name) in enumerate(zip(records, names, strict=True), 1):
        yield from _examples(example_pictures(record, max_examples=max_examples), name, number, files)
    yield "## How it was measured\n"
    for record, name in zip(records, names, strict=True):
        yield f"### {escape_markdown(name)}\n"
        yield from (f"- {escape_markdown(what)}: {escape_markdown(how)}" for what, how in facts(record))
        yield ""
        yield from _table(classes_table(record))


def _curves(
    records: Sequence[Record],
    names: Sequence[str],
    histories: Mapping[str, figures.History],
    files: dict[str, bytes],
) -> Iterator[str]:
    yield "## Accuracy against ε\n"
    for threat in dict.fromkeys(record.threat for record in records):
        same = [(record, name) for record, name in zip(records, names, strict=True) if record.threat == threat]
        svg = figures.accuracy_against_epsilon([record for record, _ in same], names=[name for _, name in same])
        yield _figure(svg, f"Worst-case accuracy against {threat} epsilon", f"epsilon-{threat.lower()}.svg", files)
    for number, (name, history) in enumerate(histories.items(), 1):
        panels = {"loss": figures.loss_curves(history), "accuracy": figures.accuracy_curves(history)}
        if any(panels.values()):
            yield f"## Training: {escape_markdown(name)}\n"
        for what, panel in panels.items():
            if panel:
                yield _figure(panel, f"{what} over the epochs", f"training-{number}-{what}.svg", files)


def _figure(svg: str, alt: str, file: str, files: dict[str, bytes]) -> str:
    files[file] = standalone(svg).encode()
    return f'<img src="figures/{file}" alt="{alt}" width="480">\n'


def _examples(examples: Sequence[ExamplePictures], name: str, number: int, files: dict[str, bytes]) -> Iterator[str]:
    if not examples:
        return
    yield f"## Examples: {escape_markdown(name)}\n"
    yield "The first image of each class, not picked by outcome. ✓ is a right prediction, ✗ a wrong one.\n"
    yield "| True label | Clean | Perturbation ×10 | Attacked |\n|---|---|---|---|"
    for place, example in enumerate(examples, 1):
        cells = [escape_markdown(example.label)]
        for what in ("clean", "perturbation", "attacked"):
            picture, file = getattr(example, what), f"example-{number}-{place}-{what}.png"
            files[file] = picture.png
            words = "" if picture.right is None else f"<br>{escape_markdown(picture.words)}"
            cells.append(f'<img src="figures/{file}" alt="{what}" width="96">{words}')
        yield _PIPE_ROW.format(" | ".join(cells))
    yield ""


def _table(table: Table) -> Iterator[str]:
    yield _PIPE_ROW.format(" | ".join(escape_markdown(column) for column in table.columns))
    yield _PIPE_ROW.format(" | ".join("---" if column == 0 else "---:" for column in range(len(table.columns))))
    for group in table.groups:
        for row in group:
            yield _PIPE_ROW.format(" | ".join(map(_cell, row)))
    yield ""


def _cell(cell: Cell) -> str:
    text = f"**{escape_markdown(cell.text)}**" if cell.strong else escape_markdown(cell.text)
    return f"{text}<br><sub>{escape_markdown(cell.detail)}</sub>" if cell.detail else text
