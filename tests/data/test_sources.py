"""Tests of `advss_tf.data.sources`: the door, and the cuts that every source shares."""

from __future__ import annotations

import numpy as np
import pytest

from advss_tf.data.sources import load_data
from advss_tf.errors import InvalidInput


@pytest.fixture
def labelled(noise):
    return noise(100), np.arange(100) % 4


def test_digits_have_a_test_split_that_no_seed_moves():
    one, other = load_data("digits", seed=0), load_data(kind="digits", seed=7)
    assert (one.num_train, one.num_held_out, one.num_test) == (1294, 144, 359)
    assert one.image_shape == (8, 8, 1) and one.num_classes == 10
    np.testing.assert_array_equal(one.test_part.numbers, other.test_part.numbers)
    assert (one.held_out_part.numbers != other.held_out_part.numbers).any()
    assert one.fingerprint == other.fingerprint


def test_each_kind_is_found_by_its_source_and_by_its_name(tmp_path, labelled, picture_folder, prepared_folder):
    images, labels = labelled
    np.savez(tmp_path / "a.npz", images=images, labels=labels)
    pairs = [
        (load_data(str(tmp_path / "a.npz")), load_data(kind="arrays", path=tmp_path / "a.npz")),
        (load_data(picture_folder), load_data(kind="folder", path=str(picture_folder))),
        (
            load_data("tiny", data_dir=prepared_folder),
            load_data(kind="tfds", name="tiny", data_dir=str(prepared_folder)),
        ),
        (load_data(prepared_folder / "tiny"), load_data(kind="tfds", path=prepared_folder / "tiny" / "1.0.0")),
        (load_data({"images": images, "labels": labels}), load_data((images, labels), kind="arrays")),
    ]
    for one, other in pairs:
        assert one.fingerprint == other.fingerprint and one.num_train == other.num_train


def test_the_label_budget_takes_the_same_images_at_one_seed_whatever_else_is_asked(labelled):
    budgets = [
        load_data(labelled, seed=seed, labels_per_class=5, **options).labelled_part.numbers.tolist()
        for seed, options in ((1, {}), (1, {"flip": False, "crop_padding": 3}), (2, {}))
    ]
    assert budgets[0] == budgets[1] != budgets[2]
    assert np.bincount(labelled[1][budgets[0]]).tolist() == [5, 5, 5, 5]


def test_train_limit_is_counted_after_the_held_out_part(labelled):
    data = load_data(labelled, held_out=0.1, train_limit=30)
    assert (data.num_train, data.num_held_out, data.num_test) == (30, 8, 20)
    whole = load_data(labelled, held_out=0.1)
    assert set(data.train_part.numbers) < set(whole.train_part.numbers)
    np.testing.assert_array_equal(data.held_out_part.numbers, whole.held_out_part.numbers)


def test_the_held_out_part_of_a_streamed_set_does_not_depend_on_the_budget(prepared_folder):
    options = {"data_dir": prepared_folder, "memory_limit": 1}
    plain, budget = load_data("tiny", **options), load_data("tiny", labels_per_class=3, **options)
    np.testing.assert_array_equal(plain.held_out_part.numbers, budget.held_out_part.numbers)
    assert np.bincount(budget.labelled_part.numbers % 3).tolist() == [3, 3, 3]
    labels = np.concatenate([labels for _, labels in budget.train(3).as_numpy_iterator()])
    assert np.bincount(labels).tolist() == [3, 3, 3]


def test_no_cut_of_a_streamed_set_without_a_test_split_depends_on_the_budget(folder_of_train_alone):
    options = {"data_dir": folder_of_train_alone, "memory_limit": 1}
    plain, limited = load_data("tiny", **options), load_data("tiny", labels_per_class=5, **options)
    for data in (plain, limited):
        assert (data.num_train, data.num_held_out, data.num_test) == (432, 48, 120)
    for part in ("train_part", "held_out_part", "test_part"):
        np.testing.assert_array_equal(getattr(plain, part).numbers, getattr(limited, part).numbers)
    assert not set(limited.test_part.numbers) & set(plain.train_part.numbers)
    assert plain.fingerprint == limited.fingerprint


def test_augmentation_defaults_to_an_eighth_and_to_flips_of_colour_images_alone(labelled):
    assert load_data(labelled, resize=32).crop_padding == 4 and load_data(labelled).flip
    assert load_data("digits").crop_padding == 1 and not load_data("digits").flip
    assert load_data("digits", flip=True, crop_padding=0).flip


def test_the_same_images_resized_are_other_data(labelled):
    small = load_data(labelled, resize=(4, 6))
    assert small.image_shape == (4, 6, 3)
    assert small.fingerprint != load_data(labelled).fingerprint


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "not clear what to load.*Received: nothing"),
        ({"kind": "tfds"}, "kind='tfds' with name or path or source.*Received: nothing"),
        ({"kind": "digits", "name": "mnist"}, "kind='digits' with nothing else.*name='mnist'"),
        ({"kind": "folders", "path": "x"}, "`kind` is not known.*did you mean 'folder'"),
        ({"source": "digits", "train_split": "train"}, "`train_split` is for tfds sets"),
        ({"source": "digits", "resize": (8, 0)}, "`resize` is no size"),
        ({"source": "digits", "seed": -1}, "`seed` is out of range"),
        ({"source": "digits", "train_limit": 0}, "`train_limit` is out of range"),
        ({"source": "digits", "crop_padding": -1}, "`crop_padding` is out of range"),
        ({"source": "digits", "held_out": 1.0}, "`held_out` cannot be cut"),
        ({"source": "digits", "labels_per_class": 999}, "larger than class '0'"),
        ({"source": "./nowhere"}, "no such folder.*nowhere"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        load_data(**options)


def test_a_budget_without_labels_is_refused(noise):
    with pytest.raises(InvalidInput, match=r"no labels, so no label budget.*labels_per_class=2"):
        load_data(noise(10), labels_per_class=2)


@pytest.mark.parametrize("option", [{"labels_per_class": 1}, {"label_fraction": 0.5}, {"train_limit": 3}])
def test_cuts_of_train_are_refused_where_there_is_a_test_split_alone(cifar10_c, option):
    key, value = next(iter(option.items()))
    with pytest.raises(InvalidInput, match=rf"'cifar10_corrupted/fog_1' has no train split.*Received: {key}={value}"):
        load_data("cifar10_corrupted/fog_1", data_dir=cifar10_c[0], **option)
