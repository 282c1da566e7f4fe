"""Evaluations during training: what is measured and when, who sees it, and that training does not notice."""

from __future__ import annotations

import csv

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.attacks import Linf, ProjectedGradientDescent
from advss_tf.data import load_data
from advss_tf.errors import InvalidInput
from advss_tf.evaluation import RobustEvaluation, evaluate, load_record
from advss_tf.finetune import RobustClassifier
from advss_tf.training.strategy import get_strategy

ATTACK = ProjectedGradientDescent(Linf(0.05), num_steps=2)
NAMES = ("val_clean_acc", "val_pgd-2_acc", "val_robust_acc")


def held_out() -> tuple[np.ndarray, np.ndarray]:
    """40 images of 6x6x1 in two classes: the left or the right half is brighter, by more than the noise."""
    random = np.random.default_rng(5)
    labels = np.arange(40) % 2
    images = random.uniform(0.3, 0.6, (40, 6, 6, 1))
    for image, label in zip(images, labels, strict=True):
        image[:, 3 * label : 3 * label + 3] += 0.15
    return images.astype(np.float32), labels


def network(*middle: keras.layers.Layer, rate: float = 0.1) -> keras.Model:
    """A compiled network that starts at the same weights each time."""
    start = keras.initializers.HeNormal(seed=2)
    layers = [
        keras.Input((6, 6, 1)),
        *middle,
        keras.layers.Conv2D(4, 3, kernel_initializer=start),
        keras.layers.BatchNormalization(),
        keras.layers.ReLU(),
        keras.layers.Dropout(0.2, seed=1),
        keras.layers.Flatten(),
        keras.layers.Dense(2, kernel_initializer=keras.initializers.HeNormal(seed=3)),
    ]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.SGD(rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def fit(model: keras.Model, *callbacks: keras.callbacks.Callback, epochs: int, **more) -> dict[str, list[float]]:
    images, labels = held_out()
    return model.fit(
        images, labels, batch_size=8, epochs=epochs, shuffle=False, verbose=0, callbacks=list(callbacks), **more
    ).history


def robust(**more) -> RobustEvaluation:
    return RobustEvaluation(held_out(), **{"attacks": ATTACK, "every": 2} | more)


def given(record) -> list[tuple[str, float, int, float]]:
    return [(row.attack, row.eps, row.correct, row.forward_passes) for row in record.results]


class Noisy(keras.layers.Layer):
    """Adds random numbers in inference mode as well."""

    def __init__(self):
        super().__init__()
        self.generator = keras.random.SeedGenerator(3)

    def call(self, images):
        return images + keras.random.normal(tf.shape(images), stddev=0.02, seed=self.generator)


class Scripted(keras.callbacks.Callback):
    """Makes the model give one class to every image, another class at each epoch's end."""

    def __init__(self, *classes: int):
        super().__init__()
        self.classes = classes

    def on_epoch_end(self, epoch, logs=None):
        self.model.layers[-1].bias.assign(1e3 * np.eye(2)[self.classes[epoch]])


def test_every_evaluation_sees_the_weights_of_its_epoch():
    callback, kept = robust(every=1), {}
    keep = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: kept.update({epoch + 1: model.get_weights()})
    )
    model = network()
    fit(model, callback, keep, epochs=2)
    assert list(callback.records) == [1, 2]
    fresh = network()
    for epoch, record in callback.records.items():
        fresh.set_weights(kept[epoch])
        expected = evaluate(fresh, held_out(), attacks=ATTACK)
        assert given(record) == given(expected)
        assert record.examples == expected.examples
    confidences = [record.examples.outcome_confidences for record in callback.records.values()]
    assert not np.array_equal(confidences[0], confidences[1])


def test_measured_are_the_first_epoch_every_nth_and_the_last():
    callback = robust(every=3)
    history = fit(network(), callback, epochs=5)
    assert list(callback.records) == [1, 3, 5]
    for name in NAMES:
        # Between two measurements the earlier one stands.
        assert history[name] == [history[name][epoch - 1] for epoch in (1, 1, 3, 3, 5)]
    for epoch, record in callback.records.items():
        found = (record.clean_acc, record.result("pgd-2").accuracy, record.robust_acc)
        assert tuple(history[name][epoch - 1] for name in NAMES) == found


def test_an_epoch_at_which_training_is_stopped_is_the_last():
    stop = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: setattr(model, "stop_training", epoch == 1))
    model, callback = network(), robust(every=5)
    fit(model, stop, callback, epochs=9)
    assert list(callback.records) == [1, 2]


def test_a_fit_that_goes_on_is_measured_anew():
    model, callback = network(), robust(every=4)
    fit(model, callback, epochs=1)
    fit(model, callback, epochs=4, initial_epoch=2)
    assert list(callback.records) == [1, 3, 4]


def test_training_ends_with_the_same_bits_as_without():
    """Also where the model draws random numbers in inference mode."""
    one, other = network(Noisy()), network(Noisy())
    fit(one, epochs=2)
    fit(other, robust(every=1), epochs=2)
    pairs = zip((*one.variables, *one.optimizer.variables), (*other.variables, *other.optimizer.variables), strict=True)
    for ours, theirs in pairs:
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), err_msg=ours.path)


