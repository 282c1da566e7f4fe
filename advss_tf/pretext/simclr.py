"""SimCLR: two views of an image find each other in the batch. Clean pretraining (P2), and the teacher of DeACL.

Synopsis:

    pretext = SimCLR(encoder)
    pretext.compile(optimizer=LARS(0.3))
    pretext.fit(data.unlabelled(256, views=pretext.views))
    export_encoder(pretext, "teacher")

Reference: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", ICML 2020 (arXiv
2002.05709), algorithm 1 and equation 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from advss_tf.data.view_kinds import Spec, views_of
from advss_tf.errors import InvalidInput
from advss_tf.pretext.contrastive import Contrastive, retrieval
from advss_tf.training import Batch, Puzzle


@keras.saving.register_keras_serializable(package="advss_tf")
class SimCLR(Contrastive):
    """Contrastive learning on clean images: the mean NT-Xent of two or more views.

    Beside the classes of a `JointClassifier`, whose attack may climb it, an image's loss is among the images of its
    batch: those that are attacked with it.

    Args:
        encoder: See `Contrastive`; without branches, or with those of `streams`.
        views: Two views or more.
        temperature: See `Contrastive`, as the rest.
        projection: The sizes of the projection's layers.
        projection_norms: Which of them have a batch norm.
        crop_padding: Of weak views.
        flip: Whether views are mirrored.
        streams: The branches of an encoder that has some. Pretraining forwards `clean`; beside the classes images go
            through the branch of those that the task is learned on, `clean` or `adversarial`.
        attack: None: nothing is attacked. `ACL` and `RoCL` are attacked SimCLR.
        eval_attack: None as well.
        seed: The run's seed.
        name: The model's name.

    Raises:
        InvalidInput: if there are fewer than two views or an attack, or as `Contrastive`.
    """

    def __init__(
        self,
        encoder: keras.Model,
        *,
        views: Sequence[Spec] = ("strong", "strong"),
        temperature: float = 0.5,
        projection: Sequence[int] = (512, 128),
        projection_norms: str = "hidden",
        crop_padding: int | None = None,
        flip: bool = True,
        streams: Sequence[str] = ("clean",),
        attack: Any = None,
        eval_attack: Any = None,
        seed: int = 0,
        name: str | None = "simclr",
    ) -> None:
        views = views_of(views)
        if len(views) < 2:
            raise InvalidInput("`views` has no positives.", expected="two views or more", received=f"{views=}")
        if attack is not None or eval_attack not in (None, "attack"):
            raise InvalidInput(
                "SimCLR attacks nothing.", expected="attack=None, or ACL or RoCL", received=f"attack={attack!r}"
            )
        super().__init__(
            encoder,
            views=views,
            loss_weights={"contrastive": 1.0},
            temperature=temperature,
            projection=projection,
            projection_norms=projection_norms,
            crop_padding=crop_padding,
            flip=flip,
            streams=tuple(streams),
            seed=seed,
            name=name,
        )

    def pose(self, batch: Batch, seed: tf.Tensor) -> Puzzle:
        return super().pose(batch, seed)._replace(fixed={"seed": seed})

    def puzzle_of(self, views: tuple[tf.Tensor, ...], labels: tf.Tensor | None) -> Puzzle:
        del labels
        return Puzzle({f"view{number}": view for number, view in enumerate(views)})

    def render(self, images: tf.Tensor, puzzle: Puzzle) -> dict[str, tf.Tensor]:
        """The views of images by the choices of a puzzle, as `pose` makes them of its batch.

        The gradient flows through them, but for pixels that a change of colours has clipped to 0 or 1.

        Args:
            images: `(batch, height, width, channels)` in [0, 1], of the size that the encoder takes.
            puzzle: What `pose` returned; its inputs are not read.

        Returns:
            The puzzle's inputs, `view0`, `view1`, …, each of the images' shape.
        """
        return self.puzzle_of(self.drawn_views(images, (puzzle.fixed or {})["seed"]), None).inputs

    def solve(
        self, inputs: dict[str, tf.Tensor], puzzle: Puzzle, *, training: bool, stream: str, attacking: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """NT-Xent and `retrieval` of each image at its views, `(batch,)` float32 each; see `Contrastive.contrast`."""
        del puzzle
        embeddings = self._embeddings(inputs, training=training, stream=stream)
        return self.contrast(embeddings, attacking=attacking), retrieval(embeddings[:2])

    def descend(self, inputs: dict[str, tf.Tensor], puzzle: Puzzle, *, training: bool) -> dict[str, tf.Tensor]:
        return {"contrastive": self.contrast(self._embeddings(inputs, training=training))}

    def measure(self, inputs: dict[str, tf.Tensor], puzzle: Puzzle) -> dict[str, tf.Tensor]:
        embeddings = self._embeddings(inputs, training=False)
        return {"contrastive": self.contrast(embeddings), "retrieval": retrieval(embeddings[:2])}

    def get_config(self) -> dict[str, Any]:
        config = {**super().get_config(), "views": self.views, "streams": self.streams}
        return {name: value for name, value in config.items() if name != "annealing"}

    def _embeddings(self, inputs: dict[str, tf.Tensor], *, training: bool, stream: str = "clean") -> tf.Tensor:
        views = [inputs[f"view{number}"] for number in range(len(self.views))]
        return self.embed_together(views, training=training, stream=stream)
