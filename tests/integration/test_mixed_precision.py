"""A whole run in bfloat16: its export is verified by the numbers that it computes with."""

from __future__ import annotations

import keras
import pytest

from advss_tf.config import make_recipe
from advss_tf.runner import run
from advss_tf.workdir import Workdir

SGD = {"kind": "sgd", "learning_rate": 0.05}
ATTACK = {"epsilon": 0.1, "num_steps": 1}
VALUES = {
    "name": "coarse",
    "seed": 0,
    "data": {"kind": "digits", "labels_per_class": 8},
    "encoder": {"kind": "resnet20", "width": 2},
    "strategy": "single",
    "precision": "mixed_bfloat16",
    "pretrain": {"task": {"kind": "rotation"}, "attack": ATTACK, "epochs": 1, "batch_size": 256, "optimizer": SGD},
    "finetune": {
        "start": "pretrained", "train": "full", "how": "adversarial", "attack": ATTACK, "epochs": 1, "batch_size": 40,
        "optimizer": SGD,
    },
    "export": {"verify": True},
}  # fmt: skip


@pytest.mark.slow
def test_a_run_in_bfloat16_ends_with_a_verified_export(tmp_path):
    before = keras.config.dtype_policy()
    try:
        run(make_recipe(VALUES), Workdir(tmp_path), stages=["pretrain", "finetune", "export"])
    finally:
        keras.config.set_dtype_policy(before)
    found = Workdir(tmp_path).finished("export")
    assert (found["computes_in"], found["tolerance"]) == ("bfloat16", 2**-6)
    assert {"logits", "__call__", "saved_model_cli"} <= set(found["differences"])
