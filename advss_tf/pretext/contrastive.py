"""What the methods of contrastive pretraining share: views of an image, a projection, and streams of batch norm.

Synopsis:

    class SimCLR(Contrastive):
        streams = ("clean",)

        def puzzle_of(self, views): ...                    # which views may be attacked, which are fixed
        def descend(self, inputs, puzzle, *, training): ...

    pretext.fit(data.unlabelled(256, views=pretext.views))     # views from the input pipeline …
    pretext.fit(data.unlabelled(256, augment=False))           # … or made in the step

A batch is `(rows, views, height, width, channels)`, or plain images, of which the step makes the views.

References: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", ICML 2020 (arXiv
2002.05709); the methods name theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from advss_tf.data.views import VIEWS, make_views, views_for
from advss_tf.encoders import projection_head
from advss_tf.errors import InvalidInput, one_of
from advss_tf.losses.contrastive import nt_xent, similarity_bytes
from advss_tf.pretext.annealing import Annealing
from advss_tf.randomness import fold
from advss_tf.training import Batch, Puzzle, RobustModel
from advss_tf.training.checks import check_views
from advss_tf.training.inference import encode

# What a step keeps of the matrix of similarities: itself, its exponentials, and the gradients of both.
_MATRICES = 4


class Contrastive(RobustModel):
    """An encoder with a projection behind it, trained by what different views of an image have in common.

    Subclasses name their `streams`, say in `puzzle_of` what becomes of the views, and define the verbs.

    Args:
        encoder: The Functional Keras model that is trained and kept, images -> features. With batch-norm branches it
            has one for each of the method's streams, and no other; without, all streams share theirs.
        views: Names of `data.views.VIEWS`, what is made of each image.
        loss_weights: As for `RobustModel`.
        reported: As for `RobustModel`.
        streams: The streams of batch norm; None for those of the class.
        temperature: That of the contrastive loss, > 0.
        projection: The sizes of the projection's layers, the last of which is the embedding's.
        branched_projection: Whether the projection's batch norms have the encoder's branches too.
        annealing: The schedule of augmentation and of the loss; None for neither.
        crop_padding: Of weak views: the largest shift in pixels; None for an eighth of the height.
        flip: Whether views are mirrored.
        attack: The attack of the training step; None trains on clean images.
        eval_attack: The attack of `evaluate`; by default the training attack.
        seed: The run's seed.
        name: The model's name.

    Raises:
        InvalidInput: if a view is not known, a size or the temperature is not positive, the branches are not the
            streams, or as `RobustModel`.
    """

    # The streams of a method that does not name others to the constructor.
    streams: tuple[str, ...] = ("clean", "adversarial")
    # The epoch is not picked by a held-out loss: the last one is kept, as every paper does.
    monitor = None

    def __init__(
        self,
        encoder: keras.Model,
        *,
        views: Sequence[str],
        loss_weights: dict[str, float],
        reported: tuple[str, ...] = (),
        streams: tuple[str, ...] | None = None,
        temperature: float = 0.5,
        projection: Sequence[int] = (512, 128),
        branched_projection: bool = True,
        annealing: Annealing | dict[str, Any] | None = None,
        crop_padding: int | None = None,
        flip: bool = True,
        attack: Any = None,
        eval_attack: Any = "attack",
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        views = tuple(one_of("view", view, VIEWS) for view in views)
        _check(temperature, projection)
        super().__init__(
            encoder,
            loss_weights=loss_weights,
            reported=(*reported, "retrieval", "robust_retrieval"),
            attack=attack,
            eval_attack=eval_attack,
            seed=seed,
            name=name,
        )
        if streams is not None:
            self.streams = streams
        self._check_branches()
        self.views, self.temperature = views, float(temperature)
        self.projection, self.branched_projection = tuple(int(size) for size in projection), bool(branched_projection)
        self.annealing = Annealing(**annealing) if isinstance(annealing, dict) else annealing
        self.crop_padding, self.flip = crop_padding, bool(flip)
        *hidden, outputs = self.projection
        self.projector = projection_head(
            encoder.output_shape[-1],
            outputs=outputs,
            hidden=hidden,
            branches=self.branches if self.branched_projection else (),
            seed=self.seed,
        )
        self.built = True

    # The views ---------------------------------------------------------------------------------------------------

    def strength(self, step: Any) -> Any:
        """How strong annealed views are at a step, in [0, 1]."""
        return 1.0 if self.annealing is None else self.annealing.strength(step)

    def pose(self, batch: Batch, seed: tf.Tensor) -> Puzzle:
        images = batch.images
        if images.shape.rank == 4:
            step = 0 if self.optimizer is None else self.optimizer.iterations
            wanted = views_for(self.views, crop_padding=self.crop_padding, flip=self.flip)
            views = make_views(wanted, images, fold(seed, 0), strength=self.strength(step))
        else:
            views = tuple(tf.unstack(images, len(self.views), axis=1))
        return self.puzzle_of(views, batch.labels)

    def puzzle_of(self, views: tuple[tf.Tensor, ...], labels: tf.Tensor | None) -> Puzzle:
        """The puzzle of a batch: `views` in the order of `self.views`, each `(rows, height, width, channels)`."""
        raise TypeError(f"{type(self).__name__} does not say what becomes of its views: define `puzzle_of`.")

    def check(self, images: Any) -> None:
        """Takes plain images, or as many views of them as the method has."""
        if getattr(images, "shape", None) is not None and len(images.shape) == 5:
            check_views(images, self.encoder.input_shape[1:], [view == "high_frequency" for view in self.views])
        else:
            super().check(images)

    # The embeddings ----------------------------------------------------------------------------------------------

    @property
    def networks(self) -> tuple[keras.Model, ...]:
        return (self.encoder, self.projector)

    def embed(self, images: tf.Tensor, *, training: bool, stream: str) -> tf.Tensor:
        """The projected features of a view, `(rows, embedding)` float32, of any length."""
        features = self.encode(images, training=training, stream=stream)
        return self.project(features, training=training, stream=stream)

    def project(self, features: tf.Tensor, *, training: bool, stream: str) -> tf.Tensor:
        """The embeddings of features, through the projection's own branch if it has them."""
        with self.stream(stream):
            return encode(self.projector, features, training=training)

    def embed_together(self, views: Sequence[tf.Tensor], *, training: bool, stream: str) -> tf.Tensor:
        """The embeddings of several views in one pass, which share the statistics of batch norm: `(views, rows, E)`."""
        embeddings = self.embed(tf.concat(list(views), 0), training=training, stream=stream)
        return tf.stack(tf.split(embeddings, len(views)))

    def embed_apart(self, views: Sequence[tf.Tensor], *, training: bool, stream: str) -> tf.Tensor:
        """The embeddings of several views in passes of their own, each by its own statistics: `(views, rows, E)`."""
        return tf.stack([self.embed(view, training=training, stream=stream) for view in views])

    def contrast(self, embeddings: tf.Tensor, *, attacking: bool = False, **options: Any) -> tf.Tensor:
        """NT-Xent of `(views, rows, E)`, `(rows,)`.

        Negatives come from all replicas. While attacking, where replicas cannot meet inside the loop, they come from
        this one's: on one replica that is the same.
        """
        negatives = "local" if attacking else "global"
        return nt_xent(embeddings, temperature=self.temperature, negatives=negatives, **options)

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        return self.embed(inputs, training=training, stream=self.delivered_branch or "clean")

    # What is said about it ---------------------------------------------------------------------------------------

    def loss_bytes(self, batch_size: int, replicas: int = 1) -> int:
        """About how many bytes the contrastive loss of one step needs on one replica.

        It grows with the square of views times images: 4 views of 512 images are 64 MiB, of 8,192 images 16 GiB.
        """
        return _MATRICES * similarity_bytes(self.num_contrasted, batch_size, replicas=replicas)

    @property
    def num_contrasted(self) -> int:
        """How many views meet in one contrastive loss."""
        return len(self.views)

    @property
    def provenance(self) -> dict[str, Any]:
        """What an exported encoder should say of how it was pretrained, as JSON."""
        return {"task": type(self).__name__, "views": list(self.views), "temperature": self.temperature}

    def get_config(self) -> dict[str, Any]:
        names = ("temperature", "projection", "crop_padding", "flip")
        config = {**super().get_config(), **{name: getattr(self, name) for name in names}}
        return {**config, "annealing": None if self.annealing is None else self.annealing.as_dict()}

    def _check_branches(self) -> None:
        if self.branches and set(self.branches) != set(self.streams):
            raise InvalidInput(
                "The encoder's batch-norm branches are not the streams of the method.",
                expected=f"branches={self.streams}, or none: branches=()",
                received=f"branches={self.branches}",
            )


