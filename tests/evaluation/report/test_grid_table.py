"""The table of a grid: hand-worked means, the epoch of the best, and what is not there."""

from __future__ import annotations

import pytest

from advss_tf.config.axes import RESERVED
from advss_tf.evaluation import Record, Result
from advss_tf.evaluation.report.grid_numbers import run_rows, summaries
from advss_tf.evaluation.report.grid_table import (
    Outcome,
    ball_text,
    by_norm,
    grid_table,
    grouped,
    headline,
    judged_epsilons,
    measured,
    plain_table,
)

AXES = ["pretraining", "finetuning"]


def record(*, clean=80, robust=50, eps=0.1, attacks=("pgd-20",), epsilons=None, trained=None, threat="Linf"):
    def row(attack, right, **more):
        return Result.from_counts(attack, right, 100, class_correct=(right, 0), **more)

    rows = [row("clean", clean)]
    for place, radius in enumerate(epsilons or (eps,)):
        right = robust - 10 * place
        rows += [row(a, right + more, threat=threat, eps=radius, num_restarts=1) for more, a in enumerate(attacks)]
        rows.append(row("worst", right, threat=threat, eps=radius))
    headline = next(each for each in rows if each.attack == "worst" and each.eps == eps)
    return Record(
        name="x", threat=threat, eps=eps, clean_acc=clean / 100, robust_acc=headline.accuracy, suite="quick",
        results=tuple(rows), seed=0, batch_size=10, num_images=100, num_images_available=100, image_shape=(8, 8, 1),
        num_classes=2, class_names=("a", "b"), class_totals=(50, 50), images_fingerprint="f", output="logits",
        versions={}, device="cpu", date="2020-01-01", seconds=1.0, forward_passes=1.0, backward_passes=1.0,
        training_eps=trained, training_threat=threat if trained else None,
    )  # fmt: skip


def history(*robust):
    return tuple({"epoch": number, "val_robust_accuracy": value} for number, value in enumerate(robust, 1))


def run(place, seed, **more):
    pretraining, finetuning = place.split("-")
    where = {"pretraining": pretraining, "finetuning": finetuning, "seed": str(seed)}
    return Outcome(name=f"{place}-seed{seed}", place=where, group=place, **more)


def test_the_best_epoch_is_the_first_with_the_highest_robust_accuracy():
    assert (run("P1-F4", 0, history=history(0.2, 0.5, 0.4, 0.5)).best_epoch) == 2
    assert run("P1-F4", 0, history=history(0.2, None, 0.4)).best_robust == 0.4
    assert run("P1-F4", 0, history=({"epoch": 1, "val_accuracy": 0.9},)).best_epoch is None
    assert run("P1-F4", 0).best_epoch is None


def test_a_mean_over_seeds_has_its_t_interval_and_one_run_has_none():
    outcomes = [
        run("P1-F4", seed, record=record(clean=70 + seed, robust=40 + 2 * seed), history=history(*[0.1] * seed, 0.3))
        for seed in range(3)
    ]
    outcomes.append(run("P3-F4", 0, record=record(), history=history(0.1, 0.2), pretrain_seconds=61.0))
    columns, rows = plain_table(outcomes, AXES)
    assert columns == [
        "Pretraining", "Finetuning", "Runs", "Clean", "PGD-20", "Epochs to best", "Pretrain time", "Finetune time",
    ]  # fmt: skip
    # 70, 71, 72: sd 1, standard error 0.5774, t(2) = 4.3027: half width 2.484. The robust ones lie twice as far apart.
    assert rows[0] == ["P1", "F4", "3", "71.0 ± 2.5 %", "42.0 ± 5.0 %", "2 ± 2.5", "–", "–"]
    assert rows[1] == ["P3", "F4", "1", "80.0 %", "50.0 %", "2", "61 s", "–"]


def test_seconds_are_whole_and_have_their_interval():
    outcomes = [run("P1-F4", seed, record=record(), finetune_seconds=60.0 + 2 * seed) for seed in range(3)]
    # 60, 62, 64: sd 2, standard error 1.1547, t(2) = 4.3027: half width 4.97.
    assert plain_table(outcomes, AXES)[1][0][-2:] == ["–", "62 ± 5 s"]


