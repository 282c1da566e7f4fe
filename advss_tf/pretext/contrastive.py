"""What the methods of contrastive pretraining share: views of an image, a projection, and streams of batch norm.

Synopsis:

    class SimCLR(Contrastive):
        streams = ("clean",)

        def puzzle_of(self, views, labels): ...
        def descend(self, inputs, puzzle, *, training): ...     # self.contrast(self.embed_together(…))

References: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", ICML 2020 (arXiv
2002.05709); the methods name theirs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from advss_tf.encoders import is_synchronized, projection_head
from advss_tf.errors import InvalidInput
from advss_tf.losses.contrastive import nt_xent, similarity_bytes
from advss_tf.pretext.asymmetry import Asymmetry
from advss_tf.pretext.batch_checks import assert_others, batch_rows, check_remainder, refused_in_words, with_others
from advss_tf.pretext.viewed import Viewed
from advss_tf.training.inference import encode
from advss_tf.training.strategy import global_size, spare_bytes

# What a step keeps of the matrix of similarities: itself, its exponentials, and the gradients of both.
_MATRICES = 4


class Contrastive(Viewed):
    """An encoder with a projection behind it, trained by what different views of an image have in common.

    Subclasses name their `streams` and define `puzzle_of` and the verbs.

    Args:
        encoder: The Functional Keras model that is trained and kept, images -> features.
        reported: As for `RobustModel`.
        temperature: That of the contrastive loss, > 0.
        projection: The sizes of the projection's layers, the last of which is the embedding's.
        projection_norms: Which of them have a batch norm, see `encoders.projection_head`.
        branched_projection: Whether the projection's batch norms have the encoder's branches too.
        options: As for `Viewed`.

    Raises:
        InvalidInput: if a size or the temperature is not positive, or as `Viewed`.
    """

    # A batch cannot be split: its parts would not see each other's negatives.
    compares_images = True
    # How attacked views differ from clean ones in the first of `contrasts`; None where they do not.
    asymmetry: Asymmetry | None = None
    _said: frozenset[int] = frozenset()

    def __init__(
        self,
        encoder: keras.Model,
        *,
        reported: tuple[str, ...] = (),
        temperature: float = 0.5,
        projection: Sequence[int] = (512, 128),
        projection_norms: str = "hidden",
        branched_projection: bool = True,
        **options: Any,
    ) -> None:
        _check(temperature, projection)
        super().__init__(encoder, reported=(*reported, "retrieval", "robust_retrieval"), **options)
        self.temperature, self.branched_projection = float(temperature), bool(branched_projection)
        self.projection, self.projection_norms = tuple(int(size) for size in projection), projection_norms
        *hidden, outputs = self.projection
        self.projector = projection_head(
            encoder.output_shape[-1],
            outputs=outputs,
            hidden=hidden,
            norms=projection_norms,
            branches=self.branches if self.branched_projection else (),
            synchronized=is_synchronized(encoder),
            seed=self.seed,
        )
        self.built = True

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

    # The training ------------------------------------------------------------------------------------------------

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        assert_others(global_size(keras.utils.unpack_x_y_sample_weight(data)[0]))
        return super().train_step(data)

    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """As `Viewed.fit`; a batch of one image, the last one too, is refused, and a loss that fills memory said.

        Raises:
            InvalidInput: if a batch has one image: before the training where `x` tells, else at that batch.
        """
        size = args[1] if len(args) > 1 else kwargs.get("batch_size")
        # What Keras cuts off for validation, or leaves unread, may leave another remainder: the step will see.
        if not kwargs.get("validation_split") and kwargs.get("steps_per_epoch") is None:
            check_remainder(x, size)
        rows = batch_rows(x, size)
        if rows is not None:
            self.warn_of_memory(rows, self.distribute_strategy.num_replicas_in_sync)
        with refused_in_words():
            return super().fit(with_others(x), *args, **kwargs)

    # What is said about it ---------------------------------------------------------------------------------------

    def warn_of_memory(self, batch_size: int, replicas: int = 1, *, say: Callable[[str], None] | None = None) -> None:
        """Says, once of each batch size, if the loss of a step takes more memory than a device may have to spare.

        Args:
            batch_size: The number of images of all replicas together.
            replicas: How many replicas share the batch.
            say: Takes the line; None warns as Python does.
        """
        takes = self.loss_bytes(batch_size, replicas)
        if takes <= spare_bytes() or batch_size in self._said:
            return
        self._said |= {batch_size}
        line = (
            f"the contrastive loss of {batch_size:,} images needs about {takes / 2**30:.1f} GiB on each of "
            f"{replicas} device(s). It grows with the square of views times images."
        )
        if say is None:
            warnings.warn(line[0].upper() + line[1:], UserWarning, stacklevel=3)
        else:
            say(f"WARNING: {line}")

    def loss_bytes(self, batch_size: int, replicas: int = 1) -> int:
        """About how many bytes the contrastive losses of one step need on one replica.

        They grow with the square of views times images: AdvCL's 4 views of 512 images are 64 MiB, of 8,192 16 GiB, and
        A-InfoNCE's, both of whose asymmetries need more matrices, twice that.
        """
        sizes = [similarity_bytes(views, batch_size, replicas=replicas) for views in self.contrasts]
        return _MATRICES * sum(sizes) + (0 if self.asymmetry is None else self.asymmetry.matrices * sizes[0])

    @property
    def contrasts(self) -> tuple[int, ...]:
        """How many views meet in each contrastive loss of a step."""
        return (len(self.views),)

    @property
    def provenance(self) -> dict[str, Any]:
        """What an exported encoder should say of how it was pretrained, as JSON: what tells variants apart."""
        return {
            "task": type(self).__name__,
            "views": list(self.views),
            "temperature": self.temperature,
            "annealing": None if self.annealing is None else self.annealing.as_dict(),
            "asymmetry": None if self.asymmetry is None else self.asymmetry.as_dict(),
        }

    def get_config(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("temperature", "projection", "projection_norms")}
        annealing = None if self.annealing is None else self.annealing.as_dict()
        return {**super().get_config(), **own, "annealing": annealing}


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
    # Without a row there would be no column to take the largest of.
    nearest = tf.argmax(tf.pad(similarity, [[0, 0], [0, 1]], constant_values=-3.0), axis=1, output_type=tf.int32)
    found = tf.cast(nearest == wanted, tf.float32)
    return tf.reduce_mean(tf.reshape(found, (2, rows)), axis=0)


def _check(temperature: float, projection: Sequence[int]) -> None:
    if not 0 < temperature < float("inf"):
        raise InvalidInput(
            "`temperature` is no temperature.", expected="a finite number > 0", received=f"temperature={temperature}"
        )
    if not projection:
        raise InvalidInput("`projection` has no layer.", expected="one size or more", received=f"{projection=}")
