"""Cells: the recipes that axes make of a base, their names, which of them are one, and faults by the cell's name."""

from __future__ import annotations

import pytest

from advss_tf.config import GridError, make_recipe
from advss_tf.config.axes import read_axes
from advss_tf.config.cells import MOST_CELLS, make_cells

SGD = {"kind": "sgd", "learning_rate": 0.1}
BASE = {
    "name": "base",
    "seed": 7,
    "data": {"kind": "digits"},
    "encoder": {"kind": "resnet20", "width": 4},
    "pretrain": {"task": {"kind": "rotation"}, "attack": {"epsilon": 0.1}, "epochs": 1, "optimizer": SGD},
    "finetune": {
        "start": "pretrained", "train": "full", "how": "trades", "attack": {"epsilon": 0.2}, "epochs": 1,
        "optimizer": SGD,
    },
}  # fmt: skip


def cells(axes, *, skip=(), base=BASE, baseline=None):
    found, faults = read_axes(axes)
    assert faults == []
    return list(make_cells("grid.yaml", "grid", found, skip=skip, base=base, baseline=baseline))


def test_the_last_axis_varies_fastest_and_names_follow_the_axes():
    found = cells({"finetuning": ["F3", "F4"], "seed": [0, 1]})
    assert [cell.name for cell in found] == ["F3-seed0", "F3-seed1", "F4-seed0", "F4-seed1"]
    assert [cell.group for cell in found] == ["F3", "F3", "F4", "F4"]
    assert [cell.recipe.seed for cell in found] == [0, 1, 0, 1]
    assert [cell.recipe.name for cell in found] == ["f3", "f3", "f4", "f4"]


@pytest.mark.parametrize("order", [("task", "pretraining"), ("pretraining", "task")])
def test_without_pretraining_three_tasks_are_one_cell_in_whatever_order(order):
    axes = {"task": ["rotation", "jigsaw", "selfie"], "pretraining": ["P1", "P3"]}
    found = {cell.name: cell for cell in cells({name: axes[name] for name in order})}
    both = [{"task": t, "pretraining": "P3"} for t in axes["task"]]
    assert set(found) == {"P1", *("-".join(place[name] for name in order) for place in both)}
    assert found["P1"].recipe.pretrain is None
    assert dict(found["P1"].place) == {"task": None, "pretraining": "P1"}


def test_the_whole_grid_of_the_paper_is_what_its_words_say():
    found = {cell.name: cell.recipe for cell in cells({"pretraining": ["P1", "P2", "P3"], "finetuning": ["F1", "F4"]})}
    assert len(found) == 6
    assert found["P3-F4"].model_copy(update={"name": "base"}) == make_recipe(BASE)
    assert found["P2-F4"].pretrain.attack is None and found["P2-F4"].finetune == found["P3-F4"].finetune
    frozen = found["P1-F1"]
    assert frozen.pretrain is None and frozen.finetune.freeze_random and frozen.finetune.train == "partial"
    assert frozen.finetune.attack is None and frozen.finetune.eval_attack.epsilon == 0.2
    assert not found["P1-F4"].finetune.freeze_random


def test_p1_and_p3_of_a_method_with_branches_are_finetuned_alike_by_every_word():
    acl = {"task": {"kind": "acl"}, "attack": {"epsilon": 0.1}, "epochs": 1, "optimizer": SGD}
    finetune = {"preset": "slf", "start": "pretrained", "eval_attack": {"epsilon": 0.1}}
    base = BASE | {"encoder": BASE["encoder"] | {"branches": ["clean", "adversarial"]}, "pretrain": acl}
    words = ["SLF", "ALF", "AFF", "F1", "F2", "F3", "F4"]
    axes = {"pretraining": ["P1", "P3"], "finetuning": words}
    found = {cell.name: cell.recipe for cell in cells(axes, base=base | {"finetune": finetune})}
    assert len(found) == 14
    for word in words:
        fresh, pretrained = found[f"P1-{word}"], found[f"P3-{word}"]
        assert fresh.encoder.branches == () and pretrained.encoder.branches == ("clean", "adversarial")
        assert fresh.finetune.freeze_random == (fresh.finetune.train != "full")
        same = {"start": "pretrained", "freeze_random": False}
        assert fresh.finetune.model_copy(update=same) == pretrained.finetune


