"""A classifier that is finetuned from a handed-over encoder: what is trained, and how.

Synopsis:

    classifier = RobustClassifier("encoder", num_classes=10, train="full", how="trades", attack=attack)
    classifier.compile(optimizer="sgd")
    classifier.fit(train, validation_data=held_out, epochs=20)

The grid of Chen et al. (CVPR 2020) is two words: `train="partial" | "full"` and `how="standard" | "adversarial"` are
F1 (partial, standard), F2 (partial, adversarial), F3 (full, standard), F4 (full, adversarial); where the encoder comes
from is P1 (fresh), P2 (clean pretraining) or P3 (adversarial pretraining).

References:
    Madry et al. 2018 (arXiv 1706.06083), eq. 2.1: `how="adversarial"`.
    Zhang et al. 2019 (arXiv 1901.08573), eq. 5 and algorithm 1: `how="trades"`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from advss_tf.encoders import boundary as default_boundary
from advss_tf.encoders import layers_through, linear_head, load_encoder
from advss_tf.errors import InvalidInput, one_of
from advss_tf.losses import correct, cross_entropy, kl_divergence
from advss_tf.randomness import derived_seed
from advss_tf.training import Batch, Puzzle, RobustModel

TRAIN = ("linear", "partial", "full")
HOW = ("standard", "adversarial", "trades")


@keras.saving.register_keras_serializable(package="advss_tf")
class RobustClassifier(RobustModel):
    """A linear classifier on an encoder's features, trained on clean or on attacked images.

    The encoder is trained in place, as Keras layers are. Frozen batch norms run in inference mode, also inside the
    attack; what else is random in training, such as dropout in an encoder of your own, is so in frozen parts as well.

    Args:
        encoder: A Keras model images -> features, or the path of an exported encoder.
        num_classes: Number of classes, at least 2.
        train: What is trained: `"linear"` (the last layer), `"partial"` (what comes after `boundary`), `"full"`.
        how: `"standard"` (cross-entropy of clean images), `"adversarial"` (cross-entropy of attacked images) or
            `"trades"` (cross-entropy of clean images + `beta` · KL(clean ‖ attacked); the attack climbs the KL).
        beta: Weight of TRADES' KL term, 1/λ in the paper.
        boundary: With `train="partial"`: the layer or stage up to which the encoder is frozen. By default the last
            stage but one.
        attack: The attack of training; required unless `how="standard"`, where there is none.
        eval_attack: The attack of `evaluate` and validation, which climbs the cross-entropy; by default the training
            attack. None measures clean images alone.
        seed: The run's seed.
        name: The model's name.

    Call arguments:
        inputs: `(batch, height, width, channels)` in [0, 1].

    Returns:
        Logits, `(batch, num_classes)`.

    Raises:
        InvalidInput: if a word is not known, an attack is missing or in vain, or the encoder cannot be used.
    """

    def __init__(
        self,
        encoder: keras.Model | str | Path,
        num_classes: int,
        *,
        train: str = "full",
        how: str = "adversarial",
        beta: float = 6.0,
        boundary: str | None = None,
        attack: Any = None,
        eval_attack: Any = "attack",
        seed: int = 0,
        name: str | None = "classifier",
    ) -> None:
        _check(num_classes, how, beta, attack)
        self_train = one_of("train", train, TRAIN)
        encoder = load_encoder(encoder) if isinstance(encoder, str | Path) else encoder
        super().__init__(
            encoder,
            loss_weights=_loss_weights(how, beta),
            reported=("clean_loss", "adversarial_loss", "accuracy", "robust_accuracy"),
            attack=attack,
            eval_attack=eval_attack,
            seed=seed,
            name=name,
        )
        self.num_classes, self.train, self.how, self.beta = int(num_classes), self_train, how, float(beta)
        self.boundary = boundary or (default_boundary(encoder) if train == "partial" else None)
        self._freeze()
        self.head = linear_head(self.num_classes, name="logits", seed=derived_seed(self.seed, "classifier"))
        self.head.build(encoder.output_shape)
        self.built = True

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        return self.logits(inputs, training=training, stream=self.delivered_branch or "clean")

    def logits(self, images: tf.Tensor, *, training: bool, stream: str = "adversarial") -> tf.Tensor:
        """The logits of the classes, `(batch, num_classes)` float32."""
        training = training and self.train != "linear"
        return self.head(self.encode(images, training=training, stream=stream))

    def pose(self, batch: Batch, seed: tf.Tensor) -> Puzzle:
        del seed
        if batch.labels is None:
            raise InvalidInput(
                "A classifier learns from labels.", expected="batches of (images, labels)", received="images alone"
            )
        return Puzzle({"images": batch.images}, tf.cast(tf.reshape(batch.labels, (-1,)), tf.int64))

    def context(self, puzzle: Puzzle, *, training: bool) -> Any:
        if self.how != "trades":
            return None
        return tf.stop_gradient(self.logits(puzzle.inputs["images"], training=training, stream="clean"))

    def climb(self, inputs: dict[str, tf.Tensor], puzzle: Puzzle, context: Any, *, training: bool) -> tf.Tensor:
        logits = self.logits(inputs["images"], training=training)
        return cross_entropy(logits, puzzle.targets) if context is None else kl_divergence(context, logits)

    def probe(self, inputs: dict[str, tf.Tensor], puzzle: Puzzle, context: Any, *, training: bool) -> tf.Tensor:
        del context
        stream = self.delivered_branch or "adversarial"
        return cross_entropy(self.logits(inputs["images"], training=training, stream=stream), puzzle.targets)

    def descend(self, inputs: dict[str, tf.Tensor], puzzle: Puzzle, *, training: bool) -> dict[str, tf.Tensor]:
        return self._terms(
            inputs, puzzle, clean=self.how != "adversarial", attacked=self.how != "standard", training=training
        )

    def measure(self, inputs: dict[str, tf.Tensor], puzzle: Puzzle) -> dict[str, tf.Tensor]:
        attacked, stream = self.eval_attack is not None, self.delivered_branch or "clean"
        return self._terms(inputs, puzzle, clean=True, attacked=attacked, training=False, stream=stream)

    def measured_loss(self, terms: dict[str, tf.Tensor]) -> tf.Tensor:
        """That of training; where nothing is attacked, the clean cross-entropy, with which TRADES' KL is zero."""
        return terms["clean_loss"] if self.eval_attack is None else self.total(terms)

    def get_config(self) -> dict[str, Any]:
        names = ("num_classes", "train", "how", "beta", "boundary")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    def _terms(
        self,
        inputs: dict[str, tf.Tensor],
        puzzle: Puzzle,
        *,
        clean: bool,
        attacked: bool,
        training: bool,
        stream: str | None = None,
    ) -> dict[str, tf.Tensor]:
        """The terms through the branch `stream`, or clean and attacked images each through their own."""
        labels = puzzle.targets
        terms: dict[str, tf.Tensor] = {}
        if clean:
            reference = self.logits(puzzle.inputs["images"], training=training, stream=stream or "clean")
            terms |= {"clean_loss": cross_entropy(reference, labels), "accuracy": correct(reference, labels)}
        if attacked:
            logits = self.logits(inputs["images"], training=training, stream=stream or "adversarial")
            terms |= {"adversarial_loss": cross_entropy(logits, labels), "robust_accuracy": correct(logits, labels)}
        if self.how == "trades" and attacked:
            terms["kl"] = kl_divergence(reference, logits)
        return terms

    def _freeze(self) -> None:
        self.encoder.trainable = self.train != "linear"
        if self.train == "partial" and self.boundary is not None:
            for layer in layers_through(self.encoder, self.boundary):
                layer.trainable = False


def _loss_weights(how: str, beta: float) -> dict[str, float]:
    return {
        "standard": {"clean_loss": 1.0},
        "adversarial": {"adversarial_loss": 1.0},
        "trades": {"clean_loss": 1.0, "kl": float(beta)},
    }[how]


def _check(num_classes: int, how: str, beta: float, attack: Any) -> None:
    one_of("how", how, HOW)
    if num_classes < 2:
        raise InvalidInput("`num_classes` is too small.", expected="an integer >= 2", received=f"{num_classes=}")
    if beta < 0:
        raise InvalidInput("`beta` is negative.", expected="a number >= 0", received=f"{beta=}")
    if (attack is None) != (how == "standard"):
        raise InvalidInput(
            f"`attack` does not go with how={how!r}.",
            expected="attack=None with how='standard' (`eval_attack` measures), an attack otherwise",
            received=f"attack={attack!r}",
        )
    if how == "trades" and not attack.random_start:
        raise InvalidInput(
            "TRADES' attack climbs a KL whose gradient is zero at the images: it would never move.",
            expected="an attack with random_start=True",
            received=f"attack={attack!r}",
        )
