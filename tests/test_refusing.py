"""What a run refuses before its first stage: whatever a later one would find too late."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
import tensorflow as tf

from advss_tf import assembly, refusing
from advss_tf.config import make_recipe
from advss_tf.data import load_data
from advss_tf.encoders import resnet18
from advss_tf.errors import InvalidInput
from advss_tf.refusing import refuse_early
from advss_tf.runner import run
from advss_tf.screen import Screen
from advss_tf.staging import Run
from advss_tf.training.strategy import get_strategy
from advss_tf.workdir import Workdir

SGD = {"kind": "sgd", "learning_rate": 0.05}
ATTACK = {"epsilon": 0.1, "num_steps": 1}
VALUES = {
    "name": "early",
    "seed": 1,
    # Of these a recipe does not know the size.
    "data": {"kind": "arrays", "path": "images.npz"},
    "encoder": {"kind": "wide_resnet", "depth": 10, "width": 1, "branches": ["clean", "adversarial"]},
    "pretrain": {"task": {"kind": "rotation"}, "attack": ATTACK, "epochs": 1, "optimizer": SGD},
    "finetune": {
        "start": "pretrained", "train": "full", "how": "adversarial", "attack": ATTACK, "epochs": 1, "batch_size": 16,
        "optimizer": SGD,
    },
}  # fmt: skip
REFINE = "refine={clusters: 3, full: {attack: {epsilon: 0.1, num_steps: 1}}}"
STAGES = ["pretrain", "finetune", "evaluate", "export", "report"]


def arrays(height=8, width=8, **changes):
    """Sixty images in three classes; `changes` are of the `ImageData`."""
    images = np.random.default_rng(0).random((60, height, width, 3), np.float32)
    return dataclasses.replace(load_data((images, np.arange(60) % 3), held_out=0.2), **changes)


def refused(change, words, tmp_path, data=None, stages=STAGES, strategy=None):
    recipe, workdir = make_recipe(VALUES, change), Workdir(tmp_path / "run")
    with pytest.raises(InvalidInput, match=re.escape(words)):
        refuse_early(Run(recipe, workdir, data or arrays(), strategy or tf.distribute.get_strategy(), None), stages)


JIGSAW5 = "finetune.auxiliary={task: {kind: jigsaw, grid: 5}}"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ([JIGSAW5], "The grid does not divide the images. Expected: sides that are multiples of grid=5"),
        (["finetune.auxiliary={task: {kind: selfie, grid: 3}}"], "The grid does not divide the images into whole"),
        (["finetune.auxiliary={task: {kind: selfie, boundary: stage2_block2}}"], "stage2_block2"),
        (["finetune.train=partial", "finetune.boundary=stage2_block2"], "stage2_block2"),
        (["finetune.reset_after_boundary=true", "finetune.boundary=stage2_block2"], "stage2_block2"),
        (["finetune.start=nowhere/encoder"], "nowhere/encoder"),
        (["evaluate.corruptions={baseline: nothing.json}"], "nothing.json"),
        (["evaluate.corruptions={frost: nofolder}"], "There are no photographs of frost"),
    ],
)
def test_what_a_later_stage_cannot_make_is_refused(change, words, tmp_path):
    refused(change, words, tmp_path)


def test_images_that_a_later_stage_cannot_use_are_refused(tmp_path):
    refused((), "Finetuning needs labels", tmp_path, arrays(class_names=None))
    refused((), "has no test split", tmp_path, arrays(test_part=None))
    change = [
        "pretrain.task={kind: jigsaw, grid: 2, num_permutations: 3}",
        "finetune.auxiliary={task: {kind: rotation}}",
    ]
    refused(change, "Only square images", tmp_path, arrays(width=6))


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        (["pretrain", "finetune"], "A stage needs what `refine` makes"),
        (["pretrain", "refine", "evaluate"], "A stage needs what `finetune` makes"),
        (["pretrain", "export"], "A stage needs what `finetune` makes"),
        (["pretrain", "refine", "finetune", "report"], "A stage needs what `evaluate` makes"),
        (["refine", "finetune"], "A stage needs what `pretrain` makes"),
    ],
)
def test_stages_that_nobody_prepares_are_refused(stages, words, tmp_path):
    refused([REFINE, "encoder.branches=[]"], words, tmp_path, stages=stages)


IN_PARTS = ["micro_batches=4", "micro_batch_norm=per_part"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            ["finetune.batch_size=15"],
            "`finetune.batch_size` cannot be shared evenly by the replicas. Expected: a multiple",
        ),
        (["pretrain.batch_size=15"], "`pretrain.batch_size` cannot"),
        ([REFINE, "refine.full.batch_size=15"], "`refine.full.batch_size` cannot"),
        ([REFINE, "refine.linear.batch_size=15"], "`refine.linear.batch_size` cannot"),
        (
            ["finetune.batch_size=12", *(f"finetune.{each}" for each in IN_PARTS)],
            "The rows of a batch of finetune cannot be shared evenly by its parts. Expected: a multiple of "
            "micro_batches=4 on each replica. Received: 6 rows",
        ),
    ],
)
def test_a_batch_that_two_replicas_cannot_share_is_refused(change, words, tmp_path):
    stages = ["pretrain", "refine", *STAGES[1:]] if REFINE in change else STAGES
    refused(change, words, tmp_path, stages=stages, strategy=get_strategy("mirrored"))


def test_one_replica_shares_every_batch_and_what_is_done_is_not_asked(tmp_path):
    odd = make_recipe(VALUES, ["finetune.batch_size=15", "finetune.start=scratch"])
    refuse_early(Run(odd, Workdir(tmp_path), arrays(), tf.distribute.get_strategy(), None), STAGES)
    pretraining = make_recipe(VALUES, ["pretrain.batch_size=15", "finetune.start=scratch"])
    refuse_early(Run(pretraining, Workdir(tmp_path), arrays(), get_strategy("mirrored"), None), STAGES[1:2])


@pytest.mark.parametrize(
    ("change", "stages"),
    [
        (REFINE, ["pretrain", "refine", *STAGES[1:]]),
        ("finetune.start=scratch", STAGES),
        ("finetune.auxiliary={task: {kind: jigsaw, grid: 4}}", STAGES),
    ],
)
def test_what_can_be_made_is_not_refused_and_nothing_is_kept_of_it(change, stages, tmp_path):
    recipe = make_recipe(VALUES, [change])
    refuse_early(Run(recipe, Workdir(tmp_path / "run"), arrays(), tf.distribute.get_strategy(), None), stages)
    assert not (tmp_path / "run").exists()


def test_an_encoder_from_elsewhere_is_looked_at_itself(tmp_path, monkeypatch):
    """It has stages and an image size of its own."""
    monkeypatch.setattr(refusing, "load_encoder", lambda path: resnet18((8, 8, 3), width=2))
    change = ["finetune.start=elsewhere", "finetune.train=partial", "finetune.boundary=stage4_block1"]
    recipe = make_recipe(VALUES, change)
    refuse_early(Run(recipe, Workdir(tmp_path / "run"), arrays(), tf.distribute.get_strategy(), None), STAGES)
    refused(change, "`images` do not fit the encoder", tmp_path, arrays(height=16, width=16))
    refused([*change[:2], "finetune.boundary=stage4_block3"], "stage4_block3", tmp_path)


@pytest.mark.parametrize("change", [JIGSAW5, "pretrain.task={kind: jigsaw, grid: 5}"])
def test_a_run_refuses_it_before_anything_is_trained(change, tmp_path, monkeypatch):
    monkeypatch.setattr(assembly, "data_of", lambda recipe: arrays())
    workdir = Workdir(tmp_path / "run")
    with pytest.raises(InvalidInput, match="The grid does not divide the images"):
        run(make_recipe(VALUES, [change]), workdir, screen=Screen(quiet=True))
    assert not workdir.stage("pretrain").exists()
