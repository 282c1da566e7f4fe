"""What a report says in words and tables, the same for the page and for Markdown.

Synopsis:

    names = distinct_names(records)
    columns, rows = result_table(records)       # plain text, for a terminal
    table = accuracy_table(records, names)      # table.columns, table.groups: one group of rows per record
    runs = runs_table(records)                  # mean ± t-interval over runs of the same name, or None
    facts(record)                               # ("Attack pgd-20", "20 steps, …"), …
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from advss_tf.evaluation.autoattack import AUTOATTACK, MEMBERS
from advss_tf.evaluation.records.header import Header
from advss_tf.evaluation.records.record import CLEAN, WORST, Record, Result, epsilon_text
from advss_tf.evaluation.records.statistics import mean_interval

HOW_TO_READ = (
    "An image counts under an attack if it is classified right cleanly and after every restart of it; the worst case "
    "is that over all attacks at this ε and at smaller ones. Brackets hold the Wilson 95 % interval of exact counts."
)


@dataclass(frozen=True)
class Cell:
    """What stands in a cell: the main text, a smaller second line, and whether it is the number to look at."""

    text: str
    detail: str = ""
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """Columns, and groups of rows that belong together.

    Attributes:
        columns: The heads.
        groups: Groups of rows of cells.
        shared: How many of the first cells are the same in all rows of a group.
        text: Which columns hold words; the first of them is the name of the row.
        aside: Which columns a narrow screen can do without.
        keys: What each group is sorted by, one value for each column, None where there is no value; none of them if the
            table cannot be sorted. A column without any value cannot be sorted by.
        rising: Which columns are sorted from the smallest value up at first, as a rank is; the others from the largest.
    """

    columns: tuple[str, ...]
    groups: tuple[tuple[tuple[Cell, ...], ...], ...]
    shared: int = 0
    text: tuple[int, ...] = (0,)
    aside: tuple[int, ...] = ()
    keys: tuple[tuple[float | str | None, ...], ...] = ()
    rising: tuple[int, ...] = ()


def distinct_names(records: Sequence[Header]) -> list[str]:
    """One name per record; where two have the same, the norm, the seed or a number is added."""
    names = [record.name for record in records]
    names = _with(names, [record.threat for record in records])
    names = _with(names, [f"seed {record.seed}" for record in records])
    counts, met = Counter(names), Counter[str]()
    for place, name in enumerate(names):
        met[name] += 1
        names[place] = name if counts[name] == 1 else f"{name} #{met[name]}"
    return names


def _with(names: Sequence[str], additions: Sequence[str]) -> list[str]:
    """The names, those that stand for several additions with theirs."""
    found: dict[str, set[str]] = defaultdict(set)
    for name, addition in zip(names, additions, strict=True):
        found[name].add(addition)
    return [f"{name}, {text}" if len(found[name]) > 1 else name for name, text in zip(names, additions, strict=True)]


def accuracy_table(records: Sequence[Record], names: Sequence[str]) -> Table:
    """One row per record and epsilon, one column per attack that any record has."""
    attacks = attack_columns(records)
    columns = ("Model", "Data", "Images", "Clean", "ε", *(attack_title(attack) for attack in attacks), "Worst case")
    groups = []
    for record, name in zip(records, names, strict=True):
        shared = (
            Cell(name, record.architecture or ""),
            Cell(record.dataset or "unnamed", record.split or ""),
            Cell(f"{record.num_images:,}", "a subset" if record.subset else ""),
            accuracy_cell(record.result(CLEAN), counts=True),
        )
        rows = (
            (*shared, _epsilon_cell(record, eps), *(attack_cell(record, attack, eps) for attack in [*attacks, WORST]))
            for eps in record.epsilons
        )
        groups.append(tuple(rows))
    return Table(columns, tuple(groups), shared=4, text=(0, 1), aside=(1, 2))


def attack_columns(records: Sequence[Record]) -> list[str]:
    """The attacks that have a column of their own: those of any record, AutoAttack last."""
    return sorted({attack for record in records for attack in _judging(record)}, key=_order)


def _judging(record: Record) -> list[str]:
    """The attacks with a column: those of AutoAttack, which each saw what the last one left, are one."""
    members = MEMBERS if AUTOATTACK in record.attacks else ()
    return [attack for attack in record.attacks if attack not in members]


def result_table(records: Sequence[Record]) -> tuple[list[str], list[list[str]]]:
    """The accuracies of records as plain text, `(columns, rows)`: one row per record and epsilon."""
    table = accuracy_table(records, distinct_names(records))
    return list(table.columns), [[_plain(cell) for cell in row] for group in table.groups for row in group]


def runs_table(records: Sequence[Record]) -> Table | None:
    """Mean and 95 % t-interval over the records that differ in nothing but the run; None if there are no such."""
    runs = defaultdict(list)
    for record in records:
        runs[record.name, record.dataset, record.split, record.threat, record.eps, record.num_images].append(record)
    rows = [
        (
            Cell(name, f"{threat} {epsilon_text(eps, threat)}"),
            Cell(str(len(same))),
            _mean_cell([record.clean_acc for record in same]),
            _mean_cell([record.robust_acc for record in same], strong=True),
        )
        for (name, _, _, threat, eps, _), same in runs.items()
        if len(same) > 1
    ]
    return Table(("Model", "Runs", "Clean, mean", "Worst case, mean"), (tuple(rows),)) if rows else None


def classes_table(record: Record) -> Table:
    """Clean and worst-case accuracy of each class that has images."""
    clean, worst = record.result(CLEAN), record.result(WORST)
    rows = tuple(
        (
            Cell(record.class_names[number]),
            Cell(f"{total:,}"),
            Cell(_share(clean.class_correct[number], total)),
            Cell(_share(worst.class_correct[number], total), strong=True),
        )
        for number, total in enumerate(record.class_totals)
        if total
    )
    columns = ("Class", "Images", "Clean", f"Worst case at {epsilon_text(record.eps, record.threat)}")
    return Table(columns, (rows,))


def facts(record: Record) -> Iterator[tuple[str, str]]:
    """What one needs to repeat the evaluation, as (what, how)."""
    yield "Threat", f"{record.threat}, headline ε = {epsilon_text(record.eps, record.threat)} in pixels of [0, 1]"
    if record.training_eps is not None:
        yield "Trained at", f"{record.training_threat or ''} ε = {_training_text(record)}".strip()
    if record.source is not None:
        yield "Transferred", f"the attacks saw {record.source}, not the model that is evaluated"
    yield "Images", record.subset or f"all {record.num_images:,}"
    for attack in record.attacks:
        yield attack_title(attack), _settings(record.result(attack))
    yield from shared_facts(record)


def shared_facts(record: Header) -> Iterator[tuple[str, str]]:
    """The facts that records of every kind have."""
    if record.external is not None:
        yield "Learned from outside", record.external
    yield "Model output", record.output
    yield "Seed, batch", f"seed {record.seed}, {record.batch_size} images a batch"
    yield (
        "Cost",
        f"{record.seconds:,.0f} s on {record.device}; {record.forward_passes:,.0f} forward and "
        f"{record.backward_passes:,.0f} backward passes per image",
    )
    yield "Data fingerprint", record.data_fingerprint or "unknown"
    yield "Evaluated images", record.images_fingerprint
    yield "Versions", ", ".join(f"{name} {version}" for name, version in record.versions.items())
    yield "Date", record.date


def attack_title(attack: str) -> str:
    """`PGD-20` for `pgd-20`, `AutoAttack` for `autoattack`; names that are not known as they are."""
    titles = {AUTOATTACK: "AutoAttack", "square": "Square", WORST: "Worst case"}
    known = attack.startswith("pgd-") or attack in MEMBERS
    return titles.get(attack) or (attack.upper() if known else attack)


def accuracy_cell(result: Result, *, counts: bool = False, strong: bool = False) -> Cell:
    """`45.0 %`, with the interval and perhaps the counts on the second line."""
    interval = f"[{100 * result.low:.1f},\u00a0{100 * result.high:.1f}]"
    detail = f"{interval} ·\u00a0{result.correct:,}/{result.total:,}" if counts else interval
    return Cell(f"{100 * result.accuracy:.1f} %", detail, strong)


def attack_cell(record: Record, attack: str, eps: float) -> Cell:
    """The accuracy under an attack at an epsilon; a dash where the record has no such attack."""
    if attack != WORST and attack not in record.attacks:
        return Cell("–")
    is_worst = attack == WORST
    return accuracy_cell(record.result(attack, eps=eps), counts=is_worst, strong=is_worst)


def _epsilon_cell(record: Record, eps: float) -> Cell:
    return Cell(epsilon_text(eps, record.threat), record.threat, strong=eps == record.eps)


def _mean_cell(values: Sequence[float], *, strong: bool = False) -> Cell:
    mean, half = mean_interval(values)
    return Cell(f"{100 * mean:.1f} ± {100 * half:.1f} %", "", strong)


def _order(attack: str) -> tuple[bool, tuple[str, int]]:
    """By name and number; AutoAttack, the strongest, last."""
    return attack == AUTOATTACK, _natural(attack)


def _natural(name: str) -> tuple[str, int]:
    """Sorts pgd-20 before pgd-100."""
    number = re.search(r"\d+", name)
    return re.sub(r"\d+", "", name), int(number.group()) if number else 0


def _plain(cell: Cell) -> str:
    return f"{cell.text} {cell.detail}".strip().replace("\u00a0", " ")


def _share(correct: int, total: int) -> str:
    return f"{100 * correct / total:.1f} %"


def _training_text(record: Record) -> str:
    return epsilon_text(record.training_eps or 0.0, record.training_threat or record.threat)


def _settings(result: Result) -> str:
    settings = {name: value for name, value in result.parameters.items() if value is not None}
    runs = [f"{result.num_restarts} run{'s' if result.num_restarts > 1 else ''}"] if result.num_restarts else []
    left = f"leaves {result.correct:,} of {result.total:,}"
    return ", ".join([*runs, *(f"{name} {value}" for name, value in settings.items()), left])
