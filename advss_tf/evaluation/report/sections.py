"""The sections of a report: what is said of records, in which order, in blocks that HTML and Markdown share.

Synopsis:

    for section in sections(Contents.of(records), histories={}, max_examples=8):
        section.title, section.blocks
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from advss_tf.evaluation.records.comparison import comparisons
from advss_tf.evaluation.records.distortion_record import CORRUPTIONS, DistortionRecord
from advss_tf.evaluation.records.record import Record, epsilon_text
from advss_tf.evaluation.report import figures
from advss_tf.evaluation.report.classwise import calibration_section, classes_section
from advss_tf.evaluation.report.contents import TITLES, Contents
from advss_tf.evaluation.report.distortions import (
    distortion_boards,
    distortion_facts,
    distortion_map,
    distortion_table,
    side_by_side,
    summary_table,
)
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
from advss_tf.evaluation.report.leaderboard import (
    alike,
    data_text,
    full_table,
    judge_text,
    leaderboard_table,
    leaderboards,
)
from advss_tf.evaluation.report.pictures import example_pictures
from advss_tf.evaluation.report.tables import HOW_TO_READ, accuracy_table, classes_table, facts, runs_table

# More pairs or heat maps than this are folded away.
_MAX_PAIRS, _MAX_MAPS = 6, 4
_RANKED = (
    "Ranked are only records of the same images, ball and attacks: by accuracy under AutoAttack where it was run, else "
    "by the worst case. Ranks are of what was measured; whether a difference is more than chance, the intervals and "
    "the pairs below say."
)
_ABOUT = {
    CORRUPTIONS: (
        "Accuracy in percent by type and severity (Hendrycks and Dietterich 2019); corruptions are drawn without a "
        "look at the model. The mean is over all types and severities. mCE, where a baseline was given, is the mean "
        "over types of the error relative to the baseline's: lower is better."
    ),
    "unforeseen": (
        "Accuracy in percent by type and size of the distortion (Kang et al. 2019): attacks over the parameters of a "
        "distortion that the model was not trained against. Sizes are numbered from the smallest of each type."
    ),
}


def sections(contents: Contents, *, histories: Mapping[str, figures.History], max_examples: int) -> Iterator[Section]:
    """Every section that has something to say, in order."""
    records, names = contents.attacked, contents.attacked_names
    if records:
        yield Section("Results", tuple(_results(records, names)))
        yield Section("Accuracy against ε", tuple(_curves(records, names)))
    for kind, some in contents.distorted.items():
        yield Section(TITLES[kind], tuple(_distorted(kind, some, contents.distorted_names[kind])))
    yield from classes_section(records, names)
    yield from calibration_section(records, names)
    yield from _trainings(histories)
    yield from _pictures(records, names, max_examples)
    yield Section("How it was measured", tuple(_details(contents)))


def _results(records: Sequence[Record], names: Sequence[str]) -> Iterator[Block]:
    yield Paragraph(HOW_TO_READ)
    boards = leaderboards(records)
    ranked = [board for board in boards if len(board.places) > 1]
    alone = [board.places[0] for board in boards if len(board.places) == 1]
    if ranked:
        yield Paragraph(_RANKED)
    for board in ranked:
        yield Heading(board.title)
        yield leaderboard_table(board, records, names)
        if any(len(records[place].epsilons) > 1 for place in board.places):
            yield Fold("At every ε", (full_table(board, records, names),))
    if alone:
        if len(records) > 1:
            yield Heading("Not ranked: no other record has the same images, ball and attacks")
        yield accuracy_table([records[place] for place in alone], [names[place] for place in alone])
    runs = runs_table(records)
    if runs is not None:
        yield Heading("Over runs")
        yield Paragraph("Mean and 95 % t-interval over records of the same name.")
        yield runs
    pairs = tuple(str(pair) for pair in comparisons(records))
    if len(pairs) > _MAX_PAIRS:
        yield Fold(f"{len(pairs)} pairs, image by image", (Bullets(pairs),))
    elif pairs:
        yield Heading("Pairs, image by image")
        yield Bullets(pairs)


def _curves(records: Sequence[Record], names: Sequence[str]) -> Iterator[Block]:
    drawn = []
    # A curve under weaker attacks, or of other images, would lie higher without being better.
    terms = [(record.threat, record.images_fingerprint, judge_text(record)) for record in records]
    met: Counter[str] = Counter()
    for places in alike(records, terms):
        same = [records[place] for place in places]
        threat = same[0].threat
        met[threat] += 1
        svg = figures.accuracy_against_epsilon(same, names=[names[place] for place in places])
        caption = f"Worst-case accuracy in {threat} balls of radius ε; ε = 0 is clean."
        caption += " Bands: Wilson 95 %." if len(same) <= figures.MAX_BANDS else ""
        if len(set(terms)) > 1:
            model = f"{names[places[0]]}, " if len(same) == 1 else ""
            caption += f" {model}{data_text(same[0])}, {judge_text(same[0])}."
        number = f"-{met[threat]}" if met[threat] > 1 else ""
        drawn.append(Figure(svg, caption, f"epsilon-{threat.lower()}{number}.svg"))
    by_class = figures.class_accuracies(records[0]) if len(records) == 1 else None
    if by_class:
        caption = "The same class by class: how far each one falls."
        drawn.append(Figure(by_class, caption, "classes-1.svg"))
    yield Figures(tuple(drawn))


def _distorted(kind: str, records: Sequence[DistortionRecord], names: Sequence[str]) -> Iterator[Block]:
    yield Paragraph(_ABOUT[kind])
    for board in distortion_boards(records):
        if len(board.places) > 1:
            yield Heading(board.title)
            yield summary_table(board, records, names)
            yield Paragraph("Means over the levels of each type; the best of a row is bold.")
            yield side_by_side(board, records, names)
    drawn = tuple(
        Figure(distortion_map(record), _map_caption(record, name), f"{kind}-{number}.svg", distortion_table(record))
        for number, (record, name) in enumerate(zip(records, names, strict=True), 1)
    )
    if len(drawn) > _MAX_MAPS:
        yield Fold("Type by level, model by model", (Figures(drawn),))
    else:
        yield Figures(drawn)


def _map_caption(record: DistortionRecord, name: str) -> str:
    mce = f", mCE {100 * record.mce:.1f} % against {record.baseline}" if record.mce is not None else ""
    return (
        f"{name}: clean {100 * record.clean_acc:.1f} %, mean {100 * record.corruptions_acc:.1f} %{mce} "
        f"({data_text(record)})."
    )


def _trainings(histories: Mapping[str, figures.History]) -> Iterator[Section]:
    for number, (name, history) in enumerate(histories.items(), 1):
        panels = {"loss": figures.loss_curves(history), "accuracy": figures.accuracy_curves(history)}
        drawn = tuple(
            Figure(svg, f"{what} over the epochs".capitalize(), f"training-{number}-{what}.svg")
            for what, svg in panels.items()
            if svg
        )
        if drawn:
            yield Section(f"Training: {name}", (Figures(drawn),))


def _pictures(records: Sequence[Record], names: Sequence[str], max_examples: int) -> Iterator[Section]:
    for number, (record, name) in enumerate(zip(records, names, strict=True), 1):
        pictures = tuple(example_pictures(record, max_examples=max_examples))
        if pictures:
            ball = f"{record.threat} {epsilon_text(record.eps, record.threat)}"
            words = (
                f"The first image of each class, not picked by outcome, attacked in the {ball} ball. The middle image "
                "is what the attack added, ten times as strong, around grey. ✓ is a right prediction, ✗ a wrong one."
            )
            yield Section(f"Examples: {name}", (Paragraph(words), Examples(pictures, number)))


def _details(contents: Contents) -> Iterator[Block]:
    alone = len(contents.attacked) + sum(map(len, contents.distorted.values())) == 1
    for record, name in zip(contents.attacked, contents.attacked_names, strict=True):
        yield Fold(name, (Facts(tuple(facts(record))),), opened=alone)
        yield Fold(f"{name}, class by class", (classes_table(record),))
    for kind, some in contents.distorted.items():
        for each, name in zip(some, contents.distorted_names[kind], strict=True):
            title = f"{name}, {TITLES[kind].lower()}"
            yield Fold(title, (Facts(tuple(distortion_facts(each))),), opened=alone)