def test_callbacks_behind_it_use_its_numbers(tmp_path):
    """A quarter of the labels is 1, so accuracy is 0.25 at the first epoch, 0.75 at the second, 0.25 at the fourth."""
    data = (held_out()[0], np.arange(40) % 4 // 3)
    log = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    high = {"monitor": "val_robust_acc", "mode": "max"}
    best = keras.callbacks.ModelCheckpoint(str(tmp_path / "{epoch}.keras"), save_best_only=True, **high)
    stop = keras.callbacks.EarlyStopping(patience=3, **high)
    callback = RobustEvaluation(data, attacks=ATTACK, every=2)
    history = fit(network(), Scripted(1, 0, 0, 1, 0, 0, 0, 0, 0), callback, log, best, stop, epochs=9)
    # No better since epoch 2, and no number of its own at epochs 3 and 5: stopped after 3 epochs of patience.
    assert history["val_robust_acc"] == [0.25, 0.75, 0.75, 0.25, 0.25]
    assert sorted(path.name for path in tmp_path.glob("*.keras")) == ["1.keras", "2.keras"]
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["val_pgd-2_acc"]) for row in rows] == history["val_pgd-2_acc"]


def test_records_are_written_and_lines_are_printed(tmp_path, capsys):
    callback = robust(folder=tmp_path / "robust", verbose=1, data_info={"name": "halves"})
    fit(network(), callback, epochs=2)
    names = sorted(path.name for path in (tmp_path / "robust").glob("*.json"))
    assert names == ["record-epoch-0001.json", "record-epoch-0002.json"]
    assert load_record(tmp_path / "robust" / names[1]) == callback.records[2]
    assert callback.records[2].dataset == "halves"
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    assert [line.split(":")[0] for line in lines] == ["Epoch 1", "Epoch 2"]
    assert str(callback.records[2]) in lines[1]


@pytest.mark.parametrize(
    "inside", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["outside the scope", "inside"]
)
def test_under_two_replicas_it_measures_what_keras_saves(inside):
    strategy, callback = get_strategy("mirrored"), robust(every=1)
    with strategy.scope():
        one, other = network(), network()
        if inside:
            fit(other, callback, epochs=1)
    if not inside:
        fit(other, callback, epochs=1)
    fit(one, epochs=1)
    for ours, theirs in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    single = network()
    single.set_weights(other.get_weights())
    expected, record = evaluate(single, held_out(), attacks=ATTACK), callback.records[1]
    assert given(record) == given(expected)
    ours, theirs = (each.examples.outcome_confidences for each in (record, expected))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_a_robust_classifier_is_measured_on_held_out_images():
    data = load_data("digits", held_out=100, seed=0)
    start = keras.initializers.HeNormal(seed=1)
    images = keras.Input(data.image_shape)
    features = keras.layers.Flatten()(keras.layers.Conv2D(4, 3, kernel_initializer=start)(images))
    model = RobustClassifier(keras.Model(images, features), data.num_classes, attack=ATTACK)
    model.compile(optimizer="sgd")
    callback = RobustEvaluation(data.held_out(), num_steps=2, epsilons=(0.02, "8/255"), limit=40, data_info=data)
    history = model.fit(
        data.train(batch_size=128), steps_per_epoch=2, validation_data=data.held_out(), callbacks=[callback], verbose=0
    ).history
    record = callback.records[1]
    assert (record.num_images, record.num_images_available, record.suite) == (40, 100, "quick")
    assert history["val_robust_acc"] == [record.result("worst", eps=8 / 255).accuracy]
    assert "val_robust_accuracy" in history, "its own validation goes on"


def test_a_model_that_has_diverged_counts_nothing():
    model, callback = network(), robust(every=1)
    broken = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: epoch == 1 and model.layers[-1].bias.assign([np.nan, 0.0])
    )
    with pytest.warns(UserWarning, match="has diverged by epoch 2"):
        history = fit(model, broken, callback, epochs=2)
    assert list(callback.records) == [1]
    assert [history[name][1] for name in NAMES] == [0.0] * 3


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"every": 0}, "`every` is too small.*whole number >= 1.*every=0"),
        ({"every": True}, "`every` is too small.*every=True"),
        ({"every": 2.5}, r"`every` is too small.*every=2\.5"),
        ({"suite": "quik"}, r"`suite` is not known \(did you mean 'quick'"),
        ({"norm": "l7"}, "`norm` is not known"),
        ({"limit": 0}, "`limit` is too small"),
        ({"batch_size": 0}, "`batch_size` is too small"),
        ({"epsilons": 0.0}, "There is no ball to attack in"),
    ],
)
def test_bad_settings_are_refused_at_the_door(settings, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        RobustEvaluation(held_out(), **settings)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (held_out()[0], "The data cannot be evaluated"),
        (tf.data.Dataset.from_tensor_slices(held_out()[0]).batch(8), "The dataset cannot be evaluated"),
        (tf.data.Dataset.from_tensor_slices(held_out()).batch(8).repeat(), "The dataset cannot be evaluated"),
        ((held_out()[0] * 255, held_out()[1]), "images of batch 0"),
    ],
    ids=["no labels", "a dataset without labels", "an endless dataset", "pixels to 255"],
)
def test_data_that_cannot_be_evaluated_are_refused_at_the_door(data, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        RobustEvaluation(data)
