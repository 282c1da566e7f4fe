"""A report's sections as Markdown, for a repository or an issue; the drawings go to files beside it.

Synopsis:

    files = {}                                             # filled: name of the file -> its bytes
    text = "\\n".join(markdown(contents, sections, title="Digits", files=files))
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from functools import singledispatch

from advss_tf.evaluation.report.contents import Contents
from advss_tf.evaluation.report.document import (
    Block,
    Bullets,
    Examples,
    Facts,
    Figure,
    Figures,
    Fold,
    Heading,
    Paragraph,
    Section,
)
from advss_tf.evaluation.report.svg import standalone
from advss_tf.evaluation.report.tables import Cell, Table

_PIPE_ROW = "| {} |"
Files = dict[str, bytes]


def markdown(contents: Contents, sections: Sequence[Section], *, title: str, files: Files) -> Iterator[str]:
    """The lines of `report.md`; the drawings that they point to are put in `files`."""
    yield f"# {escape_markdown(title)}\n\n{escape_markdown(contents.lead)}\n"
    for name, text in contents.warnings:
        yield f"> **⚠ {escape_markdown(name)}:** {escape_markdown(text)}\n"
    for section in sections:
        yield f"## {escape_markdown(section.title)}\n"
        for block in section.blocks:
            yield from _lines(block, files)


def escape_markdown(words: str) -> str:
    """The words with every character that Markdown or HTML would read as markup escaped, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>|#~&$!])", r"\\\1", " ".join(str(words).split()))


def block_lines(block: Block, files: Files) -> Iterator[str]:
    """The lines of one block; drawings are put in `files`."""
    return _lines(block, files)


@singledispatch
def _lines(block: object, files: Files) -> Iterator[str]:
    raise TypeError(type(block).__name__)


@_lines.register
def _heading(block: Heading, files: Files) -> Iterator[str]:
    yield f"### {escape_markdown(block.text)}\n"


@_lines.register
def _paragraph(block: Paragraph, files: Files) -> Iterator[str]:
    yield f"{escape_markdown(block.text)}\n"


@_lines.register
def _bullets(block: Bullets, files: Files) -> Iterator[str]:
    yield from (f"- {escape_markdown(line)}" for line in block.lines)
    yield ""


@_lines.register
def _facts(block: Facts, files: Files) -> Iterator[str]:
    yield from (f"- {escape_markdown(what)}: {escape_markdown(how)}" for what, how in block.pairs)
    yield ""


@_lines.register
def _fold(block: Fold, files: Files) -> Iterator[str]:
    yield f"### {escape_markdown(block.title)}\n"
    for inner in block.blocks:
        yield from _lines(inner, files)


@_lines.register
def _figures(block: Figures, files: Files) -> Iterator[str]:
    for figure in block.figures:
        yield from _figure(figure, files)


def _figure(figure: Figure, files: Files) -> Iterator[str]:
    yield f"{escape_markdown(figure.caption)}\n"
    if figure.table is not None:
        yield from _lines(figure.table, files)
        return
    files[figure.file] = standalone(figure.svg).encode()
    yield f'<img src="figures/{figure.file}" alt="{html.escape(figure.caption)}" width="480">\n'


@_lines.register
def _examples(block: Examples, files: Files) -> Iterator[str]:
    yield "| True label | Clean | Perturbation ×10 | Attacked |\n|---|---|---|---|"
    for place, example in enumerate(block.pictures, 1):
        cells = [escape_markdown(example.label)]
        for what in ("clean", "perturbation", "attacked"):
            picture, file = getattr(example, what), f"example-{block.number}-{place}-{what}.png"
            files[file] = picture.png
            words = "" if picture.right is None else f"<br>{escape_markdown(picture.words)}"
            cells.append(f'<img src="figures/{file}" alt="{what}" width="96">{words}')
        yield _PIPE_ROW.format(" | ".join(cells))
    yield ""


@_lines.register
def _table(block: Table, files: Files) -> Iterator[str]:
    yield _PIPE_ROW.format(" | ".join(escape_markdown(column) for column in block.columns))
    rules = ["---" if column in block.text else "---:" for column in range(len(block.columns))]
    yield _PIPE_ROW.format(" | ".join(rules))
    for group in block.groups:
        for row in group:
            yield _PIPE_ROW.format(" | ".join(map(_cell, row)))
    yield ""


def _cell(cell: Cell) -> str:
    text = f"**{escape_markdown(cell.text)}**" if cell.strong and cell.text else escape_markdown(cell.text)
    return f"{text}<br><sub>{escape_markdown(cell.detail)}</sub>" if cell.detail else text
