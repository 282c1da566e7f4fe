"""Checkpoints: what is in them, and which are refused."""

from __future__ import annotations

import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.data import load_data
from advss_tf.errors import InvalidInput
from advss_tf.finetune import RobustClassifier
from advss_tf.training import SGD
from advss_tf.training.callbacks import read_history
from advss_tf.training.checkpoints import Checkpoint
from advss_tf.training.loop import Saving, train


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
        checkpoint.on_epoch_begin(epoch)
        for batch in range(5):
            model.optimizer.iterations.assign_add(1)
            checkpoint.on_train_batch_end(batch)
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


def damage(path, how):
    data = path.with_name(f"{path.name}.data-00000-of-00001")
    content = data.read_bytes()
    if how == "truncated":
        data.write_bytes(content[: len(content) // 2])
    elif how == "flipped":
        data.write_bytes(content[:200] + bytes([content[200] ^ 1]) + content[201:])
    elif how == "gone":
        data.unlink()
    else:
        path.with_name(f"{path.name}.index").write_bytes(b"")


@pytest.mark.parametrize("how", ["truncated", "flipped", "gone", "index"])
def test_where_the_newest_is_damaged_the_one_before_it_is_taken(how, tmp_path):
    saved(tmp_path, make_model(), epochs=2)
    damage(tmp_path / "ckpt-10", how)
    said, model = [], make_model()
    assert Checkpoint(tmp_path, steps_per_epoch=5).restore(model, say=said.append) == 5
    (line,) = said
    assert "the checkpoint ckpt-10 is damaged and is passed over" in line
    assert model.optimizer.iterations.numpy() == 5


def test_where_none_can_be_read_the_newest_is_refused(tmp_path):
    saved(tmp_path, make_model(), epochs=2)
    for name in ("ckpt-5", "ckpt-10"):
        damage(tmp_path / name, "truncated")
    with pytest.raises(InvalidInput, match=r"ckpt-10 is not of this run's model, or is damaged"):
        Checkpoint(tmp_path, steps_per_epoch=5).restore(make_model())


def test_of_another_model_none_is_passed_over(tmp_path):
    saved(tmp_path, make_model(keras.layers.Conv2D(4, 3)), epochs=2)
    said = []
    with pytest.raises(InvalidInput, match=r"ckpt-10 is not of this run's model"):
        Checkpoint(tmp_path, steps_per_epoch=5).restore(make_model(), say=said.append)
    assert not said


def trained(folder, model, say=lambda line: None):
    """Trains on digits, two epochs of five steps."""
    digits = load_data("digits", seed=0, labels_per_class=8)
    train(
        model, lambda **part: digits.train(16, seed=3, **part), steps_per_epoch=5, epochs=2, batch_size=16,
        folder=folder, saving=Saving(every_steps=4), say=say,
    )  # fmt: skip
    history = [{**line, "seconds": 0} for line in read_history(folder / "history.jsonl")]
    return [variable.numpy() for variable in (*model.weights, *model.optimizer.variables)], history


def ends_alike_from_step_8(tmp_path, make):
    """Trains, goes back to the checkpoint before the last by damaging that, and compares the ends; gives the model."""
    model = make()
    whole, history = trained(tmp_path / "whole", model)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    damage(tmp_path / "cut" / "checkpoints" / "ckpt-10", "truncated")
    said = []
    again, history_again = trained(tmp_path / "cut", make(), said.append)
    assert said[:2] == [
        "cut: the checkpoint ckpt-10 is damaged and is passed over",
        "cut: goes on after step 8 of 10",
    ]
    for one, other in zip(whole, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert history == history_again and [line["epoch"] for line in history] == [1, 2]
    return model


def test_from_the_one_before_it_the_run_ends_with_the_same_bits(tmp_path):
    ends_alike_from_step_8(tmp_path, lambda: make_model(keras.layers.BatchNormalization()))


def test_a_skipped_step_is_a_step_that_is_done(tmp_path):
    """The first gradients overflow, as the scale is near the largest number; they are skipped, and so are their images.

    The optimizer does not count them: by its count the run would begin again with images that it has seen.
    """

    def make():
        scaled = keras.optimizers.LossScaleOptimizer(SGD(1e-3, momentum=0.9), initial_scale=2.0**127)
        return make_model(keras.layers.Rescaling(64.0), optimizer=scaled)

    taken = ends_alike_from_step_8(tmp_path, make).optimizer.iterations.numpy()
    assert 2 <= taken <= 8, f"{taken} of 10 steps were taken"


def test_each_of_the_other_workers_has_a_folder_of_its_own_that_keeps_one(tmp_path):
    for task in (1, 2):
        saved(tmp_path, make_model(), epochs=2, is_chief=False, task=task)
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.index"))
    assert found == ["of_other_workers/1/ckpt-10.index", "of_other_workers/2/ckpt-10.index"]
    saved(tmp_path, make_model(), epochs=3)
    chief = sorted(path.name for path in tmp_path.glob("*.index"))
    assert chief == ["ckpt-10.index", "ckpt-15.index"]
