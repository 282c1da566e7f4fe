"""The file of a grid: its base, its changes, the choice of cells, and each fault in words."""

from __future__ import annotations

import pytest

from advss_tf.config import GridError, RecipeError, dump_grid, grid_difference, load_grid
from advss_tf.errors import InvalidInput

BASE = """
name: base
seed: 1
data: {kind: digits, labels_per_class: 8}
encoder: {kind: resnet20, width: 4}
pretrain:
  task: {kind: rotation}
  attack: {epsilon: 0.1}
  epochs: 2
  optimizer: {kind: sgd, learning_rate: 0.05}
finetune:
  start: pretrained
  train: full
  how: adversarial
  attack: {epsilon: 0.1}
  epochs: 2
  optimizer: {kind: sgd, learning_rate: 0.05}
"""
AXES = "axes: {pretraining: [P1, P3], finetuning: [F3, F4], seed: [0, 1]}\n"


@pytest.fixture
def write(tmp_path):
    (tmp_path / "base.yaml").write_text(BASE)

    def writing(text=f"name: grid\nbase: base.yaml\n{AXES}", name="grid.yaml"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return writing


def test_the_base_lies_beside_the_grid_and_is_changed_by_set_and_from_outside(write):
    grid = load_grid(write(f"name: grid\nbase: base.yaml\nset: {{finetune.epochs: 5}}\n{AXES}"), ["pretrain.epochs=3"])
    assert len(grid.cells) == 8 and grid.name == "grid"
    assert {cell.recipe.finetune.epochs for cell in grid.cells} == {5}
    assert {cell.recipe.pretrain.epochs for cell in grid.cells if cell.recipe.pretrain} == {3}


def test_the_base_may_be_written_in_the_grid_itself(write):
    inside = "base:\n" + "".join(f"  {line}\n" for line in BASE.strip().splitlines())
    assert load_grid(write(f"name: grid\n{inside}{AXES}")).cells == load_grid(write()).cells


def test_what_is_saved_is_the_grid_without_its_base_s_file(write, tmp_path):
    grid = load_grid(write(), ["finetune.epochs=4"])
    (tmp_path / "elsewhere").mkdir()
    saved = tmp_path / "elsewhere" / "grid.yaml"
    saved.write_text(dump_grid(grid))
    again = load_grid(saved)
    assert again.cells == grid.cells and grid_difference(again, grid) == []


def test_differences_are_told_of_the_base_and_of_the_axes(write):
    old = load_grid(write())
    assert grid_difference(old, load_grid(write(), ["finetune.epochs=4"])) == ["base.finetune.epochs: 2 -> 4"]
    more = load_grid(write(f"name: grid\nbase: base.yaml\n{AXES.replace('[0, 1]', '[0, 1, 2]')}"))
    assert grid_difference(old, more) == ["axes.seed: [0, 1] -> [0, 1, 2]"]
    skipping = load_grid(write(f"name: grid\nbase: base.yaml\n{AXES}skip: [{{pretraining: P1}}]\n"))
    assert len(grid_difference(old, skipping)) == 1 and "skip" in grid_difference(old, skipping)[0]


def test_a_baseline_names_a_cell_for_each_that_differs_in_it_and_makes_no_other_grid(write, tmp_path):
    old, text = load_grid(write()), f"name: grid\nbase: base.yaml\n{AXES}"
    grid = load_grid(write(f"{text}baseline: {{pretraining: P1}}\n"))
    compared = {cell.name: cell.baseline for cell in grid.cells}
    ends = [f"{finetuning}-seed{seed}" for finetuning in ("F3", "F4") for seed in (0, 1)]
    assert compared == {f"P1-{end}": None for end in ends} | {f"P3-{end}": f"P1-{end}" for end in ends}
    assert {cell.baseline for cell in old.cells} == {None}
    assert grid_difference(old, grid) == [] == grid_difference(grid, old)
    (tmp_path / "again.yaml").write_text(dump_grid(grid))
    assert load_grid(tmp_path / "again.yaml").cells == grid.cells
    assert "baseline" not in dump_grid(old)


def test_a_default_that_is_written_out_changes_nothing(write, tmp_path):
    old = load_grid(write())
    (tmp_path / "base.yaml").write_text(BASE + "precision: float32\n")
    assert grid_difference(old, load_grid(write())) == []


def test_only_some_cells_are_chosen_by_their_values(write):
    grid = load_grid(write())
    assert grid.only([]) == grid.cells
    names = [cell.name for cell in grid.only(["finetuning=F4", "seed=0"])]
    assert names == ["P1-F4-seed0", "P3-F4-seed0"]
    assert len(grid.only(["seed=0,1"])) == 8


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ("finetuning", "`only` chooses nothing"),
        ("finetuning=", "`only` chooses nothing"),
        ("fintuning=F4", "did you mean 'finetuning'"),
        ("finetuning=F5", "`only finetuning` is not known"),
    ],
)
def test_a_choice_that_is_none_is_refused(write, choice, words):
    with pytest.raises(InvalidInput) as caught:
        load_grid(write()).only([choice])
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        (f"base: base.yaml\n{AXES}", "name: is missing"),
        (f"name: grid\n{AXES}", "base: is missing"),
        ("name: grid\nbase: base.yaml\n", "axes: is missing"),
        (f"name: grid\nbase: [1]\n{AXES}", "base: is no recipe"),
        (f"name: grid\nbase: base.yaml\nset: 3\n{AXES}", "set: must be a section"),
        (f"name: grid\nbase: base.yaml\naxis: {{}}\n{AXES}", "axis: unknown key (did you mean 'axes'?)"),
        ("name: grid\nbase: base.yaml\naxes: {seed: []}\n", "axes.seed: has no values"),
        (f"name: grid\nbase: base.yaml\n{AXES}skip: 3\n", "skip[0]: must be a section"),
        (f"name: grid\nbase: base.yaml\n{AXES}skip: [{{task: x}}]\n", "skip[0].task: is no axis"),
        (f"name: grid\nbase: base.yaml\n{AXES}skip: [{{seed: 4}}]\n", "skip[0].seed: is no value of this axis"),
        (f"name: grid\nbase: base.yaml\n{AXES}baseline: P1\n", "baseline: must be a section"),
        (f"name: grid\nbase: base.yaml\n{AXES}baseline: {{}}\n", "baseline: must be a section"),
        (f"name: grid\nbase: base.yaml\n{AXES}baseline: {{task: x}}\n", "baseline.task: is no axis"),
        (f"name: grid\nbase: base.yaml\n{AXES}baseline: {{pretraining: P2}}\n", "is no value of this axis"),
        (f"name: grid\nbase: base.yaml\n{AXES}baseline: {{seed: 0}}\n", "baseline.seed: only repeats cells"),
        (
            f"name: grid\nbase: base.yaml\n{AXES}skip: [{{pretraining: P1}}]\nbaseline: {{pretraining: P1}}\n",
            "baseline: is what no cell can be compared with",
        ),
        (f"name: grid\nbase: base.yaml\n{AXES}name: grid\n", "appears twice"),
    ],
)
def test_a_grid_that_is_none_is_refused_in_words(write, text, words):
    with pytest.raises(GridError) as caught:
        load_grid(write(text))
    assert words in str(caught.value) and str(caught.value).startswith("The grid ")


