"""A whole training stage: goes on where it was killed, picks its best model, and says how far it is.

Synopsis:

    result = train(model, lambda **part: data.train(128, **part), steps_per_epoch=14, epochs=20, batch_size=128,
                   folder=Path("runs/digits/finetune"), validation=data.held_out(), monitor="val_robust_accuracy")

The loop itself is Keras' `fit`. It is called once for what is left of an epoch that was cut, and once for the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from advss_tf.training.callbacks import Best, History, Progress, averaged
from advss_tf.training.checkpoints import Checkpoint
from advss_tf.training.divergence import Finite
from advss_tf.training.robust_model import RobustModel
from advss_tf.training.strategy import distributed, is_chief, task_number


class Saving(NamedTuple):
    """How often a run saves itself; the fields are those of `Checkpoint`."""

    every_seconds: float | None = 60.0
    every_steps: int | None = None
    keep: int = 2


class Trained(NamedTuple):
    """What a stage ends with: the picked epoch (from 1) and its held-out value; the last epoch if none was picked."""

    epoch: int
    value: float | None


def train(
    model: RobustModel,
    make_dataset: Callable[..., tf.data.Dataset],
    *,
    steps_per_epoch: int,
    epochs: int,
    batch_size: int,
    folder: Path,
    validation: tf.data.Dataset | None = None,
    monitor: str | None = None,
    probes: Sequence[keras.callbacks.Callback] = (),
    saving: Saving = Saving(),
    say: Callable[[str], None] = print,
    advance: Callable[[int, dict[str, Any], float], None] | None = None,
) -> Trained:
    """Trains a compiled model for `epochs`, or for what is left of them, and leaves the picked weights in it.

    Args:
        model: A compiled model.
        make_dataset: `make_dataset(start_step=…, num_steps=…, worker=…, num_workers=…)`, the batches of these steps.
        steps_per_epoch: Number of steps of an epoch.
        epochs: Number of epochs of the whole stage.
        batch_size: Size of the global batch.
        folder: The stage's folder: checkpoints, history, best weights and TensorBoard logs.
        validation: Held-out images and labels, read after every epoch.
        monitor: The epoch's log that picks the model, such as `"val_robust_accuracy"`; None keeps the last epoch.
        probes: Callbacks that add to an epoch's logs, before any other reads them, such as `KNNProbe`.
        saving: How often the run saves itself.
        say: Takes one line per epoch.
        advance: Draws a bar; see `Progress`.

    Returns:
        Which epoch was picked.

    Raises:
        InvalidInput: if the training diverges, or the folder's checkpoint does not fit the model or cannot be read.
    """
    strategy = model.distribute_strategy
    chief = is_chief(strategy)
    checkpoint = Checkpoint(
        folder / "checkpoints", steps_per_epoch=steps_per_epoch, is_chief=chief, task=task_number(strategy),
        **saving._asdict(),
    )  # fmt: skip
    first = checkpoint.restore(model, say=say)
    if first:
        say(f"{folder.name}: goes on after step {first} of {epochs * steps_per_epoch}")
    best = Best(folder, monitor) if monitor else None
    callbacks: list[keras.callbacks.Callback] = [Finite(), *probes, checkpoint]
    if chief:
        callbacks = [
            Finite(),
            *probes,
            *([best] if best else []),
            History(folder / "history.jsonl", first_epoch=first // steps_per_epoch),
            keras.callbacks.TensorBoard(folder / "tensorboard", write_graph=False),
            Progress(
                say, stage=folder.name, epochs=epochs, steps_per_epoch=steps_per_epoch, first_step=first,
                advance=advance,
            ),
            checkpoint,
        ]  # fmt: skip
    if getattr(model.optimizer, "use_ema", False):
        callbacks.append(keras.callbacks.SwapEMAWeights())  # validation measures the averaged weights
    for start, steps, epoch, last in _pieces(first, steps_per_epoch, epochs):
        _fit(model, make_dataset, start, steps, epoch, last, batch_size, validation, callbacks)
    return _pick(model, best, epochs)


def _pieces(first: int, steps_per_epoch: int, epochs: int) -> list[tuple[int, int, int, int]]:
    """The calls of `fit` that remain after `first` steps: (start step, steps per epoch, first epoch, end epoch)."""
    epoch, done = divmod(first, steps_per_epoch)
    pieces = []
    if done:
        pieces.append((first, steps_per_epoch - done, epoch, epoch + 1))
        epoch += 1
    if epoch < epochs:
        pieces.append((epoch * steps_per_epoch, steps_per_epoch, epoch, epochs))
    return pieces


def _fit(model, make_dataset, start, steps, epoch, last, batch_size, validation, callbacks) -> None:
    count = steps * (last - epoch)
    dataset = distributed(
        model.distribute_strategy, lambda **part: make_dataset(start_step=start, num_steps=count, **part), batch_size
    )
    model.fit(
        dataset,
        initial_epoch=epoch,
        epochs=last,
        steps_per_epoch=steps,
        validation_data=validation,
        callbacks=callbacks,
        verbose=0,
    )


def _pick(model: keras.Model, best: Best | None, epochs: int) -> Trained:
    picked = best.best() if best is not None else None
    if best is not None and picked is not None:
        model.load_weights(best.weights)
        return Trained(picked["epoch"], picked[best.monitor])
    with averaged(model):
        weights = model.get_weights()
    model.set_weights(weights)
    return Trained(epochs, None)
