"""`load_data`: the door to every source, and the cuts that all of them share.

Synopsis:

    load_data("digits")
    load_data("cifar10", held_out=5000, labels_per_class=100)            # a tfds name
    load_data("photographs", resize=(64, 64))                            # a folder
    load_data((images, labels))                                          # arrays, or the path of a .npz file
    load_data(kind="tfds", name="cifar10", data_dir="prepared", seed=1)  # as a recipe says it
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from advss_tf.data.arrays import arrays_source, digits_source, npz_source
from advss_tf.data.catalogue import catalogue_source, is_prepared_folder
from advss_tf.data.folder import folder_source
from advss_tf.data.images import ImageData
from advss_tf.data.memory import Source
from advss_tf.data.pipeline import Part
from advss_tf.data.splits import cut, label_budget, permutation
from advss_tf.errors import InvalidInput, one_of

# What says which data to load, for each kind.
_READS: dict[str, tuple[str, ...]] = {
    "digits": (),
    "tfds": ("name", "path", "source"),
    "folder": ("path", "source"),
    "arrays": ("path", "source"),
}
KINDS = tuple(_READS)
MEMORY_LIMIT = 2 * 2**30

_TEST_SHARE, _TEST_SEED = 0.2, 0  # of a source without a test split: never the run's seed


def load_data(
    source: Any = None,
    *,
    kind: str | None = None,
    name: str | None = None,
    path: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    train_split: str | None = None,
    test_split: str | None = None,
    seed: int = 0,
    held_out: float | int = 0.1,
    train_limit: int | None = None,
    labels_per_class: int | None = None,
    label_fraction: float | None = None,
    resize: int | tuple[int, int] | None = None,
    crop_padding: int | None = None,
    flip: bool | None = None,
    memory_limit: int = MEMORY_LIMIT,
) -> ImageData:
    """Loads images and cuts them into train, held-out and test.

    In this order: the source's test split is set aside (a source without one gives a stratified 20 % of its labelled
    images, the same ones at every seed; unlabelled images give none); `held_out` is cut from train by `seed`,
    stratified where labels are at hand; `train_limit` keeps the first of a seeded permutation of what is left;
    the label budget picks whose labels `ImageData.train` may use. Each choice is the same for every method at one seed.
    Of a tfds set that is a test split alone, `test` gives that, and what asks for train is refused.

    Args:
        source: `"digits"`, a name of the tfds catalogue, the path of a folder, of a prepared tfds folder or of a .npz
            file, or arrays as `arrays_source` describes them.
        kind: Instead of `source`: `"digits"`, `"tfds"` (with `name`), `"folder"` (with `path`) or `"arrays"` (with
            the `path` of a .npz file).
        name: A name of the tfds catalogue.
        path: A folder, or a .npz file.
        data_dir: Where prepared tfds sets lie.
        train_split: The tfds split to train on. Defaults to `"train"`; one whose labels are -1, such as `"unlabelled"`
            of `"stl10"`, can pretrain, and no label of the set is then read.
        test_split: The tfds split to test on. Defaults to `"test"`, or else `"validation"`.
        seed: Decides every cut but that of the test split, and is the default seed of order and augmentation.
        held_out: The fraction of train, or how many of its images, that models are picked on. 0 holds out nothing.
        train_limit: At most so many train images, counted after `held_out` is cut.
        labels_per_class: So many labels of every class.
        label_fraction: This fraction of every class's labels.
        resize: The `(height, width)`, or the side of a square, of every image: bilinear with antialiasing, the whole
            picture stretched. Needed where images differ in size.
        crop_padding: The largest shift of the augmentation. Defaults to an eighth of the smaller side: 4 at 32 pixels.
        flip: Whether the augmentation mirrors images. Defaults to True for colour, False for grey (digits, letters).
        memory_limit: Bytes of decoded pixels above which folders and tfds sets stay on the disk. Folders are then read
            file by file in the same order; of tfds records see `advss_tf.data.records`: the shuffle is buffered, and
            no cut is stratified.

    Raises:
        InvalidInput: if the source is missing or holds something that is no image or no label, naming the file or the
            index; if an option is out of range or of no use to this source.
    """
    kind, source = _resolve(source, kind, name, path, data_dir)
    catalogue: dict[str, Any] = {"data_dir": data_dir, "train_split": train_split, "test_split": test_split}
    _check_options(kind, catalogue, seed, train_limit, crop_padding)
    budget = {"labels_per_class": labels_per_class, "label_fraction": label_fraction}
    catalogue["with_labels"] = any(value is not None for value in budget.values())
    found = _read(kind, source, _size(resize), memory_limit, catalogue)
    parts = _parts(found, seed=seed, held_out=held_out, train_limit=train_limit, **budget)
    height, width, channels = found.train.store.image_shape
    return ImageData(
        name=found.name,
        **parts,
        class_names=found.class_names,
        fingerprint=found.fingerprint,
        seed=seed,
        crop_padding=min(height, width) // 8 if crop_padding is None else crop_padding,
        flip=channels == 3 if flip is None else flip,
    )


def _read(kind: str, source: Any, size: tuple[int, int] | None, memory_limit: int, catalogue: dict[str, Any]) -> Source:
    if kind == "tfds":
        return catalogue_source(source, resize=size, memory_limit=memory_limit, **catalogue)
    if kind == "folder":
        return folder_source(source, resize=size, memory_limit=memory_limit)
    if kind == "digits":
        return digits_source(resize=size)
    if isinstance(source, (str, os.PathLike)):
        return npz_source(source, resize=size)
    return arrays_source(source, resize=size)


def _parts(
    found: Source, *, seed: int, held_out: float | int, train_limit: int | None, **budget: Any
) -> dict[str, Any]:
    """The parts of `ImageData` by name."""
    store, numbers, test = found.train.store, found.train.numbers, found.test
    if not len(numbers):
        _check_unused(found.name, train_limit=train_limit, **budget)
        return dict.fromkeys(("train_part", "labelled_part", "held_out_part"), found.train) | {"test_part": test}
    stratify = found.labels if found.stratify else None
    # That there are classes says it, not whether their labels have been read: no budget moves an image into train.
    if test is None and found.class_names is not None:
        numbers, taken = cut(numbers, stratify, _TEST_SHARE, seed=_TEST_SEED, role="test")
        test = Part(store, taken) if len(taken) else None
    train, held = cut(numbers, stratify, held_out, seed=seed, role="held_out")
    if train_limit is not None:
        train = np.sort(permutation(train, seed=seed, role="train_limit")[:train_limit])
    labelled = _labelled(found, train, seed, budget)
    return {
        "train_part": Part(store, train),
        "labelled_part": Part(store, labelled),
        "held_out_part": Part(store, held),
        "test_part": test,
    }


def _check_unused(name: str, **options: Any) -> None:
    given = [f"{key}={value}" for key, value in options.items() if value is not None]
    if given:
        raise InvalidInput(
            f"{name!r} has no train split.", expected=f"none of {sorted(options)}", received=", ".join(given)
        )


def _labelled(found: Source, train: np.ndarray, seed: int, budget: dict[str, Any]) -> np.ndarray:
    if all(value is None for value in budget.values()):
        return train
    if found.class_names is None or found.labels is None:
        raise InvalidInput(
            f"{found.name!r} has no labels, so no label budget.",
            expected="neither labels_per_class nor label_fraction",
            received=", ".join(f"{key}={value}" for key, value in budget.items() if value is not None),
        )
    return label_budget(train, found.labels, class_names=found.class_names, seed=seed, **budget)


def _resolve(
    source: Any, kind: str | None, name: str | None, path: str | os.PathLike[str] | None, data_dir: Any
) -> tuple[str, Any]:
    """The kind, and what a source of that kind reads."""
    given = {"source": source, "name": name, "path": path}
    given = {key: value for key, value in given.items() if value is not None}
    if kind is None and list(given) == ["source"]:
        return _guess_kind(source, data_dir), source
    wanted = ("source",) if kind is None else _READS[one_of("kind", kind, KINDS)]
    if kind is None or len(given) != min(1, len(wanted)) or not set(given) <= set(wanted):
        raise InvalidInput(
            "It is not clear what to load.",
            expected=f"kind={kind!r} with {' or '.join(wanted) or 'nothing else'}" if kind else "a source, or a kind",
            received=", ".join(f"{key}={value!r:.60}" for key, value in given.items()) or "nothing",
        )
    return kind, next(iter(given.values()), None)


def _guess_kind(source: Any, data_dir: Any) -> str:
    if not isinstance(source, (str, os.PathLike)):
        return "arrays"
    if source == "digits":
        return "digits"
    path = Path(source)
    if path.suffix == ".npz":
        return "arrays"
    if data_dir is None and path.is_dir():
        return "tfds" if is_prepared_folder(path) else "folder"
    looks_like_path = isinstance(source, os.PathLike) or path.is_absolute() or str(source).startswith(".")
    return "folder" if looks_like_path else "tfds"


def _check_options(
    kind: str, tfds_options: dict[str, Any], seed: int, train_limit: int | None, crop_padding: int | None
) -> None:
    unused = {key: value for key, value in tfds_options.items() if value is not None and kind != "tfds"}
    if unused:
        key, value = next(iter(unused.items()))
        raise InvalidInput(
            f"`{key}` is for tfds sets.", expected=f"no {key}", received=f"kind={kind!r}, {key}={value!r}"
        )
    for key, number, least in (("seed", seed, 0), ("train_limit", train_limit, 1), ("crop_padding", crop_padding, 0)):
        if number is not None and not least <= number < 2**31:
            raise InvalidInput(
                f"`{key}` is out of range.", expected=f"{least} <= {key} < 2**31", received=f"{key}={number}"
            )


def _size(resize: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if resize is None:
        return None
    size = (resize, resize) if isinstance(resize, int) else tuple(resize)
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise InvalidInput(
            "`resize` is no size.", expected="(height, width), two whole numbers > 0", received=f"resize={resize!r}"
        )
    return size
