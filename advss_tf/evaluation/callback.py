"""Robust accuracy during training: an evaluation every few epochs, as a Keras callback.

Synopsis:

    robust = RobustEvaluation(data.held_out(), every=5, epsilons="8/255", limit=1000, folder="runs/digits/robust")
    best = keras.callbacks.ModelCheckpoint("best.keras", monitor="val_robust_acc", mode="max", save_best_only=True)
    model.fit(train, epochs=20, callbacks=[robust, best])          # `best` stands behind `robust` and sees its numbers
    print(robust.records[20])
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from advss_tf.errors import InvalidInput
from advss_tf.evaluation.attempts import plan_attempts
from advss_tf.evaluation.batches import Batches
from advss_tf.evaluation.evaluators import evaluate
from advss_tf.evaluation.records.record import Record
from advss_tf.evaluation.traces import Traces
from advss_tf.training.strategy import is_chief


class RobustEvaluation(keras.callbacks.Callback):
    """Evaluates any Keras model that gives logits, every few epochs of its `fit`, as `evaluate` would.

    The validation that a `RobustModel` does itself, with its `eval_attack`, is another measurement: one attack from one
    start, the same on every image, one number a batch averaged over the epoch, each epoch, shared by the replicas. Here
    the attacks, counts, intervals and warnings are those of `evaluate`, with a record of each; only images that are
    still right are attacked. The first costs as much as an `evaluate` does, the others do not compile their
    attacks again. Pick models on held-out images, never on the test split.

    Measured are the first epoch of a `fit`, every `every`-th, counted from 1, and the last (also where a callback
    before this one ends the training). The epoch's logs get `val_clean_acc`, `val_<attack>_acc` for each attack, and
    `val_robust_acc` over all of them, at the record's `eps`. In between the logs repeat what was measured last, so each
    epoch has every name: a callback behind this one that keeps the best epoch sees no improvement there, patience is
    counted in epochs, and `CSVLogger`, which takes its columns from the first epoch, has them all. (`ModelCheckpoint`
    saves each epoch that lacks the name it monitors, and never another once it has met NaN.) Which epochs were
    measured, `records` tells. Keras cannot guess that these numbers are to be high: `monitor` needs `mode="max"`.

    The model is evaluated with the weights it has at the moment, in inference mode, and left as it was: a training
    with this callback ends with the same bits as one without. What is drawn depends on `seed` alone, the same in every
    epoch. Under a strategy of several replicas one device evaluates, with batch norm's statistics as Keras saves them.
    A model that has diverged, with weights that are not finite, is not evaluated: it warns, the logs get 0, and there
    is no record.

    Args:
        data: Held-out images and labels, as in `evaluate`: a finite, ordered, batched `tf.data.Dataset` or a pair of
            arrays. It is read once here, to look at it, and twice at each evaluation.
        every: Number of epochs from one evaluation to the next.
        suite: As in `evaluate`; "quick" attacks with the first of `num_steps`.
        attacks: Instead of a suite, as in `evaluate`.
        epsilons: Radii of the balls; the logs hold the accuracies at the headline's.
        norm: "linf" or "l2".
        num_steps: Steps of the attacks.
        limit: Evaluate this many images only.
        batch_size: Images a batch.
        seed: The evaluations' seed.
        data_info: What is known of the data, as in `evaluate`.
        folder: If given, where `record-epoch-0005.json` and its examples are written.
        verbose: 1 prints a line at each evaluation.

    Attributes:
        records: `{epoch: Record}`, epochs counted from 1.

    Raises:
        InvalidInput: if a setting is not known, or the data are not what is evaluated.
    """

    def __init__(
        self,
        data: Any,
        *,
        every: int = 5,
        suite: str = "quick",
        attacks: Any = None,
        epsilons: Sequence[float | str] | float | str | None = None,
        norm: str = "linf",
        num_steps: Sequence[int] | int = (20, 50),
        limit: int | None = None,
        batch_size: int = 256,
        seed: int = 0,
        data_info: Any = None,
        folder: str | Path | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__()
        if isinstance(every, bool) or not isinstance(every, int | np.integer) or every < 1:
            raise InvalidInput("`every` is too small.", expected="a whole number >= 1", received=f"every={every!r}")
        plan = {"suite": suite, "attacks": attacks, "epsilons": epsilons, "norm": norm, "num_steps": num_steps}
        self._attacks = [attempt.name for attempt in plan_attempts(**plan).attempts]
        Batches(data, batch_size=batch_size, limit=limit)
        self._data, self._folder = data, None if folder is None else Path(folder)
        self._settings = plan | {"limit": limit, "batch_size": batch_size, "seed": seed, "data_info": data_info}
        self.every, self.verbose = int(every), verbose
        self.records: dict[int, Record] = {}
        self._logs: dict[str, float] = {}
        self._traces = Traces()

    def on_train_begin(self, logs: Any = None) -> None:
        # What an earlier `fit` measured need not be true of this one's model.
        self._logs = {}

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._is_due(epoch + 1):
            self._logs = self._measure(epoch + 1)
        if logs is not None:
            logs.update(self._logs)

    def _is_due(self, epoch: int) -> bool:
        last = epoch == (self.params or {}).get("epochs") or self.model.stop_training
        return not self._logs or epoch % self.every == 0 or last

    def _measure(self, epoch: int) -> dict[str, float]:
        if not all(np.all(np.isfinite(weights)) for weights in self.model.get_weights()):
            warnings.warn(f"The model has diverged by epoch {epoch}; it is not evaluated.", stacklevel=2)
            # As in a record: what is not finite is no prediction, and never right.
            return self._logs_of(0.0, dict.fromkeys(self._attacks, 0.0), 0.0)
        with _generators_kept(self.model):
            record = _outside_of_scopes(lambda: evaluate(self.model, self._data, traces=self._traces, **self._settings))
        self._keep(epoch, record)
        accuracies = {attack: record.result(attack).accuracy for attack in record.attacks}
        return self._logs_of(record.clean_acc, accuracies, record.robust_acc)

    def _keep(self, epoch: int, record: Record) -> None:
        self.records[epoch] = record
        if self._folder is not None and is_chief(self.model.distribute_strategy):
            record.save(self._folder / f"record-epoch-{epoch:04d}.json")
        if self.verbose:
            print(f"\nEpoch {epoch}: {record}, {record.seconds:.1f} s")

    @staticmethod
    def _logs_of(clean: float, attacks: dict[str, float], robust: float) -> dict[str, float]:
        of_attacks = {f"val_{attack}_acc": accuracy for attack, accuracy in attacks.items()}
        return {"val_clean_acc": clean, **of_attacks, "val_robust_acc": robust}


def _outside_of_scopes(measure: Callable[[], Record]) -> Record:
    """What `measure` returns, computed on one device, even where `fit` was called inside of a strategy's scope.

    Inside of it, each replica would judge its share of the images with its own batch norm's statistics. A scope holds
    in the thread that entered it.
    """
    if not tf.distribute.has_strategy():
        return measure()
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(measure).result()


@contextmanager
def _generators_kept(model: keras.Model) -> Iterator[None]:
    """Inside the `with`, a model may draw random numbers in inference mode: its training will not notice."""
    states = [variable for variable in model.variables if variable.name == "seed_generator_state"]
    kept = [keras.ops.convert_to_numpy(state) for state in states]
    try:
        yield
    finally:
        for state, value in zip(states, kept, strict=True):
            state.assign(value)
