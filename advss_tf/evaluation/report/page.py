"""The HTML page of a report: one file, nothing from a network, for a screen, a phone, paper, by day and by night.

Synopsis:

    html = html_page(contents, sections, title="Digits")

Whatever comes from a record is escaped. Figures are inline SVG in the page's own colours, images are PNGs in the page.
The page forbids itself everything else: its content security policy names the one script that it may hold, which sorts
tables, by its hash. Without scripts the tables stand sorted as they were written.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterator, Sequence
from functools import singledispatch
from importlib import resources
from string import Template

from advss_tf.evaluation.records.record import CLEAN, WORST, Result, epsilon_text
from advss_tf.evaluation.report.contents import TITLES, Contents, Model
from advss_tf.evaluation.report.distortions import extent
from advss_tf.evaluation.report.document import (
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
from advss_tf.evaluation.report.pictures import ExamplePictures, Picture
from advss_tf.evaluation.report.svg import css_variables
from advss_tf.evaluation.report.tables import Cell, Table
from advss_tf.version import __version__

# With more models than this the table says it better than tiles.
_MAX_TILES = 4


def html_page(contents: Contents, sections: Sequence[Section], *, title: str) -> str:
    """The whole page as text."""
    body = "\n".join([*_tiles(contents), *_warnings(contents), *map(_section, sections)])
    css = Template(_template("report.css")).substitute(light=css_variables(dark=False), dark=css_variables(dark=True))
    script = "\n" + _template("sort.js") if "data-keys=" in body else ""
    return Template(_template("report.html")).substitute(
        title=_text(title),
        lead=_text(contents.lead),
        policy=_policy(script),
        style=css,
        body=body,
        script=f"<script>{script}</script>\n" if script else "",
        version=_text(__version__),
    )


def _policy(script: str) -> str:
    """Allows the page its own style, the images inside it and, by its hash, this script."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        policy += f"; script-src 'sha256-{digest}'"
    return policy


def _tiles(contents: Contents) -> Iterator[str]:
    models = contents.models
    if len(models) > _MAX_TILES:
        return
    yield f'<section class="tiles">{"".join(map(_tile, models))}</section>'


def _tile(model: Model) -> str:
    header = model.header
    data = " ".join(filter(None, (header.dataset, header.split)))
    small = f"{data + ' · ' if data else ''}{header.num_images:,} images"
    scores = []
    if model.attacked is not None:
        record = model.attacked
        ball = f"Robust, {record.threat} {epsilon_text(record.eps, record.threat)}"
        scores += [_score("clean", "Clean", record.result(CLEAN)), _score("robust", ball, record.result(WORST))]
    for kind, distorted in model.distorted.items():
        if not scores:
            scores.append(_score("clean", "Clean", distorted.result(CLEAN, 0)))
        mce = f", mCE {100 * distorted.mce:.1f} %" if distorted.mce is not None else ""
        scores.append(_bar("distorted", TITLES[kind], distorted.corruptions_acc, f"mean of {extent(distorted)}{mce}"))
    return f'<div class="card tile"><h3>{_text(model.name)}<small>{_text(small)}</small></h3>{"".join(scores)}</div>'


def _score(kind: str, what: str, result: Result) -> str:
    low, high = 100 * result.low, 100 * result.high
    interval = f'<b style="left:{low:.2f}%;width:{high - low:.2f}%"></b>'
    words = f"95 % interval {low:.1f} to {high:.1f} %, {result.correct:,} of {result.total:,}"
    return _bar(kind, what, result.accuracy, words, interval)


def _bar(kind: str, what: str, share: float, words: str, interval: str = "") -> str:
    return (
        f'<div class="score {kind}"><span class="what">{_text(what)}</span>'
        f'<span class="value">{100 * share:.1f} %</span>'
        f'<span class="bar"><i style="width:{100 * share:.2f}%"></i>{interval}</span>'
        f'<span class="range">{_text(words)}</span></div>'
    )


def _warnings(contents: Contents) -> Iterator[str]:
    lines = "".join(f"<p><strong>⚠ {_text(name)}:</strong> {_text(text)}</p>" for name, text in contents.warnings)
    if lines:
        yield f'<section class="warnings" role="note">{lines}</section>'


def _section(section: Section) -> str:
    return f"<section><h2>{_text(section.title)}</h2>{''.join(map(_block, section.blocks))}</section>"


@singledispatch
def _block(block: object) -> str:
    raise TypeError(type(block).__name__)


