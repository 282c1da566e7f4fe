"""A cell that was killed and went on: its stage's `done.json` says so, and the table has no seconds of that stage."""

from __future__ import annotations

import csv
import functools
import json

import pytest

from advss_tf import runner
from advss_tf.config import load_grid
from advss_tf.grid import run_grid
from advss_tf.grid.cell_process import run_cell
from advss_tf.screen import Screen
from advss_tf.workdir import Workdir

# Whole runs and exports, which take their time.
pytestmark = pytest.mark.slow

GRID = """
name: small
base:
  name: base
  seed: 0
  data: {kind: digits}
  encoder: {kind: resnet20, width: 2}
  pretrain: {task: {kind: rotation}, attack: null, epochs: 1, optimizer: {kind: sgd, learning_rate: 0.1}}
  finetune: {start: pretrained, train: linear, how: standard, epochs: 1, optimizer: {kind: sgd, learning_rate: 0.1}}
  export: {classifier: false}
axes:
  finetune.epochs: [1, 2]
"""
NAMES = ("pretrain", "finetune", "evaluate")


class Killed(BaseException):
    """What no `except Exception` catches, as kill -9 would not be caught."""


class Stages:
    """Stages that train nothing, in the place of the real ones; the first beginning of one of them is cut.

    Args:
        record: Makes a record.
        cut: The number of the stage that is cut, counted over all cells.
        written: What it has written by then.
    """

    def __init__(self, record, cut, written):
        self.record, self.cut, self.written, self.begun = record, cut, written, 0

    def do(self, name, here):
        folder = here.workdir.stage(name)
        folder.mkdir(parents=True, exist_ok=True)
        self.begun += 1
        if self.begun == self.cut:
            for file in self.written:
                (folder / file).touch()
            raise Killed
        if name == "pretrain":
            here.workdir.encoder.mkdir()
        elif name == "finetune":
            here.workdir.classifier.touch()
        else:
            self.record(here.recipe.name).save(here.workdir.record)
        return {"did": name}


def _told(root):
    """Which stages say that they were gone on with, by cell, and the rows of the table."""
    told = {
        path.name: [stage for stage in NAMES if Workdir(path).finished(stage).get("resumed")]
        for path in sorted(root.iterdir())
        if (path / "recipe.yaml").is_file()
    }
    with (root / "grid.csv").open() as file:
        return told, list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("cut", "written", "told", "left_out"),
    [
        # The cells do pretrain, finetune, evaluate, and, with the pretraining taken over, finetune, evaluate.
        (1, ["checkpoint"], [["pretrain"], ["pretrain"]], {("pretrain", 0), ("pretrain", 1)}),
        (1, ["taught_by.json"], [[], []], set()),
        pytest.param(2, ["checkpoint"], [["finetune"], []], {("finetune", 0)}, marks=pytest.mark.slow),
        pytest.param(5, ["part"], [[], ["evaluate"]], set(), marks=pytest.mark.slow),
        pytest.param(2, [], [[], []], set(), marks=pytest.mark.slow),
    ],
    ids=["pretrain", "what pretraining is taught by", "finetune", "evaluate", "before anything was written"],
)
def test_what_went_on_after_a_kill_says_so_and_has_no_seconds(
    cut, written, told, left_out, record, tmp_path, monkeypatch
):
    (tmp_path / "small.yaml").write_text(GRID)
    grid, root = load_grid(tmp_path / "small.yaml"), tmp_path / "run"
    stages = Stages(record, cut, written)
    monkeypatch.setattr(runner, "STAGES", {name: functools.partial(stages.do, name) for name in NAMES})

    def go():
        return run_grid(grid, root, run=run_cell, screen=lambda log: Screen(log, quiet=True))

    with pytest.raises(Killed):
        go()
    assert go() == 0
    found, rows = _told(root)
    assert list(found.values()) == told
    empty = {(name, n) for n, row in enumerate(rows) for name in ("pretrain", "finetune") if not row[f"{name}_seconds"]}
    assert empty == left_out
    done = json.loads(Workdir(root / rows[0]["run"]).done("finetune").read_text())
    assert done.keys() - {"resumed"} == {"did", "seconds"} and done.get("resumed", True) is True
