"""Nearest neighbours: an independent reference, ties, the callback's epochs, weights and branch, every refusal."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.attacks import Linf, ProjectedGradientDescent
from advss_tf.data import load_data
from advss_tf.encoders import resnet20
from advss_tf.errors import InvalidInput
from advss_tf.pretext import Rotation
from advss_tf.training import SGD, KNNProbe, knn, knn_accuracy
from advss_tf.training.features import features_of
from advss_tf.training.strategy import get_strategy


def reference(bank, bank_labels, queries, labels, *, k, temperature):
    """Wu et al. 2018, section 3.4, query by query in float64: w_c = Σ over neighbours of class c of exp(s / T)."""
    right = 0
    for query, label in zip(queries.astype(np.float64), labels, strict=True):
        cosines = [row @ query / (np.linalg.norm(row) * np.linalg.norm(query)) for row in bank.astype(np.float64)]
        votes = {}
        for near in sorted(range(len(bank)), key=lambda row: -cosines[row])[:k]:
            votes[bank_labels[near]] = votes.get(bank_labels[near], 0) + np.exp(cosines[near] / temperature)
        right += max(votes, key=votes.get) == label
    return right / len(queries)


def clouds(count, seed, spread=2.0):
    """Features of three overlapping classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    centres = np.eye(3, 6) * 3
    return (centres[labels] + spread * rng.normal(size=(count, 6))).astype(np.float32), labels


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.1), (7, 0.1), (7, 1.0), (150, 0.07), (200, 0.5)])
def test_it_is_the_weighted_vote_of_wu_et_al(k, temperature, monkeypatch):
    monkeypatch.setattr(knn, "_BANK_ROWS", 64)  # four pieces, the last with 8 images, fewer than some `k`
    monkeypatch.setattr(knn, "_QUERY_ROWS", 17)
    (bank, classes), (queries, labels) = clouds(200, 0), clouds(50, 1)
    found = knn_accuracy(bank, classes, queries, labels, num_classes=3, k=k, temperature=temperature)
    assert found == reference(bank, classes, queries, labels, k=k, temperature=temperature)
    assert 0.4 < found < 1


def test_the_temperature_decides_between_one_near_and_two_far_neighbours():
    bank = np.array([[1, 0], [0.6, 0.8], [0.6, -0.8]])  # cosines 1, 0.6, 0.6 with the query
    arguments = (bank, np.array([0, 1, 1]), np.array([[2.0, 0.0]]), np.array([0]))
    # Two votes of exp(0.6 / T) beat one of exp(1 / T) where T is above 0.4 / ln 2 = 0.577.
    assert knn_accuracy(*arguments, num_classes=2, k=3, temperature=0.57) == 1
    assert knn_accuracy(*arguments, num_classes=2, k=3, temperature=0.58) == 0
    assert knn_accuracy(*arguments, num_classes=2, k=1, temperature=0.58) == 1


def test_small_temperatures_do_not_overflow_and_zeros_are_far_from_everything():
    bank, queries = np.array([[1.0, 0.0], [0.9, 0.1]]), np.array([[1.0, 0.0], [0.0, 0.0]])
    labels = np.array([1, 0])
    assert knn_accuracy(bank, labels, queries, labels, num_classes=2, k=2, temperature=1e-4) == 1


