"""What the tests of a grid share: a record without a measurement."""

from __future__ import annotations

import pytest

from advss_tf.evaluation import Record, Result


@pytest.fixture
def record():
    """A maker of records of 100 images in Linf 0.1: `record(name, clean=80, robust=50)`."""

    def make(name, *, clean=80, robust=50):
        def row(attack, right, **more):
            return Result.from_counts(attack, right, 100, class_correct=(right, 0), **more)

        rows = (
            row("clean", clean),
            row("pgd-20", robust, threat="Linf", eps=0.1, num_restarts=1),
            row("worst", robust, threat="Linf", eps=0.1),
        )
        return Record(
            name=name, threat="Linf", eps=0.1, clean_acc=clean / 100, robust_acc=robust / 100, suite="quick",
            results=rows, seed=0, batch_size=10, num_images=100, num_images_available=100, image_shape=(8, 8, 1),
            num_classes=2, class_names=("a", "b"), class_totals=(50, 50), images_fingerprint="f", output="logits",
            versions={}, device="cpu", date="2020-01-01", seconds=1.0, forward_passes=1.0, backward_passes=1.0,
        )  # fmt: skip

    return make