def test_the_epoch_of_the_best_is_not_told_of_a_run_that_was_picked_by_another_number_or_reached_nothing():
    picked = run("P1-F3", 0, record=record(), history=history(0.1, 0.3), picked_by="accuracy")
    nothing = run("P3-F4", 0, record=record(), history=history(0.0, 0.0))
    assert (picked.best_epoch, picked.best_robust) == (None, None)
    assert (nothing.best_epoch, nothing.best_robust) == (None, 0.0)
    assert [row[5] for row in plain_table([picked, nothing], AXES)[1]] == ["–", "–"]


def test_a_run_that_failed_after_it_was_measured_counts_in_no_mean():
    outcomes = [
        run("P1-F4", 0, record=record(clean=80), finetune_seconds=6.0),
        run("P1-F4", 1, record=record(clean=60), history=history(0.5), finetune_seconds=9.0, error="OSError: full"),
    ]
    assert plain_table(outcomes, AXES)[1] == [["P1", "F4", "1 of 2, 1 failed", "80.0 %", "50.0 %", "–", "–", "6 s"]]
    (group,) = summaries(outcomes)
    assert group["runs"] == 1 and group["numbers"]["clean"]["values"] == [0.8]
    assert measured(outcomes) == [outcomes[0].record]


def test_the_epsilon_of_the_recipes_judges_from_the_first_run_on():
    radii = {"eps": 0.3, "epsilons": (0.1, 0.3)}
    first = run("P1-F3", 0, record=record(**radii), trained_eps=0.1)
    later = run("P1-F4", 0, trained_eps=0.1)
    assert judged_epsilons([first, later]) == {first.name: 0.1} and ball_text([first, later]) == "Linf 0.1"
    assert headline(first, eps=0.1) == "clean 80.0 %, worst case 50.0 % in Linf 0.1"
    assert headline(first, eps=None) == "clean 80.0 %, worst case 40.0 % in Linf 0.3"
    assert headline(later, eps=0.1) == "" == ball_text([later])


def test_each_run_of_a_sweep_is_judged_where_it_was_trained_and_the_table_says_so():
    """Robust accuracy is 50, 40, 30 % at 0.05, 0.1, 0.2; the headline of each record, which nobody asks for, is 0.2."""
    radii = {"eps": 0.2, "epsilons": (0.05, 0.1, 0.2)}
    outcomes = [run(f"P{n}-F4", 0, record=record(**radii), trained_eps=eps) for n, eps in ((1, 0.05), (2, 0.1))]
    assert list(judged_epsilons(outcomes).values()) == [0.05, 0.1] and ball_text(outcomes) == "the ball of training"
    columns, rows = plain_table(outcomes, AXES)
    assert columns[4:7] == ["ε", "PGD-20", "Worst case"]
    assert [row[4:7] for row in rows] == [["Linf 0.05", "50.0 %", "50.0 %"], ["Linf 0.1", "40.0 %", "40.0 %"]]


def test_what_knows_no_training_or_was_not_attacked_there_is_judged_by_its_headline_in_a_sweep():
    radii = {"eps": 0.2, "epsilons": (0.05, 0.1, 0.2)}
    sweep = [run(f"P{n}-F4", 0, record=record(**radii), trained_eps=eps) for n, eps in ((1, 0.05), (2, 0.15))]
    plain = run("P1-F3", 0, record=record(**radii))
    assert list(judged_epsilons([*sweep, plain]).values()) == [0.05, 0.2, 0.2]
    assert ball_text([*sweep, plain]) == "several balls"
    assert list(judged_epsilons([sweep[0], plain]).values()) == [0.05, 0.05]


def test_each_norm_has_its_own_epsilon_and_the_table_names_the_ball():
    linf = run("P1-F4", 0, record=record(eps=0.3, epsilons=(0.1, 0.3), trained=0.1))
    l2 = run("P2-F4", 0, record=record(eps=1.0, epsilons=(0.5, 1.0), trained=0.5, threat="L2"))
    plain = run("P2-F3", 0, record=record(eps=1.0, epsilons=(0.5, 1.0), threat="L2"))
    assert list(judged_epsilons([linf, l2, plain]).values()) == [0.1, 0.5, 0.5]
    assert [row[4] for row in plain_table([linf, l2, plain], AXES)[1]] == ["Linf 0.1", "L2 0.5", "L2 0.5"]
    assert by_norm([linf, l2, plain, run("P3-F4", 0)]) == {"Linf": [linf], "L2": [l2, plain]}


