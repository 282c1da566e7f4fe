"""Differences to a baseline, seed by seed: worked out by hand, and what is in no pair."""

from __future__ import annotations

from dataclasses import replace

import pytest

from advss_tf.evaluation import Record, Result
from advss_tf.evaluation.report.grid_pairs import (
    difference_values,
    differences,
    differences_table,
    plain_differences,
)
from advss_tf.evaluation.report.grid_table import Outcome

AXES = ["task", "pretraining"]


def record(clean, robust, *, epsilons=(0.1,), threat="Linf", trained=None):
    def row(attack, right, **more):
        return Result.from_counts(attack, right, 100, class_correct=(right, 0), **more)

    worst = [row("worst", robust - 10 * place, threat=threat, eps=eps) for place, eps in enumerate(epsilons)]
    attacked = [each.model_copy(update={"attack": "pgd-20"}) for each in worst]
    return Record(
        name="x", threat=threat, eps=epsilons[-1], clean_acc=clean / 100, robust_acc=worst[-1].accuracy, suite="quick",
        results=(row("clean", clean), *attacked, *worst), seed=0, batch_size=10, num_images=100,
        num_images_available=100, image_shape=(8, 8, 1), num_classes=2, class_names=("a", "b"), class_totals=(50, 50),
        images_fingerprint="f", output="logits", versions={}, device="cpu", date="2020-01-01", seconds=1.0,
        forward_passes=1.0, backward_passes=1.0, training_eps=trained, training_threat=threat if trained else None,
    )  # fmt: skip


def run(task, pretraining, seed, *, held_out=(), **more):
    group = "-".join(filter(None, (task, pretraining)))
    lines = tuple({"epoch": epoch, "val_robust_accuracy": share} for epoch, share in enumerate(held_out, 1))
    place = {"task": task, "pretraining": pretraining, "seed": str(seed)}
    baseline = f"P1-seed{seed}" if pretraining != "P1" else None
    return Outcome(f"{group}-seed{seed}", place, group, history=lines, baseline=baseline, **more)


FRESH = [
    run(None, "P1", 0, record=record(80, 40), held_out=(0.1, 0.3, 0.5, 0.4)),
    run(None, "P1", 1, record=record(84, 50), held_out=(0.1, 0.2, 0.3, 0.4)),
    run(None, "P1", 2, record=record(82, 45), held_out=(0.2, 0.6, 0.1, 0.1)),
]
ROTATION = [
    run("rotation", "P3", 0, record=record(82, 46), held_out=(0.2, 0.5, 0.4, 0.6)),
    run("rotation", "P3", 1, record=record(84, 54), held_out=(0.2, 0.3, 0.35, 0.45)),
    run("rotation", "P3", 2, record=record(81, 47), held_out=(0.2, 0.3, 0.4, 0.5)),
]


def test_differences_are_of_the_same_seed_and_their_interval_is_that_of_the_differences():
    """Robust: 6, 4 and 2 points: mean 4, sd 2, half width 4.3027 · 2 / √3 = 4.968. Clean: 2, 0 and -1: mean 0.333, sd
    1.5275, half width 3.795; one of them is above 0.

    The baselines have their best, 0.5, 0.4 and 0.6, in epochs 3, 4 and 2. Rotation is there in epochs 2 and 4, and
    never at the last seed.
    """
    columns, rows = plain_differences([*FRESH, *ROTATION], AXES)
    assert columns == [
        "Task", "Pretraining", "Less", "Pairs", "Clean", "Positive", "Robust", "Positive",
        "Epochs to the baseline's best", "The baseline's own",
    ]  # fmt: skip
    assert rows == [
        ["rotation", "P3", "P1", "3", "+0.3 ± 3.8", "1 of 3", "+4.0 ± 5.0", "3 of 3", "3, 2 of 3", "3"],
    ]
    (found,) = differences([*FRESH, *ROTATION])
    assert found.robust == pytest.approx((0.06, 0.04, 0.02)) and found.clean == pytest.approx((0.02, 0.0, -0.01))
    assert found.reached == (2.0, 4.0) and found.asked == 3 and found.baseline_epochs == (3.0, 4.0, 2.0)
    values = difference_values(found)
    assert values["robust"]["half_width"] == pytest.approx(4.302653 * 0.02 / 3**0.5, rel=1e-6)
    assert values["clean"]["positive"] == 1 and values["baseline_best_epoch"]["mean"] == 3


