"""Tests of `advss_tf.data.folder`."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from advss_tf.data.folder import FolderStore, folder_source
from advss_tf.data.memory import ArrayStore
from advss_tf.errors import InvalidInput


def _pixels(part):
    batches = part.store.epoch(part.numbers, None, 0).map(lambda numbers: part.store.read(numbers)[0])
    return np.concatenate(list(batches.as_numpy_iterator()))


def test_train_and_test_folders_with_classes(picture_folder, noise):
    source = folder_source(picture_folder)
    np.testing.assert_array_equal(source.labels, [0] * 6 + [1] * 6)
    np.testing.assert_array_equal(_pixels(source.train), np.concatenate([noise(12)[::2], noise(12)[1::2]]))
    assert source.class_names == ("cat", "dog") and source.name == "pets" and len(source.test) == 6


def test_a_small_limit_streams_the_same_pixels_labels_and_sizes(picture_folder):
    memory, stream = folder_source(picture_folder), folder_source(picture_folder, memory_limit=1)
    assert isinstance(memory.train.store, ArrayStore) and isinstance(stream.train.store, FolderStore)
    np.testing.assert_array_equal(_pixels(stream.train), _pixels(memory.train))
    np.testing.assert_array_equal(_pixels(stream.test), _pixels(memory.test))
    np.testing.assert_array_equal(stream.labels, memory.labels)
    small = [_pixels(folder_source(picture_folder, resize=(5, 3), memory_limit=limit).train) for limit in (1, 10**6)]
    np.testing.assert_array_equal(*small)


def test_classes_alone_and_flat_images(picture_folder):
    classes = folder_source(picture_folder / "train")
    assert classes.test is None and len(classes.train) == 12
    flat = folder_source(picture_folder / "train" / "cat")
    assert flat.labels is None and flat.class_names is None and len(flat.train) == 6


def test_content_decides_and_not_the_name(tmp_path):
    pixels = np.zeros((4, 4, 3), np.uint8)
    for name, kind in (("a.png", "JPEG"), ("b", "PNG"), ("c.dat", "BMP"), ("d.jpg", "GIF")):
        Image.fromarray(pixels).save(tmp_path / name, format=kind)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.png").write_text("no image")
    assert len(folder_source(tmp_path).train) == 4


def test_of_an_animation_the_first_frame_is_read(tmp_path):
    frames = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (10, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(_pixels(folder_source(tmp_path).train), 10)


def test_grey_folders_have_one_channel_and_mixed_ones_three(tmp_path):
    Image.fromarray(np.full((4, 4), 7, np.uint8)).save(tmp_path / "a.png")
    assert _pixels(folder_source(tmp_path).train).shape == (1, 4, 4, 1)
    Image.fromarray(np.zeros((4, 4, 4), np.uint8), "RGBA").save(tmp_path / "b.png")
    mixed = _pixels(folder_source(tmp_path).train)
    assert mixed.shape == (2, 4, 4, 3) and (mixed[0] == 7).all()


def test_the_fingerprint_of_a_streamed_folder_is_its_list_of_files(picture_folder):
    before = folder_source(picture_folder, memory_limit=1).fingerprint
    assert folder_source(picture_folder, memory_limit=1).fingerprint == before
    assert folder_source(picture_folder, memory_limit=1, resize=(4, 4)).fingerprint != before
    (picture_folder / "train" / "cat" / "000.png").rename(picture_folder / "train" / "cat" / "renamed.png")
    assert folder_source(picture_folder, memory_limit=1).fingerprint != before


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-60])


@pytest.mark.parametrize("damage", [_truncate, lambda path: path.write_text("no image")])
def test_a_corrupt_file_is_named(picture_folder, damage):
    damage(picture_folder / "train" / "dog" / "003.png")
    with pytest.raises(InvalidInput, match=r"dog/003.png is not a whole image"):
        folder_source(picture_folder)


def test_a_corrupt_file_is_named_while_streaming_too(picture_folder):
    _truncate(picture_folder / "train" / "dog" / "003.png")
    source = folder_source(picture_folder, memory_limit=1)
    with pytest.raises(tf.errors.OpError, match=r"dog/003.png is not a whole image"):
        _pixels(source.train)


def test_sizes_that_differ_name_the_first_two_files(picture_folder):
    Image.fromarray(np.zeros((9, 7, 3), np.uint8)).save(picture_folder / "test" / "cat" / "odd.png")
    with pytest.raises(InvalidInput, match=r"cat/000.png is \(8, 8\), .*test/cat/odd.png is \(9, 7\)"):
        folder_source(picture_folder)
    assert folder_source(picture_folder, resize=(8, 8)).test.store.image_shape == (8, 8, 3)


def test_what_is_missing_or_ambiguous_is_refused_and_named(picture_folder, tmp_path):
    with pytest.raises(InvalidInput, match=r"no such folder.*nowhere"):
        folder_source(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput, match=r"has no images.*empty"):
        folder_source(tmp_path / "empty")
    (picture_folder / "train" / "emu").mkdir()
    with pytest.raises(InvalidInput, match=r"class has no images.*emu"):
        folder_source(picture_folder)
    (picture_folder / "train" / "emu").rmdir()
    (picture_folder / "test" / "cat").rename(picture_folder / "test" / "fox")
    with pytest.raises(InvalidInput, match=r"test class is not in train.*fox"):
        folder_source(picture_folder)
    shutil.copy(picture_folder / "train" / "cat" / "000.png", picture_folder / "train" / "loose.png")
    with pytest.raises(InvalidInput, match=r"holds both images and folders.*loose.png"):
        folder_source(picture_folder)


def test_class_folders_in_one_split_alone_are_refused(picture_folder):
    for file in (picture_folder / "test").glob("*/*.png"):
        file.rename(picture_folder / "test" / f"{file.parent.name}{file.name}")
    for name in ("cat", "dog"):
        (picture_folder / "test" / name).rmdir()
    with pytest.raises(InvalidInput, match="Only one of train and test has class folders"):
        folder_source(picture_folder)


def test_16_bit_files_are_refused(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(InvalidInput, match=r"deep.png has no 8-bit pixels"):
        folder_source(tmp_path)
