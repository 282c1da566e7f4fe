"""The attacked images of an evaluation, kept on disk batch by batch.

Synopsis:

    record = evaluate(model, data, save_attacked="attacked")
    for batch in read_attacked("attacked"):
        batch["images"], batch["labels"], batch["predictions"], batch["confidences"], batch["robust"]

One `.npz` file a batch, so that memory stays flat and an evaluation that was killed goes on behind what is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from advss_tf.errors import InvalidInput
from advss_tf.workdir import replacing


class AttackedImages:
    """A folder of attacked images.

    Args:
        folder: Where they are written; made if it is not there.
        goes_on: Whether an evaluation that was killed goes on: then files that are there are its own.

    Raises:
        InvalidInput: if the folder holds something and nothing goes on.
    """

    def __init__(self, folder: str | Path, *, goes_on: bool) -> None:
        self._folder = Path(folder)
        if not goes_on and self._folder.exists() and (not self._folder.is_dir() or any(self._folder.iterdir())):
            raise InvalidInput(
                "The attacked images would be mixed with something else.",
                expected="a folder that is empty or not there",
                received=f"save_attacked={folder}",
            )
        self._folder.mkdir(parents=True, exist_ok=True)

    def save(self, number: int, arrays: dict[str, np.ndarray]) -> None:
        """Writes a batch, whole or not at all.

        Args:
            number: The batch's number.
            arrays: images (b, H, W, C) float32: what fooled the model first at the headline's epsilon, or was tried
                last; predictions and confidences on them; labels; robust (b,) bool.
        """
        with replacing(self._folder / f"batch-{number:06d}.npz") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)  # type: ignore[arg-type]


def read_attacked(folder: str | Path) -> Iterator[dict[str, np.ndarray]]:
    """The batches of a folder in order, each as arrays by name.

    Raises:
        InvalidInput: if the folder holds none.
    """
    files = sorted(Path(folder).glob("batch-*.npz"))
    if not files:
        raise InvalidInput("There are no attacked images.", expected="batch-*.npz files", received=f"folder={folder}")
    for file in files:
        with np.load(file, allow_pickle=False) as arrays:
            yield {name: arrays[name] for name in arrays.files}
