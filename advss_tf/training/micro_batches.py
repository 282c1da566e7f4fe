"""A batch in parts, one after the other, whose gradients are added: for batches that memory does not hold.

Synopsis:

    gradients, names = summed(of_part, batch, weights, 4, like=model.trainable_variables)

If every part differentiates its share of the mean over the whole batch, the sum is the gradient of that mean: where no
image sees another. Losses that compare images refuse to be parted, and batch norm that is trained, which normalises
by the images it is shown, must be told to do so by the part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from advss_tf.encoders.normalization import BranchedBatchNormalization
from advss_tf.errors import InvalidInput
from advss_tf.training.puzzle import Batch

PER_PART = "per_part"
OfPart = Callable[[Batch, tf.Tensor | None, tf.Tensor | None], tuple[list[Any], list[str]]]


_NORMS = (keras.layers.BatchNormalization, BranchedBatchNormalization)


class InParts:
    """A model that can train on its batches in parts."""

    _micro_batches: int = 1
    _micro_batch_norm: str | None = None

    @property
    def micro_batches(self) -> int:
        """In how many parts a batch is trained on, one after the other, before their gradients are applied as one.

        For batches that memory does not hold. The gradient is that of the whole batch, but that each part draws its
        own random numbers. Losses whose images see each other refuse it; for batch norm see `micro_batch_norm`.
        """
        return self._micro_batches

    @micro_batches.setter
    def micro_batches(self, count: int) -> None:
        self._micro_batches = checked_micro_batches(count, self)

    @property
    def micro_batch_norm(self) -> str | None:
        """What batch norm that is trained does with a batch in parts: None refuses it, `"per_part"` normalises each.

        Per part the step is not that of the whole batch: a part's images are normalised by the part's statistics, and
        the running ones move once a part. Frozen layers use the running ones, and are exact with either.
        """
        return self._micro_batch_norm

    @micro_batch_norm.setter
    def micro_batch_norm(self, how: str | None) -> None:
        if how not in (None, PER_PART):
            raise InvalidInput(
                "`micro_batch_norm` is not known.",
                expected=f"None or {PER_PART!r}",
                received=f"micro_batch_norm={how!r}",
            )
        self._micro_batch_norm = how


def check_exact(model: Any) -> None:
    """Refuses to part the batches of a model whose batch norm uses their statistics, unless it was told to.

    Raises:
        InvalidInput: if `micro_batches` is above 1, `micro_batch_norm` None, and a batch norm is trained.
    """
    if model.micro_batches == 1 or model.micro_batch_norm is not None:
        return
    found = sorted(layer.name for layer in model._flatten_layers() if isinstance(layer, _NORMS) and layer.trainable)
    if found:
        raise InvalidInput(
            f"{type(model).__name__} has batch norms that would normalise each part of a batch by itself: the step "
            "would not be that of the batch.",
            expected=f"micro_batches=1, or micro_batch_norm={PER_PART!r}, which accepts that",
            received=f"micro_batches={model.micro_batches}, {len(found)} batch norms such as {found[0]!r}",
        )


def summed(
    of_part: OfPart, batch: Batch, weights: tf.Tensor | None, parts: int, *, like: Sequence[Any]
) -> tuple[list[Any], list[str]]:
    """The sum of the gradients of a batch's parts, and the names that they have reported.

    Args:
        of_part: `of_part(part, its weights, its number)`: the gradients by the variables `like`, and names. The number
            is None where the batch is the only part.
        batch: This replica's batch.
        weights: The weights of its examples, or None.
        parts: How many parts, each of as many rows.
        like: The variables.

    Returns:
        The gradients, None for a variable that no part depends on, and the names.

    Raises:
        InvalidInput: if the rows are known and cannot be shared evenly.
    """
    if parts == 1:
        return of_part(batch, weights, None)
    split = _each(lambda rows: _split(rows, parts), batch, weights)
    names: list[str] = []
    reached: list[bool] = []

    def body(number: tf.Tensor, sums: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
        part, own = _each(lambda rows: rows[number], *split)
        gradients, reported = of_part(part, own, number)
        names[:], reached[:] = reported, [gradient is not None for gradient in gradients]
        added = [
            one if new is None else one + tf.cast(new, one.dtype) for one, new in zip(sums, gradients, strict=True)
        ]
        return number + 1, tuple(added)

    zeros = tuple(tf.zeros(variable.shape, variable.dtype) for variable in like)
    # One part at a time: what all of them keep for their gradients is what memory does not hold.
    _, sums = tf.while_loop(
        lambda number, sums: number < parts, body, (0, zeros), parallel_iterations=1, maximum_iterations=parts
    )
    return [one if depends else None for one, depends in zip(sums, reached, strict=True)], names


def checked_micro_batches(count: Any, model: Any) -> int:
    """`count`, if it is a number of parts that the model's loss can be computed in.

    Raises:
        InvalidInput: if it is no whole number from 1 on, or the model's images see each other in its loss.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise InvalidInput(
            "`micro_batches` is no count.", expected="a whole number >= 1", received=f"micro_batches={count!r}"
        )
    if count > 1 and getattr(model, "compares_images", False):
        raise InvalidInput(
            f"{type(model).__name__} compares the images of a batch, which parts of it would not show each other.",
            expected="micro_batches=1; more replicas share a batch exactly",
            received=f"micro_batches={count}",
        )
    return count


def check_even(rows: int, parts: int, *, of: str = "a batch") -> None:
    """Refuses a number of parts that the rows of one replica cannot be shared by.

    Args:
        rows: Images that one replica has of a batch.
        parts: `micro_batches`.
        of: What a refusal calls the batch.

    Raises:
        InvalidInput: if they cannot be shared evenly.
    """
    if rows % parts:
        raise InvalidInput(
            f"The rows of {of} cannot be shared evenly by its parts.",
            expected=f"a multiple of micro_batches={parts} on each replica",
            received=f"{rows} rows",
        )


def _each(change: Callable[[tf.Tensor], tf.Tensor], batch: Batch, weights: Any) -> tuple[Batch, tf.Tensor | None]:
    """The batch and its weights with every tensor changed that is there."""
    found = [None if rows is None else change(rows) for rows in (*batch, weights)]
    return Batch(*found[:-1]), found[-1]


def _split(rows: tf.Tensor, parts: int) -> tf.Tensor:
    count = rows.shape[0]
    if count is not None:
        check_even(count, parts)
    return tf.reshape(rows, (parts, -1 if count is None else count // parts, *rows.shape[1:]))
