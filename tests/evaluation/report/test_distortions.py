"""Tables and heat maps of corruptions: means by hand, and which records share a table."""

from __future__ import annotations

import re

import numpy as np
import pytest

from advss_tf.evaluation.report.distortions import (
    distortion_boards,
    distortion_facts,
    distortion_map,
    distortion_table,
    extent,
    grid,
    level_word,
    side_by_side,
    summary_table,
    with_means,
)


def said(rows):
    return [[cell.text for cell in row] for row in rows]


def test_means_by_type_and_by_level(distorted):
    values = with_means(grid(distorted()))
    # fog 40/50, 30/50; gaussian noise 20/50, 10/50
    np.testing.assert_allclose(values, [[0.8, 0.6, 0.7], [0.4, 0.2, 0.3], [0.6, 0.4, 0.5]])


def test_the_table_has_clean_accuracy_types_and_means(distorted):
    table = distortion_table(distorted())
    assert table.columns == ("Accuracy in %", "1", "2", "mean")
    assert said(table.groups[0]) == [
        ["clean", "", "", "90.0"],
        ["fog", "80.0", "60.0", "70.0"],
        ["gaussian noise", "40.0", "20.0", "30.0"],
        ["mean", "60.0", "40.0", "50.0"],
    ]


def test_a_level_that_was_not_run_is_a_dash_and_in_no_mean(distorted):
    table = distortion_table(distorted({"fog": (40, 30), "snow": (20,)}))
    assert said(table.groups[0])[2:] == [["snow", "40.0", "–", "40.0"], ["mean", "60.0", "60.0", "60.0"]]


def test_the_map_says_the_same_numbers(distorted):
    words = set(re.findall(r"<text[^>]*>([^<]*)</text>", distortion_map(distorted())))
    assert {"90.0", "80.0", "60.0", "70.0", "40.0", "20.0", "30.0", "50.0"} <= words
    assert {"clean", "fog", "gaussian noise", "mean", "severity"} <= words


def test_records_of_one_test_are_ranked_and_stand_side_by_side(distorted):
    some = [
        distorted(name="a", mce=1.0, baseline="a"),
        distorted({"fog": (50, 30), "gaussian_noise": (10, 20)}, name="b"),
    ]
    (board,) = distortion_boards(some)
    assert (board.places, board.ranks) == ((1, 0), (1, 2))
    assert board.title == "made test, 50 images · 2 types × 2 severities"
    table = summary_table(board, some, ["a", "b"])
    assert table.columns == ("Rank", "Model", "Clean", "Mean accuracy", "mCE")
    assert [said(group)[0] for group in table.groups] == [
        ["1", "b", "90.0 %", "55.0 %", "–"],
        ["2", "a", "90.0 %", "50.0 %", "100.0 %"],
    ]
    assert table.keys == ((1, "b", 0.9, pytest.approx(0.55), None), (2, "a", 0.9, pytest.approx(0.5), 1.0))
    beside = side_by_side(board, some, ["a", "b"])
    assert beside.columns == ("Accuracy in %", "b", "a")
    assert said(beside.groups[0]) == [
        ["clean", "90.0", "90.0"],
        ["fog", "80.0", "70.0"],
        ["gaussian noise", "30.0", "30.0"],
        ["mean", "55.0", "50.0"],
    ]
    assert [cell.strong for cell in beside.groups[0][1]] == [False, True, False]


def test_errors_against_other_models_are_shown_and_not_sorted(distorted):
    some = [distorted(name="a", mce=1.0, baseline="a"), distorted(name="b", mce=0.9, baseline="AlexNet")]
    (board,) = distortion_boards(some)
    table = summary_table(board, some, ["a", "b"])
    assert [keys[4] for keys in table.keys] == [None, None]
    assert [group[0][4].detail for group in table.groups] == ["against a", "against AlexNet"]
    (bare,) = distortion_boards([distorted(), distorted()])
    assert summary_table(bare, [distorted(), distorted()], ["a", "b"]).columns[-1] == "Mean accuracy"


@pytest.mark.parametrize(
    "change", [{"images_fingerprint": "x"}, {"threat": "unforeseen"}, {"notes": {"frost": "photographs"}}]
)
def test_other_images_threats_or_frost_are_never_ranked_together(distorted, change):
    assert len(distortion_boards([distorted(), distorted(**change)])) == 2
    assert len(distortion_boards([distorted(), distorted({"fog": (40, 30)})])) == 2


def test_facts_say_what_the_numbers_need(distorted):
    record = distorted(notes={"frost_source": "drawn"}, mce=0.8, baseline="standard")
    sized = tuple(
        row.model_copy(update={"eps": 2.0 * row.level, "parameters": {"steps": 10}}) for row in record.results
    )
    found = dict(distortion_facts(record.model_copy(update={"results": sized})))
    assert found["Threat"] == "corruptions, 2 types × 2 severities"
    assert found["mCE"] == "80.0 %, relative to standard"
    assert found["frost source"] == "drawn"
    assert found["fog"] == "sizes 2, 4, steps 10"
    assert found["Evaluated images"] == record.images_fingerprint


def test_words_for_what_a_level_is(distorted):
    one = distorted({"fog": (40,)}, threat="unforeseen")
    assert extent(one) == "1 type × 1 size"
    assert level_word(one).startswith("size") and level_word(distorted()) == "severity"
