"""What every pretext task of the registry has to hold: replicas, precision, saving, resuming, hand-off, recipes."""

from __future__ import annotations

import inspect
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf import assembly
from advss_tf.attacks import Linf, ProjectedGradientDescent
from advss_tf.config import kinds, make_recipe
from advss_tf.config.parts import kind_of, sections_in
from advss_tf.data import load_data
from advss_tf.encoders import load_encoder
from advss_tf.pretext import TASKS
from advss_tf.serving import export_encoder
from advss_tf.training import SGD
from advss_tf.training.loop import Saving, train
from advss_tf.training.strategy import get_strategy

ATTACK = ProjectedGradientDescent(Linf(0.05), num_steps=2)
EACH_TASK = pytest.mark.parametrize("task", sorted(TASKS))


def network_without_batch_norm(channels=3):
    images = keras.Input((8, 8, channels))
    start = keras.initializers.HeNormal(seed=1)
    x = keras.layers.Conv2D(4, 3, activation="relu", kernel_initializer=start, name="stem_conv")(images)
    return keras.Model(images, keras.layers.Flatten()(x))


def made(task, encoder, **options):
    model = TASKS[task](encoder, attack=ATTACK, seed=3, **options)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9))
    return model


@EACH_TASK
def test_two_replicas_end_with_the_weights_of_one(task, tiny_images):
    """Same global batches and labels, so only the order of additions differs: 1e-5 after six steps."""
    data = tf.data.Dataset.from_tensor_slices(tiny_images).repeat(6).batch(8)

    def trained(strategy):
        with strategy.scope():
            model = made(task, network_without_batch_norm())
        history = model.fit(data, epochs=1, verbose=0).history
        return model.get_weights(), history, model.evaluate(data, verbose=0, return_dict=True)

    one, two = trained(tf.distribute.get_strategy()), trained(get_strategy("mirrored"))
    for ours, theirs in zip(one[0], two[0], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    for ours, theirs in zip(one[1:], two[1:], strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-3, atol=1e-5, err_msg=name)


@EACH_TASK
def test_mixed_precision_trains_and_keeps_logits_in_float32(task, tiny_images):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = made(task, network_without_batch_norm())
    finally:
        keras.config.set_dtype_policy("float32")
    before = [weight.copy() for weight in model.get_weights()]
    assert np.isfinite(model.train_on_batch(tiny_images, return_dict=True)["loss"])
    assert all((ours != theirs).any() for ours, theirs in zip(before, model.get_weights(), strict=True))
    assert model.predict(tiny_images, verbose=0).dtype == np.float32


@EACH_TASK
def test_saved_and_loaded_it_goes_on_alike(task, tiny_encoder, tiny_images, tmp_path):
    model = made(task, tiny_encoder)
    model.fit(tiny_images, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    configs = [{key: value for key, value in m.get_config().items() if key != "encoder"} for m in (loaded, model)]
    assert configs[0] == configs[1]
    first, second = (m.evaluate(tiny_images, verbose=0, return_dict=True) for m in (model, loaded))
    assert first == pytest.approx(second, rel=1e-5)
    for one in (model, loaded):
        one.fit(tiny_images, shuffle=False, verbose=0)
    for ours, theirs in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@EACH_TASK
def test_a_run_that_was_cut_ends_with_the_same_bits(task, tmp_path):
    digits = load_data("digits", seed=0, train_limit=60)
    stop_at = [4]

    def interrupt(done, logs, seconds_left):
        if stop_at and done == stop_at[0]:
            stop_at.pop()
            raise KeyboardInterrupt

    def run(folder, advance=None):
        model = TASKS[task](network_without_batch_norm(channels=1), attack=ATTACK, seed=3)
        model.compile(SGD(0.1, momentum=0.9))
        train(
            model, lambda **part: digits.unlabelled(16, seed=3, **part),
            steps_per_epoch=3, epochs=2, batch_size=16, folder=folder, saving=Saving(every_steps=2),
            say=lambda line: None, advance=advance,
        )  # fmt: skip
        return model

    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", interrupt)
    again = run(tmp_path / "cut", interrupt)
    for ours, theirs in zip(whole.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@EACH_TASK
def test_the_encoder_is_handed_over_whole_and_says_what_it_learned(task, tiny_encoder, tiny_images, tmp_path):
    model = made(task, tiny_encoder)
    model.fit(tiny_images, verbose=0)
    export_encoder(model, tmp_path / "encoder", provenance=model.provenance)
    loaded = load_encoder(tmp_path / "encoder")
    np.testing.assert_allclose(loaded(tiny_images), model.encoder(tiny_images), atol=1e-6)
    written = json.loads((tmp_path / "encoder" / "assets.extra" / "advss" / "provenance.json").read_text())
    assert {key: written[key] for key in model.provenance} == model.provenance
    assert written["task"] == task and 0 < model.chance < 1


def section_of(task):
    return next(section for section in sections_in(kinds.Task) if kind_of(section) == task)


@EACH_TASK
def test_a_recipe_has_the_options_of_the_class_with_its_defaults(task):
    fields = {name: field for name, field in section_of(task).model_fields.items() if name != "kind"}
    options = inspect.signature(TASKS[task]).parameters
    assert {name: options[name].default for name in fields} == {name: field.default for name, field in fields.items()}


@EACH_TASK
def test_a_recipe_makes_the_task(task):
    recipe = make_recipe(
        {
            "name": "tiny",
            "seed": 5,
            "data": {"kind": "digits"},
            "encoder": {"kind": "resnet20", "width": 2},
            "pretrain": {
                "task": {"kind": task},
                "attack": None,
                "epochs": 1,
                "optimizer": {"kind": "sgd", "learning_rate": 0.1},
            },
        }
    )
    model = assembly.pretext_of(recipe, assembly.encoder_of(recipe, (8, 8, 1)))
    assert type(model) is TASKS[task] and (model.seed, model.attack) == (5, None)


def test_recipes_and_the_registry_know_the_same_tasks():
    assert {kind_of(section) for section in sections_in(kinds.Task)} == set(TASKS)
