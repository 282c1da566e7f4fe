"""Images in a folder, in memory where they fit, else read file by file as they are needed.

    root/train/<class>/*.png + root/test/<class>/*.png      (labelled, with a test split)
    root/<class>/*.png                                      (labelled; a fixed 20 % becomes the test split)
    root/train/*.png + root/test/*.png, or root/*.png       (unlabelled, for pretraining)

Synopsis:

    source = folder_source("photographs", resize=(64, 64))

Files are known by their content, not by their name: JPEG, PNG, BMP and GIF (its first frame). Sub-folders of a class
belong to it; names that begin with a dot are skipped. Transparency and camera rotation marks are ignored.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image, UnidentifiedImageError

from advss_tf.data.memory import Source, all_of, array_source, shuffled_numbers
from advss_tf.data.pixels import resize_tensor
from advss_tf.errors import InvalidInput

_FORMATS = ("JPEG", "PNG", "BMP", "GIF")
_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
_GREY, _COLOUR = ("1", "L", "LA"), ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")  # modes of 8 bits or fewer a channel
_THREADS = 16  # files are opened side by side; most of the time goes in waiting for the disk


@dataclass(frozen=True)
class ImageFile:
    """What the head of an image file says: `size` is (height, width)."""

    path: str
    size: tuple[int, int]
    channels: int
    num_bytes: int


class FolderStore:
    """A `Store` that decodes files as they are needed; it keeps their paths only."""

    def __init__(
        self, files: Sequence[ImageFile], labels: np.ndarray | None, channels: int, resize: tuple[int, int] | None
    ) -> None:
        self.image_shape = (*(resize or files[0].size), channels)
        self._resize = resize
        with tf.device("/cpu:0"):
            self._paths = tf.constant([file.path for file in files])
            self._labels = None if labels is None else tf.constant(labels, tf.int64)

    def __len__(self) -> int:
        return int(self._paths.shape[0])

    def epoch(self, numbers: np.ndarray, seed: tf.Tensor | None, offset: Any) -> tf.data.Dataset:
        """One vector of file numbers; see `Store`."""
        return shuffled_numbers(numbers, seed, offset)

    def read(self, references: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | None]:
        """The pictures of some file numbers; see `Store`. A file that cannot be decoded is named in the error."""
        spec = tf.TensorSpec(self.image_shape, tf.uint8)
        images = tf.map_fn(self._decode, tf.gather(self._paths, references), fn_output_signature=spec)
        return images, None if self._labels is None else tf.gather(self._labels, references)

    def record_numbers(self, references: tf.Tensor) -> tf.Tensor:
        """The references, which are file numbers; see `Store`."""
        return references

    def _decode(self, path: tf.Tensor) -> tf.Tensor:
        channels = self.image_shape[-1]
        picture = tf.numpy_function(_decode_bytes, [path, channels], tf.uint8)
        picture = tf.ensure_shape(picture, [None, None, channels])
        picture = picture if self._resize is None else resize_tensor(picture, self._resize)
        return tf.ensure_shape(picture, self.image_shape)


def decode(path: str, channels: int) -> np.ndarray:
    """The picture in a file, uint8 `(height, width, channels)`; of an animation, its first frame.

    Raises:
        InvalidInput: if the file cannot be decoded to its end, naming it.
    """
    try:
        with Image.open(path, formats=_FORMATS) as picture:
            pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _corrupt(path, error) from error
    return pixels.reshape(*pixels.shape[:2], channels)


@tf.autograph.experimental.do_not_convert
def _decode_bytes(path: Any, channels: Any) -> np.ndarray:
    return decode(os.fsdecode(np.asarray(path).item()), int(channels))  # as TensorFlow hands them over


def folder_source(
    path: str | os.PathLike[str], *, resize: tuple[int, int] | None = None, memory_limit: int = 2 * 2**30
) -> Source:
    """A source from a folder in one of the layouts above.

    Args:
        path: The folder.
        resize: The `(height, width)` of every image; needed where files differ in size.
        memory_limit: Sets that need more bytes than this, decoded, stay on the disk.

    Raises:
        InvalidInput: if the folder, a class or a file is missing, empty, corrupt or of another size than the first,
            naming it.
    """
    root = Path(path)
    train_root = root / "train" if (root / "train").is_dir() else root
    files, labels, class_names = _scan(train_root)
    test = None
    if train_root != root and (root / "test").is_dir():
        test_files, test_labels, _ = _scan(root / "test", class_names)
        test = (test_files, test_labels)
        if (labels is None) != (test_labels is None):
            raise InvalidInput(
                "Only one of train and test has class folders.",
                expected="both, or neither",
                received=f"{train_root} and {root / 'test'}",
            )
    every = files + (test[0] if test else [])
    channels = max(file.channels for file in every)
    if resize is None:
        _check_one_size(every)
    height, width = resize or files[0].size
    name = root.resolve().name
    parts = [(files, labels)] + ([test] if test else [])
    if height * width * channels * len(every) <= memory_limit:
        arrays = [(_load(part, channels, resize), numbers) for part, numbers in parts]
        return array_source(name, arrays[0], arrays[1] if test else None, class_names)
    stored = [all_of(FolderStore(part, numbers, channels, resize), len(part)) for part, numbers in parts]
    digest = _listing_digest(root, every, resize)
    return Source(name, stored[0], labels, stored[1] if test else None, class_names, digest)


def _scan(
    root: Path, class_names: tuple[str, ...] | None = None
) -> tuple[list[ImageFile], np.ndarray | None, tuple[str, ...] | None]:
    """The image files of one split in the order of their paths, their labels, and the names of the classes.

    `class_names` are those of the train split, to which a test split must keep.
    """
    if not root.is_dir():
        raise InvalidInput("There is no such folder.", expected="a folder of images", received=f"path={str(root)!r}")
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    loose = _image_files(root, "*")
    if folders and loose:
        raise InvalidInput(
            f"{root} holds both images and folders.",
            expected="folders, one a class, or images alone",
            received=f"image {loose[0].path}, folder {folders[0]}",
        )
    if not folders:
        return _unlabelled(root, loose), None, None
    names = class_names or tuple(folder.name for folder in folders)
    unknown = [str(folder) for folder in folders if folder.name not in names]
    if unknown:
        raise InvalidInput(
            "A test class is not in train.", expected=f"one of {list(names)}", received=f"folder {unknown[0]}"
        )
    members = {folder.name: _image_files(folder, "**/*") for folder in folders}
    for folder in folders:
        if not members[folder.name]:
            raise InvalidInput(
                "A class has no images.", expected="one image or more in every class", received=f"folder {folder}"
            )
    labels = np.repeat([names.index(name) for name in members], [len(files) for files in members.values()])
    return [file for files in members.values() for file in files], labels.astype(np.int64), names


def _unlabelled(root: Path, files: list[ImageFile]) -> list[ImageFile]:
    if not files:
        raise InvalidInput("A folder has no images.", expected="JPEG, PNG, BMP or GIF files", received=f"folder {root}")
    return files


def _image_files(root: Path, pattern: str) -> list[ImageFile]:
    paths = sorted(entry for entry in root.glob(pattern) if entry.is_file() and not _hidden(entry, root))
    with ThreadPoolExecutor(_THREADS) as pool:
        return [file for file in pool.map(_head, paths) if file is not None]


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _head(path: Path) -> ImageFile | None:
    """What a file's head says; None for a file that neither is an image nor calls itself one."""
    try:
        with Image.open(path, formats=_FORMATS) as picture:
            size, mode = picture.size, picture.mode
    except UnidentifiedImageError as error:
        if path.suffix.lower() in _SUFFIXES:
            raise _corrupt(str(path), error) from error
        return None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _corrupt(str(path), error) from error
    if mode not in _GREY + _COLOUR:
        raise InvalidInput(f"{path} has no 8-bit pixels.", expected="8 bits a channel", received=f"mode {mode}")
    return ImageFile(str(path), size[::-1], 1 if mode in _GREY else 3, path.stat().st_size)


