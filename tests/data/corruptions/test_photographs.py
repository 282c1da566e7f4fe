"""Photographs of frost from a folder, shrunk to the scale of the images."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from advss_tf.data.corruptions import corrupt, frost_photographs
from advss_tf.errors import InvalidInput


def photograph(path, height, width, level):
    Image.fromarray(np.full((height, width, 3), level, np.uint8)).save(path)


def test_photographs_are_shrunk_to_a_fifth_for_images_of_32_pixels(tmp_path):
    photograph(tmp_path / "b.png", 200, 300, 20)
    photograph(tmp_path / "a.jpg", 220, 180, 200)
    (tmp_path / "notes.txt").write_text("no photograph")
    found = frost_photographs(tmp_path, side=32)
    assert found.shape == (2, 40, 36, 3) and found.dtype == np.uint8
    assert abs(int(found[0].mean()) - 200) <= 1 and int(found[1].mean()) == 20


def test_photographs_are_left_as_they_are_for_large_images(tmp_path):
    photograph(tmp_path / "a.png", 230, 240, 7)
    assert frost_photographs(tmp_path, side=224).shape == (1, 230, 240, 3)


def test_the_corruption_takes_them(tmp_path):
    photograph(tmp_path / "a.png", 200, 200, 255)
    images = np.zeros((2, 32, 32, 3), np.float32)
    bright = corrupt(images, "frost", 5, (0, 1), frost_images=frost_photographs(tmp_path, side=32))
    np.testing.assert_allclose(bright, np.floor(0.45 * 255) / 255, atol=1.01 / 255)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda path: None, "no photographs of frost"),
        (lambda path: photograph(path / "a.png", 100, 400, 0), "at least 160 pixels along each side"),
        (lambda path: (path / "a.png").write_text("no picture"), "cannot be read"),
    ],
)
def test_folders_without_a_usable_photograph_are_refused(tmp_path, make, words):
    make(tmp_path)
    with pytest.raises(InvalidInput, match=words):
        frost_photographs(tmp_path, side=32)
