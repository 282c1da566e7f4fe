"""Who may be ranked against whom, and in which order."""

from __future__ import annotations

import pytest

from advss_tf.evaluation import Result
from advss_tf.evaluation.report.leaderboard import full_table, leaderboard_table, leaderboards, ranked


def scored(record, robust, *, clean=0.9, name="model", **more):
    """The record with other accuracies; counts of 50."""

    def changed(row):
        share = clean if row.attack == "clean" else robust
        right = round(50 * share)
        again = Result.from_counts(row.attack, right, 50, class_correct=(right, 0))
        return row.model_copy(update={key: getattr(again, key) for key in ("correct", "accuracy", "low", "high")})

    rows = tuple(map(changed, record.results))
    return record.model_copy(
        update={"results": rows, "robust_acc": robust, "clean_acc": clean, "name": name, "warnings": ()} | more
    )


def with_autoattack(record, accuracy, version="standard"):
    row = record.result("worst").model_copy(
        update={"attack": "autoattack", "parameters": {"version": version}, "accuracy": accuracy}
    )
    return record.model_copy(update={"autoattack_acc": accuracy, "results": (*record.results, row)})


def test_the_most_robust_comes_first_and_equals_share_a_rank():
    assert ranked([(0.2, 0.9), (0.5, 0.1), (0.5, 0.8), (0.1, 1.0)]) == ([2, 1, 0, 3], (1, 1, 3, 4))
    assert ranked([(0.5, 0.5)] * 3) == ([0, 1, 2], (1, 1, 1))


def test_one_board_for_one_test(record):
    some = [scored(record, 0.2, name="a"), scored(record, 0.5, name="b"), scored(record, 0.4, name="c")]
    (board,) = leaderboards(some)
    assert (board.places, board.ranks) == ((1, 2, 0), (1, 2, 3))
    assert board.title == "made test, 50 images · Linf 8/255 · PGD-5"


@pytest.mark.parametrize(
    "change",
    [{"images_fingerprint": "other"}, {"threat": "L2"}, {"num_classes": 3}, {"eps": 0.02}],
    ids=lambda change: next(iter(change)),
)
def test_other_images_balls_or_classes_are_never_ranked_together(record, change):
    assert len(leaderboards([record, record.model_copy(update=change)])) == 2


def test_other_attacks_are_never_ranked_together(record):
    def attacked(**change):
        rows = tuple(row.model_copy(update=change) if row.attack == "pgd-5" else row for row in record.results)
        return record.model_copy(update={"results": rows})

    some = [record, attacked(num_restarts=7), attacked(parameters={"num_steps": 1}), attacked(attack="pgd-6")]
    assert len(leaderboards(some)) == 4


def test_autoattack_ranks_where_it_was_run_and_stands_alone_where_it_was_not(record):
    first = with_autoattack(scored(record, 0.1, name="a"), 0.4)
    second = with_autoattack(scored(record, 0.3, name="b"), 0.2)
    third = with_autoattack(scored(record, 0.3, name="c"), 0.3, version="rand")
    boards = leaderboards([first, scored(record, 0.9), second, third])
    assert [board.places for board in boards] == [(0, 2), (1,), (3,)]
    assert boards[0].title.endswith("AutoAttack (standard)")


def test_the_table_has_one_row_a_record_with_what_ranks_it_first(record):
    some = [scored(record, 0.2, name="a"), scored(record, 0.5, name="b", warnings=("Odd.",))]
    (board,) = leaderboards(some)
    table = leaderboard_table(board, some, ["a", "b"])
    assert table.columns == ("Rank", "Model", "Clean", "Worst case", "PGD-5")
    assert [[cell.text for cell in group[0]] for group in table.groups] == [
        ["1", "b", "90.0 %", "50.0 %", "50.0 %"],
        ["2", "a", "90.0 %", "20.0 %", "20.0 %"],
    ]
    assert table.keys == ((1, "b", 0.9, 0.5, 0.5), (2, "a", 0.9, 0.2, 0.2))
    assert [group[0][1].detail for group in table.groups] == ["⚠ see the warnings", ""]
    assert [cell.strong for cell in table.groups[0][0]] == [False, False, False, True, False]


def test_autoattack_is_what_ranks_where_it_was_run(record):
    some = [with_autoattack(scored(record, 0.3, name="a"), 0.4)]
    (board,) = leaderboards(some)
    table = leaderboard_table(board, some, ["a"])
    assert table.columns == ("Rank", "Model", "Clean", "AutoAttack", "PGD-5", "Worst case")
    assert table.keys == ((1, "a", 0.9, 0.4, 0.3, 0.3),)


def test_the_full_table_has_a_group_a_record_that_its_headline_sorts(record):
    some = [scored(record, 0.2, name="a"), scored(record, 0.5, name="b")]
    (board,) = leaderboards(some)
    table = full_table(board, some, ["a", "b"])
    assert table.columns == ("Rank", "Model", "Clean", "ε", "PGD-5", "Worst case")
    assert [[cell.text for cell in group[0][:2]] for group in table.groups] == [["1", "b"], ["2", "a"]]
    assert [len(group) for group in table.groups] == [2, 2]
    assert table.keys == ((1, "b", 0.9, None, 0.5, 0.5), (2, "a", 0.9, None, 0.2, 0.2))
