"""The HTML page of a report: one file, nothing from a network, for a screen, a phone, paper, by day and by night.

Synopsis:

    html = html_page(records, title="Digits", histories={"finetune": lines}, max_examples=8)

Whatever comes from a record is escaped. Figures are inline SVG in the page's own colours, images are PNGs in the page.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from string import Template

from advss_tf.evaluation import figures
from advss_tf.evaluation.comparison import comparisons
from advss_tf.evaluation.pictures import ExamplePictures, Picture, example_pictures
from advss_tf.evaluation.record import CLEAN, WORST, Record, Result, epsilon_text
from advss_tf.evaluation.svg import css_variables
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
from advss_tf.version import __version__

# With more models than this the table says it better than tiles.
_MAX_TILES = 4


def html_page(
    records: Sequence[Record], *, title: str, histories: Mapping[str, figures.History], max_examples: int
) -> str:
    """The whole page as text."""
    names = distinct_names(records)
    body = [
        *(_tiles(records, names) if len(records) <= _MAX_TILES else ()),
        *_warnings(records, names),
        *_results(records, names),
        *_curves(records, names),
        *_histories(histories),
        *(part for record, name in zip(records, names, strict=True) for part in _examples(record, name, max_examples)),
        *_details(records, names),
    ]
    css = Template(_template("report.css")).substitute(light=css_variables(dark=False), dark=css_variables(dark=True))
    return Template(_template("report.html")).substitute(
        title=_text(title), lead=_text(lead(records)), style=css, body="\n".join(body), version=_text(__version__)
    )


def lead(records: Sequence[Record]) -> str:
    """One sentence under the title: what was measured."""
    data = ", ".join(dict.fromkeys(record.dataset or "unnamed data" for record in records))
    balls = ", ".join(dict.fromkeys(f"{record.threat} {epsilon_text(record.eps, record.threat)}" for record in records))
    models = "One model" if len(records) == 1 else f"{len(records)} models"
    return f"{models} on {data}: clean accuracy, and accuracy under attack ({balls})."


def _tiles(records: Sequence[Record], names: Sequence[str]) -> Iterator[str]:
    yield '<section class="tiles">'
    for record, name in zip(records, names, strict=True):
        data = " ".join(filter(None, (record.dataset, record.split)))
        small = f"{data + ' · ' if data else ''}{record.num_images:,} images"
        yield f'<div class="card tile"><h3>{_text(name)}<small>{_text(small)}</small></h3>'
        yield _score("clean", "Clean", record.result(CLEAN))
        ball = f"Robust, {record.threat} {epsilon_text(record.eps, record.threat)}"
        yield _score("robust", ball, record.result(WORST)) + "</div>"
    yield "</section>"


def _score(kind: str, what: str, result: Result) -> str:
    share, low, high = (100 * number for number in (result.accuracy, result.low, result.high))
    return (
        f'<div class="score {kind}"><span class="what">{_text(what)}</span>'
        f'<span class="value">{share:.1f} %</span>'
        f'<span class="bar"><i style="width:{share:.2f}%"></i>'
        f'<b style="left:{low:.2f}%;width:{high - low:.2f}%"></b></span>'
        f'<span class="range">95 % interval {low:.1f} to {high:.1f} %, '
        f"{result.correct:,} of {result.total:,}</span></div>"
    )


def _warnings(records: Sequence[Record], names: Sequence[str]) -> Iterator[str]:
    said = [(name, text) for record, name in zip(records, names, strict=True) for text in record.warnings]
    if said:
        lines = "".join(f"<p><strong>⚠ {_text(name)}:</strong> {_text(text)}</p>" for name, text in said)
        yield f'<section class="warnings" role="note">{lines}</section>'


def _results(records: Sequence[Record], names: Sequence[str]) -> Iterator[str]:
    yield f'<section><h2>Results</h2><p class="note">{_text(HOW_TO_READ)}</p>'
    yield _table(accuracy_table(records, names), text_columns=2)
    runs = runs_table(records)
    if runs is not None:
        yield '<h3>Over runs</h3><p class="note">Mean and 95 % t-interval over records of the same name.</p>'
        yield _table(runs, text_columns=1)
    pairs = comparisons(records)
    if pairs:
        yield f"<h3>Pairs, image by image</h3><ul>{''.join(f'<li>{_text(str(pair))}</li>' for pair in pairs)}</ul>"
    yield "</section>"


def _curves(records: Sequence[Record], names: Sequence[str]) -> Iterator[str]:
    yield '<section><h2>Accuracy against ε</h2><div class="figures">'
    for threat in dict.fromkeys(record.threat for record in records):
        same = [(record, name) for record, name in zip(records, names, strict=True) if record.threat == threat]
        svg = figures.accuracy_against_epsilon([record for record, _ in same], names=[name for _, name in same])
        yield _figure(svg, f"Worst-case accuracy in {threat} balls of radius ε; ε = 0 is clean. Bands: Wilson 95 %.")
    by_class = figures.class_accuracies(records[0]) if len(records) == 1 else None
    if by_class:
        yield _figure(by_class, "The same class by class: how far each one falls.")
    yield "</div></section>"


def _histories(histories: Mapping[str, figures.History]) -> Iterator[str]:
    for name, history in histories.items():
        panels = [panel for panel in (figures.loss_curves(history), figures.accuracy_curves(history)) if panel]
        if panels:
            yield f'<section><h2>Training: {_text(name)}</h2><div class="figures">'
            yield "".join(_figure(panel, "") for panel in panels)
            yield "</div></section>"


def _examples(record: Record, name: str, max_examples: int) -> Iterator[str]:
    examples = example_pictures(record, max_examples=max_examples)
    if not examples:
        return
    ball = f"{record.threat} {epsilon_text(record.eps, record.threat)}"
    yield f"<section><h2>Examples: {_text(name)}</h2>"
    yield (
        f'<p class="note">The first image of each class, not picked by outcome, attacked in the {_text(ball)} ball. '
        "The middle image is what the attack added, ten times as strong, around grey. "
        "✓ is a right prediction, ✗ a wrong one.</p>"
    )
    yield f'<div class="examples">{"".join(map(_example, examples))}</div></section>'


def _example(example: ExamplePictures) -> str:
    parts = (("clean", example.clean), ("added", example.perturbation), ("attacked", example.attacked))
    columns = "".join(f"<div>{_picture(what, picture)}</div>" for what, picture in parts)
    return (
        f'<div class="card example"><h4><span>true label</span> {_text(example.label)}</h4>'
        f'<div class="triple">{columns}</div></div>'
    )


def _picture(what: str, picture: Picture) -> str:
    kind = {True: "right", False: "wrong", None: ""}[picture.right]
    words = _text(picture.words)
    image = f'<img src="{picture.data_uri}" alt="{what}: {words}">'
    return f'{image}<span>{what}</span><em class="{kind}">{words}</em>'


def _details(records: Sequence[Record], names: Sequence[str]) -> Iterator[str]:
    yield "<section><h2>How it was measured</h2>"
    for record, name in zip(records, names, strict=True):
        rows = "".join(f"<dt>{_text(what)}</dt><dd>{_text(how)}</dd>" for what, how in facts(record))
        opened = " open" if len(records) == 1 else ""
        yield f'<details class="card"{opened}><summary>{_text(name)}</summary><dl>{rows}</dl></details>'
        table = _table(classes_table(record), text_columns=1, card=False)
        yield f'<details class="card"><summary>{_text(name)}, class by class</summary>{table}</details>'
    yield "</section>"


def _figure(svg: str, caption: str) -> str:
    words = f"<figcaption>{_text(caption)}</figcaption>" if caption else ""
    return f'<figure class="card">{svg}{words}</figure>'


def _table(table: Table, *, text_columns: int, card: bool = True) -> str:
    """A table that scrolls sideways where it is too wide; cells that a group shares are written once."""

    def kind(column: int) -> str:
        names = ["text"] * (column < text_columns) + ["aside"] * (0 < column < table.shared - 1)
        return f' class="{" ".join(names)}"' if names else ""

    head = "".join(f'<th scope="col"{kind(column)}>{_text(name)}</th>' for column, name in enumerate(table.columns))
    bodies = []
    for group in table.groups:
        rows = []
        for number, row in enumerate(group):
            first = 0 if number == 0 else table.shared
            cells = (
                f"<td{kind(column)}{_span(len(group), column < table.shared)}>{_cell(cell)}</td>"
                for column, cell in enumerate(row)
                if column >= first
            )
            rows.append(f"<tr>{''.join(cells)}</tr>")
        bodies.append(f"<tbody>{''.join(rows)}</tbody>")
    frame = "card scroll" if card else "scroll"
    return f'<div class="{frame}"><table><thead><tr>{head}</tr></thead>{"".join(bodies)}</table></div>'


def _span(rows: int, shared: bool) -> str:
    return f' rowspan="{rows}"' if shared else ""


def _cell(cell: Cell) -> str:
    text = f"<strong>{_text(cell.text)}</strong>" if cell.strong else _text(cell.text)
    return f"{text}<small>{_text(cell.detail)}</small>" if cell.detail else text


def _template(name: str) -> str:
    return (resources.files("advss_tf.evaluation") / "templates" / name).read_text(encoding="utf-8")


def _text(words: str) -> str:
    return html.escape(str(words), quote=True)
