"""kill -9 at random moments: the same command goes on, and ends with the bits of the run that was left alone."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from advss_tf.finetune import RobustClassifier
from advss_tf.workdir import Workdir

RECIPE = """
name: killed
seed: 2
data: {kind: digits, labels_per_class: 30}
encoder: {kind: resnet20, width: 4}
pretrain:
  task: {kind: rotation}
  attack: {norm: linf, epsilon: 0.1, num_steps: 2}
  epochs: 6
  batch_size: 64
  optimizer: {kind: sgd, learning_rate: 0.05, schedule: {kind: cosine}}
finetune:
  start: pretrained
  train: full
  how: adversarial
  attack: {norm: linf, epsilon: 0.1, num_steps: 2}
  epochs: 10
  batch_size: 64
  optimizer: {kind: sgd, learning_rate: 0.05, ema_momentum: 0.9}
checkpoint: {every_seconds: 1.0, every_steps: 7}
"""


def start(recipe, workdir):
    code = "import sys; from advss_tf.cli import train; sys.exit(train())"
    flags = ["--config", str(recipe), "--workdir", str(workdir), "--stages", "pretrain,finetune"]
    return subprocess.Popen([sys.executable, "-c", code, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def killed_in(stage, recipe, workdir, rng):
    """Starts the command, waits until `stage` is under way, and kills it some random time later."""
    process = start(recipe, workdir)
    # TensorBoard's folder is made when the stage's first step begins.
    while process.poll() is None and not (Workdir(workdir).stage(stage) / "tensorboard").is_dir():
        time.sleep(0.05)
    time.sleep(rng.uniform(0.0, 8.0))
    process.send_signal(signal.SIGKILL)
    process.wait()
    return Workdir(workdir).finished(stage) is None


@pytest.mark.slow
def test_a_killed_run_ends_with_the_bits_of_an_uninterrupted_one(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    whole = start(recipe, tmp_path / "whole")
    assert whole.wait() == 0, whole.stderr.read()
    rng = random.Random(0)
    inside = [killed_in(stage, recipe, tmp_path / "cut", rng) for stage in ("pretrain",) * 2 + ("finetune",) * 2]
    assert sum(inside[:2]) >= 1 and sum(inside[2:]) >= 1, "the kills must have hit both stages"
    last = start(recipe, tmp_path / "cut")
    assert last.wait() == 0, last.stderr.read()
    one, other = (keras.models.load_model(Workdir(tmp_path / name).classifier) for name in ("whole", "cut"))
    assert isinstance(one, RobustClassifier)
    for ours, theirs in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    one, other = (
        [line.rsplit(', "seconds"', 1)[0] for line in path.read_text().splitlines()]
        for path in (tmp_path / name / "finetune" / "history.jsonl" for name in ("whole", "cut"))
    )
    assert one == other
