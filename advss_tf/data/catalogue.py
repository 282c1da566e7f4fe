"""Images from TensorFlow Datasets: any name of its catalogue, or a prepared folder.

Synopsis:

    source = catalogue_source("cifar10")                                  # prepared (and downloaded) by tfds
    source = catalogue_source("cifar10_jpeg", data_dir="prepared")        # prepared/cifar10_jpeg/1.0.0
    source = catalogue_source("prepared/cifar10_jpeg/1.0.0", train_split="train[:80%]", test_split="train[80%:]")

Sets that fit `memory_limit` are decoded once and kept; larger ones are streamed (`records.py`). Nothing is downloaded
by this library: what tfds does when it prepares a set that is not there yet is its own affair.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from advss_tf.data.memory import Source, all_of, array_source
from advss_tf.data.records import RecordStore
from advss_tf.errors import InvalidInput, nearest

_BATCH = 256  # images decoded at once while a set is read into memory


def catalogue_source(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    train_split: str | None = None,
    test_split: str | None = None,
    resize: tuple[int, int] | None = None,
    memory_limit: int = 2 * 2**30,
    with_labels: bool = False,
) -> Source:
    """A source from TensorFlow Datasets.

    Args:
        name: A name of the catalogue, such as `"cifar10"` or `"imagenet_resized/64x64"`, or the path of a prepared
            folder (`…/<name>` or `…/<name>/<version>`).
        data_dir: Where prepared sets lie. Defaults to tfds's own folder.
        train_split: What to train on, in tfds's notation. Defaults to `"train"`; of a set that has none, and a test
            split, the train part is empty. Where its first label is -1, as in `"unlabelled"` of `"stl10"`, no label is
            read, of the test split neither.
        test_split: What to test on. Defaults to `"test"`, or else `"validation"`.
        resize: The `(height, width)` of every image.
        memory_limit: Sets that need more bytes than this, decoded, are streamed.
        with_labels: Read the labels of a streamed train split now; needed for a label budget, and as slow as reading
            all of its records.

    Raises:
        InvalidInput: if the set, a split or an image feature is missing, the set cannot be prepared, splits overlap,
            or images differ in size and `resize` is not given.
    """
    builder = _prepared(name, data_dir)
    info = builder.info
    image_key, label_key = _features(info)
    train_split, test_split = _splits(info, train_split, test_split)
    splits = [split for split in (train_split, test_split) if split is not None]
    options: dict[str, Any] = {"resize": resize, "memory_limit": memory_limit}
    stores = _stores(info, splits, (image_key, label_key), **options)
    if train_split and label_key is not None and not stores[0].is_labelled():
        label_key = None
        stores = _stores(info, splits, (image_key, None), **options)
    label = None if label_key is None else info.features[label_key]
    class_names = None if label is None else tuple(label.names or map(str, range(label.num_classes)))
    needed = sum(len(store) for store in stores) * int(np.prod(stores[0].image_shape))
    if needed <= memory_limit:
        loaded = [_load(store) for store in stores]
        found = array_source(_title(info), loaded[0], loaded[1] if loaded[1:] else None, class_names)
    else:
        labels = stores[0].labels() if with_labels and train_split and label_key is not None else None
        parts = [all_of(store, len(store)) for store in stores]
        digest = _listing_digest(info, splits, resize)
        test = parts[1] if parts[1:] else None
        found = Source(_title(info), parts[0], labels, test, class_names, digest, stratify=False)
    return found if train_split else _without_train(found)


def is_prepared_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a folder was prepared by tfds: `…/<name>/<version>`, or `…/<name>` with such a version in it."""
    folder = Path(path)
    return any(folder.glob("features.json")) or any(folder.glob("*/features.json"))


def _stores(info: Any, splits: list[str], keys: tuple[str, str | None], **options: Any) -> list[RecordStore]:
    features = _partial(info, *keys)
    return [RecordStore(info.splits[split], features, keys=keys, **options) for split in splits]


def _prepared(name: str, data_dir: str | os.PathLike[str] | None) -> Any:
    """The builder of a set that lies on the disk when this returns."""
    import tensorflow_datasets as tfds  # a second that only this source needs

    try:
        if data_dir is None and is_prepared_folder(name):
            return _folder_builder(Path(name))
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:
        raise _not_found(name, data_dir) from None
    except (ValueError, AssertionError, OSError, RuntimeError) as error:
        raise InvalidInput(
            f"The data set {name!r} cannot be opened.", expected="a name such as 'cifar10'", received=_first_line(error)
        ) from error
    if not builder.is_prepared():
        _prepare(builder, name)
    return builder


def _folder_builder(folder: Path) -> Any:
    import tensorflow_datasets as tfds

    if (folder / "features.json").exists():
        return tfds.builder_from_directory(folder)
    return tfds.builder(folder.resolve().name, data_dir=folder.resolve().parent)


