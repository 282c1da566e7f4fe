"""Which records may be ranked against each other, and their rank.

Synopsis:

    for board in leaderboards(records):
        board.title                # "cifar10 test, 10,000 images · Linf 8/255 · AutoAttack (standard)"
        board.places, board.ranks  # places in `records`, best first, and their ranks
    table = leaderboard_table(board, records, names)     # one row a record; `full_table` has one an epsilon

A robust accuracy says something about a model only beside one of the same images, the same ball and the same attacks: a
weaker attack always gives the higher number. Records that differ in one of these stand on boards of their own.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

from advss_tf.evaluation.autoattack import AUTOATTACK
from advss_tf.evaluation.records.header import Header
from advss_tf.evaluation.records.record import CLEAN, WORST, Record, Result, epsilon_text
from advss_tf.evaluation.report.tables import (
    Cell,
    Table,
    accuracy_cell,
    accuracy_table,
    attack_cell,
    attack_columns,
    attack_title,
)

WARNED = "⚠ see the warnings"


@dataclass(frozen=True)
class Leaderboard:
    """Records that can be ranked against each other.

    Attributes:
        title: The images, the ball and the attacks that they share, in words.
        places: Their places in the list that was given, best first.
        ranks: The rank of each, from 1; equal accuracies share a rank, and the next one is behind them all.
    """

    title: str
    places: tuple[int, ...]
    ranks: tuple[int, ...]


def leaderboards(records: Sequence[Record]) -> list[Leaderboard]:
    """One board for each set of records with the same images, ball and attacks, in the order in which they are met.

    Ranked by robust accuracy, under AutoAttack where that was run; ties by clean accuracy, then as they were given.
    """
    boards = []
    for places in alike(records, [_terms(record) for record in records]):
        board = [records[place] for place in places]
        order, ranks = ranked([(judged_accuracy(record), record.clean_acc) for record in board])
        boards.append(Leaderboard(_title(board[0]), tuple(places[each] for each in order), ranks))
    return boards


def alike(records: Sequence[Header], terms: Sequence[Hashable]) -> list[list[int]]:
    """Places of records with equal terms, each set in order, the sets as they are met."""
    found: dict[Hashable, list[int]] = {}
    for place, key in zip(range(len(records)), terms, strict=True):
        found.setdefault(key, []).append(place)
    return list(found.values())


def ranked(scores: Sequence[tuple[float, float]]) -> tuple[list[int], tuple[int, ...]]:
    """Best first by (what counts, what breaks ties), larger is better: `(places, ranks)`; equal counts share a rank."""
    order = sorted(range(len(scores)), key=lambda place: (-scores[place][0], -scores[place][1]))
    ranks = tuple(1 + sum(other[0] > scores[place][0] for other in scores) for place in order)
    return order, ranks


def judged_accuracy(record: Record) -> float:
    """What a record is ranked by: accuracy under AutoAttack where it was run, else under all its attacks."""
    return record.robust_acc if record.autoattack_acc is None else record.autoattack_acc


def leaderboard_table(board: Leaderboard, records: Sequence[Record], names: Sequence[str]) -> Table:
    """One row a record at the epsilon of its headline, what it is ranked by first, as a table that sorts."""
    chosen = [records[place] for place in board.places]
    judge = AUTOATTACK if chosen[0].autoattack_acc is not None else WORST
    others = [attack for attack in (*attack_columns(chosen), WORST) if attack != judge]
    rows, keys = [], []
    for place, rank, record in zip(board.places, board.ranks, chosen, strict=True):
        name = _warned(Cell(names[place], record.architecture or ""), record)
        cells = [accuracy_cell(record.result(CLEAN)), accuracy_cell(record.result(judge), counts=True, strong=True)]
        cells += [attack_cell(record, attack, record.eps) for attack in others]
        rows.append(((Cell(str(rank)), name, *cells),))
        keys.append((rank, names[place], record.clean_acc, *_accuracies(record, [judge, *others])))
    columns = ("Rank", "Model", "Clean", *(attack_title(attack) for attack in (judge, *others)))
    return Table(columns, tuple(rows), shared=2, text=(1,), keys=tuple(keys), rising=(0, 1))


def full_table(board: Leaderboard, records: Sequence[Record], names: Sequence[str]) -> Table:
    """One row an epsilon in one group a record, sorted by the rows of the headlines."""
    chosen = [records[place] for place in board.places]
    table = accuracy_table(chosen, [names[place] for place in board.places])
    # Data and images are the same for all: the title says them.
    groups = tuple(
        tuple((Cell(str(rank)), row[0], *row[3:]) for row in group)
        for rank, group in zip(board.ranks, table.groups, strict=True)
    )
    keys = tuple(
        (rank, names[place], record.clean_acc, None, *_accuracies(record, [*attack_columns(chosen), WORST]))
        for place, record, rank in zip(board.places, chosen, board.ranks, strict=True)
    )
    columns = ("Rank", table.columns[0], *table.columns[3:])
    return Table(columns, groups, shared=3, text=(1,), keys=keys, rising=(0, 1))


def _warned(cell: Cell, record: Record) -> Cell:
    details = [cell.detail, WARNED if record.warnings else ""]
    return replace(cell, detail=" · ".join(filter(None, details)))


def _accuracies(record: Record, attacks: Sequence[str]) -> list[float | None]:
    return [record.result(attack).accuracy if attack in (*record.attacks, WORST) else None for attack in attacks]


def _terms(record: Record) -> Hashable:
    return record.images_fingerprint, record.num_classes, record.threat, f"{record.eps:.9f}", _judges(record)


def _judges(record: Record) -> str:
    """What decides a record's rank, as text that is equal where the attacks are: names, restarts and settings."""
    names = (AUTOATTACK,) if record.autoattack_acc is not None else record.attacks
    return json.dumps([_setting(record.result(name)) for name in names], sort_keys=True, default=str)


def _setting(result: Result) -> list[object]:
    return [result.attack, result.num_restarts, dict(result.parameters)]


def _title(record: Record) -> str:
    return f"{data_text(record)} · {record.threat} {epsilon_text(record.eps, record.threat)} · {judge_text(record)}"


def judge_text(record: Record) -> str:
    """The attacks that decide a record's rank, `AutoAttack (standard)` or `PGD-20 and PGD-50`."""
    if record.autoattack_acc is None:
        return " and ".join(attack_title(attack) for attack in record.attacks)
    return f"AutoAttack ({record.result(AUTOATTACK).parameters.get('version', 'version unknown')})"


def data_text(record: Header) -> str:
    """`cifar10 test, 1,000 of 10,000 images`."""
    data = " ".join(filter(None, (record.dataset or "unnamed data", record.split)))
    available = f" of {record.num_images_available:,}" if record.num_images_available != record.num_images else ""
    return f"{data}, {record.num_images:,}{available} images"