def test_the_order_of_the_runs_does_not_part_a_pair():
    (first,), (second,) = differences([*FRESH, *ROTATION]), differences([*reversed(FRESH), *ROTATION])
    assert first == second


def test_one_pair_has_no_interval_and_a_run_without_its_partner_is_in_none():
    failed = replace(FRESH[1], record=None, error="E: x")
    waiting = replace(ROTATION[2], record=None)
    _, rows = plain_differences([*FRESH[:1], failed, FRESH[2], *ROTATION[:2], waiting], AXES)
    assert rows == [["rotation", "P3", "P1", "1", "+2.0", "1 of 1", "+6.0", "1 of 1", "2, 1 of 1", "3"]]
    (found,) = differences([FRESH[0], *ROTATION])
    assert difference_values(found)["robust"]["half_width"] is None
    assert differences([failed, *ROTATION[1:2]]) == []


def test_without_a_baseline_there_is_no_table():
    alone = [replace(each, baseline=None) for each in ROTATION]
    assert differences_table([*FRESH, *alone], axes=AXES) is None and plain_differences(alone, AXES) == ([], [])


def test_both_are_judged_in_the_ball_of_the_run_and_not_in_that_of_the_baseline():
    """The run is trained at 0.05, where it has 60 % and the baseline, trained at 0.1, 40 %; there it has 30 %."""
    radii = {"epsilons": (0.05, 0.1)}
    base = run(None, "P1", 0, record=record(80, 40, **radii, trained=0.1))
    small = run("rotation", "P3", 0, record=record(80, 60, **radii, trained=0.05))
    (found,) = differences([base, small])
    assert found.ball == "Linf 0.05" and found.robust == pytest.approx((0.2,))


@pytest.mark.parametrize("other", [record(80, 40, epsilons=(0.2,)), record(80, 40, threat="L2")])
def test_a_baseline_that_was_not_attacked_in_the_run_s_ball_has_no_robust_difference(other):
    base, pretrained = run(None, "P1", 0, record=other), run("rotation", "P3", 0, record=record(82, 50, trained=0.1))
    _, rows = plain_differences([base, pretrained], AXES)
    assert rows == [["rotation", "P3", "P1", "1", "+2.0", "1 of 1", "–", "–", "–", "–"]]
    assert difference_values(differences([base, pretrained])[0])["robust"] is None


def test_groups_in_several_balls_say_which_is_theirs():
    radii = {"epsilons": (0.05, 0.1)}
    base = run(None, "P1", 0, record=record(80, 40, **radii, trained=0.1))
    runs = [
        run(t, "P3", 0, record=record(80, 60, **radii, trained=eps)) for t, eps in (("rotation", 0.05), ("jigsaw", 0.1))
    ]
    columns, rows = plain_differences([base, *runs], AXES)
    assert columns[6:8] == ["ε", "Robust"]
    assert [row[6:8] for row in rows] == [["Linf 0.05", "+20.0"], ["Linf 0.1", "+20.0"]]


@pytest.mark.parametrize(
    ("base", "pretrained"),
    [
        ({"picked_by": "accuracy"}, {}),
        ({}, {"picked_by": "accuracy"}),
        ({"trained_eps": 0.1}, {"trained_eps": 0.2}),
        ({"history": ({"epoch": 1, "val_robust_accuracy": 0.0},)}, {}),
    ],
)
def test_epochs_are_told_where_both_were_picked_by_one_number_that_is_above_0(base, pretrained):
    runs = [replace(FRESH[0], **base), replace(ROTATION[0], **pretrained)]
    (found,) = differences(runs)
    assert (found.reached, found.asked, found.baseline_epochs) == ((), 0, ())
    assert plain_differences(runs, AXES)[1][0][-2:] == ["–", "–"]


def test_a_best_that_no_run_reaches_is_said_so():
    runs = [FRESH[2], ROTATION[2]]
    assert plain_differences(runs, AXES)[1][0][-2:] == ["0 of 1", "2"]
    assert difference_values(differences(runs)[0])["epochs_to_baseline_best"] == {"of": 1}
