"""The order of a grid: what runs, what is shared, what goes on after a kill, and what a failure leaves."""

from __future__ import annotations

import csv
import fcntl
import functools
import io
import json
import shutil
import sys

import pytest
from rich.console import Console

from advss_tf.config import dump_recipe, load_grid
from advss_tf.errors import InvalidInput
from advss_tf.grid import run_grid
from advss_tf.grid import running as module
from advss_tf.grid.cell_process import ProcessEnded, stages_of
from advss_tf.screen import Screen
from advss_tf.timing import Pace
from advss_tf.workdir import Workdir, write_json

GRID = """
name: small
base:
  name: base
  seed: 0
  data: {kind: digits}
  encoder: {kind: resnet20, width: 4}
  pretrain:
    task: {kind: rotation}
    attack: {epsilon: 0.1}
    epochs: 1
    optimizer: {kind: sgd, learning_rate: 0.1}
  finetune:
    start: pretrained
    train: full
    how: adversarial
    attack: {epsilon: 0.1}
    epochs: 1
    optimizer: {kind: sgd, learning_rate: 0.1}
  export: {classifier: false}
axes:
  pretraining: [P1, P3]
  finetuning: [F3, F4]
  seed: [0, 1]
"""


class Killed(BaseException):
    """What no `except Exception` catches, as kill -9 would not be caught."""


class FakeCells:
    """Runs cells without training: stages leave their files, some fail, one is killed; some cells are refused."""

    def __init__(self, record, *, failing=(), killed=None, ended=None, refused=()):
        self.record = record
        self.failing, self.killed, self.ended, self.stages = set(failing), killed, ended, []
        self.refused = set(refused)

    def __call__(self, recipe, workdir):
        with module.replacing(workdir.recipe) as file:
            file.write(dump_recipe(recipe).encode())
        if workdir.root.name in self.refused:
            raise InvalidInput("There are more clusters than images.", expected="fewer", received="many")
        for stage in stages_of(recipe):
            if workdir.finished(stage) is not None:
                continue
            self.stages.append((workdir.root.name, stage))
            workdir.stage(stage).mkdir(parents=True, exist_ok=True)
            if self.killed == (workdir.root.name, stage):
                raise Killed
            if self.ended == (workdir.root.name, stage):
                raise ProcessEnded(-9)
            if (workdir.root.name, stage) in self.failing:
                raise RuntimeError(f"{stage} is out of sorts")
            if stage == "evaluate":
                self.record(recipe.name, robust=40 + recipe.seed).save(workdir.record)
            if stage == "finetune":
                line = {"epoch": 1, "val_robust_accuracy": 0.5, "seconds": 2.0}
                with module.replacing(workdir.stage(stage) / "history.jsonl") as file:
                    file.write(json.dumps(line).encode() + b"\n")
            write_json(workdir.done(stage), {"seconds": {"pretrain": 4.0, "finetune": 6.0}.get(stage, 1.0)})


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(GRID)
    return load_grid(path)


@pytest.fixture
def go(small, tmp_path, record):
    """Runs the grid in `tmp_path/run`; gives how many cells failed, the fake, and what the screen said."""

    def going(grid=small, cells=None, **fake):
        page, runner = io.StringIO(), FakeCells(record, **fake)

        def screen(log):
            return Screen(log, console=Console(file=page, width=200, soft_wrap=True))

        try:
            failed = run_grid(grid, tmp_path / "run", cells=cells, run=runner, screen=screen)
        except Killed:
            failed = None
        return failed, runner, page.getvalue()

    return going


def rows(tmp_path):
    with (tmp_path / "run" / "grid.csv").open() as file:
        return {row["run"]: row for row in csv.DictReader(file)}


def test_every_cell_runs_once_and_pretraining_once_a_seed(go, tmp_path):
    failed, fake, said = go()
    assert failed == 0
    assert [cell for cell, stage in fake.stages if stage == "pretrain"] == ["P3-F3-seed0", "P3-F3-seed1"]
    assert len([cell for cell, stage in fake.stages if stage == "evaluate"]) == 8
    assert Workdir(tmp_path / "run" / "P3-F4-seed1").finished("pretrain")["shared_from"] == "../P3-F3-seed1"
    assert "[8/8] P3-F4-seed1: done in" in said and "8 of 8 cells are finished" in said


