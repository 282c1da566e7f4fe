"""Selfie: which of the masked patches belongs into this place of the image?

Synopsis:

    pretext = Selfie(encoder, attack=ProjectedGradientDescent(Linf("8/255")))
    pretext.compile(optimizer="sgd")
    pretext.fit(images)                      # no labels
    pretext.chance                           # 0.25: one of four masked patches

References:
    Trinh, Luong, Le, "Selfie: Self-supervised Pretraining for Image Embedding", 2019 (arXiv 1906.02940).
    Chen et al., "Adversarial Robustness: From Self-Supervised Pre-Training to Fine-Tuning", CVPR 2020
    (arXiv 2003.12862), and its code: 4 x 4 patches, a quarter of them masked; the attack moves the whole image, of
    which the patches are cut; the weights descend ½ clean + ½ adversarial loss.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from advss_tf.encoders.stages import boundary as default_boundary
from advss_tf.losses import correct, cross_entropy
from advss_tf.pretext.attention_pooling import AttentionPooling, PatchPositions
from advss_tf.pretext.mixed import MixedPuzzle, Solved
from advss_tf.pretext.patches import cut, draw_orders, patch_network
from advss_tf.pretext.selfie_options import CORRECTED, checked_sizes, chosen_quirks
from advss_tf.randomness import derived_seed, fold, seed_for
from advss_tf.training import Batch, Puzzle


@keras.saving.register_keras_serializable(package="advss_tf")
class Selfie(MixedPuzzle):
    """Tells for each masked place which of the masked patches of the same image belongs there.

    The encoder's layers through `boundary` read each patch by itself. Attention pools the patches that are not masked
    into one vector; with the vector of a masked place added it is a query, whose dot products with the masked patches
    are the scores. "Masked" is withheld from the pooling: nothing is blacked out.

    Only the layers through `boundary` are trained, and the head. The encoder that is handed over is whole: its other
    layers are as they were, which is what `reset_after_boundary` makes of them in finetuning anyway. Batch norm's
    running statistics are those of patches.

    `faithful=True` is the task of the public code of Chen et al.; without it seven things are put right. An option
    that is given wins over both.

    | option | faithful | corrected | why |
    | --- | --- | --- | --- |
    | `mask_per` | `"batch"` | `"image"` | one mask for all images of a step makes the gradient noisier |
    | `context_positions` | False | True | without places the pooling sees a set of patches, not an image |
    | `zero_columns` | True | False | places start as their row alone |
    | `extra_layer` | True | False | 12 layers are asked for, 13 are made |
    | `scaled_scores` | False | True | dot products grow with the width; divided by its root they do not |
    | `double_softmax` | True | False | probabilities go into a loss that takes logits: it stays in [0.74, 1.74] for |
    |  |  |  | four masked patches, and its gradient is nearly flat |
    | `summed_loss` | True | False | the loss, and so the step, grows with the number of masked patches |
    | `pretrain.flip` | False | as `data` | of a recipe, if it is null: that code mirrors no image for this task |

    In Python the last row is the data's: `dataclasses.replace(data, flip=False)`. An ensemble's tasks share their
    images, and that code mirrors those of rotation and jigsaw: there the data, or `pretrain.flip`, say it.

    That code also drops attention weights, and draws anew what is dropped at every step of the attack; here `dropout`
    drops the outputs of sublayers, one draw for the clean pass and one for the attack and the attacked pass. That it
    shifts by 2 pixels at most is `crop_padding=2` of the data, in a recipe `pretrain.crop_padding`. At validation it
    masks each batch otherwise; here every batch of an evaluation has the same masks. Its attack runs in training mode,
    which has dropout as well: `ProjectedGradientDescent(…, batch_norm="training")`.

    Args:
        encoder: Functional Keras model, images of one size -> features.
        boundary: The last stage, or layer, of the patch network; None for the last stage but one (stage 3 of four).
        grid: Patches along each side, 2 or more; it divides the images.
        num_masked: Masked patches of an image, at least 2 and less than grid²; None for a quarter, at least 2.
        num_layers: Transformer layers of the pooling.
        num_heads: Attention heads of each.
        head_width: Width of a head; None for the patch vector's width / num_heads.
        hidden_width: Width of the Transformer's hidden dense layers; None for twice the patch vector's.
        dropout: Share of the output of each sublayer that is dropped in training, in [0, 1).
        mask_per: Whether the masked patches are drawn for each `"image"` or for each `"batch"`.
        context_positions: Whether the patches that are not masked are told from each other by their places.
        zero_columns: Whether the vectors of columns start as zeros.
        extra_layer: Whether there is one Transformer layer more than `num_layers`.
        scaled_scores: Whether scores are divided by the square root of the patch vector's width.
        double_softmax: Whether the softmax of the scores stands where the loss takes logits.
        summed_loss: Whether an image's loss is the sum over its masked patches, else the mean.
        faithful: See the table.
        clean_weight: Weight of the loss on the unattacked image, in [0, 1); the attacked one has the rest. The paper's
            formula is 0 (adversarial only), its code 0.5. Without an attack the clean loss is the loss.
        attack: The attack of training (P3); None is standard pretraining (P2). One ball around the whole image.
        eval_attack: The attack of evaluation; by default the training attack.
        seed: The run's seed.
        name: The model's name.

    Call arguments:
        inputs: `(batch, height, width, channels)` in [0, 1].

    Returns:
        Scores `(batch, num_masked, num_masked)` with the masks of an evaluation: place by patch, right on the diagonal.

    Attributes:
        patch_network: The trained part of the encoder, patches -> vectors; it shares the encoder's layers.

    Raises:
        InvalidInput: if an option is out of range, the grid does not divide the images, or the patches are too small.
    """

    cuts_patches = True

    def __init__(
        self,
        encoder: keras.Model,
        *,
        boundary: str | None = None,
        grid: int = 4,
        num_masked: int | None = None,
        num_layers: int = 12,
        num_heads: int = 16,
        head_width: int | None = None,
        hidden_width: int | None = None,
        dropout: float = 0.1,
        mask_per: str | None = None,
        context_positions: bool | None = None,
        zero_columns: bool | None = None,
        extra_layer: bool | None = None,
        scaled_scores: bool | None = None,
        double_softmax: bool | None = None,
        summed_loss: bool | None = None,
        faithful: bool = False,
        clean_weight: float = 0.5,
        attack: Any = None,
        eval_attack: Any = "attack",
        seed: int = 0,
        name: str | None = "selfie",
    ) -> None:
        quirks = chosen_quirks(
            faithful=faithful,
            mask_per=mask_per,
            context_positions=context_positions,
            zero_columns=zero_columns,
            extra_layer=extra_layer,
            scaled_scores=scaled_scores,
            double_softmax=double_softmax,
            summed_loss=summed_loss,
        )
        sizes: dict[str, Any] = {"num_layers": num_layers, "num_heads": num_heads, "dropout": dropout}
        sizes |= {"head_width": head_width, "hidden_width": hidden_width}
        masked = checked_sizes(grid=grid, num_masked=num_masked, **sizes)
        super().__init__(
            encoder, clean_weight=clean_weight, attack=attack, eval_attack=eval_attack, seed=seed, name=name
        )
        self.boundary, self.grid, self.num_masked = boundary or default_boundary(encoder), grid, masked
        self.faithful = bool(faithful)
        for option, value in {**sizes, **quirks}.items():
            setattr(self, option, value)
        self._make_head()
        self.built = True

    def _make_head(self) -> None:
        self.patch_network = patch_network(self.encoder, boundary=self.boundary, grid=self.grid)
        width = int(self.patch_network.output_shape[-1])
        self.positions = PatchPositions(
            grid=self.grid,
            width=width,
            zero_columns=self.zero_columns,
            seed=derived_seed(self.seed, "selfie/positions"),
            name="positions",
            dtype="float32",
        )
        self.pooling = AttentionPooling(
            num_layers=self.num_layers + self.extra_layer,
            num_heads=self.num_heads,
            head_width=self.head_width,
            hidden_width=self.hidden_width,
            dropout=self.dropout,
            seed=derived_seed(self.seed, "selfie/pooling"),
            name="pooling",
        )
        self.positions.build()
        self.pooling.build((None, None, width))

    @property
    def network(self) -> keras.Model:
        """The patch network: the part of the encoder that every pass goes through."""
        return self.patch_network

    @property
    def trainable_variables(self) -> list[Any]:
        """The variables that have a gradient: those of the patch network and of the head."""
        trained = {id(variable) for variable in self.patch_network.variables}
        untouched = {id(variable) for variable in self.encoder.variables} - trained
        return [variable for variable in super().trainable_variables if id(variable) not in untouched]

    @property
    def chance(self) -> float:
        """The accuracy of guessing among the masked patches."""
        return 1.0 / self.num_masked

    @property
    def provenance(self) -> dict[str, Any]:
        """What an exported encoder should say of the puzzle that it learned, as JSON."""
        return {"task": "selfie", "chance": self.chance, **self._options()}

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        puzzle = self.pose(Batch(inputs), seed_for(self.seed, 0, "evaluate/pose"))
        return self.scores(inputs, puzzle, training=training, stream=self.delivered_branch or "clean")

    def draw(self, size: Any, seed: tf.Tensor) -> Puzzle:
        orders = draw_orders(seed, size, self.grid**2, same=self.mask_per == "batch")
        masked, seen = orders[:, : self.num_masked], orders[:, self.num_masked :]
        return Puzzle({}, None, {"masked": masked, "seen": seen, "dropout": fold(seed, 1)})

    def render(self, images: tf.Tensor, puzzle: Puzzle) -> tf.Tensor:
        del puzzle  # the patches are cut of the image as it is
        return images

    def solve(self, images: tf.Tensor, puzzle: Puzzle, *, training: bool, stream: str) -> Solved:
        scores = self.scores(images, puzzle, training=training, stream=stream)
        right = tf.broadcast_to(tf.range(self.num_masked), tf.shape(scores)[:2])
        losses = cross_entropy(tf.nn.softmax(scores) if self.double_softmax else scores, right)
        loss = tf.reduce_sum(losses, axis=1) if self.summed_loss else tf.reduce_mean(losses, axis=1)
        return loss, tf.reduce_mean(correct(scores, right), axis=1)

    def scores(self, images: tf.Tensor, puzzle: Puzzle, *, training: bool, stream: str) -> tf.Tensor:
        """How well each masked patch fits each masked place: `(batch, num_masked, num_masked)` float32.

        Args:
            images: `(batch, height, width, channels)` in [0, 1].
            puzzle: What `pose` returned: which patches are masked.
            training: Whether batch norm uses the batch's statistics and the pooling drops out.
            stream: `"clean"` or `"adversarial"`, or another batch-norm branch; which dropout is drawn depends on it.
        """
        vectors, places = self.patch_vectors(images, training=training, stream=stream), (puzzle.fixed or {})["masked"]
        masked = tf.gather(vectors, places, batch_dims=1)
        pooled = self.pooled(vectors, puzzle, training=training, stream=stream)
        queries = tf.expand_dims(pooled, 1) + self.positions(places)
        scores = tf.matmul(queries, masked, transpose_b=True)
        return scores / float(masked.shape[-1]) ** 0.5 if self.scaled_scores else scores

    def patch_vectors(self, images: tf.Tensor, *, training: bool, stream: str = "adversarial") -> tf.Tensor:
        """The vector of every patch, `(batch, grid², width)` float32; images as they are given to the model."""
        # An attack's loop may have lost the size, which cutting has to know.
        patches = cut(tf.ensure_shape(images, (None, *self.encoder.input_shape[1:])), grid=self.grid)
        vectors = self.encode(tf.reshape(patches, (-1, *patches.shape[2:])), training=training, stream=stream)
        return tf.cast(tf.reshape(vectors, (-1, self.grid**2, vectors.shape[-1])), tf.float32)

    def pooled(self, vectors: tf.Tensor, puzzle: Puzzle, *, training: bool, stream: str = "adversarial") -> tf.Tensor:
        """What the patches that are not masked say of the image, `(batch, width)` float32, from all `vectors`."""
        fixed = puzzle.fixed or {}
        seen = tf.gather(vectors, fixed["seen"], batch_dims=1)
        if self.context_positions:
            seen = seen + self.positions(fixed["seen"])
        drawn = fold(fixed["dropout"], int(stream != "clean")) if training and self.dropout else None
        return tf.cast(self.pooling(seen, dropout_seed=drawn), tf.float32)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._options(), "faithful": self.faithful}

    def _options(self) -> dict[str, Any]:
        sizes = ("boundary", "grid", "num_masked", "num_layers", "num_heads", "head_width", "hidden_width", "dropout")
        return {name: getattr(self, name) for name in (*sizes, *CORRECTED)}
