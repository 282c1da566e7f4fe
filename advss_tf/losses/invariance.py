"""Invariance to style: two views of an image are to be equally near to the image itself.

Synopsis:

    standard_invariance(first, second, original)                                        # (batch,), SIR
    adversarial_invariance(first, second, original, attacked_first, attacked_second)    # (batch,), AIR

Reference: Xu et al., "Enhancing Adversarial Contrastive Learning via Adversarial Invariant Regularization", NeurIPS
2023 (arXiv 2305.00374). Both terms are weighed by 0.5 there, beside the contrastive loss, at temperature 0.5. SIR is
that of Mitrovic et al., "Representation Learning via Invariant Causal Mechanisms", ICLR 2021 (arXiv 2010.07922).

Of every image the likeness to its own partner is taken, and a softmax over the *images of the batch*, not over
partners: `p(b) = exp(cos(u_b, v_b) / T) / sum over c of exp(cos(u_c, v_c) / T)`.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from advss_tf.errors import InvalidInput, one_of
from advss_tf.losses.replicas import gathered

FORMS = ("equation", "code")


def standard_invariance(
    first: tf.Tensor,
    second: tf.Tensor,
    original: tf.Tensor,
    *,
    temperature: float = 0.5,
    form: str = "equation",
    negatives: str = "global",
) -> tf.Tensor:
    """SIR: `KL(p_first || p_second)`, where `p_first(b)` is the likeness of `first[b]` to `original[b]` in the batch.

    Args:
        first: `(batch, features)`, embeddings of one view, any float type.
        second: The same of the other view.
        original: The same of the images before augmentation.
        temperature: `T`, > 0.
        form: `"equation"` for the divergence; `"code"` for what the authors' code computes, the sum over the batch of
            `p_second · (log p_second - p_first)`: it passes probabilities where logarithms are expected. That is no
            divergence, and negative: it is near `-log(batch)`.
        negatives: As for `nt_xent`: over which images the softmax is taken.

    Returns:
        `(batch,)` float32: the image's addend of the sum, times the number of images, so that the mean over the batch
        is the term of the paper. A single addend may be negative.

    Raises:
        InvalidInput: if the shapes differ, the temperature is not positive, or `form` is not known.
    """
    _check(temperature, form, first=first, second=second, original=original)
    one, count = _log_likeness(first, original, temperature, negatives)
    other, _ = _log_likeness(second, original, temperature, negatives)
    return count * _addends(one, other, form)


def adversarial_invariance(
    first: tf.Tensor,
    second: tf.Tensor,
    original: tf.Tensor,
    attacked_first: tf.Tensor,
    attacked_second: tf.Tensor,
    *,
    temperature: float = 0.5,
    form: str = "equation",
    negatives: str = "global",
) -> tf.Tensor:
    """AIR: the divergence between the two views of `p(original | attacked) · p(attacked | clean)`.

    The products do not sum to one, and the paper's formula does not make them, so the term is not bounded by 0.

    Args:
        first: `(batch, features)`, embeddings of one clean view, any float type.
        second: The same of the other clean view.
        original: The same of the images before augmentation.
        attacked_first: The same of the attacked first view.
        attacked_second: The same of the attacked second view.
        temperature: `T`, > 0.
        form: As for `standard_invariance`, with products in the place of probabilities.
        negatives: As for `standard_invariance`.

    Returns:
        `(batch,)` float32, with the mean over the batch as the paper's term.

    Raises:
        InvalidInput: as for `standard_invariance`.
    """
    streams = {"attacked_first": attacked_first, "attacked_second": attacked_second}
    _check(temperature, form, first=first, second=second, original=original, **streams)
    one, count = _log_product(attacked_first, original, first, temperature, negatives)
    other, _ = _log_product(attacked_second, original, second, temperature, negatives)
    return count * _addends(one, other, form)


def _log_product(
    attacked: tf.Tensor, original: tf.Tensor, clean: tf.Tensor, temperature: float, negatives: str
) -> tuple[tf.Tensor, tf.Tensor]:
    """`log(p(original | attacked) · p(attacked | clean))` of this replica's images, and the number of all."""
    to_original, count = _log_likeness(attacked, original, temperature, negatives)
    to_clean, _ = _log_likeness(attacked, clean, temperature, negatives)
    return to_original + to_clean, count


def _log_likeness(one: tf.Tensor, other: tf.Tensor, temperature: float, negatives: str) -> tuple[tf.Tensor, tf.Tensor]:
    """`log p`, `(batch,)` of this replica's images, and over how many images the softmax was taken."""
    units = [tf.math.l2_normalize(tf.cast(side, tf.float32), axis=-1) for side in (one, other)]
    logits = tf.reduce_sum(units[0] * units[1], axis=-1) / temperature
    everyone, _ = gathered(logits, negatives=negatives)
    return logits - tf.reduce_logsumexp(everyone), tf.cast(tf.size(everyone), tf.float32)


def _addends(one: tf.Tensor, other: tf.Tensor, form: str) -> tf.Tensor:
    if form == "code":
        return tf.exp(other) * (other - tf.exp(one))
    return tf.exp(one) * (one - other)


def _check(temperature: float, form: str, **embeddings: tf.Tensor) -> None:
    one_of("form", form, FORMS)
    if not (np.isfinite(temperature) and temperature > 0):
        raise InvalidInput("`temperature` is no temperature.", expected="a number > 0", received=f"{temperature=}")
    shapes = {name: tuple(values.shape) for name, values in embeddings.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != 2 for shape in shapes.values()):
        raise InvalidInput("The embeddings differ in shape.", expected="(batch, features) each", received=f"{shapes}")
