"""Pseudo-supervision: clusters of an encoder's features as labels, one head for each number of clusters.

Synopsis:

    encoder = load_encoder("runs/simclr/pretrain/encoder")
    pseudo = cluster_features(encoder, data, (2, 10, 50, 100, 500))
    pseudo.save("pseudo_labels.npz")

Every record of the train split is given a label, in the order of the records, in one pass over the images. The clusters
are made by those that are trained on: images that were held out, or cut off by a limit, move no centre. Nobody looks
at the test split, also where it lies among the same records.

References:
    Yan et al. 2020 (ClusterFit, arXiv 1912.03330): labels from k-means of features, for another training.
    Fan et al. 2021 (AdvCL, arXiv 2111.01124): five numbers of clusters, one head each. Its labels came from an encoder
    that ImageNet had trained; what does so here says it, and every record repeats it.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from threadpoolctl import threadpool_limits

from advss_tf.data import ImageData, PseudoLabels
from advss_tf.data.pipeline import Part, ordered_batches
from advss_tf.data.pseudo_labels import NO_LABEL
from advss_tf.encoders.handoff import origin_of_model
from advss_tf.errors import InvalidInput
from advss_tf.outside import outside_of_features
from advss_tf.randomness import derived_seed
from advss_tf.training.features import features_of

SIZES = (2, 10, 50, 100, 500)
"""The numbers of clusters of AdvCL's five heads."""
WHOLE_LIMIT = 10_000_000
"""Images times clusters up to which `minibatch="auto"` looks at all images in every pass of k-means."""
_STARTS = 4  # k-means ends where its first centres lead it: the best of so many


def cluster_features(
    encoder: keras.Model,
    data: ImageData,
    sizes: Sequence[int] = SIZES,
    *,
    branch: str | None = None,
    seed: int = 0,
    normalise: bool = True,
    minibatch: bool | str = "auto",
    batch_size: int = 256,
    encoder_info: Mapping[str, Any] | None = None,
    external: str | None = None,
) -> PseudoLabels:
    """Labels of a data set's train split by k-means of features.

    Args:
        encoder: A Keras model images -> features; its features of all records must fit into memory three to four
            times, as float32.
        data: The data set. No label of it is read.
        sizes: The numbers of clusters, one head each: 2 or more, none twice.
        branch: The batch-norm branch that is used, of an encoder that has branches; None for its first.
        seed: Decides the first centres. The same features and seed give the same labels.
        normalise: Whether features are divided by their length first, so that clusters are of directions.
        minibatch: Whether a pass looks at a part of the images (`MiniBatchKMeans`) or at all (`KMeans`, the best of
            four starts); `"auto"`: a part where images times clusters are above `WHOLE_LIMIT`.
        batch_size: Images that are encoded together.
        encoder_info: What is to be said of the encoder, as JSON; see `encoder_facts`.
        external: In words, what beside these images the encoder has learned from, which every record will then say;
            None if nothing. What an encoder of `load_encoder` brings along is known and added; where it must be
            declared, as in the stage `cluster`, None is refused. See `advss_tf.outside`.

    Raises:
        InvalidInput: if a loaded encoder has learned from other images or from labels and `external` is None; if there
            are fewer images than clusters, a size is below 2 or there twice, the encoder takes other images or has no
            such branch, or its features are not finite or all alike.
    """
    sizes = checked_sizes(sizes, data)
    _check_shape(encoder, data)
    origin = origin_of_model(encoder)
    external = external if origin is None else outside_of_features(origin, data, external=external)
    records = train_records(data)
    batches = ordered_batches(Part(data.train_part.store, records), batch_size, labelled=False)
    features = _usable(features_of(encoder, batches, branch=branch)[0], normalise=normalise)
    fitted = np.isin(records, data.train_part.numbers)
    seeds = {size: derived_seed(seed, f"cluster/{size}") for size in sizes}
    found = [_clusters(features, fitted, size, seed=seeds[size], minibatch=minibatch) for size in sizes]
    labels = np.full((data.num_records, len(sizes)), NO_LABEL, np.int64)
    labels[records] = np.stack([each.labels for each in found], axis=1)
    about = {
        "data": {"name": data.name, "fingerprint": data.fingerprint},
        "encoder": dict(encoder_info) if encoder_info is not None else {"name": encoder.name},
        "external": external,
        "branch": branch,
        "normalise": normalise,
        "sizes": list(sizes),
        "seed": seed,
        "fitted": int(fitted.sum()),
        "algorithm": {str(size): each.algorithm for size, each in zip(sizes, found, strict=True)},
        "inertia": {str(size): each.inertia for size, each in zip(sizes, found, strict=True)},
    }
    counts = PseudoLabels(labels, sizes, about).counts()
    return PseudoLabels(labels, sizes, {**about, "counts": {str(size): list(pair) for size, pair in counts.items()}})