def attackable(*views: str) -> None:
    """Refuses to attack what is no image: a ball of pixels in [0, 1] has no meaning around it.

    Raises:
        InvalidInput: if a view is `"high_frequency"`.
    """
    if "high_frequency" in views:
        raise InvalidInput(
            "High frequencies are no pixels, and cannot be attacked.",
            expected=f"attacked views out of {sorted(set(VIEWS) - {'high_frequency'})}",
            received=f"views={views}",
        )


def retrieval(embeddings: tf.Tensor) -> tf.Tensor:
    """Whether the other view of an image is the nearest of all others of this replica's batch, `(rows,)` in [0, 1].

    Args:
        embeddings: `(2, rows, E)`; both views look for each other, and the mean of the two is returned.

    Returns:
        `(rows,)` float32; guessing finds one in `2 · rows - 1`.
    """
    units = tf.math.l2_normalize(tf.cast(tf.concat(tf.unstack(embeddings), 0), tf.float32), axis=-1)
    rows = tf.shape(embeddings)[1]
    similarity = tf.linalg.set_diag(units @ tf.transpose(units), tf.fill((2 * rows,), -2.0))
    wanted = (tf.range(2 * rows) + rows) % (2 * rows)
    found = tf.cast(tf.argmax(similarity, axis=1, output_type=tf.int32) == wanted, tf.float32)
    return tf.reduce_mean(tf.reshape(found, (2, rows)), axis=0)


def _check(temperature: float, projection: Sequence[int]) -> None:
    if not 0 < temperature < float("inf"):
        raise InvalidInput(
            "`temperature` is no temperature.", expected="a finite number > 0", received=f"temperature={temperature}"
        )
    if not projection:
        raise InvalidInput("`projection` has no layer.", expected="one size or more", received=f"{projection=}")
