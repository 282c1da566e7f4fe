"""Tests of `advss_tf.data.images`: the contract of `ImageData`, the same for every kind of source."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from advss_tf.data.images import ImageData
from advss_tf.data.memory import ArrayStore
from advss_tf.data.sources import load_data
from advss_tf.data.views import make_views, views_for
from advss_tf.errors import InvalidInput
from advss_tf.randomness import seed_for


@pytest.fixture(params=["in memory", "streamed folder", "streamed tfds"])
def known(request, noise, picture_folder, prepared_folder) -> tuple[ImageData, np.ndarray]:
    """A set, and its 8-bit images by record number."""
    if request.param == "in memory":
        return load_data((noise(50), np.arange(50) % 3)), noise(50)
    if request.param == "streamed folder":  # by path: the cats come first
        cats_and_dogs = np.concatenate([noise(12)[::2], noise(12)[1::2]])
        return load_data(picture_folder, memory_limit=1, held_out=2), cats_and_dogs
    return load_data("tiny", data_dir=prepared_folder, memory_limit=1, train_limit=64), noise(600, 4, 4)


@pytest.fixture
def data(known) -> ImageData:
    return known[0]


def _same(one, other):
    pairs = zip(one.as_numpy_iterator(), other.as_numpy_iterator(), strict=True)
    for left, right in pairs:
        tf.nest.map_structure(np.testing.assert_array_equal, left, right)


def _rows(dataset):
    batches = (batch[0] if isinstance(batch, tuple) else batch for batch in dataset.as_numpy_iterator())
    return {row.tobytes() for batch in batches for row in batch}


def test_batches_are_full_float32_in_range_with_int64_labels(data):
    dataset = data.train(5)
    assert dataset.element_spec[0].shape == (5, *data.image_shape)
    images, labels = next(iter(dataset))
    assert images.shape == (5, *data.image_shape) and images.dtype == tf.float32
    assert labels.shape == (5,) and labels.dtype == tf.int64
    assert tf.reduce_min(images) >= 0 and 0.5 < tf.reduce_max(images) <= 1


def test_steps_are_the_same_whatever_the_start(data):
    _same(data.train(5, start_step=3, num_steps=4), data.train(5, num_steps=7).skip(3))


def test_slices_of_workers_join_to_the_global_batch(data):
    whole = next(data.unlabelled(6, num_steps=1, start_step=2).as_numpy_iterator())
    options = {"num_steps": 1, "start_step": 2, "num_workers": 2}
    parts = [next(data.unlabelled(6, worker=worker, **options).as_numpy_iterator()) for worker in (0, 1)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_the_parts_share_no_image_and_lose_none(data):
    train = _rows(data.unlabelled(1, augment=False))
    held_out, test = _rows(data.held_out(7)), _rows(data.test(7))
    assert (len(train), len(held_out), len(test)) == (data.num_train, data.num_held_out, data.num_test)
    assert not train & held_out and not train & test and not held_out & test


def test_labelled_images_come_once_in_order_without_augmentation(data):
    found = list(data.labelled(4).as_numpy_iterator())
    assert [len(labels) for _, labels in found[:-1]] == [4] * (len(found) - 1)
    numbers = data.labelled_part.numbers
    images, labels = data.labelled_part.store.read(next(iter(data.labelled_part.store.epoch(numbers, None, 0))))
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in found])[: len(labels)], labels)
    np.testing.assert_allclose(np.concatenate([images for images, _ in found])[: len(images)], images / 255, atol=1e-6)
    assert sum(len(labels) for _, labels in found) == data.num_labelled


def test_a_limit_chooses_labelled_images_by_the_seed_and_not_the_first(noise):
    images, labels = noise(60), np.arange(60) // 6
    one, again, other = (load_data((images, labels), seed=seed, labels_per_class=3) for seed in (0, 0, 1))
    chosen, budget = _rows(one.labelled(limit=8)), _rows(one.labelled())
    assert len(chosen) == 8 and chosen < budget and len(budget) == one.num_labelled == 30
    assert chosen == _rows(again.labelled(limit=8)) != _rows(other.labelled(limit=8))
    assert max(int(labels.max()) for _, labels in one.labelled(limit=8).as_numpy_iterator()) > 4
    assert _rows(one.labelled(limit=99)) == budget
    with pytest.raises(InvalidInput, match="`limit` is too small"):
        one.labelled(limit=0)


def test_an_epoch_is_finite_and_the_next_one_another(data):
    batch_size = data.num_train // 2
    dataset = data.unlabelled(batch_size, augment=False)
    assert dataset.cardinality() == data.steps_per_epoch(batch_size, "unlabelled") == 2
    first, second = (np.concatenate(list(dataset.as_numpy_iterator())) for _ in range(2))
    assert {row.tobytes() for row in first} == {row.tobytes() for row in second}
    assert (first != second).any()


def test_augmentation_changes_training_batches_and_nothing_else(noise):
    data = load_data((noise(50), np.arange(50) % 3))
    plain, augmented = (next(iter(data.unlabelled(8, augment=augment))) for augment in (False, True))
    assert (plain != augmented).numpy().any()
    test = data.test()
    _same(test, test)


def test_the_same_set_is_augmented_otherwise_by_replacing_fields(noise):
    data = load_data((noise(50), np.arange(50) % 3), flip=True, crop_padding=1)
    still = dataclasses.replace(data, flip=False, crop_padding=0)
    _same(still.unlabelled(8), data.unlabelled(8, augment=False))
    _same(dataclasses.replace(still, flip=True, crop_padding=1).unlabelled(8), data.unlabelled(8))
    _same(still.held_out(), data.held_out())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"crop_padding": -1}, "`crop_padding` is out of range. Expected: a whole number, 0 <= crop_padding"),
        ({"crop_padding": 1.0}, "`crop_padding` is out of range"),
        ({"crop_padding": True}, "`crop_padding` is out of range"),
        ({"flip": None}, "`flip` is invalid. Expected: True or False. Received: flip=None"),
    ],
)
def test_an_augmentation_that_is_none_is_refused(change, sentence, noise):
    with pytest.raises(InvalidInput, match=sentence):
        dataclasses.replace(load_data(noise(20)), **change)


def test_a_seed_of_its_own_changes_the_order(noise):
    data = load_data((noise(50), np.arange(50) % 3))
    one, other = (next(iter(data.train(8, augment=False, seed=seed)))[0] for seed in (1, 2))
    assert (one != other).numpy().any()


def test_unlabelled_sets_give_images_alone_and_refuse_labels(noise):
    data = load_data(noise(20))
    assert (data.num_classes, data.class_names, data.num_labelled, data.num_test) == (None, None, 0, 0)
    assert next(iter(data.held_out())).shape == (2, 8, 8, 3)
    with pytest.raises(InvalidInput, match=r"no labels, which `train\(\)` needs"):
        data.train(4)
    with pytest.raises(InvalidInput, match="has no test split"):
        data.test()


def test_asking_for_what_was_not_held_out_is_refused(noise):
    with pytest.raises(InvalidInput, match="Nothing was held out"):
        load_data(noise(4), held_out=0).held_out()


def test_steps_per_epoch_counts_the_label_budget_or_all_of_train(noise):
    data = load_data((noise(100), np.arange(100) % 2), held_out=0, labels_per_class=5)
    assert (data.num_train, data.num_labelled) == (80, 10)
    assert (data.steps_per_epoch(4), data.steps_per_epoch(4, "unlabelled")) == (3, 20)
    with pytest.raises(InvalidInput, match=r"`split` is not known.*did you mean 'train'"):
        data.steps_per_epoch(4, "trian")


def test_the_repr_says_what_there_is(noise):
    assert repr(load_data((noise(10), np.arange(10) % 2), held_out=2)) == (
        "ImageData('arrays', image_shape=(8, 8, 3), num_classes=2, num_train=6, num_labelled=6, num_held_out=2, "
        "num_test=2)"
    )


def test_what_needs_a_train_split_is_refused_where_there_is_none(cifar10_c):
    data = load_data("cifar10_corrupted/fog_3", data_dir=cifar10_c[0])
    assert sum(len(labels) for _, labels in data.test(5)) == data.num_test == 12
    for ask in (data.train, data.unlabelled, data.labelled, data.held_out):
        with pytest.raises(InvalidInput, match=r"'cifar10_corrupted/fog_3' has no train split.*or `test\(\)`"):
            ask(4)
    with pytest.raises(InvalidInput, match="has no train split"):
        data.steps_per_epoch(4)


# Views and pseudo-labels ----------------------------------------------------------------------------------------------

VIEWS_OF_ADVCL = ("strong", "strong", "weak", "high_frequency")


def some_views(data, *, many=VIEWS_OF_ADVCL):
    """Of a set on the disk two that are soon made: what a store does to a batch shows in them as well."""
    return many if isinstance(data.train_part.store, ArrayStore) else ("weak", "high_frequency")


def _stack(dataset):
    return np.stack(list(dataset.as_numpy_iterator()))


def _read_off(images):
    """The first two values of 8-bit pixels of each image: pseudo-labels that tell whose they are."""
    return np.round(np.asarray(images) * (255 if images.dtype == np.float32 else 1)).reshape(len(images), -1)[:, :2]


def test_pseudo_labels_are_those_of_the_images_at_any_start_and_worker(known):
    data, by_record = known
    pseudo_labels = _read_off(by_record).astype(np.int64)
    assert data.num_records == len(by_record)
    for options in ({}, {"start_step": 3}, {"worker": 1, "num_workers": 2}):
        batches = data.unlabelled(4, augment=False, pseudo_labels=pseudo_labels, num_steps=20, **options)
        for images, found in batches.as_numpy_iterator():
            assert found.dtype == np.int64 and found.shape == (len(images), 2)
            np.testing.assert_array_equal(found, _read_off(images))


def test_pseudo_labels_come_with_views_as_with_images(known):
    data, by_record = known
    pseudo_labels = _read_off(by_record).astype(np.int64)
    batches = data.unlabelled(4, views=("weak", "original"), pseudo_labels=pseudo_labels, num_steps=5)
    for views, found in batches.as_numpy_iterator():
        np.testing.assert_array_equal(found, _read_off(views[:, 1]))


def test_held_out_images_have_pseudo_labels_too(known):
    data, by_record = known
    pseudo_labels = np.full((len(by_record), 2), -1)  # what is not held out is not looked at
    pseudo_labels[data.held_out_part.numbers] = _read_off(by_record)[data.held_out_part.numbers]
    batches = list(data.held_out(3, pseudo_labels=pseudo_labels).as_numpy_iterator())
    assert sum(len(images) for images, _ in batches) == data.num_held_out
    for images, found in batches:
        np.testing.assert_array_equal(found, _read_off(images))
    with pytest.raises(InvalidInput, match="lacks a record that is used"):
        data.unlabelled(4, pseudo_labels=pseudo_labels)


def test_views_are_made_of_the_plain_images_of_their_step(data):
    settings = {"crop_padding": data.crop_padding, "flip": data.flip}
    names = some_views(data)
    batches = data.unlabelled(4, views=names, seed=5, start_step=2, num_steps=2)
    assert batches.element_spec == tf.TensorSpec((4, len(names), *data.image_shape), tf.float32)
    plain = data.unlabelled(4, augment=False, seed=5, start_step=2, num_steps=2)
    for number, (views, images) in enumerate(zip(batches, plain, strict=True)):
        seed = seed_for(5, 2 + number, "views")
        expected = make_views(views_for(names, **settings), images, seed)
        np.testing.assert_allclose(views, np.stack(expected, axis=1), atol=1e-5)


def test_views_are_the_same_whatever_the_start_and_without_the_plain_augmentation(data):
    views = some_views(data, many=("strong", "high_frequency"))
    whole = _stack(data.unlabelled(4, views=views, num_steps=5))
    np.testing.assert_array_equal(_stack(data.unlabelled(4, views=views, num_steps=2, start_step=3)), whole[3:])
    np.testing.assert_array_equal(_stack(data.unlabelled(4, views=views, augment=False, num_steps=5)), whole)


def test_views_of_two_workers_join_to_those_of_one(data):
    options = {"views": some_views(data, many=("strong", "high_frequency")), "num_steps": 3, "start_step": 1}
    parts = [_stack(data.unlabelled(6, worker=worker, num_workers=2, **options)) for worker in (0, 1)]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), _stack(data.unlabelled(6, **options)), atol=1e-5)


def test_the_strength_is_that_of_the_step(noise):
    data = load_data(noise(40))
    views = ("annealed", "annealed")
    found = _stack(data.unlabelled(8, views=views, strength=lambda step: tf.cast(step, tf.float32) / 4.0, num_steps=5))
    full = _stack(data.unlabelled(8, views=views, num_steps=5))
    plain = _stack(data.unlabelled(8, augment=False, num_steps=5))
    np.testing.assert_allclose(found[4], full[4], atol=1e-6)
    for view in (found[0, :, 0], found[0, :, 1]):  # at 0 a flip is left
        same, mirrored = (np.abs(view - images).max(axis=(1, 2, 3)) for images in (plain[0], plain[0][:, :, ::-1]))
        assert (np.minimum(same, mirrored) < 1e-6).all()
    half = make_views(views, plain[2], seed_for(0, 2, "views"), strength=0.5)
    np.testing.assert_allclose(found[2], np.stack(half, axis=1), atol=1e-5)
    assert np.abs(found[2] - full[2]).max() > 0.1


def test_digits_are_never_mirrored_by_a_view(noise):
    data = load_data(noise(60, channels=1), crop_padding=0)
    views = data.unlabelled(40, views=("weak", "annealed"), strength=lambda step: 0.0, num_steps=1)
    plain = next(iter(data.unlabelled(40, augment=False, num_steps=1)))
    for view in tf.unstack(next(iter(views)), axis=1):
        np.testing.assert_allclose(view, plain, atol=1e-6)


def test_views_that_cannot_be_made_are_refused_before_any_work(noise):
    data = load_data(noise(40))
    with pytest.raises(InvalidInput, match=r"`view` is not known \(did you mean 'strong'"):
        data.unlabelled(4, views=("strng",))
    with pytest.raises(InvalidInput, match="`views` names no views"):
        data.unlabelled(4, views=())
    with pytest.raises(InvalidInput, match=r"A strength is for views.*views=None"):
        data.unlabelled(4, strength=lambda step: 1.0)
    with pytest.raises(InvalidInput, match=r"gives no strength.*strength\(7\)=2.0"):
        data.unlabelled(4, views=("annealed",), strength=lambda step: 2.0, start_step=7)
    with pytest.raises(InvalidInput, match=r"wrong shape.*\(40, heads\).*shape=\(39, 1\)"):
        data.unlabelled(4, pseudo_labels=np.zeros((39, 1), int))
