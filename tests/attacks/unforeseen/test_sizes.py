"""The published tables agree with themselves."""

from __future__ import annotations

import numpy as np
import pytest

from advss_tf.attacks.unforeseen import ATA, DISTORTIONS, SIZES, make_attack, published_sizes
from advss_tf.errors import InvalidInput


@pytest.mark.parametrize("data", SIZES)
def test_six_ascending_sizes_have_six_accuracies_that_do_not_rise(data):
    assert SIZES[data].keys() == ATA[data].keys() <= DISTORTIONS.keys()
    for name, sizes in SIZES[data].items():
        assert len(sizes) == len(ATA[data][name]) == 6
        assert np.all(np.diff(sizes) > 0) and np.all(np.diff(ATA[data][name]) <= 0)
        assert ATA[data][name][-1] > 0 and ATA[data][name][0] < 1


def test_accuracies_round_to_the_tables_of_the_repository():
    """README of ddkang/advex-uar, tables of ATA values in per cent."""
    shown = {
        ("cifar-10", "elastic"): [87.4, 81.3, 72.1, 58.2, 45.4, 27.8],
        ("cifar-10", "jpeg_linf"): [89.7, 87.0, 83.1, 78.6, 69.7, 35.4],
        ("cifar-10", "jpeg_l1"): [91.4, 88.1, 80.2, 68.9, 56.3, 37.7],
        ("imagenet-100", "fog"): [85.8, 83.8, 79.0, 68.4, 67.9, 64.7],
        ("imagenet-100", "snow"): [84.0, 81.1, 77.7, 65.6, 59.5, 41.2],
        ("imagenet-100", "gabor"): [84.0, 79.8, 79.8, 66.2, 44.7, 14.6],
    }
    for (data, name), percent in shown.items():
        np.testing.assert_allclose(np.multiply(ATA[data][name], 100), percent, atol=0.0501)


def test_sizes_are_those_for_cifar_10_where_there_are_any():
    assert published_sizes("elastic") == ((0.125, 0.25, 0.5, 1.0, 2.0, 8.0), "cifar-10")
    assert published_sizes("fog") == ((128.0, 256.0, 512.0, 2048.0, 4096.0, 8192.0), "imagenet-100")
    with pytest.raises(InvalidInput, match="`name` is not known"):
        published_sizes("rain")


@pytest.mark.parametrize("name", DISTORTIONS)
def test_every_name_makes_its_attack(name):
    attack = make_attack(name, 0.5, num_steps=3)
    assert attack.threat.norm == name and attack.threat.epsilon == 0.5 and attack.num_steps == 3