def test_the_first_of_equals_is_the_neighbour_whatever_the_pieces(monkeypatch):
    bank, labels = np.ones((6, 2)), np.array([0, 1, 1, 1, 1, 1])
    for rows in (1, 2, 6):
        monkeypatch.setattr(knn, "_BANK_ROWS", rows)
        assert knn_accuracy(bank, labels, np.ones((1, 2)), np.array([0]), num_classes=2, k=1) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"k": 0}, "`k` is no number of neighbours. Expected: a whole number from 1 to 4"),
        (
            {"k": 5},
            "`k` is no number of neighbours. Expected: a whole number from 1 to 4, the labelled images there are",
        ),
        ({"k": True}, "`k` is no number of neighbours"),
        ({"temperature": 0.0}, "`temperature` is too small"),
        (
            {"bank_labels": np.array([0, 1, 2, 0])},
            r"`bank_labels` are no classes. Expected: a vector of integers in \[0, 2",
        ),
        ({"labels": np.array([-1, 0])}, "`labels` are no classes"),
        ({"labels": np.array([0.0, 1.0])}, "`labels` are no classes"),
        ({"labels": np.array([[0, 1], [1, 0]])}, "`labels` are no classes"),
        ({"labels": np.zeros(0, int)}, "`labels` are no classes"),
        ({"bank": np.ones((3, 2))}, r"`bank` are no features. Expected: finite numbers of shape \(4, F\)"),
        ({"queries": np.full((2, 2), np.nan)}, "`queries` are no features"),
        ({"queries": np.ones((2, 3))}, "`bank` and `queries` differ in width"),
    ],
)
def test_what_cannot_be_judged_is_refused(changes, words):
    given = {
        "bank": np.ones((4, 2)), "bank_labels": np.array([0, 1, 0, 1]), "queries": np.ones((2, 2)),
        "labels": np.array([0, 1]), "num_classes": 2, "k": 2,
    }  # fmt: skip
    with pytest.raises(InvalidInput, match=words):
        knn_accuracy(**{**given, **changes})


# The callback ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    return load_data("digits", seed=0, labels_per_class=8, train_limit=300)


def make_model(*, attack=None, branches=(), **optimizer):
    keras.utils.set_random_seed(0)
    encoder = resnet20((8, 8, 1), width=2, branches=branches)
    model = Rotation(encoder, attack=attack, seed=3)
    model.compile(SGD(0.05, **optimizer))
    return model


class Logs(keras.callbacks.Callback):
    """What callbacks behind the probe see, by epoch from 1."""

    def __init__(self):
        super().__init__()
        self.seen = {}

    def on_epoch_end(self, epoch, logs=None):
        self.seen[epoch + 1] = dict(logs)


def test_every_other_epoch_and_the_last_are_probed_and_the_training_is_the_same(digits):
    model, plain, logs = make_model(), make_model(), Logs()
    probe = KNNProbe(digits.labelled(), digits.held_out(), k=5, every=2)
    data = digits.unlabelled(64, num_steps=10)
    model.fit(data, epochs=5, steps_per_epoch=2, verbose=0, callbacks=[probe, logs])
    plain.fit(data, epochs=5, steps_per_epoch=2, verbose=0)
    assert [epoch for epoch, seen in logs.seen.items() if "val_knn_accuracy" in seen] == [2, 4, 5]
    for one, other in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert logs.seen[5]["val_knn_accuracy"] == probe.measure() != logs.seen[2]["val_knn_accuracy"]


def test_epochs_says_which_is_the_last_where_fit_does_a_part(digits):
    logs = Logs()
    probe = KNNProbe(digits.labelled(), digits.held_out(), k=5, every=10, epochs=4)
    make_model().fit(digits.unlabelled(64), epochs=3, steps_per_epoch=1, verbose=0, callbacks=[probe, logs])
    assert all("val_knn_accuracy" not in seen for seen in logs.seen.values())


