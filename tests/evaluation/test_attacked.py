"""Attacked images on disk."""

from __future__ import annotations

import numpy as np
import pytest

from advss_tf.errors import InvalidInput
from advss_tf.evaluation.attacked import AttackedImages, read_attacked


def test_what_is_saved_is_read_in_order(tmp_path):
    folder = AttackedImages(tmp_path / "new" / "attacked", goes_on=False)
    for number in (1, 0, 10):
        folder.save(number, {"labels": np.array([number])})
    assert [int(batch["labels"][0]) for batch in read_attacked(tmp_path / "new" / "attacked")] == [0, 1, 10]


def test_a_folder_that_holds_something_is_refused_unless_it_goes_on(tmp_path):
    AttackedImages(tmp_path, goes_on=False).save(0, {"labels": np.array([1])})
    with pytest.raises(InvalidInput, match="a folder that is empty"):
        AttackedImages(tmp_path, goes_on=False)
    AttackedImages(tmp_path, goes_on=True)
    with pytest.raises(InvalidInput, match="a folder that is empty"):
        AttackedImages(tmp_path / "batch-000000.npz", goes_on=False)


def test_a_folder_without_any_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="no attacked images"):
        list(read_attacked(tmp_path))
