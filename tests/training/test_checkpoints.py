"""Checkpoints: what is in them, and which are refused."""

from __future__ import annotations

import keras
import pytest
import tensorflow as tf

from advss_tf.errors import InvalidInput
from advss_tf.finetune import RobustClassifier
from advss_tf.training import SGD
from advss_tf.training.checkpoints import Checkpoint


def make_model(*layers, optimizer=None):
    """A classifier of digits that learns in no time."""
    encoder = keras.Sequential([keras.Input((8, 8, 1)), *layers, keras.layers.Flatten()])
    model = RobustClassifier(encoder, 10, how="standard", eval_attack=None, seed=3)
    model.compile(optimizer or SGD(0.1, momentum=0.9))
    return model


def saved(folder, model, epochs=1, **options):
    """A checkpoint after each of `epochs`; the model takes no step in them, but is said to."""
    checkpoint = Checkpoint(folder, steps_per_epoch=5, **options)
    checkpoint.restore(model)
    checkpoint.set_model(model)
    for epoch in range(epochs):
        model.optimizer.iterations.assign(5 * (epoch + 1))
        checkpoint.on_epoch_end(epoch)
    return checkpoint


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    saved(tmp_path, make_model(keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization()))
    with pytest.raises(InvalidInput, match="is not of this run's model, or is damaged"):
        Checkpoint(tmp_path, steps_per_epoch=5).restore(make_model())


def test_every_variable_that_matters_is_in_a_checkpoint(tmp_path):
    model = make_model(keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization())
    saved(tmp_path, model)
    names = [name for name, _ in tf.train.list_variables(str(tmp_path)) if name.startswith("variables/")]
    assert len(names) >= len(model.variables) + len(model.optimizer.variables)


def test_each_of_the_other_workers_has_a_folder_of_its_own_that_keeps_one(tmp_path):
    for task in (1, 2):
        saved(tmp_path, make_model(), epochs=2, is_chief=False, task=task)
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.index"))
    assert found == ["of_other_workers/1/ckpt-10.index", "of_other_workers/2/ckpt-10.index"]
    saved(tmp_path, make_model(), epochs=3)
    chief = sorted(path.name for path in tmp_path.glob("*.index"))
    assert chief == ["ckpt-10.index", "ckpt-15.index"]
