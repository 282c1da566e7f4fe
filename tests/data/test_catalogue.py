"""Tests of `advss_tf.data.catalogue`, on a tiny prepared tfds folder; nothing is downloaded."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from advss_tf.data import load_data
from advss_tf.data.catalogue import catalogue_source, is_prepared_folder
from advss_tf.data.memory import ArrayStore
from advss_tf.data.pipeline import ordered_batches
from advss_tf.data.records import RecordStore
from advss_tf.errors import InvalidInput

CIFAR10_JPEG = Path(__file__).parents[3] / "shared" / "tfds" / "cifar10_jpeg"


def _pixels(part):
    return np.concatenate([batch for batch, _ in ordered_batches(part, 256).as_numpy_iterator()])


def test_a_prepared_set_is_read_into_memory(prepared_folder, noise):
    source = catalogue_source("tiny", data_dir=prepared_folder)
    assert isinstance(source.train.store, ArrayStore)
    np.testing.assert_array_equal(_pixels(source.train), noise(600, 4, 4) / np.float32(255))
    np.testing.assert_array_equal(source.labels, np.arange(600) % 3)
    assert source.class_names == ("a", "b", "c") and source.name == "tiny" and len(source.test) == 40


def test_a_small_limit_streams_the_same_pixels(prepared_folder):
    memory = catalogue_source("tiny", data_dir=prepared_folder)
    stream = catalogue_source("tiny", data_dir=prepared_folder, memory_limit=1)
    assert isinstance(stream.train.store, RecordStore)
    np.testing.assert_array_equal(_pixels(stream.train), _pixels(memory.train))
    np.testing.assert_array_equal(_pixels(stream.test), _pixels(memory.test))


def test_labels_of_a_streamed_set_are_read_on_demand_only(prepared_folder):
    assert catalogue_source("tiny", data_dir=prepared_folder, memory_limit=1).labels is None
    read = catalogue_source("tiny", data_dir=prepared_folder, memory_limit=1, with_labels=True)
    np.testing.assert_array_equal(read.labels, np.arange(600) % 3)


@pytest.fixture(scope="module")
def partly_labelled(tmp_path_factory, noise):
    """A data_dir with `half/1.0.0`, whose split `unlabelled` has -1 for labels, as that of STL-10."""
    data_dir = tmp_path_factory.mktemp("partly")
    features = {"image": tfds.features.Image(shape=(4, 4, 3)), "label": tfds.features.ClassLabel(num_classes=3)}
    splits = {"train": [0, 1, 2], "unlabelled": [-1] * 30, "test": [2, 1, 0]}
    images = noise(30, 4, 4)
    tfds.dataset_builders.store_as_tfds_dataset(
        name="half",
        version="1.0.0",
        features=tfds.features.FeaturesDict(features),
        split_datasets={
            name: [(i, {"image": images[i], "label": label}) for i, label in enumerate(labels)]
            for name, labels in splits.items()
        },
        data_dir=data_dir,
        disable_shuffling=True,
    )
    return data_dir


@pytest.mark.parametrize("memory_limit", [1, 2**30])
def test_a_split_without_labels_can_pretrain(memory_limit, partly_labelled, noise):
    options = {"data_dir": partly_labelled, "memory_limit": memory_limit}
    source = catalogue_source("half", train_split="unlabelled", with_labels=True, **options)
    assert source.labels is None and source.class_names is None
    pixels = np.concatenate(list(ordered_batches(source.train, 8, labelled=False).as_numpy_iterator()))
    np.testing.assert_array_equal(pixels, noise(30, 4, 4) / np.float32(255))
    data = load_data("half", train_split="unlabelled", held_out=0.1, **options)
    assert (data.num_train, data.num_held_out, data.num_classes) == (27, 3, None)
    (batch,) = data.unlabelled(batch_size=8, num_steps=1)
    assert batch.shape == (8, 4, 4, 3)
    with pytest.raises(InvalidInput, match="'half' has no labels, so no label budget"):
        load_data("half", train_split="unlabelled", labels_per_class=1, **options)
    assert catalogue_source("half", **options).class_names == ("0", "1", "2")


@pytest.mark.parametrize("folder", ["tiny", "tiny/1.0.0"])
def test_a_prepared_folder_is_read_by_its_path(prepared_folder, folder):
    assert is_prepared_folder(prepared_folder / folder) and not is_prepared_folder(prepared_folder.parent)
    assert len(catalogue_source(str(prepared_folder / folder)).train) == 600


def test_splits_may_be_parts_of_splits(prepared_folder):
    source = catalogue_source("tiny", data_dir=prepared_folder, train_split="train[:75%]", test_split="train[75%:]")
    assert (len(source.train), len(source.test)) == (450, 150)


def test_fingerprints_know_the_split_and_the_size(prepared_folder):
    options = [{}, {"train_split": "train[:50%]"}, {"resize": (2, 2)}]
    sources = [catalogue_source("tiny", data_dir=prepared_folder, memory_limit=1, **option) for option in options]
    assert len({source.fingerprint for source in sources}) == 3


@pytest.mark.parametrize("memory_limit", [1, 2**30])
def test_a_set_that_is_a_test_split_alone_has_an_empty_train_part(cifar10_c, memory_limit):
    data_dir, _, _ = cifar10_c
    source = catalogue_source("cifar10_corrupted/fog_3", data_dir=data_dir, memory_limit=memory_limit, with_labels=True)
    assert (len(source.train), len(source.test), source.labels) == (0, 12, None)
    assert source.name == "cifar10_corrupted/fog_3" and len(_pixels(source.test)) == 12
    half = catalogue_source("cifar10_corrupted/fog_3", data_dir=data_dir, test_split="test[:50%]")
    assert (len(half.train), len(half.test)) == (0, 6)
    with pytest.raises(InvalidInput, match=r"`train_split` is no split.*\['test'\].*'train'"):
        catalogue_source("cifar10_corrupted/fog_3", data_dir=data_dir, train_split="train")


def test_an_unknown_name_offers_a_near_one(prepared_folder):
    with pytest.raises(InvalidInput, match=r"no data set 'tinny' \(did you mean 'tiny'\?\).*data_dir: \['tiny'\]"):
        catalogue_source("tinny", data_dir=prepared_folder)
    with pytest.raises(InvalidInput, match="did you mean 'cifar10'"):
        catalogue_source("cifar_10")


def test_a_set_that_cannot_be_prepared_gives_one_readable_sentence(tmp_path, monkeypatch):
    def no_network(self, **options):
        raise ConnectionError("no route to host\nand a long trace")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", no_network)
    with pytest.raises(InvalidInput, match=r"'mnist' is not on this machine.*ConnectionError: no route to host.$"):
        catalogue_source("mnist", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"train_split": "training"}, r"`train_split` is no split of 'tiny'.*\['test', 'train'\].*'training'"),
        ({"test_split": "validation"}, "`test_split` is no split"),
        ({"test_split": "train[590:]"}, "Train and test splits share records"),
        ({"train_split": "train[:0]"}, "`train_split` is empty"),
    ],
)
def test_wrong_splits_are_refused(prepared_folder, options, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        catalogue_source("tiny", data_dir=prepared_folder, **options)


def test_a_damaged_record_file_is_refused_with_the_number_of_the_record(prepared_folder, tmp_path):
    shutil.copytree(prepared_folder / "tiny", tmp_path / "tiny")
    file = tmp_path / "tiny" / "1.0.0" / "tiny-train.tfrecord-00000-of-00003"
    data = bytearray(file.read_bytes())
    data[1000:1040] = bytes(40)
    file.write_bytes(bytes(data))
    with pytest.raises(InvalidInput, match=r"Record \d+ of split 'train' cannot be read"):
        catalogue_source("tiny", data_dir=tmp_path)


@pytest.mark.skipif(not CIFAR10_JPEG.is_dir(), reason="the prepared CIFAR-10 is not beside the repository")
def test_cifar10_as_jpeg_streams_from_its_folder():
    source = catalogue_source("cifar10_jpeg", data_dir=CIFAR10_JPEG.parent, memory_limit=1)
    images, labels = next(ordered_batches(source.test, 64).as_numpy_iterator())
    assert images.shape == (64, 32, 32, 3) and 0.3 < images.mean() < 0.6
    assert set(labels) <= set(range(10)) and source.class_names[3] == "cat"
