"""What the joint classifier keeps in every mode: replicas, saving, resuming, compiling, hand-off, serving."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.attacks import Linf, ProjectedGradientDescent
from advss_tf.encoders.handoff import CARDS, read_variables
from advss_tf.finetune import JointClassifier, RobustClassifier
from advss_tf.pretext import EnsemblePretraining, Jigsaw, Rotation, Selfie, SimCLR
from advss_tf.serving import export_classifier, export_encoder
from advss_tf.training import SGD
from advss_tf.training.loop import Saving, train
from advss_tf.training.strategy import get_strategy

ATTACK = ProjectedGradientDescent(Linf(0.1), num_steps=2)
TASKS = {
    "rotation": Rotation,
    "jigsaw": lambda encoder: Jigsaw(encoder, grid=2, num_permutations=3),
    "selfie": lambda encoder: Selfie(encoder, num_layers=1, num_heads=2),
    "ensemble": lambda encoder: EnsemblePretraining(
        encoder, tasks=("rotation", {"kind": "jigsaw", "grid": 2, "num_permutations": 3})
    ),
    "simclr": lambda encoder: SimCLR(encoder, views=("weak", {"kind": "strong", "hue": 0.0}), projection=(8, 4)),
}
FORMS = {
    "clean": {"mode": "clean"},
    "attacked": {"mode": "attacked"},
    "own": {"mode": "own", "class_weight": 0.5},
    "stronger": {"mode": "stronger", "attack_class_weight": 2.0, "auxiliary_at": "clean"},
    "sum": {"mode": "sum"},
    "stack": {"mode": "sum", "copies": "stack"},
}


def _each(*at_once):
    """A test for each form, all but these among the slow ones."""
    cases = [pytest.param(form, id=n, marks=() if n in at_once else pytest.mark.slow) for n, form in FORMS.items()]
    return pytest.mark.parametrize("form", cases)


def made(encoder, *, task="rotation", **options):
    model = JointClassifier(encoder, 3, **{"auxiliary": TASKS[task](encoder), "attack": ATTACK, **options})
    model.compile(optimizer=SGD(0.05, momentum=0.9, weight_decay=1e-3))
    return model


@_each("own", "stack")
def test_two_replicas_end_with_the_weights_of_one(form, tiny_images, tiny_labels, two_stages):
    """Same global batches, so only the order of additions differs: after three steps 1e-5 (weights are about 0.1)."""
    data = tf.data.Dataset.from_tensor_slices((tiny_images, tiny_labels)).repeat(3).batch(8)

    def trained(strategy):
        with strategy.scope():
            model = made(two_stages(), **form)
        return model.fit(data, verbose=0).history, model.get_weights()

    (logs, one), (others, two) = trained(tf.distribute.get_strategy()), trained(get_strategy("mirrored"))
    for ours, theirs in zip(one, two, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    for name in logs:
        np.testing.assert_allclose(logs[name], others[name], rtol=1e-3, atol=1e-5, err_msg=name)


@_each("stronger", "stack")
def test_saved_and_loaded_it_goes_on_the_same(form, tiny_encoder, tiny_images, tiny_labels, tmp_path):
    model = made(tiny_encoder, task="rotation" if "copies" in form else "jigsaw", seed=3, attack_weight=None, **form)
    model.fit(tiny_images, tiny_labels, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.auxiliary.encoder is loaded.supervised.encoder is loaded.encoder
    np.testing.assert_allclose(loaded(tiny_images), model(tiny_images), atol=1e-6)
    for one in (model, loaded):
        one.fit(tiny_images, tiny_labels, shuffle=False, verbose=0)
    for ours, theirs in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    configs = [
        {key: each.get_config()[key] for key in model.get_config() if key != "encoder"} for each in (model, loaded)
    ]
    assert configs[0] == configs[1] and json.dumps(configs[0])


@pytest.mark.parametrize("task", ["simclr", pytest.param("ensemble", marks=pytest.mark.slow)])
def test_a_task_of_several_inputs_is_saved_and_loaded_with_its_head(
    task, tiny_encoder, tiny_images, tiny_labels, tmp_path
):
    model = made(tiny_encoder, task=task, mode="own", seed=3)
    model.build_optimizer()
    batch = tf.constant(tiny_images), tf.constant(tiny_labels)
    model.train_step(batch)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.auxiliary.encoder is loaded.encoder and type(loaded.auxiliary) is type(model.auxiliary)
    assert loaded.provenance == model.provenance and json.dumps(model.provenance["auxiliary"])
    for one in (model, loaded):
        one.reset_metrics()
    ours, theirs = ({k: float(v) for k, v in one.test_step(batch).items()} for one in (model, loaded))
    assert ours == pytest.approx(theirs, rel=1e-4) and "auxiliary_loss" in ours


@_each("clean")
def test_a_run_cut_at_a_step_ends_with_the_same_bits(form, tiny_images, tiny_labels, tmp_path, two_stages):
    def make_dataset(*, start_step, num_steps, **_):
        data = tf.data.Dataset.from_tensor_slices((tiny_images, tiny_labels))
        return data.batch(4).repeat().skip(start_step).take(num_steps)

    def run(folder, stop_at):
        moments = [stop_at]

        def advance(done, logs, seconds_left):
            if done in moments:
                moments.clear()
                raise KeyboardInterrupt

        while True:
            model = made(two_stages(keras.layers.BatchNormalization), **form)
            try:
                train(
                    model, make_dataset, steps_per_epoch=2, epochs=2, batch_size=4, folder=folder,
                    validation=tf.data.Dataset.from_tensor_slices((tiny_images, tiny_labels)).batch(8),
                    monitor="val_robust_accuracy", saving=Saving(every_steps=1), say=lambda line: None, advance=advance,
                )  # fmt: skip
                return model
            except KeyboardInterrupt:
                continue

    whole, cut = run(tmp_path / "whole", None), run(tmp_path / "cut", 3)
    for one, other in zip(whole.get_weights(), cut.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("form", [FORMS["sum"], FORMS["stronger"]], ids=["sum", "stronger"])
@pytest.mark.parametrize("task", ["rotation", "simclr"])
def test_a_step_can_be_compiled_by_xla(form, task, tiny_images, tiny_labels, two_stages):
    """As Keras does by default where there is one GPU."""
    model = made(two_stages(), task=task, **form)
    model.compile(optimizer=SGD(0.05), jit_compile=True)
    before = model.get_weights()
    model.fit(tf.data.Dataset.from_tensor_slices((tiny_images, tiny_labels)).batch(8), verbose=0)
    assert any(np.abs(one - other).max() > 1e-4 for one, other in zip(before, model.get_weights(), strict=True))
    assert np.isfinite(model.evaluate(tiny_images, tiny_labels, verbose=0, return_dict=True)["loss"])


def test_what_is_served_is_the_supervised_part_alone(tiny_encoder, tiny_images, tmp_path):
    model = made(tiny_encoder)
    path = export_classifier(model, tmp_path / "served")
    served = tf.saved_model.load(str(path)).signatures["logits"](images=tf.constant(tiny_images))["logits"]
    np.testing.assert_allclose(served, model.logits(tf.constant(tiny_images), training=False), atol=1e-5)
    alone = export_classifier(RobustClassifier(tiny_encoder, 3, attack=ATTACK), tmp_path / "alone")
    assert read_variables(path).keys() == read_variables(alone).keys()
    cards = [json.loads((folder / CARDS / "classifier.json").read_text()) for folder in (path, alone)]
    assert cards[0] == cards[1]


def test_the_encoder_of_a_joint_classifier_can_be_handed_over(tiny_encoder, tmp_path):
    path = export_encoder(made(tiny_encoder), tmp_path / "encoder")
    assert read_variables(path).keys() == {variable.path for variable in tiny_encoder.variables}
