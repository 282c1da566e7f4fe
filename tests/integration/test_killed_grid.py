"""kill -9 in the middle of a grid's cells: no process outlives it, and the same command ends with the same table."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from advss_tf.workdir import Workdir

GRID = """
name: two
base:
  name: base
  seed: 2
  data: {kind: digits, labels_per_class: 4, train_limit: 200}
  encoder: {kind: resnet20, width: 2}
  pretrain:
    task: {kind: rotation}
    attack: null
    epochs: 12
    batch_size: 90
    optimizer: {kind: sgd, learning_rate: 0.05}
  finetune:
    start: pretrained
    train: full
    how: adversarial
    attack: {epsilon: 0.1, num_steps: 1}
    epochs: 10
    batch_size: 40
    optimizer: {kind: sgd, learning_rate: 0.05}
  evaluate: {epsilons: [0.1], num_steps: [2], limit: 40}
  export: {classifier: false}
axes:
  finetuning: [F1, F4]
"""


def start(grid, root):
    code = "import sys; from advss_tf.cli import train; sys.exit(train())"
    flags = ["--grid", str(grid), "--workdir", str(root)]
    # Into a file: who waits for the end of a pipe waits for every process that survives.
    with said_by(root).open("a") as said:
        return subprocess.Popen([sys.executable, "-c", code, *flags], stdout=said, stderr=subprocess.STDOUT)


def said_by(root):
    return root.with_name(f"{root.name}.txt")


def state_and_parent(pid):
    """What Linux says of a process: its state, such as `"Z"`, and its parent."""
    state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    return state, int(parent)


def processes_of(pid):
    """A process and all that it has started, and these in their turn."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(path.name)] = state_and_parent(path.name)[1]
        except OSError:  # it has ended meanwhile
            continue
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def alive(pid):
    try:
        return state_and_parent(pid)[0] != "Z"
    except OSError:
        return False


def killed_in(cell, stage, grid, root):
    """Starts the command, kills it alone once a cell's stage can go on; gives whether it was cut, and who survived.

    A child ends by itself when it hears that its parent has, so it has some seconds.
    """
    process, workdir = start(grid, root), Workdir(root / cell)
    while process.poll() is None and not (workdir.stage(stage) / "checkpoints" / "checkpoint").is_file():
        time.sleep(0.02)
    family = processes_of(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 20
    while any(map(alive, family)) and time.monotonic() < deadline:
        time.sleep(0.1)
    cut = process.returncode == -signal.SIGKILL and len(family) > 1 and workdir.finished(stage) is None
    return cut, list(filter(alive, family))


def without_seconds(value):
    """Nested values without what a clock has said."""
    if isinstance(value, dict):
        return {key: without_seconds(one) for key, one in value.items() if not key.endswith("seconds")}
    return [without_seconds(one) for one in value] if isinstance(value, list) else value


def table(root):
    """The numbers and the rows of a finished grid."""
    with (root / "grid.csv").open() as file:
        return without_seconds([json.loads((root / "grid.json").read_text()), list(csv.DictReader(file))])


@pytest.mark.slow
def test_a_killed_grid_leaves_no_process_and_ends_with_the_table_of_one_that_was_not(tmp_path):
    grid, roots = tmp_path / "two.yaml", [tmp_path / "whole", tmp_path / "cut"]
    grid.write_text(GRID)
    for cell, stage in (("F1", "pretrain"), ("F4", "finetune")):
        assert killed_in(cell, stage, grid, roots[1]) == (True, []), f"the kill must hit {stage} of {cell}"
    assert "goes on after step" in Workdir(roots[1] / "F1").log.read_text()
    for root in roots:
        last = start(grid, root)
        assert last.wait() == 0 and "2 of 2 cells are finished" in said_by(root).read_text(), said_by(root).read_text()
    whole, cut = map(table, roots)
    assert whole == cut
    assert [(row["run"], row["status"], row["shared_from"]) for row in cut[1]] == [
        ("F1", "finished", ""),
        ("F4", "finished", "../F1"),
    ]
    assert float(cut[1][1]["clean"]) > 0 and cut[1][1]["best_held_out_robust_accuracy"]
