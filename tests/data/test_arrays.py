"""Tests of `advss_tf.data.arrays`."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from advss_tf.data.arrays import arrays_source, digits_source, npz_source
from advss_tf.errors import InvalidInput

LABELS = np.array([0, 1, 2, 0])


def _pixels(part):
    return part.store.read(part.numbers)[0].numpy()


def test_digits_are_exact_sixteenths():
    source = digits_source()
    np.testing.assert_array_equal(_pixels(source.train)[..., 0] * 16, load_digits().images)
    assert _pixels(source.train).dtype == np.float32
    assert len(source.class_names) == 10 and source.test is None


@pytest.mark.parametrize(
    "names",
    [
        ("images", "labels", "test_images", "test_labels"),
        ("train_images", "train_labels", "test_images", "test_labels"),
        ("x_train", "y_train", "x_test", "y_test"),
    ],
)
def test_npz_files_are_read_under_each_set_of_names(tmp_path, noise, names):
    values = (noise(4), LABELS, noise(2, seed=1), LABELS[:2])
    np.savez(tmp_path / "pets.npz", **dict(zip(names, values, strict=True)))
    source = npz_source(tmp_path / "pets.npz")
    np.testing.assert_array_equal(_pixels(source.train), values[0])
    np.testing.assert_array_equal(_pixels(source.test), values[2])
    np.testing.assert_array_equal(source.labels, LABELS)
    assert source.name == "pets" and source.class_names == ("0", "1", "2")


def test_arrays_come_as_one_a_pair_or_two_pairs(noise):
    images = noise(4)
    assert arrays_source(images).labels is None
    assert arrays_source((images,)).labels is None
    np.testing.assert_array_equal(arrays_source((images, LABELS)).labels, LABELS)
    assert len(arrays_source(((images, LABELS[:, None]), (images[:2], LABELS[:2, None]))).test) == 2


def test_arrays_are_resized_on_demand(noise):
    assert arrays_source(noise(4), resize=(5, 6)).train.store.image_shape == (5, 6, 3)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"labels": LABELS[:3]}, r"`labels` has the wrong shape.*Expected: \(4,\).*shape=\(3,\)"),
        ({"labels": LABELS - 1}, r"labels\[0\]=-1"),
        ({"labels": LABELS.astype(float)}, "integer dtype.*dtype=float64"),
        ({"labels": np.array(["a"] * 4, object)}, "array of Python objects"),
        ({"test_labels": np.array([0, 3])}, r"every label in \[0, 3\).*test_labels\[1\]=3"),
        ({"test_labels": None}, "Only one of train and test has labels.*labels alone"),
        ({"pictures": LABELS}, "names of arrays are not known.*pictures"),
        ({"images": np.zeros((4, 8, 8, 3)) - 0.1}, r"images\[0\] holds -0.1"),
        ({"images": np.full((4, 8, 8, 3), np.nan)}, r"images\[0\] holds nan"),
        ({"test_images": np.zeros((2, 8, 8, 1), np.uint8)}, "differ in shape"),
    ],
)
def test_bad_arrays_are_refused_with_their_index(noise, change, sentence):
    arrays = {"images": noise(4), "labels": LABELS, "test_images": noise(2), "test_labels": LABELS[:2], **change}
    with pytest.raises(InvalidInput, match=sentence):
        arrays_source({key: value for key, value in arrays.items() if value is not None})


def test_three_arrays_cannot_be_told_apart(noise):
    with pytest.raises(InvalidInput, match=r"cannot be told apart.*Received: 3 arrays"):
        arrays_source((noise(4), LABELS, noise(4)))


def test_object_arrays_in_a_file_are_refused_and_never_unpickled(tmp_path, noise):
    np.savez(tmp_path / "bad.npz", images=noise(2), labels=np.array([0, None], object))
    with pytest.raises(InvalidInput, match=r"bad.npz cannot be read.*allow_pickle=False"):
        npz_source(tmp_path / "bad.npz")


def test_a_bad_file_is_named(tmp_path, noise):
    with pytest.raises(InvalidInput, match=r"missing.npz cannot be read"):
        npz_source(tmp_path / "missing.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(InvalidInput, match=r"text.npz cannot be read"):
        npz_source(tmp_path / "text.npz")
    with open(tmp_path / "single.npz", "wb") as file:
        np.save(file, noise(2))
    with pytest.raises(InvalidInput, match=r"single.npz cannot be read"):
        npz_source(tmp_path / "single.npz")
    np.savez(tmp_path / "short.npz", images=noise(4), labels=LABELS[:3])
    with pytest.raises(InvalidInput, match=r"short.npz: `labels` has the wrong shape"):
        npz_source(tmp_path / "short.npz")
