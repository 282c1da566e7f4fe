"""Pseudo-labels: what every image of a train split was called by clusters of features, and where these come from.

Synopsis:

    pseudo = PseudoLabels.load("runs/simclr/cluster/pseudo_labels.npz")
    pseudo.sizes                               # (2, 10, 50, 100, 500), one head each
    pseudo.counts()[10]                        # (smallest, largest) cluster of the ten
    data.unlabelled(256, pseudo_labels=pseudo.of(data))

The file is an `.npz` of three arrays: `labels`, `sizes`, and `source`, the JSON text that says where they come from.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from advss_tf.data.images import ImageData
from advss_tf.data.memory import fingerprint
from advss_tf.errors import InvalidInput
from advss_tf.workdir import replacing

NO_LABEL = -1
"""What stands at records that are no part of the train split: a test split that was cut from the same records."""
_KEYS = ("labels", "sizes", "source")


@dataclass(frozen=True, eq=False)
class PseudoLabels:
    """Labels of every record of a train split, one column a head; frozen.

    Args:
        labels: int64 `(records, heads)`, by record number; in column `h` from 0 to `sizes[h] - 1`. A set without a
            test split of its own keeps train and test as records of one store: there the rows of test images are
            `NO_LABEL`, since nothing but evaluation looks at them. No other row is.
        sizes: How many clusters each head has, 2 or more.
        source: Where they come from, as JSON: `data` (`name` and `fingerprint`), the encoder, the algorithm, … and
            `external`, in words or as true, whether anything but this data set has been learned from.

    Raises:
        InvalidInput: if the labels have another form or range, or `source` does not name its data.
    """

    labels: np.ndarray
    sizes: tuple[int, ...]
    source: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.labels.dtype != np.int64 or self.labels.ndim != 2 or self.labels.shape[1] != len(self.sizes):
            raise InvalidInput(
                "Pseudo-labels have another form.",
                expected=f"int64 (records, {len(self.sizes)}), a column for each of sizes={self.sizes}",
                received=f"{self.labels.dtype} {self.labels.shape}",
            )
        rows = self.labels[self._known]
        if not self.sizes or min(self.sizes) < 2 or (rows < 0).any() or (rows >= np.array(self.sizes)).any():
            raise InvalidInput(
                "Pseudo-labels are out of range.",
                expected=f"0 to K - 1 for K in sizes, each at least 2; whole rows of {NO_LABEL} outside train",
                received=f"sizes={self.sizes}, labels of {self.labels.min(initial=0)} to {self.labels.max(initial=0)}",
            )
        data = self.source.get("data")
        if not isinstance(data, Mapping) or not isinstance(data.get("fingerprint"), str):
            raise InvalidInput(
                "The source of pseudo-labels does not say which images they are of.",
                expected="source['data'] = {'name': …, 'fingerprint': …}",
                received=f"data={data!r}",
            )

    @property
    def _known(self) -> np.ndarray:
        return (self.labels != NO_LABEL).any(axis=1)

    @property
    def external(self) -> str | None:
        """In words, what outside the data set these labels were learned from; None if nothing was."""
        if not self.source.get("external"):
            return None
        encoder = self.source.get("encoder") or {}
        clusters = f"pseudo-labels are clusters of features of {encoder.get('name', 'an encoder')}"
        if isinstance(self.source["external"], str):
            return f"{clusters}: {self.source['external']}"
        data = (encoder.get("data") or {}).get("name") or "unknown data"
        own = f"; {encoder['external']}" if encoder.get("external") else ""
        return f"{clusters}, trained on {data}{own}"

    @property
    def digest(self) -> str:
        """SHA-256 of the labels and the numbers of clusters, in hexadecimal; not of where they come from."""
        return fingerprint((self.labels, np.array(self.sizes, np.int64)))

    def counts(self) -> dict[int, tuple[int, int]]:
        """The smallest and the largest cluster of each head, in images, by its number of clusters."""
        columns = zip(self.sizes, self.labels[self._known].T, strict=True)
        found = {size: np.bincount(column, minlength=size) for size, column in columns}
        return {size: (int(count.min()), int(count.max())) for size, count in found.items()}

    def of(self, data: ImageData) -> np.ndarray:
        """The labels `(records, heads)`, if they are those of this data set.

        Raises:
            InvalidInput: if they are of other images, or of another number of records.
        """
        own = self.source["data"]
        if own["fingerprint"] != data.fingerprint:
            raise InvalidInput(
                f"The pseudo-labels are of other images than {data.name!r}.",
                expected=f"labels of the data set with fingerprint {data.fingerprint}",
                received=f"labels of {own.get('name')!r}, fingerprint {own['fingerprint']}",
            )
        records, used = data.num_records, np.r_[data.train_part.numbers, data.held_out_part.numbers]
        if len(self.labels) != records or not self._known[used].all():
            raise InvalidInput(
                f"The pseudo-labels do not cover the train split of {data.name!r}.",
                expected=f"a row for each of {records:,} records, a label in each that train and held-out have",
                received=f"{len(self.labels):,} rows, {int(self._known.sum()):,} with labels",
            )
        return self.labels

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the labels as an `.npz`, whole or not at all.

        Raises:
            InvalidInput: if `source` is not JSON.
        """
        try:
            source = json.dumps(dict(self.source), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InvalidInput(
                "`source` is not JSON.", expected="a dict of texts, finite numbers, lists", received=str(error)
            ) from error
        arrays = {"labels": self.labels, "sizes": np.array(self.sizes, np.int64), "source": np.array(source)}
        with replacing(Path(path)) as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
        return Path(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> PseudoLabels:
        """Reads what `save` wrote.

        Raises:
            InvalidInput: if the file is missing, damaged, or lacks an array.
        """
        if not Path(path).is_file():
            raise InvalidInput("There are no pseudo-labels.", expected="an .npz file", received=f"path={str(path)!r}")
        try:
            with np.load(path, allow_pickle=False) as file:
                missing = sorted(set(_KEYS) - set(file.files))
                arrays = {name: file[name] for name in _KEYS if not missing}
            source = json.loads(str(arrays["source"])) if arrays else {}
        except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
            raise _damaged(path, f"{type(error).__name__}: {error}") from error
        if missing or not isinstance(source, dict):
            raise _damaged(path, f"no {', '.join(missing)}" if missing else "a source that is no section")
        return cls(arrays["labels"], tuple(int(size) for size in arrays["sizes"].reshape(-1)), source)


def _damaged(path: str | os.PathLike[str], received: str) -> InvalidInput:
    return InvalidInput(
        f"{Path(path).name} holds no pseudo-labels, or is damaged.",
        expected=f"an .npz with the arrays {', '.join(_KEYS)}, as `PseudoLabels.save` writes it",
        received=received,
    )
