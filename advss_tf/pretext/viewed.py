"""What the methods share that look at views of an image: who makes the views, and what a batch looks like.

Synopsis:

    class DeACL(Viewed):
        def puzzle_of(self, views, labels): ...            # which views may be attacked, which are fixed

    pretext.fit(data.unlabelled(256, views=pretext.views))     # views from the input pipeline …
    pretext.fit(data.unlabelled(256, augment=False))           # … or made in the step

A batch is `(rows, views, height, width, channels)`, or plain images, of which the step makes the views.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

import keras
import tensorflow as tf

from advss_tf.data.view_kinds import VIEWS, Spec, spec_of, view_of, views_of
from advss_tf.data.views import make_views, views_for
from advss_tf.errors import InvalidInput
from advss_tf.pretext.annealing import Annealing
from advss_tf.training import Batch, Puzzle, RobustModel
from advss_tf.training.checks import check_views

Options = TypeVar("Options")


class Viewed(RobustModel):
    """A model that learns from views of each image. Subclasses define `puzzle_of`, and what `RobustModel` asks for.

    Args:
        encoder: The Functional Keras model that is trained and kept, images -> features. With batch-norm branches it
            has one for each of the method's streams, and no other; without, all streams share theirs.
        views: What is made of each image, as `data.view_of` takes it: `"strong"`, or `{"kind": "strong", "hue": 0.0}`.
        streams: The streams of batch norm; None for those of the class.
        annealing: The schedule of `annealed` views; None leaves them at full strength.
        crop_padding: Of weak views: the largest shift in pixels; None for an eighth of the height.
        flip: Whether views are mirrored.
        options: As for `RobustModel`.

    Raises:
        InvalidInput: as `views_of`, if the branches are not the streams, or as `RobustModel`.
    """

    # The streams of a method that does not name others to the constructor.
    streams: tuple[str, ...] = ("clean", "adversarial")
    # No held-out number picks the epoch: the last one is kept, as every paper does.
    monitor = None

    def __init__(
        self,
        encoder: keras.Model,
        *,
        views: Sequence[Spec],
        streams: tuple[str, ...] | None = None,
        annealing: Annealing | dict[str, Any] | None = None,
        crop_padding: int | None = None,
        flip: bool = True,
        **options: Any,
    ) -> None:
        wanted = views_of(views)
        super().__init__(encoder, **options)
        self.streams = self.streams if streams is None else streams
        if self.branches and set(self.branches) != set(self.streams):
            raise InvalidInput(
                "The encoder's batch-norm branches are not the streams of the method.",
                expected=f"branches={self.streams}, or none: branches=()",
                received=f"branches={self.branches}",
            )
        self._views, self.crop_padding, self.flip = wanted, crop_padding, bool(flip)
        self.annealing = given(Annealing, annealing, name="annealing")
        self._rank: int | None = None

    @property
    def views(self) -> tuple[str | dict[str, Any], ...]:
        """The views of a batch in their order, each by its name, or by its kind and what differs from it."""
        return tuple(map(spec_of, self._views))

    @property
    def step(self) -> Any:
        """The number of the training step, which schedules go by; None before the model is compiled."""
        optimizer = getattr(self, "optimizer", None)
        return None if optimizer is None else optimizer.iterations

    def strength(self, step: Any) -> Any:
        """How strong annealed views are at a step, in [0, 1]."""
        return 1.0 if self.annealing is None else self.annealing.strength(step)

    def pose(self, batch: Batch, seed: tf.Tensor) -> Puzzle:
        images = batch.images
        if images.shape.rank == 4:
            views = self.drawn_views(images, seed)
        else:
            views = tuple(tf.unstack(images, len(self._views), axis=1))
        return self.puzzle_of(views, batch.labels)

    def drawn_views(self, images: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """The views that `pose` makes of plain images by a seed; the gradient flows through them to the images."""
        step = 0 if self.step is None else self.step
        wanted = views_for(self._views, crop_padding=self.crop_padding, flip=self.flip)
        return make_views(wanted, images, seed, strength=self.strength(step))

    def puzzle_of(self, views: tuple[tf.Tensor, ...], labels: tf.Tensor | None) -> Puzzle:
        """The puzzle of a batch: `views` in the order of `self.views`, each `(rows, height, width, channels)`."""
        raise TypeError(f"{type(self).__name__} does not say what becomes of its views: define `puzzle_of`.")

    def check(self, images: Any) -> None:
        """Takes plain images, or as many views of them as the method has."""
        if isinstance(images, tf.Tensor) and images.shape.rank == 5:
            check_views(images, self.encoder.input_shape[1:], [view.kind == "high_frequency" for view in self._views])
        else:
            super().check(images)

    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """As `RobustModel.fit`; after views plain images may come, and the other way round."""
        rank = _rank_of(x)
        if self._rank not in (None, rank):
            self.make_train_function(force=True)  # what was traced for one would be traced anew for any rank at all
        self._rank = rank
        return super().fit(x, *args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "crop_padding": self.crop_padding, "flip": self.flip}


def given(kind: type[Options], options: Options | dict[str, Any] | None, *, name: str) -> Options | None:
    """Options that are given as what they are, by their names in a dictionary, or not at all.

    Raises:
        InvalidInput: if the dictionary has a name too many or too few, or as `kind`.
    """
    if not isinstance(options, dict):
        return options
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    known, needed = ({f.name for f in fields}, {f.name for f in fields if f.default is dataclasses.MISSING})
    if not needed <= set(options) <= known:
        wanted = [f.name if f.name in needed else f"{f.name} (optional)" for f in fields]
        raise InvalidInput(
            f"`{name}` does not have the arguments of {kind.__name__}.",
            expected=", ".join(wanted),
            received=f"{name}={options}",
        )
    return kind(**options)


def attackable(*views: Spec) -> None:
    """Refuses to attack what is no image: a ball of pixels in [0, 1] has no meaning around it.

    Raises:
        InvalidInput: if a view is one of high frequencies, or none at all.
    """
    if any(view_of(view).kind == "high_frequency" for view in views):
        raise InvalidInput(
            "High frequencies are no pixels, and cannot be attacked.",
            expected=f"attacked views out of {sorted(set(VIEWS) - {'high_frequency'})}",
            received=f"views={views}",
        )


def _rank_of(x: Any) -> int | None:
    """The rank of the images that `fit` is given; None where that cannot be told."""
    spec = getattr(x, "element_spec", x)
    first = next(iter(tf.nest.flatten(spec)), None)
    # Of a distributed dataset: that of one replica.
    shape = getattr(getattr(first, "_value_specs", (first,))[0], "shape", None)
    return None if shape is None else len(shape)
