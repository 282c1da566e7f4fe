"""Accuracies under distortions, and the published summary of them."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from advss_tf.attacks import ElasticAttack, FogAttack, GaborAttack
from advss_tf.errors import InvalidInput
from advss_tf.evaluation import DistortionRecord, evaluate_unforeseen, load_record, uar
from advss_tf.evaluation.distortions.unforeseen import STANDARD, planned
from advss_tf.training.strategy import get_strategy

TWO = {"gabor": GaborAttack(1.0, num_steps=3, step_size=0.1), "wave": ElasticAttack(1.0, num_steps=3)}
SIZES = {"gabor": (10.0, 60.0), "wave": (0.02, 0.06, 0.25)}


@pytest.fixture(scope="module")
def eight():
    """A linear classifier of 40 images of 8x8x1 whose score is a smooth pattern, one label in eight wrong."""
    random = np.random.default_rng(2)
    images = random.uniform(0.2, 0.8, (40, 8, 8, 1)).astype(np.float32)
    weights = tf.image.resize(random.normal(size=(4, 4, 1)).astype(np.float32), (8, 8)).numpy()
    score = (images * weights).sum(axis=(1, 2, 3))
    bias = -np.median(score)
    labels = (score + bias > 0).astype(np.int64)
    labels[::8] = 1 - labels[::8]

    def model(some):
        value = tf.reduce_sum(some * weights, axis=[1, 2, 3]) + bias
        return tf.stack([tf.zeros_like(value), value], axis=1)

    return model, images, labels


@pytest.fixture(scope="module")
def found(eight):
    model, images, labels = eight
    return evaluate_unforeseen(
        model,
        (images, labels),
        attacks=TWO,
        sizes=SIZES,
        batch_size=16,
        model_name="linear",
        data_info={"name": "made"},
    )


def test_a_row_for_each_distortion_and_size(found):
    assert found.threat == "unforeseen" and found.kinds == ("gabor", "wave") and found.levels == (1, 2, 3)
    rows = [(row.attack, row.threat, row.level, row.eps) for row in found.results]
    assert rows == [
        ("clean", None, 0, 0.0),
        ("gabor", "gabor", 1, 10.0),
        ("gabor", "gabor", 2, 60.0),
        ("wave", "elastic", 1, 0.02),
        ("wave", "elastic", 2, 0.06),
        ("wave", "elastic", 3, 0.25),
    ]
    assert found.clean_acc == 35 / 40 and found.result("clean", 0).correct == 35
    assert found.corruptions_acc == pytest.approx(np.mean([row.accuracy for row in found.results[1:]]))
    assert found.name == "linear" and found.dataset == "made" and found.image_shape == (8, 8, 1)


def test_larger_sizes_take_more_and_nothing_rises_above_clean(found):
    for kind in found.kinds:
        counts = [row.correct for row in found.results if row.attack == kind]
        assert 35 >= counts[0] > counts[-1]


def test_a_row_says_how_it_came_about_and_what_it_cost(found):
    row = found.result("wave", 2)
    assert row.parameters["kind"] == "ElasticAttack" and row.parameters["num_steps"] == 3
    assert "epsilon" not in row.parameters and row.num_restarts == 1 and row.seconds > 0
    assert row.backward_passes == 3 * 35 / 40 and row.forward_passes == 4 * 35 / 40
    assert found.notes["wave"] == "sizes as given" and "drawn evenly" in found.notes["goal"]
    assert found.forward_passes == pytest.approx(1 + 5 * 4 * 35 / 40)


@pytest.mark.slow
def test_the_size_of_the_batches_changes_no_count(found, eight):
    model, images, labels = eight
    other = evaluate_unforeseen(model, (images, labels), attacks=TWO, sizes=SIZES, batch_size=9)
    assert [row.correct for row in other.results] == [row.correct for row in found.results]
    seeded = evaluate_unforeseen(model, (images, labels), attacks=TWO, sizes=SIZES, batch_size=16, seed=1)
    assert seeded.clean_acc == found.clean_acc and seeded.seed == 1


def test_two_replicas_find_what_one_finds(found, eight):
    model, images, labels = eight
    shown = []

    def counted(some):
        shown.append(some.shape[0])
        return model(some)

    options = {"attacks": TWO, "sizes": SIZES, "batch_size": 16}
    two = evaluate_unforeseen(counted, (images, labels), strategy=get_strategy("mirrored"), **options)
    assert [row.correct for row in two.results] == [row.correct for row in found.results]
    assert [row.forward_passes for row in two.results] == [row.forward_passes for row in found.results]
    assert max(shown) == 8, "no device is shown more than its share of a batch"


def test_with_two_classes_away_from_the_label_is_towards_the_other(found, eight):
    """The gradients differ by a positive factor, so the signs that are stepped along are the same."""
    model, images, labels = eight
    away = evaluate_unforeseen(model, (images, labels), attacks=TWO, sizes=SIZES, batch_size=16, goal="away")
    assert [row.correct for row in away.results] == [row.correct for row in found.results]
    assert away.notes["goal"] == "away from the label"


def test_a_model_that_no_distortion_changes_stays_as_right_as_it_was(eight):
    _, images, labels = eight

    def constant(some):
        return tf.stack([0 * some[:, 0, 0, 0], 1 + 0 * some[:, 0, 0, 0]], axis=1)

    record = evaluate_unforeseen(constant, (images, labels), attacks={"fog": FogAttack(1.0, num_steps=1)}, limit=20)
    assert {row.accuracy for row in record.results} == {record.clean_acc} and len(record.results) == 7
    assert record.num_images == 20 and "proportion" in record.subset
    assert "imagenet-100" in record.notes["fog"] and [row.eps for row in record.results[1:3]] == [128.0, 256.0]


def test_the_record_survives_the_disk(found, tmp_path):
    path = found.save(tmp_path / "record.unforeseen.json")
    assert load_record(path) == DistortionRecord.load(path) == found


def test_progress_is_told_after_every_attack_on_a_batch(eight):
    model, images, labels = eight
    told = []
    evaluate_unforeseen(model, (images, labels), attacks=TWO, sizes=SIZES, batch_size=20, progress=told.append)
    assert len(told) == 2 * 5 and [each.images for each in told] == [20] * 5 + [40] * 5
    assert (told[0].attack, told[4].attack) == ("gabor at 10", "wave at 0.25") and told[-1].seconds_left == 0
    assert all(each.robust_acc <= each.clean_acc for each in told)


def test_the_standard_attacks_are_those_of_the_paper_s_tables_at_200_steps():
    plan = planned()
    assert tuple(each.name for each in plan) == STANDARD and "jpeg_l2" not in STANDARD
    assert all(each.attack.num_steps == 200 and len(each.sizes) == 6 for each in plan)
    assert planned("elastic")[0].sizes == (0.125, 0.25, 0.5, 1.0, 2.0, 8.0)
    assert "cifar-10" in planned(("elastic",))[0].source


@pytest.mark.parametrize(
    "options, words",
    [
        ({"attacks": "rain"}, "`name` is not known"),
        ({"attacks": ()}, "There is no attack to run"),
        ({"attacks": {"pgd": object()}}, "'pgd' is not an unforeseen attack"),
        ({"attacks": {"clean": FogAttack(1.0)}}, "'clean' is not an unforeseen attack"),
        ({"attacks": "fog", "sizes": {"snow": (1.0,)}}, "`sizes` is not known"),
        ({"attacks": "fog", "sizes": {"fog": ()}}, "The sizes of 'fog' are not sizes"),
        ({"attacks": "fog", "sizes": {"fog": (2.0, 1.0)}}, "The sizes of 'fog' are not sizes"),
        ({"attacks": "fog", "sizes": {"fog": (float("nan"),)}}, "The sizes of 'fog' are not sizes"),
        ({"attacks": "fog", "goal": "nowhere"}, "`goal` is not known"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(eight, options, words):
    model, images, labels = eight
    with pytest.raises(InvalidInput, match=words):
        evaluate_unforeseen(model, (images, labels), **options)


def test_labels_beyond_the_logits_are_refused(eight):
    model, images, labels = eight
    with pytest.raises(InvalidInput, match="holds a value that is no class"):
        evaluate_unforeseen(model, (images, labels + 1), attacks=TWO, sizes=SIZES)


def test_uar_by_hand():
    """Elastic on CIFAR-10: 0.8738 + 0.8126 + 0.7209 + 0.5822 + 0.4545 + 0.2785 = 3.7225."""
    assert uar([0.7445] * 6, "elastic") == pytest.approx(6 * 0.7445 / 3.7225) == pytest.approx(1.2)
    assert uar([0.8738, 0.8126, 0.7209, 0.5822, 0.4545, 0.2785], "elastic") == pytest.approx(1.0)
    assert uar([0.0] * 6, "jpeg_linf") == 0.0
    # Fog on ImageNet-100: 0.8582 + 0.8384 + 0.7898 + 0.6840 + 0.6788 + 0.6466 = 4.4958.
    assert uar([0.7493] * 6, "fog", calibrated_on="imagenet-100") == pytest.approx(1.0)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: uar([0.5] * 6, "fog"), "`attack` is not known"),
        (lambda: uar([0.5] * 5, "elastic"), "`accuracies` do not fit the published sizes"),
        (lambda: uar([50.0] * 6, "elastic"), "6 fractions in"),
        (lambda: uar([0.5] * 6, "elastic", calibrated_on="mnist"), "`calibrated_on` is not known"),
    ],
)
def test_a_quotient_without_a_published_denominator_is_refused(call, words):
    with pytest.raises(InvalidInput, match=words):
        call()


class Killed(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("moment", [4, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 6))])
def test_a_killed_evaluation_ends_with_the_record_of_one_that_was_not(eight, tmp_path, moment):
    model, images, labels = eight
    told, options = [], {"attacks": TWO, "sizes": SIZES, "batch_size": 20}
    total = 2 * sum(map(len, SIZES.values()))

    def kill(event):
        told.append(event)
        if len(told) == moment:
            raise Killed

    with pytest.raises(Killed):
        evaluate_unforeseen(model, (images, labels), partial=tmp_path / "partial", progress=kill, **options)
    again = []
    record = evaluate_unforeseen(
        model, (images, labels), partial=tmp_path / "partial", progress=again.append, **options
    )
    assert len(again) == total - (total // 2 if moment > total // 2 else 0) and again[-1].seconds_left == 0.0
    whole = evaluate_unforeseen(model, (images, labels), **options)
    for one, other in zip(record.results, whole.results, strict=True):
        assert one.model_copy(update={"seconds": 0}) == other.model_copy(update={"seconds": 0})
    assert not (tmp_path / "partial").exists()
