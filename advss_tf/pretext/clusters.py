"""Linear heads that tell which cluster an image belongs to, one for each clustering.

Synopsis:

    heads = ClusterHeads(512, sizes=(2, 10, 50, 100, 500), seed=0)
    terms = heads.terms(features, heads.targets(labels))     # {"pseudo": (batch,), "pseudo_accuracy": (batch,)}

Reference: Yan et al., "ClusterFit: Improving Generalization of Visual Representations", CVPR 2020 (arXiv 1912.03330);
an ensemble of them in Fan et al. 2021 (AdvCL).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from advss_tf.encoders import linear_head
from advss_tf.errors import InvalidInput
from advss_tf.losses import correct, cross_entropy
from advss_tf.randomness import derived_seed


class ClusterHeads(keras.layers.Layer):
    """One linear layer a clustering.

    Args:
        num_features: F, the size of the features.
        sizes: How many clusters each tells apart.
        seed: The run's seed.

    Call arguments:
        features: `(batch, F)`.

    Returns:
        A list of logits, `(batch, size)` float32 each.
    """

    def __init__(self, num_features: int, sizes: Sequence[int], *, seed: int = 0) -> None:
        super().__init__(name="cluster_heads")
        self.sizes = tuple(int(size) for size in sizes)
        start = derived_seed(seed, "clusters")
        self.heads = [linear_head(size, name=f"clusters{size}", seed=start) for size in self.sizes]
        for head in self.heads:
            head.build((None, num_features))
        self.built = True

    def call(self, features: Any) -> list[Any]:
        return [head(features) for head in self.heads]

    def targets(self, labels: tf.Tensor | None) -> tf.Tensor:
        """The labels `(batch, heads)` as int64.

        Raises:
            InvalidInput: if there are none, or they are not a column for each head.
        """
        if labels is None or labels.shape.rank != 2 or labels.shape[1] != len(self.sizes):
            raise InvalidInput(
                "The pseudo-labels do not fit the heads.",
                expected=f"(batch, {len(self.sizes)}) for clusterings of sizes {self.sizes}",
                received="none" if labels is None else f"shape={tuple(labels.shape)}",
            )
        return tf.cast(labels, tf.int64)

    def terms(self, features: tf.Tensor, targets: tf.Tensor) -> dict[str, tf.Tensor]:
        """The means over the heads of cross-entropy and accuracy, `(batch,)` each."""
        logits = self(features)
        losses = [cross_entropy(one, targets[:, number]) for number, one in enumerate(logits)]
        hits = [correct(one, targets[:, number]) for number, one in enumerate(logits)]
        return {"pseudo": tf.add_n(losses) / len(losses), "pseudo_accuracy": tf.add_n(hits) / len(hits)}
