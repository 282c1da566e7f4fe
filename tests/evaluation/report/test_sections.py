"""Which sections a report has, and what stands in them, by the records it is about."""

from __future__ import annotations

from advss_tf.evaluation.report.contents import Contents
from advss_tf.evaluation.report.document import Bullets, Figures, Fold, Heading
from advss_tf.evaluation.report.sections import sections
from advss_tf.evaluation.report.tables import Table


def made(*records, histories=None):
    return {
        each.title: each.blocks for each in sections(Contents.of(records), histories=histories or {}, max_examples=8)
    }


def kinds(blocks):
    return [type(block) for block in blocks]


def named(record, name, **more):
    return record.model_copy(update={"name": name} | more)


def test_one_record_needs_no_leaderboard(record):
    found = made(record)
    assert list(found) == [
        "Results",
        "Accuracy against ε",
        "What is taken for what",
        "Calibration",
        f"Examples: {record.name}",
        "How it was measured",
    ]
    (table,) = [block for block in found["Results"] if isinstance(block, Table)]
    assert table.columns[0] == "Model" and table.keys == ()
    assert len(found["Accuracy against ε"][0].figures) == 2
    assert [fold.opened for fold in found["How it was measured"]] == [True, False]


def test_records_of_one_test_have_a_leaderboard_and_the_others_none(record):
    other = named(record, "c", images_fingerprint="other")
    results = made(named(record, "a"), named(record, "b"), other)["Results"]
    ranked, alone = [block for block in results if isinstance(block, Table)]
    (fold,) = [block for block in results if isinstance(block, Fold)]
    assert fold.title == "At every ε" and [len(group) for group in fold.blocks[0].groups] == [2, 2]
    assert ranked.columns[:2] == ("Rank", "Model") and len(ranked.keys) == 2
    assert alone.columns[0] == "Model" and alone.keys == () and alone.groups[0][0][0].text == "c"
    assert [block.text for block in results if isinstance(block, Heading)] == [
        "made test, 50 images · Linf 8/255 · PGD-5",
        "Not ranked: no other record has the same images, ball and attacks",
        "Pairs, image by image",
    ]


def test_curves_of_other_images_or_attacks_are_drawn_apart(record):
    others = named(record, "b"), named(record, "c", images_fingerprint="other"), named(record, "d", threat="L2")
    (figures,) = made(named(record, "a"), *others)["Accuracy against ε"]
    assert [each.file for each in figures.figures] == ["epsilon-linf.svg", "epsilon-linf-2.svg", "epsilon-l2.svg"]
    assert all(each.caption.endswith("made test, 50 images, PGD-5.") for each in figures.figures)
    assert ["c, made test" in each.caption for each in figures.figures] == [False, True, False]
    assert ">a</text>" in figures.figures[0].svg and ">b</text>" in figures.figures[0].svg


def test_many_pairs_are_folded(record):
    few, many = ([named(record, f"m{place}") for place in range(count)] for count in (4, 5))
    assert Bullets in kinds(made(*few)["Results"])
    assert Bullets not in kinds(made(*many)["Results"])
    assert made(*many)["Results"][-1].title == "10 pairs, image by image"


def test_records_of_distortions_alone_are_a_report(distorted):
    found = made(distorted(name="a", mce=0.8, baseline="b"))
    assert list(found) == ["Corruptions", "How it was measured"]
    figure = found["Corruptions"][1].figures[0]
    assert figure.caption == "a: clean 90.0 %, mean 50.0 %, mCE 80.0 % against b (made test, 50 images)."
    assert figure.table.columns == ("Accuracy in %", "1", "2", "mean")
    assert found["How it was measured"][0].opened


def test_several_are_ranked_beside_each_other_and_drawn(distorted, record):
    some = [distorted(name=name) for name in "abcde"]
    found = made(record, *some, distorted(name="a", threat="unforeseen"))
    assert {"Results", "Corruptions", "Unforeseen attacks"} <= set(found)
    tables = [block for block in found["Corruptions"] if isinstance(block, Table)]
    assert [table.columns[0] for table in tables] == ["Rank", "Accuracy in %"]
    assert isinstance(found["Corruptions"][-1], Fold)  # five maps
    assert isinstance(found["Unforeseen attacks"][-1], Figures)


def test_histories_are_drawn(record):
    history = [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0}]
    found = made(record, histories={"finetune": history, "empty": []})
    (figures,) = found["Training: finetune"]
    assert [figure.file for figure in figures.figures] == ["training-1-loss.svg"]
    assert "Training: empty" not in found
