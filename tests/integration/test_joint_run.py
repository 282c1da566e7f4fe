"""A run with a puzzle beside the classes: what it says while it trains, and what its export says of the puzzle."""

from __future__ import annotations

import re

import keras
import pytest

from advss_tf.config import make_recipe
from advss_tf.encoders import read_provenance
from advss_tf.runner import run
from advss_tf.screen import Screen
from advss_tf.workdir import Workdir

# Whole runs and exports, which take their time.
pytestmark = pytest.mark.slow

VALUES = {
    "name": "joint",
    "seed": 1,
    "data": {"kind": "digits", "labels_per_class": 8},
    "encoder": {"kind": "resnet20", "width": 2},
    "finetune": {
        "start": "scratch", "train": "full", "how": "adversarial", "attack": {"epsilon": 0.1, "num_steps": 1},
        "epochs": 1, "batch_size": 40, "optimizer": {"kind": "sgd", "learning_rate": 0.05},
        "auxiliary": {
            "task": {"kind": "jigsaw", "grid": 2, "num_permutations": 4}, "mode": "sum", "class_weight": 0.5,
            "attack_class_weight": 0, "auxiliary_at": "clean",
        },
    },
    "export": {"verify": False},
}  # fmt: skip


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    workdir = Workdir(tmp_path_factory.mktemp("joint"))
    screen = Screen(quiet=True, log=workdir.log)
    run(make_recipe(VALUES), workdir, stages=["finetune", "export"], screen=screen)
    return workdir


def test_the_screen_says_what_guessing_the_puzzle_reaches_and_not_of_the_classes(story):
    log = story.log.read_text()
    assert "finetune: classifier, chance of auxiliary_accuracy 20 %, 1 epochs" in log
    (epoch,) = re.findall(r"finetune 1/1: .*", log)
    for name in ("auxiliary_accuracy", "val_auxiliary_accuracy"):
        assert re.search(rf"[:,] {name} \d+\.\d % \(chance 20\.0 %\)", epoch), (name, epoch)
    for name in ("robust_accuracy", "val_accuracy", "val_robust_accuracy"):
        assert re.search(rf"[:,] {name} \d+\.\d %[, ](?!\(chance)", epoch), (name, epoch)


def test_the_export_names_the_puzzle_and_the_options_beside_the_classes(story):
    model = keras.models.load_model(story.classifier)
    said = read_provenance(story.served)["finetuned"]
    auxiliary = said["auxiliary"]
    assert auxiliary["task"] == "jigsaw" and auxiliary["chance"] == 0.2
    assert auxiliary["permutations"] == model.auxiliary.permutations.tolist()
    options = {"mode": "sum", "class_weight": 0.5, "attack_class_weight": 0.0, "auxiliary_at": "clean"}
    assert {name: auxiliary[name] for name in options} == options
    assert said["epoch"] == 1
