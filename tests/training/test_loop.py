"""A stage of training: cut anywhere, it ends with the same bits; the picked model is the best on held-out images."""

from __future__ import annotations

import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.attacks import Linf, ProjectedGradientDescent
from advss_tf.data import load_data
from advss_tf.errors import InvalidInput
from advss_tf.finetune import JointClassifier, RobustClassifier
from advss_tf.pretext import Rotation
from advss_tf.timing import Pace
from advss_tf.training import SGD, KNNProbe, callbacks, cosine
from advss_tf.training.callbacks import Best, Progress, averaged, read_history
from advss_tf.training.loop import Saving, train
from advss_tf.training.strategy import get_strategy

STEPS, EPOCHS, BATCH = 5, 3, 16


@pytest.fixture(scope="module")
def digits():
    return load_data("digits", seed=0, labels_per_class=8)


def make_model(strategy=None, **optimizer):
    with (strategy or tf.distribute.get_strategy()).scope():
        return _made(**optimizer)


def _made(**optimizer):
    images = keras.Input((8, 8, 1))
    start = keras.initializers.HeNormal(seed=1)
    x = keras.layers.Conv2D(4, 3, use_bias=False, kernel_initializer=start, name="stem_conv")(images)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    encoder = keras.Model(images, keras.layers.GlobalAveragePooling2D()(x))
    attack = ProjectedGradientDescent(Linf(0.1), num_steps=2)
    model = RobustClassifier(encoder, 10, attack=attack, seed=3)
    model.compile(SGD(cosine(0.1, num_steps=STEPS * EPOCHS), momentum=0.9, weight_decay=1e-3, **optimizer))
    return model


def run(digits, folder, *, stop_at=(), monitor="val_robust_accuracy", probed=False, say=lambda line: None, **optimizer):
    """Trains, dies at each step of `stop_at` in turn, and goes on with a new model each time."""
    moments = list(stop_at)

    def advance(done, logs, seconds_left):
        if moments and done == moments[0]:
            moments.pop(0)
            raise KeyboardInterrupt

    while True:
        model = make_model(**optimizer)
        try:
            picked = train(
                model, lambda **part: digits.train(BATCH, seed=3, **part),
                steps_per_epoch=STEPS, epochs=EPOCHS, batch_size=BATCH, folder=folder, validation=digits.held_out(),
                monitor=monitor, saving=Saving(every_steps=2), say=say, advance=advance,
                probes=[KNNProbe(digits.labelled(), digits.held_out(), k=5, every=2, epochs=EPOCHS)] * probed,
            )  # fmt: skip
            return model, picked
        except KeyboardInterrupt:
            continue