def test_a_new_kind_of_task_keeps_what_it_knows_of_the_base():
    base = {**BASE, "pretrain": {**BASE["pretrain"], "task": {"kind": "rotation", "clean_weight": 0.25}}}
    (cell,) = cells({"task": ["jigsaw"]}, base=base)
    assert cell.recipe.pretrain.task.clean_weight == 0.25


def test_any_field_is_swept_and_cells_that_it_does_not_reach_are_one():
    found = cells({"pretrain.attack.epsilon": ["8/255", 0.1], "pretraining": ["P2", "P3"]})
    assert [cell.name for cell in found] == ["P2", "epsilon8_255-P3", "epsilon0.1-P3"]
    assert found[1].recipe.pretrain.attack.epsilon == 8 / 255
    assert [cell.recipe.name for cell in found] == ["p2", "epsilon8_255-p3", "epsilon0_1-p3"]


def test_a_change_inside_a_section_that_another_axis_brings_does_not_reach_other_cells():
    task = {"kind": "jigsaw", "num_permutations": 5}
    found = cells({"a": {"jigsaw": {"pretrain.task": task}}, "pretrain.task.grid": [2, 4]})
    assert [cell.recipe.pretrain.task.grid for cell in found] == [2, 4]
    assert task == {"kind": "jigsaw", "num_permutations": 5}


def test_names_that_would_be_the_same_folder_are_told_apart():
    found = cells({"how": {"a/b": {"finetune.beta": 1}, "A_B": {"finetune.beta": 2}}})
    names = [cell.name for cell in found]
    assert names[0] == "a_b" and names[1].startswith("A_B-") and len({name.lower() for name in names}) == 2


def test_methods_whose_labels_fold_to_one_name_are_groups_of_their_own():
    found = cells({"beta": {"<0.1": {"finetune.beta": 1}, ">0.1": {"finetune.beta": 2}}, "seed": [0, 1, 2]})
    groups = [cell.group for cell in found]
    assert groups[0] == "0.1" and len(set(groups[:3])) == len(set(groups[3:])) == 1 and len(set(groups)) == 2
    assert len({cell.recipe.name for cell in found}) == 2 and len({cell.name for cell in found}) == 6


def test_groups_that_differ_in_capitals_or_points_have_recipes_of_their_own_name():
    found = cells({"beta": {"a.b": {"finetune.beta": 1}, "A_b": {"finetune.beta": 2}, "other": {}}})
    assert len({cell.recipe.name for cell in found}) == 3


def test_cells_that_several_values_share_are_one_group_only_with_the_same_recipe():
    values = {
        "p": {"finetune.beta": 1},
        "q": {"finetune.beta": 1},
        "r": {"finetune.beta": 2},
        "s": {"finetune.beta": 2},
    }
    found = cells({"beta": values, "seed": [0, 1]})
    assert [cell.recipe.finetune.beta for cell in found] == [1, 1, 2, 2]
    groups = [cell.group for cell in found]
    assert groups[0] == groups[1] != groups[2] == groups[3]


def test_cells_that_differ_in_an_idle_field_alone_are_one():
    found = cells({"finetune.beta": [1, 6], "finetuning": ["F3", "F4"]})
    assert [cell.name for cell in found] == ["F3", "beta1-F4", "beta6-F4"]
    assert [cell.recipe.finetune.beta for cell in found] == [1, 1, 6]  # a recipe keeps what was written


def test_no_cell_has_the_name_of_another_thing_in_the_grid_s_folder():
    found = cells({"what": {"report": {"finetune.beta": 1}, "Figures": {"finetune.beta": 2}, "grid": {}}})
    assert found[0].name.startswith("report-") and found[1].name.startswith("Figures-") and found[2].name == "grid"


def test_a_name_that_is_too_long_for_a_recipe_is_cut_and_stays_its_own():
    long = "x" * 70
    found = cells({"how": {long + "1": {"finetune.beta": 1}, long + "2": {"finetune.beta": 2}}})
    names = {cell.recipe.name for cell in found}
    assert len(names) == 2 and {len(name) for name in names} == {64}


