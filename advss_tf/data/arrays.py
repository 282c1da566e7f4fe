"""Sources that are arrays: what a program holds, .npz files, and scikit-learn's digits.

Synopsis:

    source = arrays_source({"images": images, "labels": labels})
    source = npz_source("images.npz")
    source = digits_source()
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from advss_tf.data.checks import check_labels
from advss_tf.data.memory import Source, array_source
from advss_tf.data.pixels import as_stored, resized
from advss_tf.errors import InvalidInput

# One documented set of names, and the two others that are common.
_NAMES = (
    ("images", "labels", "test_images", "test_labels"),
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("x_train", "y_train", "x_test", "y_test"),
)


def digits_source(*, resize: tuple[int, int] | None = None) -> Source:
    """The 1,797 handwritten digits of scikit-learn, 8 x 8 grey, values / 16 (exact in float32), ten classes.

    Nothing is downloaded. There is no official test split.
    """
    from sklearn.datasets import load_digits  # half a second that only this source needs

    digits = load_digits()
    images = (digits.images[..., np.newaxis] / 16.0).astype(np.float32)
    return array_source(
        "digits", (resized(images, resize), digits.target.astype(np.int64)), None, [str(name) for name in range(10)]
    )


def npz_source(path: str | os.PathLike[str], *, resize: tuple[int, int] | None = None) -> Source:
    """A source from a .npz file with the names of `arrays_source`. Object arrays are refused, never unpickled.

    Raises:
        InvalidInput: if the file is missing, is no .npz file, or holds what `arrays_source` refuses.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise InvalidInput(
            f"{path} cannot be read.", expected="a .npz file of arrays of numbers", received=str(error).rstrip(".")
        ) from error
    try:
        return arrays_source(arrays, name=os.path.splitext(os.path.basename(path))[0], resize=resize)
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error.what}", expected=error.expected, received=error.received) from None


def arrays_source(arrays: Any, *, name: str = "arrays", resize: tuple[int, int] | None = None) -> Source:
    """A source from arrays in memory.

    Args:
        arrays: `images`, `(images,)`, `(images, labels)`, `((images, labels), (test_images, test_labels))`, or a
            mapping with `images` and, each optional, `labels`, `test_images`, `test_labels` (also read under the
            names `train_images`, `train_labels`, or `x_train`, `y_train`, `x_test`, `y_test`). Images are
            `(n, height, width)` or `(n, height, width, channels)` with one or three channels, uint8 or floats in
            [0, 1]; labels are integers `(n,)` or `(n, 1)`.
        name: What reports call it.
        resize: Another `(height, width)`.

    Raises:
        InvalidInput: if a name is unknown, or an array has the wrong dtype, shape, length or values.
    """
    images, labels, test_images, test_labels = _fields(arrays)
    if test_images is not None and (labels is None) != (test_labels is None):
        raise InvalidInput(
            "Only one of train and test has labels.",
            expected="labels for both, or for neither",
            received=f"{'test_labels' if labels is None else 'labels'} alone",
        )
    train = _checked(images, labels, "images", "labels", None, resize)
    num_classes = None if train[1] is None else int(train[1].max()) + 1
    test = None
    if test_images is not None:
        test = _checked(test_images, test_labels, "test_images", "test_labels", num_classes, resize)
    return array_source(name, train, test, None if num_classes is None else [str(k) for k in range(num_classes)])


def _fields(arrays: Any) -> list[Any]:
    """`[images, labels, test_images, test_labels]`, None where absent."""
    if not isinstance(arrays, Mapping):
        parts = list(arrays) if isinstance(arrays, (tuple, list)) else [arrays]
        nested = [array for pair in parts for array in pair] if isinstance(parts[0], (tuple, list)) else parts
        allowed = (4,) if nested is not parts else (1, 2)
        if len(nested) not in allowed:
            raise InvalidInput(
                "These arrays cannot be told apart.",
                expected="images, (images, labels), ((images, labels), (test_images, test_labels)), or a dict",
                received=f"{len(nested)} arrays",
            )
        return nested + [None] * (4 - len(nested))
    for names in _NAMES:
        if names[0] in arrays and set(arrays) <= set(names):
            return [arrays.get(name) for name in names]
    raise InvalidInput(
        "These names of arrays are not known.",
        expected=" or ".join(f"`{names[0]}` with some of {list(names[1:])}" for names in _NAMES),
        received=f"names={sorted(arrays)}",
    )


def _checked(
    images: Any,
    labels: Any,
    images_name: str,
    labels_name: str,
    num_classes: int | None,
    resize: tuple[int, int] | None,
) -> tuple[np.ndarray, np.ndarray | None]:
    images = as_stored(images, images_name)
    if labels is not None:
        labels = np.asarray(labels)
        labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels  # as keras.datasets has them
        check_labels(labels, labels_name, num_classes=num_classes, count=len(images))
        labels = labels.astype(np.int64)
    return resized(images, resize), labels
