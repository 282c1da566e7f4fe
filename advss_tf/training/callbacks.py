"""What happens at the end of an epoch: the best model is kept, the history written, the progress said.

Synopsis:

    model.fit(..., callbacks=[Best(folder, "val_accuracy"), History(folder / "history.jsonl"), Progress(print, ...)])

A checkpoint comes after them, see `training.checkpoints`.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras

from advss_tf.errors import InvalidInput
from advss_tf.timing import Pace, clock
from advss_tf.training.reporting import headlines
from advss_tf.workdir import read_object, replacing, write_json


class Best(keras.callbacks.Callback):
    """Keeps the weights of the epoch with the highest held-out accuracy; the earlier one at a tie.

    Args:
        folder: Where `best.weights.h5` and `best.json` are written.
        monitor: The name in the epoch's logs that is to be high, such as `"val_robust_accuracy"`.
    """

    def __init__(self, folder: Path, monitor: str) -> None:
        super().__init__()
        self.weights, self.note, self.monitor = folder / "best.weights.h5", folder / "best.json", monitor

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        value = float((logs or {})[self.monitor])
        best = self.best()
        known = None if best is None else best[self.monitor]
        # `not >` instead of `<=`: the value of a run that has diverged may be NaN, which is noted as null.
        if best is not None and not value > (-math.inf if known is None else known):
            return
        with averaged(self.model):
            save_weights(self.model, self.weights)
        write_json(self.note, {"epoch": epoch + 1, self.monitor: value if math.isfinite(value) else None})

    def best(self) -> dict[str, Any] | None:
        """The best epoch so far (counted from 1) and its value, or None."""
        return json.loads(self.note.read_text()) if self.note.is_file() else None


class History(keras.callbacks.Callback):
    """Writes one JSON line per finished epoch to `history.jsonl`: the epoch (from 1), its logs and its seconds.

    Args:
        path: The file. Lines of epochs that are about to be run again are dropped.
        first_epoch: How many epochs are done already.
    """

    def __init__(self, path: Path, *, first_epoch: int = 0) -> None:
        super().__init__()
        self.path = path
        self.lines = [line for line in read_history(path) if line["epoch"] <= first_epoch]
        self._started = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        numbers = {name: float(value) for name, value in (logs or {}).items()}
        finite = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        seconds = round(time.monotonic() - self._started, 3)
        self.lines.append({"epoch": epoch + 1, **finite, "seconds": seconds})
        with replacing(self.path) as file:
            file.writelines(json.dumps(line).encode() + b"\n" for line in self.lines)


class Progress(keras.callbacks.Callback):
    """Says after each epoch how it went and how long is left, and before that, often, how far the stage is.

    Where no bar is drawn, a line says so inside an epoch when nothing has been said for a minute.
    Accuracies are in per cent, beside them what guessing reaches, where the model's `chances` say it.

    Args:
        say: Takes one line per epoch, such as `logging.info`.
        stage: The stage's name.
        epochs: Number of epochs of the stage.
        steps_per_epoch: Number of steps of an epoch.
        first_step: How many steps are done already.
        advance: Called after each step with `(steps done, logs, seconds left)`, to draw a bar; None draws none.
        pace: When a line inside an epoch is due; by default once a minute.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        *,
        stage: str,
        epochs: int,
        steps_per_epoch: int,
        first_step: int = 0,
        advance: Callable[[int, dict[str, Any], float], None] | None = None,
        pace: Pace | None = None,
    ) -> None:
        super().__init__()
        self.pace = pace or Pace(60.0)
        self.say, self.stage, self.epochs, self.steps_per_epoch = say, stage, epochs, steps_per_epoch
        self.advance, self.first_step, self.done = advance, first_step, first_step
        self._started: float | None = None

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.done += 1
        if self._started is None:
            # The first step holds the tracing and compiling, which the steps to come will not repeat.
            self._started, self.first_step = time.monotonic(), self.done
            self.pace.rest()
        if self.advance is not None:
            self.advance(self.done, logs or {}, self.seconds_left())
        elif self.done % self.steps_per_epoch and self.pace.due():
            epoch, step = divmod(self.done, self.steps_per_epoch)
            where = f"{self.stage} {epoch + 1}/{self.epochs}, step {step:,} of {self.steps_per_epoch:,}"
            loss = f"loss {float(logs['loss']):.3f} " if logs and "loss" in logs else ""
            self.say(f"{where}: {loss}({clock(self.seconds_left())} left)")

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        shown = headlines(logs or {}, getattr(self.model, "chances", {}))
        left = f"{clock(self.seconds_left())} left" if epoch + 1 < self.epochs else "done"
        self.say(f"{self.stage} {epoch + 1}/{self.epochs}: {', '.join(shown)} ({left})")
        self.pace.rest()

    def seconds_left(self) -> float:
        """The time that the remaining steps will take, if they go on as those since the first."""
        steps = self.done - self.first_step
        if self._started is None or not steps:
            return math.nan
        return (time.monotonic() - self._started) / steps * (self.epochs * self.steps_per_epoch - self.done)


@contextmanager
def averaged(model: keras.Model) -> Iterator[None]:
    """Inside the `with`, the model has its moving-average weights, if its optimizer keeps some (`use_ema`)."""
    optimizer = model.optimizer
    if not getattr(optimizer, "use_ema", False):
        yield
        return
    variables = model.trainable_variables
    current = [variable.numpy() for variable in variables]
    for variable, average in zip(variables, optimizer._model_variables_moving_average, strict=True):
        variable.assign(average)
    try:
        yield
    finally:
        for variable, value in zip(variables, current, strict=True):
            variable.assign(value)


def save_weights(model: keras.Model, path: Path) -> None:
    """Writes a model's weights to `path` (`….weights.h5`), whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        model.save_weights(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_history(path: Path) -> list[dict[str, Any]]:
    """The lines of a `history.jsonl`, one dict per epoch; empty if there is no such file.

    Raises:
        InvalidInput: if the file cannot be read, or a line is not that of an epoch.
    """
    lines: list[dict[str, Any]] = []
    try:
        for text in path.read_text().splitlines() if path.is_file() else ():
            line = read_object(text)
            if not isinstance(line.get("epoch"), int):
                raise ValueError(f"epoch={line.get('epoch')!r}")
            lines.append(line)
    except (OSError, ValueError) as error:
        raise InvalidInput(
            f"{path} cannot be read, line {len(lines) + 1}.",
            expected="a JSON object with an `epoch` in each line; without the file, tables and figures lack its epochs",
            received=str(error),
        ) from error
    return lines