def test_what_is_skipped_is_no_cell():
    axes = {"pretraining": ["P1", "P3"], "finetuning": ["F1", "F2", "F4"]}
    found = cells(axes, skip=[{"pretraining": "P1", "finetuning": ["F1", "F2"]}])
    assert [cell.name for cell in found] == ["P1-F4", "P3-F1", "P3-F2", "P3-F4"]
    with pytest.raises(GridError, match="leaves no cell"):
        cells(axes, skip=[{"pretraining": "P1"}, {"pretraining": "P3"}])


def test_a_fault_names_the_first_of_its_cells_and_how_many_more_have_it():
    with pytest.raises(GridError) as caught:
        cells({"finetune.epochs": [0, 1], "seed": [0, 1, 2]})
    (fault,) = caught.value.faults
    assert fault.startswith("epochs0-seed0 and 2 other cells: finetune.epochs: must be at least 1.")


@pytest.mark.parametrize(
    ("axes", "base", "words"),
    [
        (
            {"pretraining": ["P3"]},
            {**BASE, "pretrain": {**BASE["pretrain"], "attack": None}},
            "P3: pretrain.attack: is",
        ),
        ({"x": {"none": {"finetune": None}}}, BASE, "none: finetune: is null"),
        ({"finetuning": ["F4"]}, {**BASE, "finetune": {**BASE["finetune"], "attack": None}}, "F4: finetune.attack: is"),
    ],
)
def test_a_cell_that_cannot_be_run_is_refused_before_anything_runs(axes, base, words):
    with pytest.raises(GridError) as caught:
        cells(axes, base=base)
    assert any(fault.startswith(words) for fault in caught.value.faults), caught.value.faults


def test_too_many_cells_are_refused():
    with pytest.raises(GridError, match="make too many cells"):
        cells({"seed": list(range(MOST_CELLS + 1))})


TASKS_AND_STARTS = {"task": ["rotation", "jigsaw"], "pretraining": ["P1", "P3"], "seed": [0, 1]}


@pytest.mark.parametrize("skip", [(), [{"pretraining": "P1", "task": "jigsaw"}]])
def test_the_baseline_of_two_tasks_is_the_one_cell_without_any_also_where_one_of_them_is_skipped(skip):
    found = cells(TASKS_AND_STARTS, skip=skip, baseline={"pretraining": "P1"})
    fresh = {cell.recipe.seed: cell.name for cell in found if cell.recipe.pretrain is None}
    assert len(found) == 6 and len(fresh) == 2
    for cell in found:
        assert cell.baseline == (fresh[cell.recipe.seed] if cell.recipe.pretrain else None)


def test_the_baseline_keeps_what_it_does_not_name():
    axes = {"pretraining": ["P1", "P3"], "finetuning": ["F3", "F4"]}
    compared = {cell.name: cell.baseline for cell in cells(axes, baseline={"finetuning": "F3"})}
    assert compared == {"P1-F3": None, "P1-F4": "P1-F3", "P3-F3": None, "P3-F4": "P3-F3"}
    both = {cell.name: cell.baseline for cell in cells(axes, baseline={"pretraining": "P1", "finetuning": "F3"})}
    assert both == {"P1-F3": None, "P1-F4": "P1-F3", "P3-F3": "P1-F3", "P3-F4": "P1-F3"}


def test_what_stands_for_several_baselines_or_for_one_that_is_left_out_has_none():
    """P1 is P1 of either task: beside rotation it would be rotation's P3 or jigsaw's."""
    compared = {cell.name: cell.baseline for cell in cells(TASKS_AND_STARTS, baseline={"pretraining": "P3"})}
    assert set(compared.values()) == {None}
    axes = {"pretraining": ["P1", "P3"], "finetuning": ["F1", "F4"]}
    found = cells(axes, skip=[{"pretraining": "P1", "finetuning": "F1"}], baseline={"pretraining": "P1"})
    assert {cell.name: cell.baseline for cell in found} == {"P1-F4": None, "P3-F1": None, "P3-F4": "P1-F4"}


def test_a_baseline_of_numbers_is_found_by_its_value():
    found = cells({"finetune.beta": [1.0, 6], "seed": [0]}, baseline={"finetune.beta": 6})
    assert [cell.baseline for cell in found] == [found[1].name, None]
