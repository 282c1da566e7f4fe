"""Checkpoints that survive a kill: from the last one a run goes on with the same bits.

Synopsis:

    checkpoint = Checkpoint(folder / "checkpoints", steps_per_epoch=14, every_seconds=60)
    start = checkpoint.restore(model)            # the step to go on from, 0 for a fresh run
    model.fit(..., callbacks=[Best(...), History(...), checkpoint])

The callbacks' order at the end of an epoch is that order: the best model and the history are on disk before the
checkpoint says that the epoch is over. A kill in between repeats work, and loses none.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from advss_tf.errors import InvalidInput
from advss_tf.training.divergence import refuse_divergence
from advss_tf.training.robust_model import RobustModel

# What TensorFlow's reader raises: its own errors, and for some of their codes Python's.
_UNREADABLE = (tf.errors.OpError, IndexError, RuntimeError, ValueError)


class Checkpoint(keras.callbacks.Callback):
    """Saves every variable of a run, so that it can go on from any step with the same bits.

    Written at the end of each epoch, and inside an epoch when `every_seconds` have passed or at every multiple of
    `every_steps`. TensorFlow moves a checkpoint into place as a whole, so a kill leaves the one before it. A training
    that has diverged is refused before it is saved, see `divergence`.

    A checkpoint is named by the steps done, those that loss scaling skipped among them: data go by them, while the
    optimizer counts, and random numbers go by, the steps that it took.

    Args:
        folder: Where the checkpoints lie.
        steps_per_epoch: Number of steps of an epoch.
        every_seconds: Time between two checkpoints inside an epoch; None for none by time.
        every_steps: Number of steps between two checkpoints; None for none by steps.
        keep: How many checkpoints are kept.
        is_chief: Whether this process writes the run's files.
        task: The number of this worker among the others. Each writes into a folder of its own: TensorFlow would take
            what two of them write to one place for parts of the same checkpoint.
    """

    def __init__(
        self,
        folder: Path,
        *,
        steps_per_epoch: int,
        every_seconds: float | None = 60.0,
        every_steps: int | None = None,
        keep: int = 2,
        is_chief: bool = True,
        task: int = 0,
    ) -> None:
        super().__init__()
        self.folder, self.steps_per_epoch, self.is_chief, self.task = folder, steps_per_epoch, is_chief, task
        self.every_seconds, self.every_steps, self.keep = every_seconds, every_steps, keep
        self._saved_at = time.monotonic()
        self._metrics: list[Any] | None = None
        self._done = self._begun = 0

    def restore(self, model: RobustModel, *, say: Callable[[str], None] = lambda line: None) -> int:
        """Puts the newest checkpoint into the model and its optimizer, and returns the number of steps done.

        Where the newest is damaged, the one before it is taken. Several workers read the same files, and so agree. Call
        it once, after `compile` and before `fit`; the model's optimizer is built here.

        Args:
            model: The compiled model.
            say: Takes one line for each checkpoint that is passed over.

        Raises:
            InvalidInput: if the checkpoint does not fit the model, or none can be read.
        """
        model.build_optimizer()
        self._manager = self._make_manager(model)
        newest = _newest_whole(self.folder, say)
        if newest is None:
            return 0
        try:
            self._manager.checkpoint.restore(newest).assert_consumed()
        except (AssertionError, ValueError, tf.errors.OpError) as error:
            raise _unfit(newest, error) from error
        self._metrics = [variable.numpy() for variable in model.metrics_variables]
        self._done = int(newest.rpartition("-")[2])
        return self._done

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Gives the metrics their values back, which Keras has just reset: the epoch goes on where it was cut."""
        self._begun = self._done
        if self._done % self.steps_per_epoch and self._metrics is not None:
            for variable, value in zip(self.model.metrics_variables, self._metrics, strict=True):
                variable.assign(value)
        self._metrics = None

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        step = self._done = self._begun + batch + 1
        # The last step of an epoch is saved by `on_epoch_end`, when validation has run too.
        if step % self.steps_per_epoch and self._due(step):
            # What the metrics say is of all workers, which are to refuse alike; the logs of a step are each one's own.
            refuse_divergence(self.model, self.model.get_metrics_result(), where=f"step {step} of the stage")
            self._save(step)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        refuse_divergence(self.model, logs or {}, where=f"the end of epoch {epoch + 1}")
        self._save(self._done)

    def _due(self, step: int) -> bool:
        if self.every_steps and step % self.every_steps == 0:
            return True
        # Several workers save together, so none may decide by a clock of its own.
        one = self.model.distribute_strategy.cluster_resolver is None
        return bool(one and self.every_seconds and time.monotonic() - self._saved_at >= self.every_seconds)

    def _save(self, step: int) -> None:
        self._manager.save(checkpoint_number=step)
        self._saved_at = time.monotonic()

    def _make_manager(self, model: keras.Model) -> tf.train.CheckpointManager:
        variables = [*model.variables, *model.metrics_variables, *model.optimizer.variables]
        unique = {id(variable): variable.value for variable in variables}
        checkpoint = tf.train.Checkpoint(variables=list(unique.values()))
        # Every worker takes part in saving, since metrics are summed over workers; only the chief's files are kept.
        folder = self.folder if self.is_chief else self.folder / "of_other_workers" / str(self.task)
        return tf.train.CheckpointManager(checkpoint, str(folder), max_to_keep=self.keep if self.is_chief else 1)


def _newest_whole(folder: Path, say: Callable[[str], None]) -> str | None:
    """The newest checkpoint of a folder that can be read, or None if it has none.

    Raises:
        InvalidInput: if none of them can be read.
    """
    state = tf.train.get_checkpoint_state(str(folder))
    paths = [] if state is None else list(reversed(state.all_model_checkpoint_paths))
    first: Exception | None = None
    for path in paths:
        try:
            _read_through(path)
            return str(path)
        except _UNREADABLE as error:
            first = first or error
            say(f"{folder.parent.name}: the checkpoint {Path(path).name} is damaged and is passed over")
    if first is not None:
        raise _unfit(paths[0], first) from first
    return None


def _read_through(path: str) -> None:
    """Reads every tensor of a checkpoint, each of which bears a checksum; one of `_UNREADABLE` if one is damaged."""
    reader = tf.train.load_checkpoint(path)
    for name in reader.get_variable_to_shape_map():
        reader.get_tensor(name)


def _unfit(path: str, error: Exception) -> InvalidInput:
    return InvalidInput(
        f"The checkpoint {path} is not of this run's model, or is damaged.",
        expected="a checkpoint that this recipe wrote; remove the folder to start the stage anew",
        received=str(error).splitlines()[0],
    )