def train_records(data: ImageData) -> np.ndarray:
    """The record numbers of the train split, held out or not, ascending int64; a test split among them is left out."""
    numbers = np.arange(data.num_records, dtype=np.int64)
    test = data.test_part
    return numbers if test is None or test.store is not data.train_part.store else np.setdiff1d(numbers, test.numbers)


def checked_sizes(sizes: Sequence[int], data: ImageData, *, name: str = "sizes") -> tuple[int, ...]:
    """The numbers of clusters, if a data set has as many images.

    Args:
        sizes: The numbers.
        data: The data set.
        name: What a refusal calls them.

    Raises:
        InvalidInput: if one is below 2 or there twice, or there are fewer images to train on.
    """
    sizes = tuple(sizes)
    wrong = list(_wrong_sizes(sizes))
    if wrong or not sizes:
        raise InvalidInput(
            f"`{name}` are no numbers of clusters.",
            expected="whole numbers >= 2, none twice",
            received=f"{name}={sizes}",
        )
    if max(sizes) > data.num_train:
        raise InvalidInput(
            "There are more clusters than images.",
            expected=f"{name} of at most {data.num_train}, the images that are trained on",
            received=f"{name}={sizes}",
        )
    return tuple(int(size) for size in sizes)


def encoder_facts(provenance: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    """What pseudo-labels say of the encoder that they are from: its name, data, seed, versions, and a digest.

    Args:
        provenance: The provenance of its export.
        path: Its folder; only the name is kept of an absolute path, which would tell of one machine.
    """
    known = {name: provenance[name] for name in ("data", "seed", "versions", "external") if name in provenance}
    recipe = hashlib.sha256(str(provenance["recipe"]).encode()).hexdigest() if "recipe" in provenance else None
    return {"name": Path(path).name if Path(path).is_absolute() else Path(path).as_posix(), "recipe": recipe, **known}


class _Found(NamedTuple):
    """The clusters of one head: the label of each row `(n,)`, the algorithm, the sum of squared distances to centres
    over the fitted rows."""

    labels: np.ndarray
    algorithm: str
    inertia: float


def _clusters(features: np.ndarray, fitted: np.ndarray, size: int, *, seed: int, minibatch: bool | str) -> _Found:
    from sklearn.cluster import KMeans, MiniBatchKMeans  # a second that only this needs
    from sklearn.exceptions import ConvergenceWarning

    partly = minibatch is True or (minibatch == "auto" and int(fitted.sum()) * size > WHOLE_LIMIT)
    kind = MiniBatchKMeans if partly else KMeans
    model = kind(n_clusters=size, n_init=_STARTS, random_state=seed)
    # Threads add up in any order, and the last bits with it: one thread, so that the seed decides.
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(features if fitted.all() else features[fitted])
    labels = model.predict(features).astype(np.int64)
    used = len(np.unique(labels[fitted]))
    if used < (2 if partly else size):
        raise InvalidInput(
            "The features have fewer distinct values than there are clusters: the encoder may have collapsed.",
            expected=f"{size} distinct features, or fewer clusters",
            received=f"{used} clusters with images",
        )
    return _Found(labels, kind.__name__, float(model.inertia_))


def _usable(features: np.ndarray, *, normalise: bool) -> np.ndarray:
    if not np.isfinite(features).all():
        raise InvalidInput(
            "The encoder's features are not finite.", expected="finite numbers", received="NaN or infinite features"
        )
    if normalise:
        features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return features


def _wrong_sizes(sizes: Sequence[Any]) -> Iterator[Any]:
    for place, size in enumerate(sizes):
        if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 2 or size in sizes[:place]:
            yield size


def _check_shape(encoder: keras.Model, data: ImageData) -> None:
    wanted = tuple(encoder.inputs[0].shape[1:])
    if len(wanted) != 3 or any(side not in (None, own) for side, own in zip(wanted, data.image_shape, strict=True)):
        raise InvalidInput(
            f"The encoder takes other images than those of {data.name!r}.",
            expected=f"an encoder of images {data.image_shape}",
            received=f"one of images {wanted}",
        )