def test_a_base_that_is_missing_or_wrong_is_named(write):
    with pytest.raises(RecipeError, match=r"bse\.yaml") as caught:
        load_grid(write(f"name: grid\nbase: bse.yaml\n{AXES}"))
    assert "did you mean" in str(caught.value)
    with pytest.raises(RecipeError, match="did you mean 'epochs'"):
        load_grid(write(), ["finetune.epoch=3"])


LOST = "changes what the axes set anew in every cell"
TASKS = "axes: {task: {a: {pretrain.task: {kind: rotation}}, b: {pretrain.task: {kind: jigsaw}}}}\n"


@pytest.mark.parametrize(
    ("axes", "change"),
    [
        (AXES, "seed=5"),
        (AXES.replace("F3, F4", "F1, F2"), "finetune.train=linear"),
        (AXES.replace("F3, F4", "F1, F3"), "finetune.how=trades"),
        (AXES.replace("P1, P3", "P1"), "pretrain.epochs=9"),
        (TASKS, "pretrain.task.clean_weight=0.3"),
        (TASKS, "pretrain.task={kind: rotation, clean_weight: 0.3}"),
        ("axes: {finetune.attack.epsilon: [0.2, 0.3]}\n", "finetune.attack={epsilon: 0.4}"),
    ],
)
def test_a_change_that_the_axes_overrule_in_every_cell_is_refused(write, axes, change):
    with pytest.raises(GridError, match=f"--set: {LOST}"):
        load_grid(write(f"name: grid\nbase: base.yaml\n{axes}"), [change])
    path, _, value = change.partition("=")
    with pytest.raises(GridError, match=f"  set: {LOST}"):
        load_grid(write(f"name: grid\nbase: base.yaml\nset:\n  {path}: {value}\n{axes}"))