@_block.register
def _heading(block: Heading) -> str:
    return f"<h3>{_text(block.text)}</h3>"


@_block.register
def _paragraph(block: Paragraph) -> str:
    return f'<p class="note">{_text(block.text)}</p>'


@_block.register
def _bullets(block: Bullets) -> str:
    return f"<ul>{''.join(f'<li>{_text(line)}</li>' for line in block.lines)}</ul>"


@_block.register
def _facts(block: Facts) -> str:
    return f"<dl>{''.join(f'<dt>{_text(what)}</dt><dd>{_text(how)}</dd>' for what, how in block.pairs)}</dl>"


@_block.register
def _fold(block: Fold) -> str:
    inner = "".join(map(_block, block.blocks))
    opened = " open" if block.opened else ""
    return f'<details class="card"{opened}><summary>{_text(block.title)}</summary>{inner}</details>'


@_block.register
def _figures(block: Figures) -> str:
    return f'<div class="figures">{"".join(map(_figure, block.figures))}</div>'


def _figure(figure: Figure) -> str:
    caption = _text(figure.caption)
    svg = figure.svg.replace("<svg ", f'<svg role="img" aria-label="{caption}" ', 1)
    return f'<figure class="card">{svg}<figcaption>{caption}</figcaption></figure>'


@_block.register
def _examples(block: Examples) -> str:
    return f'<div class="examples">{"".join(map(_example, block.pictures))}</div>'


def _example(example: ExamplePictures) -> str:
    parts = (("clean", example.clean), ("added", example.perturbation), ("attacked", example.attacked))
    columns = "".join(f"<div>{_picture(what, picture)}</div>" for what, picture in parts)
    return (
        f'<div class="card example"><h4><span>True label</span> {_text(example.label)}</h4>'
        f'<div class="triple">{columns}</div></div>'
    )


def _picture(what: str, picture: Picture) -> str:
    kind = {True: "right", False: "wrong", None: ""}[picture.right]
    words = _text(picture.words)
    image = f'<img src="{picture.data_uri}" alt="{what}: {words}">'
    return f'{image}<span>{what}</span><em class="{kind}">{words}</em>'


@_block.register
def _table(block: Table) -> str:
    """A table that scrolls sideways where it is too wide; cells that a group shares are written once."""
    head = "".join(_head(block, column) for column in range(len(block.columns)))
    bodies = []
    for number, group in enumerate(block.groups):
        keys = f' data-keys="{_text(json.dumps(block.keys[number]))}"' if block.keys else ""
        rows = (_row(block, row, first=place == 0, span=len(group)) for place, row in enumerate(group))
        bodies.append(f"<tbody{keys}>{''.join(rows)}</tbody>")
    table = f"<table><thead><tr>{head}</tr></thead>{''.join(bodies)}</table>"
    return f'<div class="card scroll">{table}</div>'


def _head(table: Table, column: int) -> str:
    sorts = any(keys[column] is not None for keys in table.keys)
    first = f' data-first="{"ascending" if column in table.rising else "descending"}"' if sorts else ""
    # The order in which the rows are written is that of the rank.
    sorted_now = ' aria-sort="ascending"' if sorts and table.columns[column] == "Rank" else ""
    return f'<th scope="col"{_kind(table, column)}{first}{sorted_now}>{_text(table.columns[column])}</th>'


def _row(table: Table, row: Sequence[Cell], *, first: bool, span: int) -> str:
    cells = []
    for column, cell in enumerate(row):
        shared = column < table.shared
        if first or not shared:
            rows = f' rowspan="{span}"' if shared else ""
            cells.append(f"<td{_kind(table, column)}{rows}>{_cell(cell)}</td>")
    return f"<tr>{''.join(cells)}</tr>"


def _kind(table: Table, column: int) -> str:
    # Where a group of rows is one record, its name stands out.
    names = ["text"] * (column in table.text) + ["name"] * (column in table.text[:1] and table.shared > 0)
    names += ["aside"] * (column in table.aside)
    return f' class="{" ".join(names)}"' if names else ""


def _cell(cell: Cell) -> str:
    text = f"<strong>{_text(cell.text)}</strong>" if cell.strong else _text(cell.text)
    return f"{text}<small>{_text(cell.detail)}</small>" if cell.detail else text


def _template(name: str) -> str:
    return (resources.files("advss_tf.evaluation.report") / "templates" / name).read_text(encoding="utf-8")


def _text(words: str) -> str:
    return html.escape(str(words), quote=True)
