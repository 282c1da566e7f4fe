"""A training that diverges is refused before anything of it is saved."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.cli import training
from advss_tf.cli.starting import refusing
from advss_tf.data import load_data
from advss_tf.errors import InvalidInput
from advss_tf.finetune import RobustClassifier
from advss_tf.training import Piecewise
from advss_tf.training.callbacks import read_history
from advss_tf.training.divergence import refuse_divergence
from advss_tf.training.loop import Saving, train

STEPS = 4


def make_model(optimizer):
    encoder = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.BatchNormalization()])
    model = RobustClassifier(encoder, 10, how="standard", eval_attack=None)
    model.compile(optimizer)
    model.build_optimizer()
    return model


@pytest.mark.parametrize(
    ("saving", "moment"),
    [(Saving(every_seconds=None), "the end of epoch 2"), (Saving(every_steps=3), "step 6 of the stage")],
    ids=["epoch", "step"],
)
def test_what_has_diverged_is_refused_and_the_last_that_was_saved_is_from_before(saving, moment, tmp_path):
    """The rate is 1e30 from the second epoch on: weights overflow at its first step."""
    digits = load_data("digits", seed=0, labels_per_class=8)
    model = make_model(keras.optimizers.SGD(Piecewise(0.1, boundaries=[STEPS], factor=1e30)))
    with pytest.raises(
        InvalidInput, match=rf"has diverged: at {moment}.*kept.*a lower learning rate.*loss="
    ) as refusal:
        train(
            model, lambda **part: digits.train(16, seed=3, **part), steps_per_epoch=STEPS, epochs=3, batch_size=16,
            folder=tmp_path, validation=digits.held_out(), monitor="val_accuracy", saving=saving,
            say=lambda line: None,
        )  # fmt: skip
    assert "nan" in refusal.value.received or "inf" in refusal.value.received
    assert tf.train.latest_checkpoint(str(tmp_path / "checkpoints")).endswith(f"ckpt-{STEPS}")
    assert [line["epoch"] for line in read_history(tmp_path / "history.jsonl")] == [1]
    assert '"epoch": 1' in (tmp_path / "best.json").read_text()


def test_a_skipped_overflow_is_none_until_no_step_is_taken_any_more():
    model = make_model(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)))
    refuse_divergence(model, {"loss": np.inf}, where="step 1")
    model.optimizer.dynamic_scale.assign(0.5)
    refuse_divergence(model, {"loss": 1.0}, where="step 1")
    with pytest.raises(InvalidInput, match=r"at step 1 .*Received: loss=inf\."):
        refuse_divergence(model, {"loss": np.inf}, where="step 1")


@pytest.mark.parametrize("number", [0, -1])
def test_weights_and_running_statistics_must_be_finite_too(number):
    model = make_model(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)))
    variable = model.encoder.weights[number]
    variable.assign(tf.concat([[np.nan], variable[1:]], 0))
    with pytest.raises(InvalidInput, match=rf"loss=1, 1 weights that are not finite, such as {variable.path}"):
        refuse_divergence(model, {"loss": 1.0}, where="step 1")


RECIPE = """
name: diverging
seed: 1
data: {kind: digits}
encoder: {kind: wide_resnet, depth: 10, width: 1}
pretrain:
  task: {kind: rotation}
  attack: null
  epochs: 2
  batch_size: 512
  optimizer: {kind: sgd, learning_rate: 1e30}
"""


@pytest.mark.slow
def test_the_command_line_says_it_in_a_sentence(tmp_path, capsys):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    flags = ["--config", str(recipe), "--workdir", str(tmp_path / "run")]
    assert refusing(training.main, training.flags().parse_args(flags)) == 2
    said = capsys.readouterr().err
    assert "The training has diverged: at the end of epoch 1" in said and "Traceback" not in said
    assert not list((tmp_path / "run").rglob("saved_model.pb"))