@pytest.mark.parametrize(
    ("axes", "change"),
    [
        (AXES, "finetune.train=full"),  # F3 and F4 say so too
        (AXES.replace("F3, F4", "F1, F3"), "finetune.attack.epsilon=0.3"),  # they measure with it
        (AXES.replace("P1, P3", "P1, P2"), "pretrain.epochs=9"),
        ("axes: {finetune.attack.epsilon: [0.2, 0.3]}\n", "finetune.attack={epsilon: 0.2, num_steps: 4}"),
        ("axes: {finetune.attack.epsilon: [0.2, 0.3]}\n", "finetune.attack={epsilon: 0.4, num_steps: 4}"),
        (TASKS, "pretrain.task.clean_weight=0.5"),
    ],
)
def test_a_change_that_some_cell_keeps_or_heeds_is_taken(write, axes, change):
    assert load_grid(write(f"name: grid\nbase: base.yaml\n{axes}"), [change]).cells


def test_a_change_that_a_later_one_replaces_is_none(write):
    text = f"name: grid\nbase: base.yaml\nset: {{finetune.epochs: 5}}\n{AXES}"
    assert {cell.recipe.finetune.epochs for cell in load_grid(write(text), ["finetune.epochs=3"]).cells} == {3}


def test_lists_that_differ_beyond_what_a_message_shows_are_different_grids(write):
    def seeds(last, name):
        return load_grid(write(f"name: grid\nbase: base.yaml\naxes: {{seed: {list(range(last + 1))}}}\n", name))

    old, more = seeds(6, "six.yaml"), seeds(8, "eight.yaml")
    assert grid_difference(old, more) == ["axes.seed[7]: absent -> 7", "axes.seed[8]: absent -> 8"]
    assert grid_difference(old, seeds(6, "again.yaml")) == []


def test_a_long_value_of_an_axis_is_chosen_and_skipped_as_it_is_written(write):
    radii = [[0.1, 0.11, 0.12, 0.13, 0.14, 0.15, last] for last in (0.16, 0.17)]
    text = f"name: grid\nbase: base.yaml\naxes: {{evaluate.epsilons: {radii}}}\n"
    grid = load_grid(write(text))
    assert [list(cell.recipe.evaluate.epsilons) for cell in grid.cells] == radii
    (left,) = load_grid(write(f"{text}skip: [{{evaluate.epsilons: [{radii[0]}]}}]\n")).cells
    assert left.name == grid.cells[1].name