def _check_one_size(files: Sequence[ImageFile]) -> None:
    first = files[0]
    for file in files:
        if file.size != first.size:
            raise InvalidInput(
                "Images differ in size.",
                expected="one size for all, or `resize=(height, width)`",
                received=f"{first.path} is {first.size}, {file.path} is {file.size} (height, width)",
            )


def _load(files: Sequence[ImageFile], channels: int, resize: tuple[int, int] | None) -> np.ndarray:
    def load(file: ImageFile) -> np.ndarray:
        picture = decode(file.path, channels)
        return picture if resize is None else resize_tensor(tf.constant(picture), resize).numpy()

    with ThreadPoolExecutor(_THREADS) as pool:
        return np.stack(list(pool.map(load, files)))


def _listing_digest(root: Path, files: Sequence[ImageFile], resize: tuple[int, int] | None) -> str:
    lines = [f"{Path(file.path).relative_to(root).as_posix()} {file.num_bytes}" for file in files]
    return hashlib.sha256("\n".join([f"resize={resize}", *lines]).encode()).hexdigest()


def _corrupt(path: str, error: Exception) -> InvalidInput:
    reason = str(error).rstrip(".")
    return InvalidInput(f"{path} is not a whole image.", expected="a JPEG, PNG, BMP or GIF file", received=reason)
