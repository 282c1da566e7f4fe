"""The benchmark of the evaluation runs without its peers, and what it compares is what it says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def benchmarks_importable(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))


@pytest.fixture
def nobody_else(monkeypatch):
    """As if neither foolbox nor ART were installed."""
    from benchmarks.attackers import PEERS

    for peer, (_, distribution) in PEERS.items():
        monkeypatch.setitem(PEERS, peer, (("no_such_module",), distribution))


@pytest.mark.slow
def test_every_row_runs_without_peers_and_table_and_figures_are_written(tmp_path, capsys, monkeypatch, nobody_else):
    from benchmarks import evaluation_rows
    from benchmarks.evaluation import ROW_NAMES, main

    assert tuple(evaluation_rows.EVALUATION_ROWS) == ROW_NAMES
    # What a process of its own would find, without the seconds that its start takes.
    monkeypatch.setattr(
        evaluation_rows,
        "_streamed",
        lambda count: {"peak_mb": 100 + count / 1000, "images_mb": count / 100, "images": count},
    )
    arguments = ["--network", "tiny", "--images", "8", "--batch", "8", "--num-steps", "1", "--rounds", "1"]
    path = main([*arguments, "--out", str(tmp_path)])
    written = json.loads(path.read_text(encoding="utf-8"))
    rows = {(row["name"], row["second"]): row for row in written["rows"]}
    assert rows["pgd", "foolbox"]["note"].startswith("foolbox is not installed: pip install foolbox; ours")
    assert len(rows["pgd", "ART"]["times"]["ours"]) == 1
    assert set(rows["autoattack", "ART"]["found"]["robust"]) == {"clean", "apgd-ce", "apgd-t", "fab-t", "square"}
    assert len(rows["pgd", "1 passes with folded batch norm"]["times"]["ours, one batch"]) == 1
    assert rows["torchattacks", "torchattacks"]["note"].endswith("see --torch-python")
    assert rows["memory", "1,000 images"]["comparison"]["ratio"] == pytest.approx(0.1)
    assert rows["first", "second"]["comparison"]["rounds"] == 1
    assert "strength and memory of the evaluation" in capsys.readouterr().out


def test_a_streamed_evaluation_says_the_peak_of_its_process_and_the_size_of_the_images():
    from benchmarks.streaming_memory import evaluate_stream

    found = evaluate_stream(500)
    assert found["images"] == 500
    assert found["images_mb"] == pytest.approx(500 * 32 * 32 * 3 * 4 / 1e6)
    assert 100 < found["peak_mb"] < 20_000


@pytest.mark.slow
def test_the_peak_of_a_process_of_its_own_holds_nothing_of_the_process_that_started_it():
    from benchmarks.evaluation_rows import _streamed

    held = np.ones(2**30, np.uint8)
    assert _streamed(250)["peak_mb"] < held.nbytes / 1e6


def test_a_stream_gives_the_same_images_whenever_it_is_read():
    from benchmarks.streaming_memory import stream

    reads = [[batch[0].numpy() for batch in stream(300)] for _ in range(2)]
    assert [len(batch) for batch in reads[0]] == [250, 50]
    np.testing.assert_array_equal(reads[0][1], reads[1][1])
    assert not np.array_equal(reads[0][0][:50], reads[0][1])


def test_our_attack_ends_where_the_plain_loop_of_cleverhans_ends():
    from cleverhans.tf2.attacks.projected_gradient_descent import projected_gradient_descent

    from benchmarks.attacked_models import digits_resnet
    from benchmarks.attackers import pgd_forms
    from benchmarks.contestants import EPSILON, STEP_SIZE

    subject = digits_resnet("tiny").first(12)
    attacked = pgd_forms(subject, num_steps=2, batch=8)["ours"]()
    expected = projected_gradient_descent(
        lambda images: subject.model(images, training=False),
        subject.images,
        EPSILON,
        STEP_SIZE,
        2,
        np.inf,
        clip_min=0.0,
        clip_max=1.0,
        y=subject.labels,
        rand_init=False,
    ).numpy()
    # A gradient that is 0 but for rounding may have either sign.
    assert np.mean(np.isclose(attacked.images, expected, atol=1e-5)) > 0.99
    right = np.argmax(subject.model(attacked.images, training=False), axis=1) == subject.labels
    np.testing.assert_array_equal(attacked.right, right)


def test_an_image_that_left_its_ball_does_not_count_as_fooled():
    from benchmarks.attacked_models import Subject
    from benchmarks.attackers import right_on

    def model(images, training):
        brightness = np.mean(np.asarray(images), axis=(1, 2, 3))
        return _Numbers(np.stack([0.5 - brightness, brightness - 0.5], axis=1))

    subject = Subject(model, np.full((3, 2, 2, 1), 0.45, np.float32), np.zeros(3, np.int64))
    moved = subject.images + np.array([0.0, 0.08, 0.3], np.float32)[:, None, None, None]
    np.testing.assert_array_equal(right_on(subject, moved, epsilon=0.1), [True, False, True])


class _Numbers(np.ndarray):
    def __new__(cls, values):
        return np.asarray(values).view(cls)

    def numpy(self):
        return np.asarray(self)


def test_the_weights_that_pytorch_gets_have_the_names_and_shapes_that_it_expects():
    from benchmarks.attacked_models import cnn_weights, digits_cnn

    shapes = {name: weight.shape for name, weight in cnn_weights(digits_cnn("tiny").model).items()}
    assert shapes == {
        "kernel1": (3, 3, 1, 16),
        "bias1": (16,),
        "kernel2": (3, 3, 16, 32),
        "bias2": (32,),
        "kernel3": (2048, 10),
        "bias3": (10,),
    }


def test_growth_is_the_slope_over_the_size_of_the_images():
    from benchmarks.evaluation_rows import _growth

    points = [{"images_mb": size, "peak_mb": 400 + 0.25 * size} for size in (10.0, 40.0, 160.0)]
    assert _growth(points) == pytest.approx(0.25)


def test_counts_are_compared_by_their_ratio_and_nothing_beside_nothing_is_no_more():
    from benchmarks.pairs import compare_figures

    found = compare_figures([3, 4, 5], [6, 4, 2])
    assert (found.first, found.second, found.ratio, found.cpu_ratio) == (4.0, 4.0, 1.0, None)
    assert compare_figures([0], [0]).ratio == 0.0
    assert compare_figures([1], [0]).ratio > 1e6
