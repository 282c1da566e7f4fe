"""The expected calibration error: by hand, and against a loop written from the paper."""

from __future__ import annotations

import math

import numpy as np
import pytest

from advss_tf.errors import InvalidInput
from advss_tf.evaluation.report.calibration import calibration


def test_four_images_in_two_bins_by_hand():
    found = calibration(np.array([0.6, 0.8, 0.9, 0.3]), np.array([True, False, True, False]), num_bins=2)
    assert found.counts == (1, 3)
    assert found.accuracies == (0.0, pytest.approx(2 / 3))
    assert found.confidences == (0.3, pytest.approx(2.3 / 3))
    # 1/4 * |0 - 0.3| + 3/4 * |2/3 - 2.3/3| = 0.075 + 0.075
    assert found.ece == pytest.approx(0.15)
    assert (found.num_images, found.accuracy, found.confidence) == (4, 0.5, pytest.approx(0.65))


def test_an_error_of_the_bins_can_hide_no_error_of_another():
    # Too sure in one bin and not sure enough in the other: distances add up, they do not cancel.
    found = calibration(np.array([0.9, 0.9, 0.4, 0.4]), np.array([True, False, True, False]), num_bins=2)
    assert found.ece == pytest.approx((0.4 + 0.1) / 2)


def test_a_bin_holds_its_upper_edge_and_not_its_lower():
    for kind in (np.float32, np.float64):
        edges = np.arange(16).astype(kind) / kind(15)
        counts = calibration(edges, np.ones(16, bool)).counts
        # 0 and 1/15 fall into the first bin, every other edge into the bin that it ends.
        assert counts == (2, *[1] * 14)
    assert calibration(np.array([0.2000001, 1.0]), np.ones(2, bool)).counts[3] == 1


def test_a_classifier_that_is_right_as_often_as_it_says_has_no_error():
    confidences = np.full(10, 0.7)
    assert calibration(confidences, np.arange(10) < 7).ece == pytest.approx(0, abs=1e-12)
    assert calibration(np.ones(5), np.zeros(5, bool)).ece == 1.0


def test_empty_bins_have_no_accuracy():
    found = calibration(np.array([1.0]), np.array([True]))
    assert found.accuracies == (*[None] * 14, 1.0)
    assert found.confidences[:14] == (None,) * 14


def loop(confidences, right, bins):
    """Equation 3 of Guo et al., image by image."""
    error = 0.0
    for m in range(1, bins + 1):
        inside = [i for i, each in enumerate(confidences) if (m - 1) / bins < each <= m / bins]
        if inside:
            accuracy = sum(bool(right[i]) for i in inside) / len(inside)
            confidence = math.fsum(confidences[i] for i in inside) / len(inside)
            error += len(inside) / len(confidences) * abs(accuracy - confidence)
    return error


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("bins", [1, 10, 15])
def test_it_is_what_a_loop_over_the_paper_s_equation_gives(seed, bins):
    random = np.random.default_rng(seed)
    confidences, right = random.uniform(0.1, 1, 500), random.random(500) < 0.6
    assert calibration(confidences, right, num_bins=bins).ece == pytest.approx(loop(confidences, right, bins))


@pytest.mark.parametrize(
    "confidences, right, more, words",
    [
        ([], [], {}, "one confidence and one outcome"),
        ([0.5], [True, False], {}, r"confidences \(1,\), right \(2,\)"),
        ([[0.5]], [[True]], {}, "one confidence"),
        ([0.5], [True], {"num_bins": 0}, "num_bins=0"),
        ([0.5, 1.5], [True, True], {}, "Received: 1.5 among 2"),
        ([float("nan")], [True], {}, "is a probability"),
    ],
)
def test_what_is_no_confidence_is_refused(confidences, right, more, words):
    with pytest.raises(InvalidInput, match=words):
        calibration(np.array(confidences), np.array(right), **more)
