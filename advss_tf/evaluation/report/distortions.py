"""What a report says of records of distortions: tables and the heat map of types by levels.

Synopsis:

    table = distortion_table(record)                      # types by levels, with means
    svg = distortion_map(record)                          # the same as a heat map
    for board in distortion_boards(records):
        summary_table(board, records, names)              # rank, clean, mean accuracy, mCE
        side_by_side(board, records, names)               # mean accuracy of each type, one column a model
"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import numpy as np

from advss_tf.evaluation.records.distortion_record import CORRUPTIONS, DistortionRecord
from advss_tf.evaluation.records.record import CLEAN, Result
from advss_tf.evaluation.report.diagrams import heat_map
from advss_tf.evaluation.report.leaderboard import WARNED, Leaderboard, alike, data_text, ranked
from advss_tf.evaluation.report.tables import Cell, Table, accuracy_cell, shared_facts

MEAN = "mean"


def grid(record: DistortionRecord) -> np.ndarray:
    """(types, levels) float, accuracies; NaN where a type was not run at a level."""
    found = {(row.attack, row.level): row.accuracy for row in record.results}
    return np.array([[found.get((kind, level), math.nan) for level in record.levels] for kind in record.kinds])


def with_means(values: np.ndarray) -> np.ndarray:
    """The grid with a row and a column of means over what is there; in the corner the mean over all cells."""
    right = np.concatenate([values, np.nanmean(values, axis=1, keepdims=True)], axis=1)
    below = [*np.nanmean(values, axis=0), np.nanmean(values)]
    return np.concatenate([right, [below]])


def distortion_map(record: DistortionRecord) -> str:
    """Accuracy of every type at every level with the means, and clean accuracy above them, as SVG text."""
    values = with_means(grid(record))
    clean = np.full((1, values.shape[1]), math.nan)
    clean[0, -1] = record.clean_acc
    values = np.concatenate([clean, values])
    # Means and clean accuracy are not cells of the grid: they have a colour of their own.
    series = np.zeros(values.shape, int)
    series[[0, -1]], series[:, -1] = 2, 2
    return heat_map(
        values,
        [[_number(value) for value in row] for row in values],
        rows=[CLEAN, *map(readable, record.kinds), MEAN],
        columns=[*map(str, record.levels), MEAN],
        series=series,
        column_title=f"{level_word(record)}",
        apart_rows=(1, len(values) - 1),
        apart_columns=(values.shape[1] - 1,),
    )


def distortion_table(record: DistortionRecord) -> Table:
    """The same numbers, in percent, as a table."""
    values = with_means(grid(record))
    last = values.shape[1] - 1
    rows = [
        (Cell(name), *(Cell(_number(value), strong=column == last) for column, value in enumerate(row)))
        for name, row in zip([*map(readable, record.kinds), MEAN], values, strict=True)
    ]
    clean = (Cell(CLEAN), *[Cell("")] * last, Cell(_number(record.clean_acc), strong=True))
    return Table(("Accuracy in %", *(f"{level}" for level in record.levels), MEAN), ((clean, *rows),))


def distortion_boards(records: Sequence[DistortionRecord]) -> list[Leaderboard]:
    """Records of the same images, distortions, levels and settings, each set ranked by mean accuracy."""
    boards = []
    for places in alike(records, [_terms(record) for record in records]):
        board = [records[place] for place in places]
        order, ranks = ranked([(record.corruptions_acc, record.clean_acc) for record in board])
        title = f"{data_text(board[0])} · {extent(board[0])}"
        boards.append(Leaderboard(title, tuple(places[each] for each in order), ranks))
    return boards


def summary_table(board: Leaderboard, records: Sequence[DistortionRecord], names: Sequence[str]) -> Table:
    """Rank, clean accuracy, mean accuracy and mCE of the records of a board, as a table that sorts.

    Records on a board of their own have no rank, and records whose mCE is against other models no common column of it.
    """
    chosen = [records[place] for place in board.places]
    baselines = {record.baseline for record in chosen if record.mce is not None}
    rows, keys = [], []
    for place, rank, record in zip(board.places, board.ranks, chosen, strict=True):
        detail = " · ".join(filter(None, (record.architecture, WARNED if record.warnings else "")))
        cells = [Cell(str(rank)), Cell(names[place], detail), accuracy_cell(record.result(CLEAN, 0))]
        cells += [Cell(f"{100 * record.corruptions_acc:.1f} %", strong=True), _mce_cell(record)][: 1 + bool(baselines)]
        # The errors of two baselines have no common order.
        mce = [record.mce if len(baselines) == 1 else None][: bool(baselines)]
        rows.append((tuple(cells),))
        keys.append((rank, names[place], record.clean_acc, record.corruptions_acc, *mce))
    columns = ("Rank", "Model", "Clean", "Mean accuracy", "mCE")[: 4 + bool(baselines)]
    return Table(columns, tuple(rows), shared=2, text=(1,), keys=tuple(keys), rising=(0, 1, 4))


def side_by_side(board: Leaderboard, records: Sequence[DistortionRecord], names: Sequence[str]) -> Table:
    """Mean accuracy over the levels of each type in percent, one column a model of the board; the best are strong."""
    chosen = [records[place] for place in board.places]
    lines = [(CLEAN, [record.clean_acc for record in chosen])]
    lines += [(readable(kind), [record.mean_accuracy(kind) for record in chosen]) for kind in chosen[0].kinds]
    lines += [(MEAN, [record.corruptions_acc for record in chosen])]
    rows = tuple(
        (Cell(name), *(Cell(_number(value), strong=math.isclose(value, max(values))) for value in values))
        for name, values in lines
    )
    return Table(("Accuracy in %", *(names[place] for place in board.places)), (rows,))


def distortion_facts(record: DistortionRecord) -> Iterator[tuple[str, str]]:
    """What one needs to repeat the evaluation, as (what, how)."""
    yield "Threat", f"{record.threat}, {extent(record)}"
    yield "Images", record.subset or f"all {record.num_images:,}"
    if record.mce is not None:
        yield "mCE", f"{100 * record.mce:.1f} %, relative to {record.baseline or 'an unnamed model'}"
    for what, how in record.notes.items():
        yield readable(what), how
    for kind in record.kinds:
        words = _settings([row for row in record.results if row.attack == kind])
        if words:
            yield readable(kind), words
    yield from shared_facts(record)


def extent(record: DistortionRecord) -> str:
    """`15 types × 5 severities`."""
    counts = (len(record.kinds), len(record.levels))
    plural = "severities" if record.threat == CORRUPTIONS else "sizes"
    one = "severity" if record.threat == CORRUPTIONS else "size"
    return f"{counts[0]} type{'s'[: counts[0] > 1]} × {counts[1]} {plural if counts[1] > 1 else one}"


def level_word(record: DistortionRecord) -> str:
    """What a level is: a severity, or the number of a distortion's size."""
    return "severity" if record.threat == CORRUPTIONS else "size of the distortion, from the smallest"


def readable(name: str) -> str:
    """`gaussian noise` for `gaussian_noise`."""
    return name.replace("_", " ")


def _terms(record: DistortionRecord) -> Hashable:
    rows = [[row.attack, row.level, row.eps, row.num_restarts, dict(row.parameters)] for row in record.results]
    return record.images_fingerprint, record.threat, json.dumps([rows, record.notes], sort_keys=True, default=str)


def _settings(rows: Sequence[Result]) -> str:
    """The sizes of a type where it has sizes, and what is the same at all its levels."""
    sizes = [f"{row.eps:.4g}" for row in rows if row.eps]
    same: dict[str, Any] = {
        name: value
        for name, value in rows[0].parameters.items()
        if value is not None and all(row.parameters.get(name) == value for row in rows)
    }
    return ", ".join([*(["sizes " + ", ".join(sizes)] if sizes else []), *(f"{n} {v}" for n, v in same.items())])


def _mce_cell(record: DistortionRecord) -> Cell:
    if record.mce is None:
        return Cell("–")
    return Cell(f"{100 * record.mce:.1f} %", f"against {record.baseline or 'an unnamed model'}")


def _number(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.1f}"