def test_the_screen_says_which_cell_runs_and_how_long_is_left(go):
    _, _, said = go()
    assert "[1/8] P1-F3-seed0: under way" in said
    # One F4 is left of a kind that took 6 + 1 s, with a pretraining that is there.
    assert "[8/8] P3-F4-seed1: about 7 s left" in said
    # Three P1 of 7 s, four P3 of 7 s, and two pretrainings that nothing is known of.
    assert "[2/8] P1-F3-seed1: at least 49 s left" in said
    assert "P1-F3-seed0: done in 1 s, clean 80.0 %, worst case 40.0 % in Linf 0.1" in said
    assert "mean ± 95 % t-interval over runs, in Linf 0.1" in said


def test_what_is_not_chosen_is_not_due_but_tells_how_long_a_cell_takes(small, go):
    go(cells=small.only(["finetuning=F4", "seed=0"]))
    _, _, said = go(cells=small.only(["finetuning=F4", "pretraining=P3"]))
    # P3-F4-seed1 alone: a pretraining of 4 s, and 6 + 1 s as at seed 0.
    assert "[2/2] P3-F4-seed1: about 11 s left" in said


def test_the_second_call_runs_nothing_and_writes_the_same_table(go, tmp_path):
    go()
    before = (tmp_path / "run" / "grid.csv").read_text()
    (tmp_path / "run" / "grid.csv").unlink()
    shutil.rmtree(tmp_path / "run" / "figures")
    failed, fake, said = go()
    assert failed == 0 and fake.stages == [] and "8 of 8" in said
    assert (tmp_path / "run" / "grid.csv").read_text() == before
    assert (tmp_path / "run" / "figures" / "clean-robust.svg").is_file()


@pytest.mark.parametrize("stage", ["pretrain", "finetune", "evaluate"])
def test_a_killed_grid_goes_on_with_the_stage_that_was_cut(go, stage):
    failed, first, _ = go(killed=("P3-F3-seed0", stage))
    assert failed is None
    failed, second, _ = go()
    assert failed == 0
    assert second.stages[0] == ("P3-F3-seed0", stage)
    # 2 pretrainings, 8 finetunings and 8 evaluations, one of which was begun twice.
    assert len(first.stages) + len(second.stages) == 18 + 1
    assert len(set(first.stages) & set(second.stages)) == 1


def test_a_kill_while_pretraining_is_taken_over_leaves_none_or_all_of_it(go, tmp_path, monkeypatch):
    def cut(source, target, **_):
        (target / "encoder").mkdir()
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copytree", cut)
        assert go()[0] is None
    # Begun in a folder of another name, which is gone again: nothing says that the stage is finished.
    assert (tmp_path / "run" / "P3-F4-seed0").is_dir() and not list(
        (tmp_path / "run" / "P3-F4-seed0").glob("pretrain*")
    )
    failed, fake, _ = go()
    assert failed == 0 and not [cell for cell, stage in fake.stages if stage == "pretrain"]


def test_a_failing_cell_lets_the_others_run_and_is_tried_again_by_the_next_call(go, tmp_path):
    failed, _, said = go(failing=[("P1-F4-seed0", "finetune")])
    assert failed == 1
    assert "P1-F4-seed0 failed: RuntimeError: finetune is out of sorts" in said and "7 of 8" in said
    error = tmp_path / "run" / "P1-F4-seed0" / "error.txt"
    assert "Traceback" in error.read_text() and error.read_text().strip().endswith("finetune is out of sorts")
    assert rows(tmp_path)["P1-F4-seed0"]["status"] == "failed"
    assert "finetune is out of sorts" in (tmp_path / "run" / "grid.md").read_text()
    failed, fake, said = go()
    assert failed == 0 and fake.stages == [("P1-F4-seed0", "finetune"), ("P1-F4-seed0", "evaluate")]
    assert not error.exists() and "failed" not in said


def test_a_pretraining_that_failed_is_not_tried_again_by_those_that_share_it(go, tmp_path):
    failed, fake, _ = go(failing=[("P3-F3-seed0", "pretrain")])
    assert failed == 2
    assert [cell for cell, stage in fake.stages if stage == "pretrain"] == ["P3-F3-seed0", "P3-F3-seed1"]
    assert "has failed" in (tmp_path / "run" / "P3-F4-seed0" / "error.txt").read_text()
    assert go()[0] == 0


