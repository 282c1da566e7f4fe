"""A grid from a user's seat: one command runs it, the same command goes on, and mistakes are answered in words."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from advss_tf.cli import training
from advss_tf.cli.starting import refusing
from advss_tf.config import dump_recipe, load_grid
from advss_tf.grid.cell_process import stages_of
from advss_tf.training.callbacks import read_history
from advss_tf.workdir import Workdir

BASE = """
name: base
seed: 0
data: {kind: digits, labels_per_class: 4, train_limit: 200}
encoder: {kind: resnet20, width: 2}
pretrain:
  task: {kind: rotation}
  attack: {epsilon: 0.1, num_steps: 1}
  epochs: 1
  batch_size: 90
  optimizer: {kind: sgd, learning_rate: 0.05}
finetune:
  start: pretrained
  train: full
  how: adversarial
  attack: {epsilon: 0.1, num_steps: 1}
  epochs: 2
  batch_size: 40
  optimizer: {kind: sgd, learning_rate: 0.05}
evaluate: {epsilons: [0.05, 0.1], num_steps: [2], limit: 40}
export: {classifier: false}
"""
GRID = """
name: two
base: base.yaml
axes:
  pretraining: [P1, P3]
  finetuning: [F2, F4]
"""


def train(*args):
    return refusing(training.main, training.flags().parse_args([str(arg) for arg in args]))


def run_alone(recipe, workdir):
    """Runs a recipe by its own command, in a process of its own: this one may compute by other kernels, as it has
    imported TensorFlow without the switch that the commands set."""
    path = workdir.root.with_name(f"{workdir.root.name}.yaml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dump_recipe(recipe))
    code = "import sys; from advss_tf.cli import train; sys.exit(train())"
    flags = ("--config", path, "--workdir", workdir.root, "--stages", ",".join(stages_of(recipe)))
    subprocess.run([sys.executable, "-c", code, *map(str, flags)], check=True, capture_output=True)


@pytest.fixture
def grid(tmp_path):
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "two.yaml").write_text(GRID)
    return tmp_path / "two.yaml"


@pytest.mark.slow
def test_a_grid_of_two_by_two_runs_goes_on_and_its_cells_are_the_runs_that_they_would_be_alone(
    grid, tmp_path, capsys, monkeypatch
):
    root = tmp_path / "run"
    monkeypatch.setattr("advss_tf.grid.running.SECONDS_BETWEEN_LINES", 0.0)
    assert train("--grid", grid, "--workdir", root, "--only", "finetuning=F4") == 0
    said = capsys.readouterr().out
    assert "2 of 4 cells are finished" in said and "[2/2] P3-F4: pretrain 1/1: accuracy" in said
    assert (root / "grid.log").read_text().count("[1/2] P1-F4: finetune 2/2: loss") == 1
    monkeypatch.undo()
    assert train("--grid", grid, "--workdir", root) == 0
    said = capsys.readouterr().out
    assert "4 of 4 cells are finished" in said and "P3-F4: " not in said
    assert Workdir(root / "P3-F2").finished("pretrain")["shared_from"] == "../P3-F4"
    assert not (root / "P1-F4" / "pretrain").exists()
    found = json.loads((root / "grid.json").read_text())
    assert [run["status"] for run in found["runs"]] == ["finished"] * 4
    assert (root / "report" / "index.html").is_file()
    assert (root / "figures" / "accuracy-epsilon-F4.svg").is_file()
    cells = {cell.name: cell for cell in load_grid(grid).cells}
    for name in ("P3-F4", "P1-F2"):
        alone = Workdir(tmp_path / "alone" / name)
        run_alone(cells[name].recipe, alone)
        ours, theirs = (read_history(at.stage("finetune") / "history.jsonl") for at in (Workdir(root / name), alone))
        for line, other in zip(ours, theirs, strict=True):
            assert {k: v for k, v in line.items() if k != "seconds"} == {
                k: v for k, v in other.items() if k != "seconds"
            }
        one, two = (json.loads(at.record.read_text()) for at in (Workdir(root / name), alone))
        assert [row["correct"] for row in one["results"]] == [row["correct"] for row in two["results"]]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--grid", "no.yaml", "--workdir", "x"), "The grid no.yaml has a fault"),
        (("--grid", "two.yaml"), "`--workdir` is missing"),
        (("--grid", "two.yaml", "--config", "base.yaml", "--workdir", "x"), "`--config` does not go with `--grid`"),
        (("--grid", "two.yaml", "--stages", "pretrain", "--workdir", "x"), "`--stages` does not go with `--grid`"),
        (("--config", "base.yaml", "--only", "seed=0", "--workdir", "x"), "`--only` chooses cells of a grid"),
        (("--grid", "two.yaml", "--only", "finetunin=F4", "--workdir", "x"), "did you mean 'finetuning'"),
        (("--grid", "two.yaml", "--only", "finetuning=F5", "--workdir", "x"), "one of ['F2', 'F4']"),
        (("--grid", "two.yaml", "--set", "finetune.epoch=3", "--workdir", "x"), "did you mean 'epochs'"),
        (("--grid", "two.yaml", "--set", "finetune.attack=null", "--workdir", "x"), "finetune.attack: is missing"),
        (("--grid", "two.yaml", "--set", "strategy=multi_worker", "--workdir", "x"), "in one process"),
        (("--grid", "base.yaml", "--workdir", "x"), "axes: is missing"),
    ],
)
def test_mistakes_are_answered_in_words_and_leave_nothing(grid, args, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train(*args) == 2
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base.yaml", "two.yaml"]


def test_a_folder_of_another_grid_is_refused_with_the_difference(grid, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "grid.yaml").write_text(GRID.replace("base: base.yaml", f"base: {tmp_path / 'base.yaml'}"))
    assert train("--grid", grid, "--workdir", tmp_path / "run", "--set", "finetune.epochs=3") == 2
    assert "base.finetune.epochs: 2 -> 3" in capsys.readouterr().err


def test_a_cell_that_cannot_run_is_in_the_table_and_in_the_exit_code(grid, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "advss_tf.grid.running.CellProcess.__call__", lambda self, recipe, workdir: "Traceback …\nOSError: full"
    )
    assert train("--grid", grid, "--workdir", tmp_path / "run") == 1
    said = capsys.readouterr().out
    assert "P1-F2 failed: OSError: full" in said and "0 of 4 cells are finished" in said
    assert "OSError: full" in (tmp_path / "run" / "grid.md").read_text()
