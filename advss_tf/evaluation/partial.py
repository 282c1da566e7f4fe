"""The finished batches of an evaluation, kept on disk so that one that was killed goes on behind the last of them.

Synopsis:

    partial = Partial("record.partial", {"suite": "full", "seed": 0}, logits=logits)
    arrays = partial.load(3)               # what batch 3 left, or None
    partial.save(3, arrays)                # whole or not at all
    partial.remove()                       # once the record is made
    go_through(batches, partial, restore=run.restore, evaluate=run.attack_batch)    # what is left of all

A folder that holds another evaluation's batches, or another model's, is refused.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from advss_tf.errors import InvalidInput
from advss_tf.workdir import replacing, write_json

_LOGITS = "logits.npz"


class Partial:
    """The batches of one evaluation in one folder.

    Args:
        folder: Where they lie; made if it is not there.
        description: What is evaluated how, as plain JSON data.
        logits: (b, classes) float32, of a few images: what tells one model from another.

    Raises:
        InvalidInput: if the folder holds the batches of another evaluation or model.
    """

    def __init__(self, folder: str | Path, description: dict[str, Any], *, logits: np.ndarray) -> None:
        self._folder = Path(folder)
        described = self._folder / "evaluation.json"
        description = json.loads(json.dumps(description))
        if described.is_file():
            self._check(json.loads(described.read_text()), description, logits)
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        self._write(_LOGITS, {"logits": logits})
        write_json(described, description)

    def load(self, number: int) -> dict[str, np.ndarray] | None:
        """What `save` was given for a batch; None if it was not finished."""
        path = self._folder / _name(number)
        return _read(path) if path.is_file() else None

    def save(self, number: int, arrays: dict[str, np.ndarray]) -> None:
        """Keeps what a finished batch left, whole or not at all."""
        self._write(_name(number), arrays)

    def remove(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _write(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        with replacing(self._folder / name) as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)  # type: ignore[arg-type]

    def _check(self, found: dict[str, Any], description: dict[str, Any], logits: np.ndarray) -> None:
        differ = [key for key in {**found, **description} if found.get(key) != description.get(key)]
        # Rounding differs from machine to machine, models differ by far more.
        theirs = _read(self._folder / _LOGITS)["logits"]
        if theirs.shape != logits.shape or not np.allclose(theirs, logits, rtol=1e-2, atol=1e-2):
            differ.append("the model's logits")
        if differ:
            raise InvalidInput(
                f"{self._folder} holds the unfinished evaluation of something else.",
                expected="the same evaluation, or a folder of its own",
                received=f"other {', '.join(sorted(differ))}",
            )


def go_through(
    units: Iterable[Any],
    partial: Partial | None,
    *,
    restore: Callable[[Any, dict[str, np.ndarray]], None],
    evaluate: Callable[[int, Any], dict[str, np.ndarray]],
) -> None:
    """Evaluates unit after unit; what was finished before is restored instead, what is finished now is kept.

    Args:
        units: Batches, or whatever is finished at once.
        partial: What was finished before; None keeps nothing.
        restore: Called with a unit and the arrays that it left.
        evaluate: Called with a unit's number and the unit; returns what `restore` needs.
    """
    for number, unit in enumerate(units):
        finished = partial.load(number) if partial else None
        if finished is not None:
            restore(unit, finished)
            continue
        arrays = evaluate(number, unit)
        if partial:
            partial.save(number, arrays)


def _name(number: int) -> str:
    return f"batch-{number:06d}.npz"


def _read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
