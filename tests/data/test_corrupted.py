"""Tests of `advss_tf.data.corrupted`, on tiny sets that tfds's own `cifar10_corrupted` has prepared."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow_datasets as tfds

from advss_tf.data import corrupted_catalogue, load_data
from advss_tf.data.corrupted import CATALOGUE_NAME, CATALOGUE_TYPES, check_types
from advss_tf.data.corruptions import CORRUPTIONS, EXTRA_CORRUPTIONS
from advss_tf.errors import InvalidInput

TYPES = ("fog", "glass_blur", "elastic_transform")


def read(dataset):
    images, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def in_one_order(images, labels):
    order = np.lexsort([*images.reshape(len(images), -1)[:, :4].T, labels])
    return images[order], labels[order]


def test_every_type_has_the_name_of_a_configuration_of_tfds():
    configurations = {config.name for config in tfds.builder_cls(CATALOGUE_NAME).BUILDER_CONFIGS}
    ours = {
        f"{CATALOGUE_TYPES.get(kind, kind)}_{severity}"
        for kind in CORRUPTIONS + EXTRA_CORRUPTIONS
        for severity in range(1, 6)
    }
    assert ours == configurations and len(ours) == 95


def test_a_set_holds_the_images_of_its_type_and_severity_as_float_pixels(cifar10_c):
    data_dir, files, labels = cifar10_c
    sets = corrupted_catalogue(data_dir, corruptions=TYPES, severities=(1, 3), batch_size=5)
    assert list(sets) == [(kind, severity) for kind in TYPES for severity in (1, 3)] and len(sets) == 6
    for kind, severity in sets:
        images, found = read(sets[kind, severity])
        assert images.dtype == np.float32 and found.dtype == np.int64
        expected = in_one_order(files[kind][severity - 1] / np.float32(255), labels)
        for one, other in zip(in_one_order(images, found), expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_every_set_has_the_same_order(cifar10_c):
    sets = corrupted_catalogue(cifar10_c[0], corruptions=TYPES, severities=(1, 3))
    orders = [read(dataset)[1].tolist() for dataset in sets.values()]
    assert all(order == orders[0] for order in orders) and len(orders) == 6


def test_a_set_is_opened_when_it_is_asked_for(tmp_path, monkeypatch):
    def no_network(self, **options):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", no_network)
    sets = corrupted_catalogue(tmp_path)
    assert len(sets) == 75 and ("glass_blur", 5) in sets and ("glass_blur", 6) not in sets
    with pytest.raises(KeyError):
        sets["saturate", 1]
    with pytest.raises(InvalidInput, match=r"'cifar10_corrupted/elastic_2' is not on this machine.*no route to host"):
        sets["elastic_transform", 2]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"corruptions": ("glass",)}, r"`corruptions` is not known \(did you mean 'glass_blur'\?\)"),
        ({"severities": (0,)}, "`severities` is not known"),
    ],
)
def test_other_types_and_severities_are_refused(options, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        corrupted_catalogue(**options)
    with pytest.raises(InvalidInput, match=sentence):
        check_types(**{"corruptions": CORRUPTIONS, "severities": (1,)} | options)


def test_one_set_is_loaded_by_its_name_and_has_nothing_to_train_on(cifar10_c):
    data = load_data("cifar10_corrupted/fog_3", data_dir=cifar10_c[0])
    assert (data.name, data.num_test, data.num_train, data.num_held_out) == ("cifar10_corrupted/fog_3", 12, 0, 0)
    assert data.image_shape == (32, 32, 3) and data.num_classes == 10
    expected = corrupted_catalogue(cifar10_c[0])["fog", 3]
    for one, other in zip(read(data.test(5)), read(expected), strict=True):
        np.testing.assert_array_equal(one, other)
