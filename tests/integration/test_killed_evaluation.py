"""kill -9 inside an evaluation: the same command goes on behind the last finished batch, to the same record."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from advss_tf.data import load_data
from advss_tf.evaluation import Record, read_attacked


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A linear classifier of digits that knows nothing of this library."""
    keras.utils.set_random_seed(0)
    data = load_data("digits")
    layers = [keras.Input(data.image_shape), keras.layers.Flatten(), keras.layers.Dense(10)]
    classifier = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    classifier.compile(keras.optimizers.SGD(0.5), loss)
    classifier.fit(data.train(batch_size=64), epochs=3, verbose=0)
    path = tmp_path_factory.mktemp("model") / "linear.keras"
    classifier.save(path)
    return path


def start(model, folder):
    code = "import sys; from advss_tf.cli import evaluate; sys.exit(evaluate())"
    flags = ["--data=digits", "--suite=full", "--epsilons=0.1", "--batch_size=16", "--limit=128"]
    flags += [f"--out={folder / 'record.json'}", f"--save_attacked={folder / 'attacked'}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, "-c", code, str(model), *flags], **pipes)


def killed_behind(count, model, folder):
    """Starts the command, and kills it a moment after its `count`-th batch was finished."""
    process = start(model, folder)
    while process.poll() is None and len(list((folder / "record.partial").glob("batch-*"))) < count:
        time.sleep(0.02)
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_a_killed_evaluation_ends_with_the_record_of_one_that_was_not(model, tmp_path):
    whole = start(model, tmp_path / "whole")
    said, _ = whole.communicate()
    assert whole.returncode == 0, said
    assert all(killed_behind(count, model, tmp_path / "cut") for count in (1, 4)), "the kills must hit the evaluation"
    last = start(model, tmp_path / "cut")
    said, _ = last.communicate()
    assert last.returncode == 0, said
    one, other = (Record.load(tmp_path / name / "record.json") for name in ("whole", "cut"))
    for ours, theirs in zip(one.results, other.results, strict=True):
        assert ours.model_copy(update={"seconds": 0}) == theirs.model_copy(update={"seconds": 0})
    assert one.examples == other.examples and one.result("worst").correct > 0
    pictures = (list(read_attacked(tmp_path / name / "attacked")) for name in ("whole", "cut"))
    for ours, theirs in zip(*pictures, strict=True):
        assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    assert not (tmp_path / "cut" / "record.partial").exists()
