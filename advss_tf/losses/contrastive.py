"""The contrastive loss NT-Xent of any number of views, in which the views of an image find each other in the batch.

Synopsis:

    loss = nt_xent(tf.stack([first, second]))                   # SimCLR: (views, batch, features) -> (batch,)
    loss = nt_xent(four_views, base_temperature=0.07)           # AdvCL, at the scale of its code
    similarity_bytes(4, 512)                                    # 16777216 bytes, the matrix of one replica

Of `m` views of `B` images, with `z` at unit length, anchor `a` of image `b` and each of its `m - 1` positives `p` give

    loss(a, p, b) = -log( exp(z_ab·z_pb / T) / sum over all (v, c) != (a, b) of exp(z_ab·z_vc / T) )

so the other positives stand in the denominator too. Negatives come from the batches of all replicas.

References: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", ICML 2020 (arXiv
2002.05709), equation 1; for more than two views Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020 (arXiv
2004.11362), equation 2, with each image as a class of its own, as in Fan et al. (AdvCL), NeurIPS 2021 (arXiv
2111.01124).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from advss_tf.errors import InvalidInput
from advss_tf.losses.asymmetric import HardNegatives, reweighted_log_sum
from advss_tf.losses.replicas import gathered


def nt_xent(
    embeddings: tf.Tensor,
    *,
    temperature: float = 0.5,
    weights: Any = None,
    held: Any = None,
    hard_negatives: HardNegatives | None = None,
    base_temperature: float | None = None,
    negatives: str = "global",
) -> tf.Tensor:
    """The mean over an image's anchors and their positives of `weights[a, p] * loss(a, p, b)`.

    Its mean over the batch is the loss of the papers. The similarities of one replica are a matrix of `views² · rows ·
    global batch` numbers, so memory grows with the square of views times batch: see `similarity_bytes`. Splitting a
    batch and accumulating gradients is something else, as the parts do not see each other's images. On a GPU whose
    matrix products round to ten bits (TF32), so do these.

    A trap: the code of AdvCL, and of all that derives from it, multiplies the loss by `temperature / 0.07`, a default
    of the supervised loss that it is built on. At temperature 0.5 that is 7.14, so its weight of 0.2 for another term
    is 0.028 of this loss. `base_temperature=0.07` gives that scale, None the plain loss.

    Args:
        embeddings: `(views, rows, features)`, this replica's images, any float type and length; computed in float32.
        temperature: `T`, > 0.
        weights: `(views, views)`, the weight of each pair by its anchor and its positive, >= 0; the diagonal is not
            read. None weighs all by one. The mean still divides by `views · (views - 1)`.
        held: `(views, views)` of booleans, by anchor and positive: in the loss of that pair all but the anchor are
            held fixed, so the gradient reaches the anchor only. RoCL's code holds all. If some are held and some are
            not, the similarities are computed twice. None holds none.
        hard_negatives: Weighs negatives by their similarity; None weighs all alike.
        base_temperature: What the loss is divided by after a multiplication with `temperature`; None does neither.
        negatives: `"global"` takes those of all replicas, `"local"` this replica's alone; inside the loop of an attack
            on several replicas only `"local"` is possible, see `gathered`.

    Returns:
        `(rows,)` float32, >= 0 without `hard_negatives`.

    Raises:
        InvalidInput: if there is one view, or a global batch of one image (where the size is known when this is
            traced; else such a batch has loss and gradient 0 with two views), a temperature is not positive, or
            `weights` or `held` do not fit the views.
    """
    _check(embeddings, negatives, temperature=temperature, base_temperature=base_temperature)
    views = embeddings.shape[0]
    factors, fixed = _pairs(weights, views), _held(held, views)
    units = tf.math.l2_normalize(tf.cast(embeddings, tf.float32), axis=-1)
    everyone, first = gathered(units, axis=1, negatives=negatives)
    losses = tf.zeros(())
    for stopped in (False, True):
        mask = (fixed == stopped) & ~np.eye(views, dtype=bool)
        if mask.any():
            contrasts = tf.stop_gradient(everyone) if stopped else everyone
            pairs = _pair_losses(units, contrasts, first, temperature, hard_negatives)
            losses += tf.einsum("ap,apb->b", factors * mask.astype(np.float32), pairs)
    scale = 1.0 if base_temperature is None else temperature / base_temperature
    return losses * (scale / (views * (views - 1)))


def similarity_bytes(views: int, batch_size: int, *, replicas: int = 1) -> int:
    """The bytes of one similarity matrix on one replica: `4 · (views · batch_size)² / replicas`.

    A training step keeps four of them: the similarities, their exponentials, and the gradients of both. Where some
    pairs are `held` and some are not there are six, with `hard_negatives` six, with both eight.

    Args:
        views: The number of views.
        batch_size: The number of images of all replicas together.
        replicas: How many replicas share the batch.
    """
    return 4 * (views * batch_size) ** 2 // replicas


def _pair_losses(
    anchors: tf.Tensor, contrasts: tf.Tensor, first: Any, temperature: float, hard: HardNegatives | None
) -> tf.Tensor:
    """`loss(a, p, b)`: `(views, views, rows)`; the diagonal holds what no one reads."""
    views, rows, everyone = anchors.shape[0], tf.shape(anchors)[1], tf.shape(contrasts)[1]
    similarity = tf.matmul(anchors[:, tf.newaxis], contrasts, transpose_b=True) / temperature
    positives = tf.linalg.diag_part(similarity[..., first : first + rows])
    own = tf.range(first, first + rows)[:, tf.newaxis] == tf.range(everyone)
    if hard is None:
        itself = np.eye(views, dtype=bool)[:, :, np.newaxis, np.newaxis] & own
        log_sum = tf.reduce_logsumexp(tf.where(itself, similarity.dtype.min, similarity), axis=(1, 3))
    else:
        log_sum = reweighted_log_sum(similarity, positives, own, hard, temperature=temperature)
    return log_sum[:, tf.newaxis] - positives


def _pairs(weights: Any, views: int) -> Any:
    if weights is None:
        return np.ones((views, views), np.float32)
    matrix = weights if tf.is_tensor(weights) or isinstance(weights, tf.Variable) else np.asarray(weights, np.float32)
    _fits("weights", matrix, views)
    if isinstance(matrix, np.ndarray):
        others = matrix[~np.eye(views, dtype=bool)]
        if not (np.isfinite(others).all() and (others >= 0).all() and (others > 0).any()):
            raise InvalidInput(
                "`weights` leaves nothing to learn from, or learns backwards.",
                expected="numbers >= 0, one pair of different views at least above 0",
                received=f"weights={matrix.tolist()}",
            )
        matrix = np.where(np.eye(views, dtype=bool), np.float32(0), matrix)
    return tf.cast(matrix, tf.float32)


def _held(held: Any, views: int) -> np.ndarray:
    matrix = np.zeros((views, views), bool) if held is None else np.asarray(held)
    _fits("held", matrix, views)
    if matrix.dtype != np.bool_:
        raise InvalidInput("`held` is no matrix of booleans.", expected="booleans", received=f"dtype={matrix.dtype}")
    return matrix


def _fits(name: str, matrix: Any, views: int) -> None:
    if tuple(matrix.shape) != (views, views):
        raise InvalidInput(
            f"`{name}` does not fit the views.", expected=f"({views}, {views})", received=f"shape={tuple(matrix.shape)}"
        )


def _check(embeddings: tf.Tensor, negatives: str, **temperatures: float | None) -> None:
    shape = tuple(embeddings.shape)
    if len(shape) != 3 or shape[0] is None or shape[0] < 2:
        raise InvalidInput(
            "`embeddings` has no positives.",
            expected="(views, rows, features) of two views or more",
            received=f"shape={shape}",
        )
    replica = tf.distribute.get_replica_context()
    several = negatives == "global" and replica is not None and replica.num_replicas_in_sync > 1
    if shape[1] == 1 and not several:
        raise InvalidInput("`embeddings` has no negatives.", expected="two images or more", received=f"shape={shape}")
    for name, value in temperatures.items():
        if value is not None and not (np.isfinite(value) and value > 0):
            raise InvalidInput(f"`{name}` is no temperature.", expected="a number > 0", received=f"{name}={value}")
