"""`ImageData`: a labelled or unlabelled set of images, cut into train, held-out and test, as `tf.data` datasets.

Synopsis:

    data = load_data("digits", labels_per_class=20)
    pretext.fit(data.unlabelled(batch_size=128), epochs=10)
    contrastive.fit(data.unlabelled(batch_size=128, views=("strong", "strong")), epochs=10)
    classifier.fit(data.train(batch_size=128), validation_data=data.held_out(), epochs=20)
    classifier.evaluate(data.test())
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from advss_tf.data.augment import crop_and_flip
from advss_tf.data.checks import check_augmentation, check_pseudo_labels
from advss_tf.data.pipeline import Augment, Part, TrainingPlan, ordered_batches, steps_per_epoch, training_batches
from advss_tf.data.splits import permutation
from advss_tf.data.view_kinds import Spec
from advss_tf.data.views import check_strength, make_views, views_for
from advss_tf.errors import InvalidInput, one_of
from advss_tf.randomness import seed_for


@dataclass(frozen=True, eq=False)
class ImageData:
    """Images and what may be done with them; made by `load_data`.

    Batches are float32 `(batch, height, width, channels)` in [0, 1], labels int64 `(batch,)`. Augmentation (zero-pad,
    random crop, flip) is for training batches alone; `dataclasses.replace(data, flip=False, crop_padding=2)` is the
    same set augmented otherwise, for a pretraining that wants it so.

    Args:
        name: What reports call the set.
        train_part: The records of the train split, without the held-out ones; none of a set that is a test split alone.
        labelled_part: Those of them whose labels may be used.
        held_out_part: What models are picked on; cut from train.
        test_part: What models are measured on; None if there is none.
        class_names: One name a class; None when unlabelled.
        fingerprint: SHA-256 in hexadecimal over pixels and labels, or, of a set that stays on the disk, over the list
            of its files and their sizes. It says which images these are, not how they were split.
        seed: The default seed of order and augmentation.
        crop_padding: The largest shift of the augmentation and of weak views, in pixels.
        flip: Whether the augmentation and the views mirror images.

    Raises:
        InvalidInput: if `crop_padding` or `flip` is not what it may be.
    """

    name: str
    train_part: Part
    labelled_part: Part
    held_out_part: Part
    test_part: Part | None
    class_names: tuple[str, ...] | None
    fingerprint: str
    seed: int = 0
    crop_padding: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        check_augmentation(self.crop_padding, self.flip)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(height, width, channels)` of every image."""
        height, width, channels = self.train_part.store.image_shape
        return int(height), int(width), int(channels)

    @property
    def num_classes(self) -> int | None:
        """How many classes there are; None when unlabelled."""
        return None if self.class_names is None else len(self.class_names)

    @property
    def num_train(self) -> int:
        """Images of the train split, labelled or not, without the held-out ones."""
        return len(self.train_part)

    @property
    def num_records(self) -> int:
        """Records that train was cut from, of which each has its row in an array of pseudo-labels.

        Beside `num_train` these are the held-out images, what `train_limit` left out, and the test images where the
        source has no test split of its own. `train_part.numbers` and `held_out_part.numbers` say which are which.
        """
        return len(self.train_part.store)

    @property
    def num_labelled(self) -> int:
        """Images of the train split whose labels may be used; 0 when unlabelled."""
        return 0 if self.class_names is None else len(self.labelled_part)

    @property
    def num_held_out(self) -> int:
        """Images held out of train."""
        return len(self.held_out_part)

    @property
    def num_test(self) -> int:
        """Images of the test split."""
        return 0 if self.test_part is None else len(self.test_part)

    def steps_per_epoch(self, batch_size: int, split: str = "train") -> int:
        """Full batches until every image of a split has been seen.

        Args:
            batch_size: Images in a global batch.
            split: `"train"` (the label budget) or `"unlabelled"` (all of train).
        """
        one_of("split", split, ("train", "unlabelled"))
        self._check_train()
        TrainingPlan(batch_size)
        return steps_per_epoch(self.num_labelled if split == "train" else self.num_train, batch_size)

    def train(
        self,
        batch_size: int,
        *,
        augment: bool = True,
        seed: int | None = None,
        start_step: int = 0,
        num_steps: int | None = None,
        worker: int = 0,
        num_workers: int = 1,
    ) -> tf.data.Dataset:
        """Training batches `(images, labels)` of the label budget.

        Batches are always full. Place `p = step * batch_size + row` of the stream holds image `p % n` in the order of
        epoch `p // n`, so batches straddle epochs and no image is lost.

        Args:
            batch_size: Images in a global batch.
            augment: Whether to crop and flip.
            seed: Decides order and augmentation. Defaults to the seed of `load_data`.
            start_step: The first step; what a step holds does not depend on it.
            num_steps: Exactly so many steps. None means one epoch, `steps_per_epoch(batch_size)` steps, and the next
                epoch at every new pass, as `fit(…, epochs=20)` makes them; a pass that is broken off is not counted.
            worker: Which of `num_workers` this is.
            num_workers: How many workers share each global batch. Each gets a contiguous slice of it.

        Raises:
            InvalidInput: if the set is unlabelled or has no train split, a number is out of range, or the workers
                cannot share evenly.
        """
        self._check_labelled("train()")
        plan = self._plan(batch_size, seed, start_step, num_steps, worker, num_workers)
        return training_batches(self.labelled_part, plan, augment=self._augment if augment else None)

    def unlabelled(
        self,
        batch_size: int,
        *,
        views: Sequence[Spec] | None = None,
        strength: Callable[[tf.Tensor], Any] | None = None,
        pseudo_labels: np.ndarray | None = None,
        augment: bool = True,
        seed: int | None = None,
        start_step: int = 0,
        num_steps: int | None = None,
        worker: int = 0,
        num_workers: int = 1,
    ) -> tf.data.Dataset:
        """Training batches from all of train: images, or views of them, without labels; otherwise as `train`.

        Args:
            batch_size: Images in a global batch.
            views: As `view_of` takes them: batches are then `(rows, num_views, height, width, channels)`, each
                image's views side by side, made on the host as `make_views` says, with this set's `crop_padding` and
                `flip`. What they hold depends on the seed and the step alone. None means images.
            strength: That of annealed views: a function from the step, an int64 scalar tensor, to a scalar in [0, 1],
                of TensorFlow's operations. None means 1 at every step.
            pseudo_labels: Integers `(num_records, heads)`, all >= 0 where train has a record: batches are then
                `(images or views, pseudo_labels)` with int64 `(rows, heads)`. None for none.
            augment: Whether to crop and flip; views are made of the images as they are, whatever it says.
            seed: As for `train`, and so on.
            start_step: The first step.
            num_steps: Exactly so many steps, or None for one epoch a pass.
            worker: Which of `num_workers` this is.
            num_workers: How many workers share each global batch.

        Raises:
            InvalidInput: as `train`, but not for a set without labels; if a view is not known, a strength is given
                without views, or is none at `start_step`; if the pseudo-labels are not those of this set's records.
        """
        plan = self._plan(batch_size, seed, start_step, num_steps, worker, num_workers)
        if views is None and strength is not None:
            raise InvalidInput("A strength is for views.", expected="`views`, or no strength", received="views=None")
        change: Augment | None = self._augment if augment else None
        if views is not None:
            change = self._views(views, strength, start_step)
        pseudo_labels = self._pseudo_labels(pseudo_labels, self.train_part)
        return training_batches(self.train_part, plan, augment=change, labelled=False, pseudo_labels=pseudo_labels)

    def labelled(self, batch_size: int = 256, *, limit: int | None = None) -> tf.data.Dataset:
        """The `(images, labels)` of the label budget, once, in order, not augmented, the remainder kept.

        Args:
            batch_size: Images a batch.
            limit: This many of them at most, a seeded choice; None for all.

        Raises:
            InvalidInput: if the set is unlabelled or has no train split, or `limit` is less than 1.
        """
        self._check_labelled("labelled()")
        self._check_train()
        TrainingPlan(batch_size)
        if limit is not None and limit < 1:
            raise InvalidInput("`limit` is too small.", expected="limit >= 1, or None", received=f"limit={limit}")
        part = self.labelled_part
        chosen = np.sort(permutation(part.numbers, seed=self.seed, role="labelled_limit")[:limit])
        return ordered_batches(Part(part.store, chosen), batch_size)

    def held_out(self, batch_size: int = 256, pseudo_labels: np.ndarray | None = None) -> tf.data.Dataset:
        """The held-out `(images, labels)` (images alone when unlabelled), once, in order, the remainder kept.

        A remainder of a few images shares with the batch before, so that several replicas have an image each, and
        what finds views among those of other images has others.

        Args:
            batch_size: The most images in a batch; at least twice as many as there are replicas.
            pseudo_labels: Integers `(num_records, heads)` that come in place of labels, as for `unlabelled`.

        Raises:
            InvalidInput: if nothing was held out, or there is no train split to hold out from; if the pseudo-labels are
                not those of this set's records.
        """
        self._check_train()
        if not self.num_held_out:
            raise InvalidInput("Nothing was held out.", expected="held_out > 0 in load_data", received="held_out=0")
        TrainingPlan(batch_size)
        pseudo_labels = self._pseudo_labels(pseudo_labels, self.held_out_part)
        labelled = self.class_names is not None
        return ordered_batches(self.held_out_part, batch_size, labelled=labelled, pseudo_labels=pseudo_labels)

    def test(self, batch_size: int = 256) -> tf.data.Dataset:
        """The test `(images, labels)` (images alone when unlabelled), once, in order, the remainder kept.

        Raises:
            InvalidInput: if there is no test split.
        """
        if self.test_part is None:
            raise InvalidInput(f"{self.name!r} has no test split.", expected="a set with one", received="num_test=0")
        TrainingPlan(batch_size)
        return ordered_batches(self.test_part, batch_size, labelled=self.class_names is not None)

    def __repr__(self) -> str:
        return (
            f"ImageData({self.name!r}, image_shape={self.image_shape}, num_classes={self.num_classes}, "
            f"num_train={self.num_train}, num_labelled={self.num_labelled}, num_held_out={self.num_held_out}, "
            f"num_test={self.num_test})"
        )

    def _plan(self, batch_size: int, seed: int | None, *numbers: Any) -> TrainingPlan:
        self._check_train()
        return TrainingPlan(batch_size, self.seed if seed is None else seed, *numbers)

    def _augment(self, images: tf.Tensor, step: tf.Tensor, plan: TrainingPlan) -> tf.Tensor:
        seed, rows = seed_for(plan.seed, step, "augment"), {"batch_size": plan.batch_size, "first": plan.rows.start}
        return crop_and_flip(images, seed, crop_padding=self.crop_padding, flip=self.flip, **rows)

    def _views(self, views: Sequence[Spec], strength: Callable[[tf.Tensor], Any] | None, start: int) -> Augment:
        """What makes `(rows, num_views, height, width, channels)` of images."""
        wanted = views_for(views, crop_padding=self.crop_padding, flip=self.flip)
        if strength is not None:
            check_strength(strength, start)

        def change(images: tf.Tensor, step: tf.Tensor, plan: TrainingPlan) -> tf.Tensor:
            seed, rows = seed_for(plan.seed, step, "views"), {"batch_size": plan.batch_size, "first": plan.rows.start}
            made = make_views(wanted, images, seed, strength=1.0 if strength is None else strength(step), **rows)
            # The size is known, as that of images is; XLA wants to know it too.
            return tf.ensure_shape(tf.stack(made, axis=1), (images.shape[0], len(made), *images.shape[1:]))

        return change

    def _pseudo_labels(self, pseudo_labels: np.ndarray | None, part: Part) -> np.ndarray | None:
        if pseudo_labels is None:
            return None
        check_pseudo_labels(pseudo_labels, count=self.num_records, used=part.numbers)
        return np.asarray(pseudo_labels)

    def _check_train(self) -> None:
        if not self.num_train:
            raise InvalidInput(
                f"{self.name!r} has no train split.", expected="a set with one, or `test()`", received="num_train=0"
            )

    def _check_labelled(self, method: str) -> None:
        if self.class_names is None:
            raise InvalidInput(
                f"{self.name!r} has no labels, which `{method}` needs.",
                expected="a labelled set, or `unlabelled()`",
                received="num_classes=None",
            )