@pytest.fixture(scope="module")
def whole(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return *run(digits, folder), folder


@pytest.mark.parametrize("stop_at", [pytest.param((1,), marks=pytest.mark.slow), (7,), (10, 13), (14, 14)], ids=str)
def test_a_run_cut_at_any_step_ends_with_the_same_bits(stop_at, whole, digits, tmp_path):
    model, picked, folder = whole
    again, picked_again = run(digits, tmp_path, stop_at=stop_at)
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(model.optimizer.variables, again.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one, other)
    assert picked == picked_again
    lines = [[{**line, "seconds": 0} for line in read_history(place / "history.jsonl")] for place in (folder, tmp_path)]
    assert lines[0] == lines[1]
    assert [line["epoch"] for line in lines[0]] == [1, 2, 3]


def test_the_picked_epoch_is_the_best_on_held_out_images(whole, digits):
    model, picked, folder = whole
    values = [line["val_robust_accuracy"] for line in read_history(folder / "history.jsonl")]
    assert picked.epoch == 1 + int(np.argmax(values)) and picked.value == max(values)
    measured = model.evaluate(digits.held_out(), verbose=0, return_dict=True)
    assert measured["robust_accuracy"] == pytest.approx(picked.value)


def test_moving_averages_are_measured_kept_and_picked(digits, tmp_path):
    model, picked = run(digits, tmp_path, stop_at=(8,), use_ema=True, ema_momentum=0.5)
    whole, _ = run(digits, tmp_path / "whole", use_ema=True, ema_momentum=0.5)
    for one, other in zip(model.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    measured = model.evaluate(digits.held_out(), verbose=0, return_dict=True)
    assert measured["robust_accuracy"] == pytest.approx(picked.value)


@pytest.mark.slow
def test_on_two_replicas_a_run_with_batch_norm_ends_with_the_same_bits(digits, tmp_path):
    """What is saved is the first replica's; that it is the second's as well shows only after the cut."""
    strategy = get_strategy("mirrored")
    whole, picked = run(digits, tmp_path / "whole", strategy=strategy, monitor=None)
    cut, picked_again = run(digits, tmp_path / "cut", strategy=strategy, monitor=None, stop_at=(7,))
    for one, other in zip(whole.get_weights(), cut.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(whole.optimizer.variables, cut.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one, other)
    assert picked == picked_again
    # Validation shares the images among the replicas: their networks must be one.
    lines = [read_history(tmp_path / name / "history.jsonl")[-1] for name in ("whole", "cut")]
    assert lines[0]["val_robust_accuracy"] == lines[1]["val_robust_accuracy"]


@pytest.mark.parametrize(
    "ema",
    [pytest.param({}, marks=pytest.mark.slow), {"use_ema": True, "ema_momentum": 0.5}],
    ids=["weights", "moving averages"],
)
def test_a_probe_is_in_the_history_and_on_the_screen_wherever_the_run_was_cut(ema, digits, tmp_path):
    said = []
    whole, picked = run(digits, tmp_path / "whole", probed=True, say=said.append, **ema)
    cut, _ = run(digits, tmp_path / "cut", stop_at=(7, 13), probed=True, **ema)
    plain, picked_plain = run(digits, tmp_path / "plain", **ema)
    for one, *others in zip(whole.get_weights(), cut.get_weights(), plain.get_weights(), strict=True):
        for other in others:
            np.testing.assert_array_equal(one, other)
    values = [
        [line.get("val_knn_accuracy") for line in read_history(tmp_path / name / "history.jsonl")]
        for name in ("whole", "cut", "plain")
    ]
    assert values[0] == values[1] and values[2] == [None] * 3
    assert [value is not None for value in values[0]] == [False, True, True]
    assert picked == picked_plain
    assert ["val_knn_accuracy" in line for line in said] == [False, True, True]


def test_the_line_of_an_epoch_has_accuracies_in_per_cent_beside_what_guessing_reaches():
    said, logs = [], {"loss": 1.25, "accuracy": 0.431, "kl": 3.0, "val_robust_accuracy": 0.3, "val_knn_accuracy": 0.5}
    for model in (Rotation(make_model().encoder), make_model()):
        progress = Progress(said.append, stage="pretrain", epochs=3, steps_per_epoch=5)
        progress.set_model(model)
        progress.on_epoch_end(2, logs)
    puzzle, classes = said
    assert puzzle == (
        "pretrain 3/3: loss 1.250, accuracy 43.1 % (chance 25.0 %), val_robust_accuracy 30.0 % (chance 25.0 %), "
        "val_knn_accuracy 50.0 % (done)"
    )
    assert classes == (
        "pretrain 3/3: loss 1.250, accuracy 43.1 %, val_robust_accuracy 30.0 %, val_knn_accuracy 50.0 % (done)"
    )


def test_beside_the_classes_guessing_is_said_of_the_puzzle_alone():
    said, encoder = [], make_model().encoder
    model = JointClassifier(encoder, 10, auxiliary=Rotation(encoder), attack=ProjectedGradientDescent(Linf(0.1)))
    progress = Progress(said.append, stage="finetune", epochs=1, steps_per_epoch=5)
    progress.set_model(model)
    progress.on_epoch_end(0, {"robust_accuracy": 0.2, "auxiliary_loss": 1.0, "val_auxiliary_accuracy": 0.3333})
    assert said == ["finetune 1/1: robust_accuracy 20.0 %, val_auxiliary_accuracy 33.3 % (chance 25.0 %) (done)"]


def test_a_long_epoch_says_a_line_a_minute_where_no_bar_is_drawn(monkeypatch):
    now, said, drawn = [0.0], [], []
    monkeypatch.setattr(callbacks, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def train(advance=None):
        pace = Pace(60.0, clock=lambda: now[0])
        progress = Progress(said.append, stage="pretrain", epochs=2, steps_per_epoch=6, advance=advance, pace=pace)
        progress.set_model(make_model())
        now[0] += 500  # compiling is no silence
        for step in range(1, 13):
            now[0] += 25
            progress.on_train_batch_end((step - 1) % 6, {"loss": 2.0 - step / 10})
            if step % 6 == 0:
                progress.on_epoch_end(step // 6 - 1, {"loss": 1.5})

    train()
    assert said == [
        "pretrain 1/2, step 4 of 6: loss 1.600 (3:20 left)",  # 75 s after the first
        "pretrain 1/2: loss 1.500 (2:30 left)",  # at step 6, before the next line is due
        "pretrain 2/2, step 3 of 6: loss 1.100 (1:15 left)",  # 75 s after that
        "pretrain 2/2: loss 1.500 (done)",
    ]
    said.clear()
    train(lambda *step: drawn.append(step))
    assert len(said) == 2 and len(drawn) == 12


def test_averaged_gives_the_weights_back():
    model = make_model(use_ema=True, ema_momentum=0.5)
    model.build_optimizer()
    before = model.get_weights()
    with averaged(model):
        inside = model.get_weights()
        np.testing.assert_array_equal(inside[0], model.optimizer._model_variables_moving_average[0])
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_best_keeps_the_earlier_epoch_at_a_tie_and_survives_nan(tmp_path):
    model = make_model()
    best = Best(tmp_path, "val_accuracy")
    best.set_model(model)
    for epoch, value in enumerate([float("nan"), 0.3, 0.5, 0.5, 0.4, float("nan")]):
        best.on_epoch_end(epoch, {"val_accuracy": value})
    assert best.best() == {"epoch": 3, "val_accuracy": 0.5}
    assert json.loads((tmp_path / "best.json").read_text())["epoch"] == 3


def test_best_keeps_the_earlier_epoch_at_a_tie_of_zeros(tmp_path):
    best = Best(tmp_path, "val_robust_accuracy")
    best.set_model(make_model())
    for epoch, value in enumerate([0.0, 0.0, 0.0]):
        best.on_epoch_end(epoch, {"val_robust_accuracy": value})
    assert best.best() == {"epoch": 1, "val_robust_accuracy": 0.0}


@pytest.mark.parametrize("second", ['{"epoch": 2, "lo', "", "[2]", '{"loss": 1.0}', '{"epoch": "2"}'])
def test_a_history_with_a_line_that_is_no_epoch_s_is_refused_with_its_number(second, tmp_path):
    path = tmp_path / "history.jsonl"
    assert read_history(path) == []
    path.write_text('{"epoch": 1, "loss": 2.0}\n')
    assert read_history(path) == [{"epoch": 1, "loss": 2.0}]
    path.write_text(f'{{"epoch": 1, "loss": 2.0}}\n{second}\n{{"epoch": 3}}\n')
    with pytest.raises(InvalidInput, match=r"history\.jsonl cannot be read, line 2\..*figures lack its epochs"):
        read_history(path)


def test_a_history_of_bytes_that_are_no_text_is_refused(tmp_path):
    (tmp_path / "history.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInput, match="cannot be read, line 1"):
        read_history(tmp_path / "history.jsonl")
