"""What a contrastive `fit` looks at before and while it reads its batches: whether an image has others beside it.

Synopsis:

    rows = batch_rows(dataset, None)             # 512, or None where only the batch itself tells
    dataset = with_others(dataset)               # the same batches; the reading stops at one of a single image
    with refused_in_words():                     # … which is then an InvalidInput
        model.fit(dataset)

A batch of one image has nothing to be told apart from: its loss is 0, as is its gradient. No batch is read twice and
none before its time, as a second reading would move the order of what is shuffled anew each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from advss_tf.errors import InvalidInput

ALONE = "A batch of one image has no negatives."
_EXPECTED = (
    "two images or more in every batch: a batch_size of 2 or more, and drop_remainder=True where one image would be "
    "left for the last batch"
)
_KERAS_BATCH = 32  # what `fit` takes of arrays where nobody says how many


def batch_rows(x: Any, batch_size: int | None) -> int | None:
    """How many images a batch of `fit(x, batch_size=…)` has, over all replicas; None where that cannot be told."""
    if isinstance(x, tf.data.Dataset):
        first = next(iter(tf.nest.flatten(x.element_spec)), None)
        shape = getattr(first, "shape", None)
        return None if shape is None or shape.rank is None else shape[0]
    length = _length(x)
    return None if length is None else min(length, batch_size or _KERAS_BATCH)


def check_remainder(x: Any, batch_size: int | None) -> None:
    """Refuses arrays that leave one image for a batch of its own.

    Raises:
        InvalidInput: if they do.
    """
    length, rows = _length(x), batch_rows(x, batch_size)
    if length and rows and (rows == 1 or length % rows == 1):
        raise InvalidInput(ALONE, expected=_EXPECTED, received=f"{length} images, batch_size={rows}")


def with_others(x: Any) -> Any:
    """`x`; of a dataset whose batches may have any size, the same batches, each looked at as it comes.

    Unlike an assertion in the step it is heeded where the step is compiled with XLA, too.
    """
    if not isinstance(x, tf.data.Dataset) or batch_rows(x, None) is not None:
        return x

    def looked_at(*batch: Any) -> Any:
        assert_others(tf.shape(tf.nest.flatten(batch)[0])[0])
        return batch if len(batch) > 1 else batch[0]

    return x.map(looked_at)


def assert_others(rows: Any) -> None:
    """Stops a graph that is given a batch of one image, see `refused_in_words`."""
    tf.debugging.Assert(rows != 1, [f"{ALONE} Expected: {_EXPECTED}."])


@contextmanager
def refused_in_words() -> Iterator[None]:
    """Makes a refusal of what `assert_others` stopped.

    Raises:
        InvalidInput: if the block came to a batch of one image.
    """
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        if ALONE not in str(error):
            raise
        raise InvalidInput(ALONE, expected=_EXPECTED, received="a batch of one image") from None


def _length(x: Any) -> int | None:
    return int(x.shape[0]) if hasattr(x, "shape") and len(x.shape) > 3 and x.shape[0] is not None else None