def test_the_worst_case_has_a_column_where_it_is_not_the_one_attack():
    outcomes = [run("P1-F4", 0, record=record(attacks=("pgd-20", "pgd-50")))]
    columns, rows = plain_table(outcomes, AXES)
    assert columns[4:7] == ["PGD-20", "PGD-50", "Worst case"]
    assert rows[0][4:7] == ["50.0 %", "51.0 %", "50.0 %"]


def test_groups_of_several_balls_say_which_is_theirs():
    outcomes = [run("P1-F4", 0, record=record(eps=8 / 255)), run("P3-F4", 0, record=record(eps=0.1))]
    columns, rows = plain_table(outcomes, AXES)
    assert columns[4] == "ε"
    assert [row[4] for row in rows] == ["Linf 8/255", "Linf 0.1"]
    assert ball_text(outcomes) == "several balls" and ball_text(outcomes[:1]) == "Linf 8/255"


def test_all_are_judged_at_the_one_epsilon_that_was_trained_at_where_every_record_has_it():
    radii = {"eps": 0.3, "epsilons": (0.1, 0.3)}
    outcomes = [run("P1-F3", 0, record=record(**radii)), run("P1-F4", 0, record=record(**radii, trained=0.1))]
    assert ball_text(outcomes) == "Linf 0.1"
    assert [row[4] for row in plain_table(outcomes, AXES)[1]] == ["50.0 %", "50.0 %"]
    outcomes.append(run("P3-F4", 0, record=record(**radii, trained=0.3)))
    # With several, what knows none is judged by its headline.
    assert [row[4] for row in plain_table(outcomes, AXES)[1]] == ["Linf 0.3", "Linf 0.1", "Linf 0.3"]
    assert [row[5] for row in plain_table(outcomes, AXES)[1]] == ["40.0 %", "50.0 %", "40.0 %"]


def test_failed_runs_are_counted_and_groups_that_were_not_run_are_left_out():
    outcomes = [run("P1-F4", 0, record=record()), run("P1-F4", 1, error="ValueError: no"), run("P3-F4", 0)]
    _, rows = plain_table(outcomes, AXES)
    assert [row[2] for row in rows] == ["1 of 2, 1 failed"]
    assert plain_table([run("P3-F4", 0)], AXES)[1] == []


def test_an_axis_that_makes_no_difference_is_a_dash():
    outcome = Outcome("P1", {"task": None, "pretraining": "P1"}, "P1", record=record())
    assert plain_table([outcome], ["task", "pretraining"])[1][0][:2] == ["–", "P1"]


def test_the_number_to_look_at_is_marked():
    (group,) = grid_table([run("P1-F4", 0, record=record())], axes=AXES).groups
    assert [cell.text for cell in group[0] if cell.strong] == ["50.0 %"]


def test_every_run_is_a_row_with_the_same_keys():
    outcomes = [
        run("P1-F4", 0, record=record(epsilons=(0.1, 0.3)), shared_from="../b"),
        run("P3-F4", 0, error="E: x"),
        run("P3-F4", 1),
    ]
    rows = run_rows(outcomes)
    assert len({tuple(row) for row in rows}) == 1
    assert rows[0]["pgd-20 at 0.3"] == 0.4 and rows[0]["clean"] == 0.8 and rows[0]["shared_from"] == "../b"
    assert [row["status"] for row in rows] == ["finished", "failed", "not run"]
    assert rows[1]["error"] == "E: x" and rows[1]["clean"] is None and rows[2]["pretraining"] == "P3"


def test_no_axis_can_be_called_as_another_column_is():
    (row,) = run_rows([run("P1-F4", 0, record=record())])
    others = [key for key in row if key not in (*AXES, "seed") and " at " not in key]
    assert set(others) <= RESERVED


def test_summaries_hold_values_means_and_half_widths():
    outcomes = [run("P1-F4", seed, record=record(robust=40 + 2 * seed)) for seed in range(3)] + [run("P3-F4", 0)]
    first, second = summaries(outcomes)
    found = first["numbers"]["pgd-20 at 0.1"]
    assert found["values"] == [0.4, 0.42, 0.44] and found["mean"] == pytest.approx(0.42)
    assert found["half_width"] == pytest.approx(4.302653 * 0.02 / 3**0.5, rel=1e-6)
    assert second["numbers"] == {} and second["runs"] == 0 and first["runs"] == 3


def test_groups_are_in_the_order_of_the_runs():
    outcomes = [run("P3-F4", 0), run("P1-F4", 0), run("P3-F4", 1)]
    assert {name: len(same) for name, same in grouped(outcomes).items()} == {"P3-F4": 2, "P1-F4": 1}
