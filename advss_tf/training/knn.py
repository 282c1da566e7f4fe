"""What features know of the classes before labels are learned from: nearest neighbours, while pretraining goes on.

Synopsis:

    probe = KNNProbe(data.labelled(), data.held_out(), k=200, every=10)
    pretext.fit(data.unlabelled(512), epochs=100, callbacks=[probe])       # logs `val_knn_accuracy`

    knn_accuracy(bank, bank_labels, queries, labels, k=200, num_classes=10)

References:
    Wu et al., CVPR 2018 (arXiv 1805.01978), section 3.4: the weighted vote, with k = 200 and temperature 0.07. The
    default here, 0.1, is that of later probes on CIFAR-10, such as MoCo's demonstration.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from advss_tf.encoders import branches
from advss_tf.errors import InvalidInput
from advss_tf.training.callbacks import averaged
from advss_tf.training.checks import checked_encoder
from advss_tf.training.features import collected, feature_function

_BANK_ROWS, _QUERY_ROWS = 16384, 1024  # similarities that are held at once: 64 MiB


def knn_accuracy(
    bank: np.ndarray,
    bank_labels: np.ndarray,
    queries: np.ndarray,
    labels: np.ndarray,
    *,
    num_classes: int,
    k: int = 200,
    temperature: float = 0.1,
) -> float:
    """The part of the queries whose `k` nearest neighbours in the bank vote for their class.

    A neighbour's vote weighs `exp(cosine / temperature)`. The first of equally near neighbours counts, and the lowest
    of classes with equal votes. The bank goes to the device in pieces, so memory there does not grow with its size;
    what is kept of each query are its `k` neighbours.

    Args:
        bank: Features among which neighbours are looked for, `(n, F)`.
        bank_labels: Their classes, `(n,)` integers in [0, num_classes).
        queries: Features that are classified, `(m, F)`.
        labels: Their classes, `(m,)` integers in [0, num_classes).
        num_classes: Number of classes, at least 1.
        k: Number of neighbours, in [1, n].
        temperature: How much more a nearer neighbour's vote weighs, above 0.

    Returns:
        The accuracy, in [0, 1].

    Raises:
        InvalidInput: if shapes do not fit, features are not finite, a class is out of range, the temperature is not
            above 0, or there are fewer than `k` images in the bank.
    """
    bank_labels, labels = (
        _checked_labels("bank_labels", bank_labels, num_classes),
        _checked_labels("labels", labels, num_classes),
    )
    bank, queries = _checked("bank", bank, bank_labels), _checked("queries", queries, labels)
    _check_numbers(k, len(bank), temperature)
    if bank.shape[1] != queries.shape[1]:
        received = f"{bank.shape[1]} and {queries.shape[1]}"
        raise InvalidInput(
            "`bank` and `queries` differ in width.", expected="features of one network", received=received
        )
    similarities, neighbours = _nearest(bank, queries, k)
    right = sum(
        int(np.sum(_vote(similarities[rows], bank_labels[neighbours[rows]], temperature, num_classes) == labels[rows]))
        for rows in _pieces(len(queries), _QUERY_ROWS)
    )
    return right / len(queries)


class KNNProbe(keras.callbacks.Callback):
    """Logs `val_knn_accuracy`: whether the encoder's nearest neighbours have the same class, every few epochs.

    Nothing is trained, drawn or picked by it: a training with this callback ends with the same bits as one without.
    Measured are every `every`-th epoch, counted from 1, and the last; the logs of the others lack the name. The weights
    are those of the moving average where the optimizer keeps one. It stands in front of the callbacks that read the
    logs. Features that are not finite give NaN. In a cluster every worker measures for itself.

    Args:
        bank: Batches `(images, labels)` of labelled training images, not augmented and in an order that stays.
        queries: Batches `(images, labels)` of held-out images. Both are read once here, to look at their labels, and
            once at each probe.
        k: Number of neighbours, at most as many as the bank has images.
        temperature: As in `knn_accuracy`.
        every: Number of epochs from one probe to the next.
        epochs: Number of epochs of the whole training; None for that of `fit`.
        encoder: What is probed, images -> features; None for what the model that is trained hands over.
        branch: The batch-norm branch of the encoder; None for the model's `delivered_branch`, if the encoder has it.

    Raises:
        InvalidInput: if images have no labels, the bank has fewer than `k`, or a number is out of range.
    """

    def __init__(
        self,
        bank: Iterable[Any],
        queries: Iterable[Any],
        *,
        k: int = 200,
        temperature: float = 0.1,
        every: int = 10,
        epochs: int | None = None,
        encoder: keras.Model | None = None,
        branch: str | None = None,
    ) -> None:
        super().__init__()
        if isinstance(every, bool) or not isinstance(every, int | np.integer) or every < 1:
            raise InvalidInput("`every` is too small.", expected="a whole number >= 1", received=f"every={every!r}")
        self._labels = {"bank": _labels_of("bank", bank), "queries": _labels_of("queries", queries)}
        _check_numbers(k, len(self._labels["bank"]), temperature)
        self.num_classes = 1 + max(int(labels.max()) for labels in self._labels.values())
        self.k, self.temperature, self.every, self.epochs = int(k), float(temperature), int(every), epochs
        self._bank, self._queries, self._branch = bank, queries, branch
        self._encoder = None if encoder is None else checked_encoder(encoder)

    def set_model(self, model: keras.Model) -> None:
        """Keeps the model, as Keras does, and refuses one that has nothing to probe."""
        super().set_model(model)
        own = getattr(model, "delivered_encoder", getattr(model, "encoder", None))
        encoder = checked_encoder(own if self._encoder is None else self._encoder)
        delivered = getattr(model, "delivered_branch", None)
        branch = self._branch or (delivered if delivered in branches(encoder) else None)
        self._features = feature_function(encoder, branch=branch)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None and self._is_due(epoch + 1):
            logs["val_knn_accuracy"] = self.measure()

    def measure(self) -> float:
        """The accuracy of the model that is trained, as it is now; NaN where its features are not finite."""
        with averaged(self.model):
            bank, queries = (collected(self._features, batches)[0] for batches in (self._bank, self._queries))
        if not (np.isfinite(bank).all() and np.isfinite(queries).all()):
            return float("nan")
        return knn_accuracy(
            bank, self._labels["bank"], queries, self._labels["queries"],
            num_classes=self.num_classes, k=self.k, temperature=self.temperature,
        )  # fmt: skip

    def _is_due(self, epoch: int) -> bool:
        last = self.epochs or (self.params or {}).get("epochs")
        return epoch % self.every == 0 or epoch == last or self.model.stop_training


# Neighbours -----------------------------------------------------------------------------------------------------------


def _nearest(bank: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The `k` highest cosines of each query, falling, and the bank's rows that have them, `(m, k)` each."""
    similarities = np.full((len(queries), k), -np.inf, np.float32)
    neighbours = np.zeros((len(queries), k), np.int64)
    for part in _pieces(len(bank), _BANK_ROWS):
        piece, first = _unit(bank[part]), tf.constant(part.start, tf.int64)
        for rows in _pieces(len(queries), _QUERY_ROWS):
            found = _merged(similarities[rows], neighbours[rows], _unit(queries[rows]), piece, first)
            similarities[rows], neighbours[rows] = (tensor.numpy() for tensor in found)
    return similarities, neighbours


