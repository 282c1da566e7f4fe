"""What a report is made of, before it is HTML or Markdown: sections of paragraphs, tables, figures and lists.

Synopsis:

    Section("Results", (Paragraph("Brackets hold …"), Heading("Over runs"), table, Figures((figure,))))

`page.py` and `markdown.py` write the same blocks, so neither can say what the other does not.
"""

from __future__ import annotations

from dataclasses import dataclass

from advss_tf.evaluation.report.pictures import ExamplePictures
from advss_tf.evaluation.report.tables import Table


@dataclass(frozen=True)
class Heading:
    """A heading inside a section."""

    text: str


@dataclass(frozen=True)
class Paragraph:
    """A paragraph that says how to read what follows."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """Pairs of what and how."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Figure:
    """A figure.

    Attributes:
        svg: What is drawn.
        caption: What it shows, in words; also for who cannot see it.
        file: The name of its file beside the Markdown.
        table: The same numbers; Markdown shows them instead of the drawing.
    """

    svg: str
    caption: str
    file: str
    table: Table | None = None


@dataclass(frozen=True)
class Figures:
    """Figures that belong side by side."""

    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Examples:
    """Images before and after an attack; `number` tells the files of one record from those of another."""

    pictures: tuple[ExamplePictures, ...]
    number: int


@dataclass(frozen=True)
class Fold:
    """Blocks under a heading, which a page can close."""

    title: str
    blocks: tuple[Block, ...]
    opened: bool = False


Block = Heading | Paragraph | Bullets | Facts | Table | Figures | Examples | Fold


@dataclass(frozen=True)
class Section:
    """A part of the report under a heading of its own."""

    title: str
    blocks: tuple[Block, ...]