def test_a_cell_that_is_refused_before_its_pretraining_begins_keeps_no_other_from_it(go, tmp_path):
    failed, fake, said = go(refused=["P3-F3-seed0"])
    assert failed == 1 and "P3-F3-seed0 failed: There are more clusters than images" in said
    assert ("P3-F4-seed0", "pretrain") in fake.stages
    assert rows(tmp_path)["P3-F4-seed0"]["status"] == "finished"


def test_pretrainings_that_name_the_same_clusters_are_held_to_those_that_the_first_began_with(tmp_path, record):
    task = "{kind: advcl, pseudo_labels: mine.npz}"
    named = GRID.replace("{kind: rotation}", task).replace(
        "width: 4}", "width: 4, branches: [clean, adversarial, pseudo]}"
    )
    path = tmp_path / "named.yaml"
    path.write_text(named.replace("[P1, P3]", "[P3]"))
    grid, root = load_grid(path), tmp_path / "run"
    first, other = Workdir(root / "P3-F3-seed0"), Workdir(root / "P3-F3-seed1")
    assert run_grid(grid, root, cells=grid.only(["finetuning=F3", "seed=0"]), run=FakeCells(record)) == 0
    write_json(first.taught_by("pretrain"), {"pseudo_labels": "1f"})
    refused = FakeCells(record, refused=["P3-F3-seed1"])
    assert run_grid(grid, root, run=refused) == 1
    assert json.loads(other.taught_by("pretrain").read_text()) == {"pseudo_labels": "1f"}
    assert ("P3-F4-seed1", "pretrain") in refused.stages, "what was refused at the door keeps no other from it"


def test_a_part_of_the_grid_is_run_in_the_same_folder_and_uses_what_is_there(small, go, tmp_path):
    assert go(cells=small.only(["finetuning=F4", "seed=0"]))[0] == 0
    found = rows(tmp_path)
    assert [name for name, row in found.items() if row["status"] == "finished"] == ["P1-F4-seed0", "P3-F4-seed0"]
    assert len(found) == 8
    _, fake, _ = go()
    assert ("P3-F3-seed0", "pretrain") not in fake.stages


def test_the_table_has_means_over_seeds_and_what_was_taken(go, tmp_path):
    go()
    text = (tmp_path / "run" / "grid.md").read_text()
    # Seeds 0 and 1 give 40 and 41 %: mean 40.5, half width 12.706 · 0.7071 / √2 = 6.353.
    assert "| P3 | F4 | 2 | 80.0 ± 0.0 % | **40.5 ± 6.4 %** | 1 ± 0.0 | 4 ± 0 s | 6 ± 0 s |" in text
    assert "| P1 | F3 | 2 | 80.0 ± 0.0 % | **40.5 ± 6.4 %** | – | – | 6 ± 0 s |" in text
    assert (tmp_path / "run" / "report" / "index.html").is_file()
    assert (tmp_path / "run" / "figures" / "clean-robust.svg").is_file()


def test_a_folder_with_the_run_of_another_recipe_fails_and_lends_and_shows_nothing(go, tmp_path):
    go()
    path = tmp_path / "run" / "P3-F3-seed0" / "recipe.yaml"
    path.write_text(path.read_text().replace("epochs: 1", "epochs: 7"))
    shutil.rmtree(tmp_path / "run" / "P3-F4-seed0")
    failed, fake, said = go()
    assert failed == 1 and ("P3-F4-seed0", "pretrain") in fake.stages
    assert "P3-F3-seed0 failed: " in said and "7 of 8 cells are finished" in said
    assert "holds the run of another recipe: pretrain.epochs: 7 -> 1" in said
    row = rows(tmp_path)["P3-F3-seed0"]
    assert row["status"] == "failed" and row["clean"] == "" and "another recipe" in row["error"]


def test_a_cell_that_finished_anyway_has_no_error_left(go, tmp_path):
    go()
    error = tmp_path / "run" / "P1-F4-seed0" / "error.txt"
    error.write_text("RuntimeError: long ago\n")
    failed, _, said = go()
    assert failed == 0 and not error.exists() and "8 of 8" in said
    assert rows(tmp_path)["P1-F4-seed0"]["status"] == "finished"


