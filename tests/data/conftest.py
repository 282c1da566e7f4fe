"""Data sets that the tests of this room make for themselves: folders of PNGs and a prepared tfds folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def _noise(count: int, height: int = 8, width: int = 8, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, channels), dtype=np.uint8)


def _write_folder(root: Path, images: np.ndarray, labels: np.ndarray, names: tuple[str, ...]) -> None:
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = root / names[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.squeeze()).save(folder / f"{number:03d}.png")


@pytest.fixture(scope="session")
def noise() -> Callable[..., np.ndarray]:
    """`noise(count, height, width, channels, seed)`: random uint8 images, no two of them alike."""
    return _noise


@pytest.fixture
def write_folder() -> Callable[..., None]:
    """`write_folder(root, images, labels, names)` writes `root/<class>/<number>.png`."""
    return _write_folder


@pytest.fixture
def picture_folder(tmp_path: Path) -> Path:
    """Twelve train and six test pictures, 8 x 8 RGB, cats (even numbers) and dogs (odd numbers)."""
    names = ("cat", "dog")
    _write_folder(tmp_path / "pets" / "train", _noise(12), np.arange(12) % 2, names)
    _write_folder(tmp_path / "pets" / "test", _noise(6, seed=1), np.arange(6) % 2, names)
    return tmp_path / "pets"


@pytest.fixture(scope="session")
def prepared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data_dir with `tiny/1.0.0`: 600 train (three files) and 40 test images, 4 x 4 RGB, three classes in turn."""
    import tensorflow_datasets as tfds

    data_dir = tmp_path_factory.mktemp("prepared")
    features = {"image": tfds.features.Image(shape=(4, 4, 3)), "label": tfds.features.ClassLabel(names=["a", "b", "c"])}

    def split(count: int, seed: int) -> list[tuple[int, dict]]:
        return [(i, {"image": image, "label": i % 3}) for i, image in enumerate(_noise(count, 4, 4, 3, seed))]

    tfds.dataset_builders.store_as_tfds_dataset(
        name="tiny",
        version="1.0.0",
        features=tfds.features.FeaturesDict(features),
        split_datasets={"train": split(600, 0), "test": split(40, 1)},
        data_dir=data_dir,
        download_config=tfds.download.DownloadConfig(num_shards=3),
        disable_shuffling=True,
    )
    return data_dir


@pytest.fixture(scope="session")
def folder_of_train_alone(prepared_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data_dir with the train split of `tiny/1.0.0` and no test split."""
    folder = tmp_path_factory.mktemp("train_alone") / "tiny" / "1.0.0"
    shutil.copytree(prepared_folder / "tiny" / "1.0.0", folder)
    for file in folder.glob("tiny-test*"):
        file.unlink()
    info = json.loads((folder / "dataset_info.json").read_text())
    info["splits"] = [split for split in info["splits"] if split["name"] == "train"]
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder.parents[1]
