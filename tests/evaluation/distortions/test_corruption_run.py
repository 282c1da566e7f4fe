"""Counts of a run under corruptions, what is kept of a unit, and what a person is told meanwhile."""

from __future__ import annotations

import time

import numpy as np
import pytest
import tensorflow as tf

from advss_tf.errors import InvalidInput
from advss_tf.evaluation import CorruptionProgress
from advss_tf.evaluation.batches import Batches
from advss_tf.evaluation.distortions.corruption_run import CorruptionRun
from advss_tf.evaluation.models import Classifier

KEYS = [("clean", 0), ("dark", 4)]


def bright(images: tf.Tensor) -> tf.Tensor:
    """Class 1 where the first pixel is above a half."""
    score = images[:, 0, 0, 0] - 0.5
    return tf.stack([-score, score], axis=1)


@pytest.fixture
def batches():
    """Five images, of which those with the numbers 0, 2 and 4 are bright; number 4 is labelled dark."""
    images = np.zeros((5, 4, 4, 1), np.float32)
    images[::2] = 1.0
    return Batches((images, np.array([1, 0, 1, 0, 0])), batch_size=2)


@pytest.fixture
def start(batches):
    """`start(progress=…)`: a run, and its units: each batch as it is and with all pixels 0."""

    def make(*, progress=None, started=None):
        classifier = Classifier(bright, next(iter(batches)).images)
        started = time.perf_counter() if started is None else started
        run = CorruptionRun(KEYS, classifier, batches, progress=progress, started=started)
        return run, [[(0, batch), (1, batch._replace(images=0 * batch.images))] for batch in batches]

    return make


def test_rows_hold_exact_counts_by_class_and_the_fillers_of_the_last_batch_none(start):
    run, units = start()
    for unit in units:
        run.evaluate(iter(unit))
    clean, dark = run.results()
    assert (clean.attack, clean.level, clean.threat) == ("clean", 0, None)
    assert (dark.attack, dark.level, dark.threat) == ("dark", 4, "corruptions")
    assert (clean.correct, clean.total, clean.class_correct) == (4, 5, (2, 2))
    assert (dark.correct, dark.total, dark.class_correct) == (3, 5, (3, 0))
    assert clean.forward_passes == dark.forward_passes == 1.0 and clean.backward_passes == 0.0
    assert min(clean.seconds, dark.seconds) > 0 and clean.seconds + dark.seconds <= run.seconds


def test_a_restored_unit_counts_as_the_evaluated_one(start):
    first, units = start()
    kept = [first.evaluate(iter(unit)) for unit in units]
    again, _ = start()
    again.restore(kept[0])
    again.restore(kept[1])
    again.evaluate(iter(units[2]))
    assert [row.class_correct for row in again.results()] == [row.class_correct for row in first.results()]
    np.testing.assert_allclose(kept[0]["row_seconds"] + kept[1]["row_seconds"], again.row_seconds, atol=0.5)
    assert again.seconds > float(kept[1]["seconds"])


def test_progress_says_type_severity_accuracy_and_what_is_left(start):
    told = []
    run, units = start(progress=told.append, started=time.perf_counter() - 10)
    for unit in units:
        run.evaluate(iter(unit))
    assert [(event.corruption, event.severity, event.images) for event in told] == [
        ("clean", 0, 2), ("dark", 4, 2), ("clean", 0, 4), ("dark", 4, 4), ("clean", 0, 5), ("dark", 4, 5),
    ]  # fmt: skip
    assert [event.accuracy for event in told] == pytest.approx([1, 1 / 2, 1, 1 / 2, 4 / 5, 3 / 5])
    left = [event.seconds_left / event.seconds for event in told]
    assert left == pytest.approx([5, 2, 1, 1 / 2, 1 / 5, 0])


def test_what_was_restored_is_not_left_to_do(start):
    first, units = start()
    kept = first.evaluate(iter(units[0]))
    told = []
    run, _ = start(progress=told.append)
    run.restore(kept)
    run.evaluate(iter(units[1]))
    assert [event.seconds_left / event.seconds for event in told] == pytest.approx([3, 1])
    assert told[0].images == 4


def test_progress_as_a_person_reads_it():
    event = CorruptionProgress("fog", 3, 2_560, 10_000, 0.7123, 20.0, 339.6)
    assert str(event) == "2,560/10,000 images, fog 3: 71.2% so far, 6 min left"
    clean = CorruptionProgress("clean", 0, 10, 10, 1.0, 20.0, 0.0)
    assert str(clean) == "10/10 images, clean: 100.0% so far, 0 s left"


def test_logits_that_are_not_finite_are_refused_on_clean_images_and_wrong_on_others(batches):
    def broken(images, where):
        return bright(images) + tf.where(images[:, :1, 0, 0] == where, np.nan, 0.0)

    for where, refused in ((1.0, True), (0.0, False)):
        look = np.full((2, 4, 4, 1), 0.3, np.float32)
        classifier = Classifier(lambda images, where=where: broken(images, where), look)
        run = CorruptionRun(KEYS, classifier, batches, progress=None, started=time.perf_counter())
        batch = next(iter(batches))
        if refused:
            with pytest.raises(InvalidInput, match="not finite on clean images"):
                run.evaluate(iter([(0, batch)]))
        else:
            run.evaluate(iter([(1, batch._replace(images=0 * batch.images))]))
            assert run.correct.sum() == 0