def test_a_pretraining_that_was_killed_is_gone_on_with_by_those_that_share_it(go, tmp_path):
    failed, fake, said = go(ended=("P3-F3-seed0", "pretrain"))
    assert failed == 1 and "P3-F3-seed0 failed: The process that ran the cell has ended, code -9" in said
    assert ("P3-F4-seed0", "pretrain") in fake.stages
    assert rows(tmp_path)["P3-F4-seed0"]["status"] == "finished"


def test_a_system_that_cannot_lock_a_file_is_refused_in_words(go, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with pytest.raises(InvalidInput, match="cannot be held for one process on this system"):
        go()
    assert not (tmp_path / "run").exists()


def test_another_grid_in_the_folder_is_refused_with_the_difference(go, tmp_path):
    go()
    (tmp_path / "other.yaml").write_text(GRID.replace("[F3, F4]", "[F4]"))
    with pytest.raises(InvalidInput, match=r"holds another grid.*axes\.finetuning"):
        go(load_grid(tmp_path / "other.yaml"))
    with pytest.raises(InvalidInput, match=r"base\.finetune\.epochs: 1 -> 2"):
        go(load_grid(tmp_path / "small.yaml", ["finetune.epochs=2"]))


def test_a_folder_of_a_single_run_is_refused(go, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text("name: x")
    with pytest.raises(InvalidInput, match="holds a single run"):
        go()


def test_two_processes_do_not_run_one_grid(go, tmp_path):
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InvalidInput, match="is being run"):
            go()
    assert go()[0] == 0


def test_a_cluster_is_refused(small, go, tmp_path):
    with pytest.raises(InvalidInput, match="one process, one after the other"):
        go(load_grid(tmp_path / "small.yaml", ["strategy=multi_worker"]))


def test_a_folder_is_gone_on_with_when_a_baseline_is_added_and_the_screen_shows_the_differences(go, tmp_path):
    """The fake's robust accuracy is 40 % and one more for each seed, whatever is run: no difference in any pair."""
    assert "baseline" not in go()[2]
    path = tmp_path / "with.yaml"
    path.write_text(f"{GRID}baseline: {{pretraining: P1}}\n")
    failed, fake, said = go(load_grid(path))
    assert failed == 0 and fake.stages == []
    assert "less the baseline of the same seed" in said and "+0.0 ± 0.0" in said
    groups = json.loads((tmp_path / "run" / "grid.json").read_text())["groups"]
    assert [group["group"] for group in groups if "differences" in group] == ["P3-F3", "P3-F4"]
    assert groups[2]["differences"]["runs"] == [["P3-F3-seed0", "P1-F3-seed0"], ["P3-F3-seed1", "P1-F3-seed1"]]


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def of_another_version(path):
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 2}))


def test_cells_that_cannot_be_read_fail_alone_until_what_they_name_is_away(go, tmp_path):
    go()
    root = tmp_path / "run"
    damaged = {
        "P1-F3-seed0": ("evaluate/record.json", cut),
        "P1-F3-seed1": ("evaluate/record.json", of_another_version),
        "P1-F4-seed0": ("finetune/history.jsonl", cut),
        "P1-F4-seed1": ("finetune/done.json", cut),
        "P3-F3-seed0": ("pretrain/done.json", cut),
    }
    for name, (file, damage) in damaged.items():
        damage(root / name / file)
    shutil.rmtree(root / "P3-F4-seed0")
    failed, fake, said = go()
    # The cell that is due has nobody left to take its pretraining from, and runs whole.
    assert failed == 5 and fake.stages == [("P3-F4-seed0", stage) for stage in ("pretrain", "finetune", "evaluate")]
    assert "[1/8] P1-F3-seed0: failed: " in said and "3 of 8 cells are finished" in said
    found = rows(tmp_path)
    assert [name for name, row in found.items() if row["status"] == "failed"] == list(damaged)
    for name, (file, _) in damaged.items():
        assert found[name]["error"].startswith(str(root / name / file)) and found[name]["clean"] == ""
        assert (root / name / "error.txt").read_text().strip() == found[name]["error"]
        (root / name / file).unlink()
        if "record" in file:
            (root / name / "evaluate" / "done.json").unlink()
    failed, fake, said = go()
    assert failed == 0 and "8 of 8 cells are finished" in said and not list(root.glob("*/error.txt"))
    # The pretraining is taken back from the cell that has made it again.
    assert fake.stages == [("P1-F3-seed0", "evaluate"), ("P1-F3-seed1", "evaluate"), ("P1-F4-seed1", "finetune")]