def _prepare(builder: Any, name: str) -> None:
    try:
        builder.download_and_prepare()
    except Exception as error:  # every set brings its own code, and with it its own ways to fail
        raise InvalidInput(
            f"The data set {name!r} is not on this machine, and tfds could not prepare it.",
            expected="a set prepared in `data_dir` or tfds's own folder, or a network",
            received=f"{type(error).__name__}: {_first_line(error)}",
        ) from error


def _not_found(name: str, data_dir: str | os.PathLike[str] | None) -> InvalidInput:
    import tensorflow_datasets as tfds

    folder = Path(data_dir) if data_dir is not None else None
    patterns = ("*/*/features.json", "*/*/*/features.json")  # name/version and name/config/version
    found = [] if folder is None else [path.relative_to(folder) for glob in patterns for path in folder.glob(glob)]
    local = sorted({path.parts[0] for path in found})
    near = nearest(name, [*local, *tfds.list_builders()])
    return InvalidInput(
        f"There is no data set {name!r}" + (f" (did you mean {near!r}?)" if near else "") + ".",
        expected=f"a name of the tfds catalogue, a folder, or a set in data_dir: {local}",
        received=f"name={name!r}, data_dir={None if data_dir is None else str(data_dir)!r}",
    )


def _features(info: Any) -> tuple[str, str | None]:
    """The keys of the image and of the class label (None if there is none)."""
    import tensorflow_datasets as tfds

    images = [key for key, feature in info.features.items() if isinstance(feature, tfds.features.Image)]
    classes = [key for key, feature in info.features.items() if isinstance(feature, tfds.features.ClassLabel)]
    if not images:
        raise InvalidInput(
            f"The data set {info.name!r} holds no images.",
            expected="a feature of type `tfds.features.Image`",
            received=f"features={sorted(info.features)}",
        )
    return _preferred("image", images), _preferred("label", classes) if classes else None


def _preferred(key: str, keys: list[str]) -> str:
    return key if key in keys else keys[0]


def _partial(info: Any, image_key: str, label_key: str | None) -> Any:
    """The features that are read; everything else in a record is skipped."""
    import tensorflow_datasets as tfds

    wanted = {key: True for key in (image_key, label_key) if key is not None}
    return tfds.decode.PartialDecoding(wanted).extract_features(info.features)


def _title(info: Any) -> str:
    """`cifar10`, or with the configuration `cifar10_corrupted/fog_3`."""
    return f"{info.name}/{info.config_name}" if info.config_name else info.name


def _without_train(found: Source) -> Source:
    """The same, all of it for tests."""
    return replace(found, train=all_of(found.train.store, 0), labels=None, test=found.train)


def _splits(info: Any, train_split: str | None, test_split: str | None) -> tuple[str | None, str | None]:
    """What to train on (None if there is nothing but a test split) and what to test on (None if there is none)."""
    if test_split is None:
        test_split = next((name for name in ("test", "validation") if name in info.splits), None)
    if train_split is None and (test_split is None or "train" in info.splits):
        train_split = "train"
    for option, split in (("train_split", train_split), ("test_split", test_split)):
        try:
            count = None if split is None else info.splits[split].num_examples
        except (KeyError, ValueError) as error:
            raise InvalidInput(
                f"`{option}` is no split of {info.name!r}.",
                expected=f"one of {sorted(info.splits)}, or a part such as 'train[:80%]'",
                received=f"{option}={split!r}",
            ) from error
        if count == 0:
            raise InvalidInput(f"`{option}` is empty.", expected="one image or more", received=f"{option}={split!r}")
    if (
        train_split is not None
        and test_split is not None
        and _overlap(info.splits[train_split], info.splits[test_split])
    ):
        raise InvalidInput(
            "Train and test splits share records.",
            expected="splits that do not overlap, such as 'train[:80%]' and 'train[80%:]'",
            received=f"train_split={train_split!r}, test_split={test_split!r}",
        )
    return train_split, test_split


def _overlap(one: Any, other: Any) -> bool:
    def spans(split: Any) -> list[tuple[str, int, int]]:
        return [(part.filename, part.skip, part.skip + part.take) for part in split.file_instructions]

    return any(a[0] == b[0] and a[1] < b[2] and b[1] < a[2] for a in spans(one) for b in spans(other))


def _load(store: RecordStore) -> tuple[np.ndarray, np.ndarray | None]:
    """Every record of a store, decoded."""
    records = store.epoch(np.arange(len(store)), None, 0).rebatch(_BATCH)
    batches = records.map(store.read, num_parallel_calls=tf.data.AUTOTUNE)
    try:
        read = list(batches.as_numpy_iterator())
    except tf.errors.OpError as error:
        raise store.refusal(error) from error
    images, labels = zip(*read, strict=True)
    return np.concatenate(images), None if labels[0] is None else np.concatenate(labels)


def _listing_digest(info: Any, splits: list[str], resize: tuple[int, int] | None) -> str:
    lines = [f"{info.full_name} resize={resize}"]
    for split in splits:
        for part in info.splits[split].file_instructions:
            lines.append(f"{os.path.basename(part.filename)} {part.skip} {part.take} {os.path.getsize(part.filename)}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
