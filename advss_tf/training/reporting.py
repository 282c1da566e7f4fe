"""The running means of a training or an evaluation, under the names that a model reports.

Synopsis:

    class RobustModel(Reporting): ...

    model.track(("loss", "accuracy"))
    names = model.report({"loss": losses}, weights, attacked)       # in a step, once for each part of its batch
    return model.results(names)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import keras
import tensorflow as tf

from advss_tf.attacks import AttackResult
from advss_tf.training.puzzle import Terms

_ACCURACIES = ("accuracy", "robust_accuracy", "knn_accuracy", "auxiliary_accuracy")


class Reporting(keras.Model):
    """A Keras model with one mean for each name that it may report."""

    def track(self, names: Iterable[str]) -> None:
        """Makes the means, one for each different name."""
        self._trackers = [keras.metrics.Mean(name=name) for name in dict.fromkeys(names)]

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return list(self._trackers)

    def get_metrics_result(self) -> dict[str, Any]:
        """The running means of what has been reported since the last reset; names that were not are left out."""
        return {tracker.name: tracker.result() for tracker in self._trackers if _was_updated(tracker)}

    @property
    def chances(self) -> dict[str, float]:
        """What guessing reaches of the accuracies that are reported, where it is known: `{name: in (0, 1)}`.

        A model with an attribute `chance` means it of `accuracy` and `robust_accuracy`. The bar of Keras' `fit` shows
        none: `callbacks=[Progress(print, stage="pretrain", epochs=10, steps_per_epoch=14)]` says them after each epoch.
        """
        chance = getattr(self, "chance", None)
        return {} if chance is None else {"accuracy": chance, "robust_accuracy": chance}

    def report(self, terms: Terms, weights: tf.Tensor | None, attacked: AttackResult) -> list[str]:
        """Adds the terms `(batch,)` and what the attack found to the running means; gives their names."""
        if attacked.climb is not None:
            terms = {**terms, "attack_climb": attacked.climb, "attack_at_bound": attacked.at_bound}
        trackers = {tracker.name: tracker for tracker in self._trackers}
        for name, values in terms.items():
            trackers[name].update_state(values, sample_weight=weights)
        return list(terms)

    def results(self, names: list[str]) -> dict[str, tf.Tensor]:
        """The running means of these names, as a step returns them."""
        trackers = {tracker.name: tracker for tracker in self._trackers}
        # Several workers can only average what has a first axis (keras issue 20585).
        shape = (1,) if isinstance(self.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy) else ()
        return {name: tf.reshape(trackers[name].result(), shape) for name in names}


def headlines(logs: Mapping[str, float], chances: Mapping[str, float]) -> list[str]:
    """What a line about an epoch says of its logs: the loss, and accuracies beside what guessing reaches.

    Of an ensemble these are the mean of its tasks' accuracies, and each task's own.

    >>> headlines({"loss": 1.25, "kl": 0.1, "val_accuracy": 0.431}, {"accuracy": 0.25})
    ['loss 1.250', 'val_accuracy 43.1 % (chance 25.0 %)']
    """
    shown = []
    for name, value in logs.items():
        what = name.removeprefix("val_")
        if what == "loss":
            shown.append(f"{name} {float(value):.3f}")
        elif what in _ACCURACIES or what in chances:
            chance = f" (chance {100 * chances[what]:.1f} %)" if what in chances else ""
            shown.append(f"{name} {100 * float(value):.1f} %{chance}")
    return shown


def _was_updated(tracker: keras.metrics.Mean) -> bool:
    return not tf.executing_eagerly() or tracker.count.numpy() > 0