@tf.function(reduce_retracing=True)
def _merged(
    similarities: tf.Tensor, neighbours: tf.Tensor, queries: tf.Tensor, bank: tf.Tensor, first: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The nearest of those known and of those in a piece of the bank, whose rows are counted from `first`."""
    k = tf.shape(similarities)[1]
    found, rows = tf.math.top_k(tf.matmul(queries, bank, transpose_b=True), tf.minimum(k, tf.shape(bank)[0]))
    rows = first + tf.cast(rows, tf.int64)
    # Of equals `top_k` takes the first: here what an earlier piece has brought.
    best, order = tf.math.top_k(tf.concat([similarities, found], 1), k)
    return best, tf.gather(tf.concat([neighbours, rows], 1), order, batch_dims=1)


def _unit(features: np.ndarray) -> tf.Tensor:
    """Rows of length 1; a row of zeros stays as it is."""
    return tf.math.l2_normalize(tf.constant(features, tf.float32), axis=1)


def _vote(similarities: np.ndarray, classes: np.ndarray, temperature: float, num_classes: int) -> np.ndarray:
    """The class that the neighbours of each row vote for, `(m,)`."""
    # The nearest weighs 1: factors common to all votes change nothing, and powers of e would overflow.
    weights = np.exp((similarities.astype(np.float64) - similarities[:, :1]) / temperature)
    votes = np.zeros((len(classes), num_classes))
    np.add.at(votes, (np.arange(len(classes))[:, None], classes), weights)
    return votes.argmax(axis=1)


def _pieces(count: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


# What is refused ------------------------------------------------------------------------------------------------------


def _labels_of(name: str, batches: Iterable[Any]) -> np.ndarray:
    found = [keras.utils.unpack_x_y_sample_weight(batch)[1] for batch in batches]
    if not found or any(labels is None for labels in found):
        raise InvalidInput(
            f"`{name}` has no labels, which neighbours are judged by.",
            expected="batches of (images, labels), one or more, that can be read again",
            received="images alone" if found else "no batch",
        )
    labels = np.concatenate([np.asarray(labels) for labels in found])
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    return _checked_labels(name, labels, int(labels.max(initial=0)) + 1)


def _checked_labels(name: str, labels: np.ndarray, num_classes: int) -> np.ndarray:
    labels = np.asarray(labels)
    whole = labels.ndim == 1 and labels.size and np.issubdtype(labels.dtype, np.integer)
    if whole and labels.min() >= 0 and labels.max() < num_classes:
        return labels.astype(np.int64)
    raise InvalidInput(
        f"`{name}` are no classes.",
        expected=f"a vector of integers in [0, {num_classes}), at least one",
        received=f"{labels.dtype} of shape {labels.shape}" + (f", {labels.min()} to {labels.max()}" if whole else ""),
    )


def _checked(name: str, features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    features = np.asarray(features)
    if features.ndim == 2 and len(features) == len(labels) and np.isfinite(features).all():
        return features
    raise InvalidInput(
        f"`{name}` are no features.",
        expected=f"finite numbers of shape ({len(labels)}, F), a row for each label",
        received=f"shape {features.shape}" + (", some not finite" if features.ndim == 2 else ""),
    )


def _check_numbers(k: int, images: int, temperature: float) -> None:
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k <= images:
        expected = f"a whole number from 1 to {images}, the labelled images there are"
        raise InvalidInput("`k` is no number of neighbours.", expected=expected, received=f"k={k!r}")
    if not temperature > 0:
        raise InvalidInput(
            "`temperature` is too small.", expected="a number > 0", received=f"temperature={temperature!r}"
        )