@pytest.mark.parametrize("attack", [None, ProjectedGradientDescent(Linf(0.1), num_steps=1)], ids=["clean", "attacked"])
def test_the_branch_that_is_handed_over_is_probed(digits, attack):
    model = make_model(attack=attack, branches=("clean", "adversarial"))
    for layer in model.encoder.layers:
        if hasattr(layer, "branches"):
            layer.norms[0].moving_variance.assign_add(10 * tf.ones_like(layer.norms[0].moving_variance))
            layer.norms[1].moving_mean.assign_add(tf.ones_like(layer.norms[1].moving_mean))
    probe = KNNProbe(digits.labelled(), digits.held_out(), k=5)
    probe.set_model(model)
    expected = {}
    for branch in ("clean", "adversarial"):
        (bank, own), (queries, labels) = (
            features_of(model.encoder, batches, branch=branch) for batches in (digits.labelled(), digits.held_out())
        )
        expected[branch] = knn_accuracy(bank, own, queries, labels, num_classes=10, k=5)
    assert expected["clean"] != expected["adversarial"]
    assert probe.measure() == expected["clean" if attack is None else "adversarial"]
    other = KNNProbe(digits.labelled(), digits.held_out(), k=5, encoder=make_model().encoder)
    other.set_model(model)  # without the branch that the model hands over
    assert 0 <= other.measure() <= 1


@pytest.mark.slow
def test_the_moving_average_is_probed_where_the_optimizer_keeps_one(digits):
    model = make_model(use_ema=True, ema_momentum=0.9)
    model.fit(digits.unlabelled(64), epochs=1, steps_per_epoch=2, verbose=0)
    probe = KNNProbe(digits.labelled(), digits.held_out(), k=5)
    probe.set_model(model)
    averaged, weights = probe.measure(), model.get_weights()
    for variable in model.encoder.trainable_variables:
        variable.assign(tf.zeros_like(variable))
    assert probe.measure() == averaged  # the average is what it was
    model.set_weights(weights)
    for average in model.optimizer._model_variables_moving_average:
        average.assign(tf.zeros_like(average))
    assert probe.measure() < averaged


def test_it_probes_any_encoder_in_a_plain_fit_inside_of_a_strategy_s_scope(digits):
    strategy = get_strategy("mirrored")
    with strategy.scope():
        encoder = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])
        model = keras.Sequential([encoder, keras.layers.Dense(10)])
        model.compile("sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        probe = KNNProbe(digits.labelled(), digits.held_out(), k=3, every=1, encoder=encoder)
        history = model.fit(digits.train(40), epochs=1, verbose=0, callbacks=[probe]).history
    (images, classes), (others, labels) = (
        (np.concatenate(part) for part in zip(*batches.as_numpy_iterator(), strict=True))
        for batches in (digits.labelled(), digits.held_out())
    )
    pixels = (images.reshape(len(images), -1), classes, others.reshape(len(others), -1), labels)
    assert history["val_knn_accuracy"] == [reference(*pixels, k=3, temperature=0.1)]
    assert history["val_knn_accuracy"][0] > 0.6  # chance is 0.1: pixels of digits tell the classes
    with pytest.raises(InvalidInput, match="`encoder` is not a model of images"):
        KNNProbe(digits.labelled(), digits.held_out(), k=3).set_model(model)


def test_features_that_are_not_finite_give_nan(digits):
    model = make_model()
    probe = KNNProbe(digits.labelled(), digits.held_out(), k=5)
    probe.set_model(model)
    model.encoder.trainable_variables[0].assign(np.nan * model.encoder.trainable_variables[0])
    assert np.isnan(probe.measure())


def test_what_cannot_be_probed_is_refused_at_once(digits):
    bank, queries = digits.labelled(), digits.held_out()
    with pytest.raises(InvalidInput, match="whole number from 1 to 80, the labelled images"):
        KNNProbe(bank, queries)
    with pytest.raises(InvalidInput, match="`bank` has no labels"):
        KNNProbe(bank.map(lambda images, labels: images), queries, k=5)
    with pytest.raises(InvalidInput, match="`queries` has no labels"):
        KNNProbe(bank, [], k=5)
    with pytest.raises(InvalidInput, match="`bank` are no classes"):
        KNNProbe(bank.map(lambda images, labels: (images, tf.one_hot(labels, 10))), queries, k=5)
    with pytest.raises(InvalidInput, match="`every` is too small"):
        KNNProbe(bank, queries, k=5, every=0)