def test_a_record_that_cannot_be_read_when_its_cell_has_run_fails_the_cell(small, go, tmp_path, monkeypatch):
    write = FakeCells.__call__

    def damaged(self, recipe, workdir):
        write(self, recipe, workdir)
        cut(workdir.record)

    monkeypatch.setattr(FakeCells, "__call__", damaged)
    failed, _, said = go(cells=small.only(["pretraining=P1", "finetuning=F4", "seed=0"]))
    assert failed == 1 and "[1/1] P1-F4-seed0: failed: " in said and "0 of 8 cells are finished" in said
    assert "record.json cannot be read" in (tmp_path / "run" / "P1-F4-seed0" / "error.txt").read_text()


@pytest.fixture
def talk(small, tmp_path, record, monkeypatch):
    """Runs two cells that say lines, `talk((seconds since the line before, line), …)`; gives those that were passed on.

    The second cell is silent.
    """

    def talking(*lines, terminal=False):
        now, page = [0.0], io.StringIO()

        class Process:
            def __init__(self, hear):
                self.hear, self.cells = hear, FakeCells(record)

            def __enter__(self):
                return self

            def __exit__(self, *_):
                pass

            def __call__(self, recipe, workdir):
                for seconds, line in lines if workdir.root.name == "P1-F3-seed0" else ():
                    now[0] += seconds
                    self.hear(line)
                return self.cells(recipe, workdir)

        monkeypatch.setattr(module, "CellProcess", Process)
        monkeypatch.setattr(module._Going, "show", lambda self: None)
        monkeypatch.setattr(module, "Pace", functools.partial(Pace, clock=lambda: now[0]))

        def screen(log):
            return Screen(log, console=Console(file=page, width=200, soft_wrap=True, force_terminal=terminal))

        run_grid(small, tmp_path / "run", cells=small.only(["pretraining=P1", "finetuning=F3"]), screen=screen)
        said = [line for line in page.getvalue().splitlines() if "finetune" in line]
        return said, (tmp_path / "run" / "grid.log").read_text()

    return talking


def test_a_cell_that_goes_on_says_a_line_a_minute_with_its_number_and_name(talk):
    said, log = talk(
        (30, "finetune 1/9: loss 2.000 (0:08:00 left)"),
        (30, "finetune 2/9: loss 1.900 (0:07:00 left)"),
        (59, "finetune 3/9: loss 1.800 (0:06:00 left)"),
        (2, "finetune 4/9: loss 1.700 (0:05:00 left)"),
        (59, "finetune 5/9: loss 1.600 (0:04:00 left)"),
    )
    passed_on = [
        "[1/2] P1-F3-seed0: finetune 2/9: loss 1.900 (0:07:00 left)",
        "[1/2] P1-F3-seed0: finetune 4/9: loss 1.700 (0:05:00 left)",
    ]
    assert said == passed_on
    assert [line.split(" ", 2)[2] for line in log.splitlines() if "finetune" in line] == passed_on


def test_a_cell_that_is_done_within_the_minute_says_nothing_of_its_epochs(talk):
    said, log = talk((30, "finetune 1/2: loss 2.000 (0:01 left)"), (29, "finetune 2/2: loss 1.900 (done)"))
    assert said == [] and "finetune" not in log


def test_what_has_several_lines_is_left_to_the_cell_s_own_log(talk):
    said, _ = talk((70, "evaluate, at most:\nfinetune"), (1, "finetune 1/2: loss 2.000 (0:01 left)"))
    assert said == ["[1/2] P1-F3-seed0: finetune 1/2: loss 2.000 (0:01 left)"]


def test_a_terminal_has_its_bar_and_no_lines_of_epochs(talk):
    said, _ = talk((70, "finetune 1/2: loss 2.000 (0:01 left)"), terminal=True)
    assert said == []
