"""Corruption errors against values worked out by hand from the paper's formulas."""

from __future__ import annotations

import pytest

from advss_tf.errors import InvalidInput
from advss_tf.evaluation import DistortionRecord, Result, corruption_errors
from advss_tf.evaluation.distortions.corruption_errors import check_baseline


@pytest.fixture
def made(record):
    """`made(clean, fog=(8, 6), …)`: a record with so many of ten images right, at severities 1, 2, …."""
    header = {name: getattr(record, name) for name in type(record).__mro__[1].model_fields}

    def row(kind, level, correct):
        return Result.from_counts(kind, correct, 10, level=level, class_correct=(correct, 0))

    def make(clean, *, threat="corruptions", **right):
        rows = [row("clean", 0, clean)]
        rows += [row(kind, level, n) for kind, counts in right.items() for level, n in enumerate(counts, start=1)]
        counted = [row for row in rows[1:] if row.attack != "saturate"]
        mean = sum(row.accuracy for row in counted) / len(counted)
        about = {"threat": threat, "clean_acc": clean / 10, "corruptions_acc": mean, "results": rows}
        return DistortionRecord(**header | about)

    return make


def test_errors_by_hand(made):
    """Ours: clean 0.1, fog 0.2 + 0.4, snow 0.6 + 0.8. The baseline's: clean 0.1, fog 0.4 + 0.4, snow 0.4 + 0.3."""
    errors = corruption_errors(made(9, fog=(8, 6), snow=(4, 2)), made(9, fog=(6, 6), snow=(6, 7)))
    assert errors.by_kind == pytest.approx({"fog": 0.75, "snow": 2.0})
    assert errors.mce == pytest.approx(1.375)  # not 2.0 / 1.5, the ratio of all errors
    assert errors.relative_by_kind == pytest.approx({"fog": 0.4 / 0.6, "snow": 1.2 / 0.5})
    assert errors.relative_mce == pytest.approx(23 / 15)


def test_a_record_against_itself_has_errors_of_one(made):
    record = made(9, fog=(8, 6), snow=(4, 2))
    errors = corruption_errors(record, record)
    assert (errors.mce, errors.relative_mce) == (1.0, 1.0) and set(errors.by_kind.values()) == {1.0}


def test_types_that_are_set_aside_have_errors_and_do_not_move_the_means(made):
    errors = corruption_errors(made(9, fog=(8, 6), saturate=(0, 0)), made(9, fog=(6, 6), saturate=(5, 5)))
    assert errors.by_kind == pytest.approx({"fog": 0.75, "saturate": 2.0})
    assert errors.mce == pytest.approx(0.75) and errors.relative_mce == pytest.approx(2 / 3)


def test_relative_errors_need_a_baseline_that_loses_something(made):
    errors = corruption_errors(made(9, fog=(8, 6), snow=(4, 2)), made(6, fog=(6, 6), snow=(6, 5)))
    assert errors.relative_by_kind["fog"] is None and errors.relative_by_kind["snow"] == pytest.approx(12.0)
    assert errors.relative_mce is None and errors.mce == pytest.approx((0.75 + 1.4 / 0.9) / 2)


def test_a_model_that_gains_has_a_negative_relative_error(made):
    assert corruption_errors(made(5, fog=(6,)), made(9, fog=(7,))).relative_mce == pytest.approx(-0.5)


@pytest.mark.parametrize(
    ("right", "words"),
    [
        ({"fog": (6, 6)}, "it lacks snow 1, snow 2"),
        ({"fog": (6, 6), "snow": (6,)}, "it lacks snow 2"),
        ({"fog": (6, 6), "snow": (6, 7), "frost": (1,)}, "Received: it also has frost 1"),
        ({"fog": (6, 6, 5), "rain": (6, 7)}, "it lacks snow 1, snow 2 and it also has fog 3, rain 1, rain 2"),
        ({"fog": (6, 6), "snow": (10, 10)}, "never wrong.*no wrong image under snow"),
    ],
)
def test_baselines_that_cannot_be_divided_by_are_refused(made, right, words):
    with pytest.raises(InvalidInput, match=words):
        corruption_errors(made(9, fog=(8, 6), snow=(4, 2)), made(9, **right))


def test_other_records_are_refused(made, record):
    ours = made(9, fog=(8,))
    with pytest.raises(InvalidInput, match=r"threat='corruptions'.*baseline=Record"):
        corruption_errors(ours, record)
    with pytest.raises(InvalidInput, match=r"threat='corruptions'.*baseline=unforeseen"):
        corruption_errors(ours, made(9, threat="unforeseen", fog=(8,)))


def test_a_refusal_does_not_list_every_row(made):
    wanted = [("fog", level) for level in range(1, 10)]
    with pytest.raises(InvalidInput, match="it lacks fog 2, fog 3, fog 4, fog 5, fog 6, fog 7 and 2 more"):
        check_baseline(made(9, fog=(8,)), "corruptions", wanted)
