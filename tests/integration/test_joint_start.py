"""Self-supervision inside adversarial training starts from whatever was pretrained: the weights that it starts from."""

from __future__ import annotations

import numpy as np
import pytest

from advss_tf import stages
from advss_tf.config import make_recipe
from advss_tf.encoders import load_encoder, resnet20
from advss_tf.runner import run
from advss_tf.screen import Screen
from advss_tf.serving import export_encoder
from advss_tf.workdir import Workdir, write_json

SGD = {"kind": "sgd", "learning_rate": 0.05}
VALUES = {
    "name": "joint",
    "seed": 1,
    "data": {"kind": "digits", "labels_per_class": 8},
    "encoder": {"kind": "resnet20", "width": 2},
    "pretrain": {
        "task": {"kind": "simclr", "projection": [8]}, "attack": None, "epochs": 1, "batch_size": 400, "optimizer": SGD,
    },
    "finetune": {
        "start": "pretrained", "train": "full", "how": "adversarial", "attack": {"epsilon": 0.1, "num_steps": 1},
        "epochs": 1, "batch_size": 40, "optimizer": {**SGD, "weight_decay": 0, "learning_rate": 1e-9},
        "auxiliary": {"task": {"kind": "rotation"}, "mode": "own"},
    },
    "export": {"classifier": False},
}  # fmt: skip


class Begun(Exception):
    """A training that has begun, with its model."""


@pytest.mark.parametrize(("start", "auxiliary"), [("pretrained", {"kind": "simclr"}), ("path", {"kind": "rotation"})])
def test_a_joint_run_begins_with_the_weights_that_were_handed_over(start, auxiliary, monkeypatch, tmp_path):
    def begin(here, stage, model, *args, **options):
        raise Begun(model)

    monkeypatch.setattr(stages, "training", begin)
    workdir = Workdir(tmp_path / "run")
    path = workdir.encoder if start == "pretrained" else tmp_path / "encoder"
    handed_over = resnet20((8, 8, 1), width=2, seed=5)  # the recipe's own seed would draw others
    export_encoder(handed_over, path)
    changes = {"start": start if start == "pretrained" else str(path)}
    if start == "pretrained":
        write_json(workdir.done("pretrain"), {})
    finetune = {**VALUES["finetune"], **changes, "auxiliary": {"task": auxiliary, "mode": "own"}}
    recipe = make_recipe({**VALUES, "finetune": finetune})
    with pytest.raises(Begun) as begun:
        run(recipe, workdir, stages=["finetune"], screen=Screen(quiet=True))
    (model,) = begun.value.args
    assert model.encoder is model.supervised.encoder is model.auxiliary.encoder
    for ours, theirs in zip(model.encoder.get_weights(), handed_over.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_a_joint_run_learns_on_from_its_own_pretraining(tmp_path):
    """At a learning rate of nearly nothing the classifier's encoder is the one that was pretrained."""
    import keras

    workdir = Workdir(tmp_path)
    run(make_recipe(VALUES), workdir, stages=["pretrain", "finetune"], screen=Screen(quiet=True))
    model, pretrained = keras.models.load_model(workdir.classifier), load_encoder(workdir.encoder)
    scratch = resnet20((8, 8, 1), width=2, seed=1)
    # Running statistics move without a learning rate.
    ours, theirs, fresh = ([v.numpy() for v in one.trainable_variables] for one in (model.encoder, pretrained, scratch))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert max(np.abs(one - other).max() for one, other in zip(ours, fresh, strict=True)) > 1e-3
