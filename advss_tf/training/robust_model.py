"""The heart: one training step for every method, in four verbs.

    puzzle      = pose(batch, seed)                   draw the randomness once
    context     = context(puzzle)                     compute once what the attack holds fixed
    adversarial = attack(climb, puzzle.inputs)        what the attack ascends
    loss        = Σ weight · descend(adversarial, puzzle)      what the weights descend, term by term

A method is a subclass that says what its head is and what the verbs do; `fit`, `evaluate`, `predict`, callbacks and
saving are Keras'. Clean training is the same step with `attack=None`, finetuning the same step with another subclass.

The arithmetic is that of the *global* batch: random numbers, the mean of the loss, gradients and metrics do not depend
on how many replicas share it. Batch norm's statistics do, as everywhere in Keras: each replica normalises by its own
images, unless the layers are synchronised. The running ones are, after each step, the mean over the replicas.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from advss_tf.attacks import AttackResult, ProjectedGradientDescent
from advss_tf.encoders import branches, norm_branch
from advss_tf.errors import one_of
from advss_tf.randomness import drawing_for_xla, fold, seed_for
from advss_tf.training.attacking import run_attack
from advss_tf.training.checks import check_images, check_loops, checked_attack, checked_encoder
from advss_tf.training.inference import encode
from advss_tf.training.micro_batches import InParts, check_exact, summed
from advss_tf.training.puzzle import Batch, Puzzle, Terms
from advss_tf.training.replicas import mean_statistics, same_verdict
from advss_tf.training.reporting import Reporting
from advss_tf.training.strategy import global_size, never_empty


class RobustModel(InParts, Reporting):
    """A Keras model whose training step attacks its own batch first.

    Subclasses define a head in their constructor and the verbs `pose`, `descend`, and where they differ from the
    defaults `context`, `climb` and `measure`.

    Args:
        encoder: The Functional Keras model that is trained and kept, images -> features.
        loss_weights: `{term: weight}`: which of the terms that `descend` returns make the loss. Names that `descend` or
            `measure` return beside them are only reported.
        reported: The names that are only reported, such as `"accuracy"`.
        attack: The attack of the training step; None trains on clean images.
        eval_attack: The attack of `evaluate` and of validation; `"attack"` takes the training attack, on the network in
            inference mode, None none.
        seed: The run's seed: with the optimizer's step number it fixes every random choice.
        name: The model's name.

    Raises:
        InvalidInput: if the attack is not one, or the encoder is not a built Keras model of images.
    """

    def __init__(
        self,
        encoder: keras.Model,
        *,
        loss_weights: dict[str, float],
        reported: tuple[str, ...] = (),
        attack: ProjectedGradientDescent | None = None,
        eval_attack: ProjectedGradientDescent | str | None = "attack",
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.autocast = False  # pixels stay float32 at this door, whatever the layers behind it compute in
        self.encoder = checked_encoder(encoder)
        self.attack = checked_attack("attack", attack)
        if isinstance(eval_attack, str):
            one_of("eval_attack", eval_attack, ("attack",))
            eval_attack = self.attack and self.attack.in_inference()
        self.eval_attack = checked_attack("eval_attack", eval_attack)
        self.seed = int(seed)
        self.loss_weights = dict(loss_weights)
        self.branches = branches(encoder)
        names = ("loss", *loss_weights, *reported, "attack_climb", "attack_at_bound")
        self.track(names)

    # The verbs -------------------------------------------------------------------------------------------------------

    def pose(self, batch: Batch, seed: tf.Tensor) -> Puzzle:
        """Makes the batch a puzzle: every random choice of the step is drawn here, from `seed` `(2,)`."""
        raise TypeError(f"{type(self).__name__} does not say how a puzzle is posed: define `pose`.")

    def share(self, puzzle: Puzzle, *, training: bool) -> Puzzle:
        """Adds to `puzzle.fixed` what is forwarded once for both the attack and the weights, which learn through it.

        By default nothing. Such are a teacher's answers, or clean embeddings where attacks run in training mode.
        """
        del training
        return puzzle

    def context(self, puzzle: Puzzle, *, training: bool) -> Any:
        """Computes once what the attack holds fixed, such as the clean logits; passed to every `climb`."""
        del puzzle, training

    def climb(self, inputs: dict[str, tf.Tensor], puzzle: Puzzle, context: Any, *, training: bool) -> tf.Tensor:
        """What the attack ascends, `(batch,)`; by default the loss that the weights descend."""
        del context
        return self.total(self.descend(inputs, puzzle, training=training))

    def descend(self, inputs: dict[str, tf.Tensor], puzzle: Puzzle, *, training: bool) -> Terms:
        """The terms of the loss at the attacked `inputs`, and what is reported beside them: `{name: (batch,)}`."""
        raise TypeError(f"{type(self).__name__} does not say what it learns: define `descend`.")

    def probe(self, inputs: dict[str, tf.Tensor], puzzle: Puzzle, context: Any, *, training: bool) -> tf.Tensor:
        """What the attack of `evaluate` ascends, `(batch,)`; by default what the training attack does."""
        return self.climb(inputs, puzzle, context, training=training)

    def measure(self, inputs: dict[str, tf.Tensor], puzzle: Puzzle) -> Terms:
        """What `evaluate` reports at the attacked `inputs`; by default what `descend` returns."""
        return self.descend(inputs, puzzle, training=False)

    def measured_loss(self, terms: Terms) -> tf.Tensor:
        """The loss that `evaluate` reports, `(batch,)`, from what `measure` returned; by default that of training."""
        return self.total(terms)

    # What the verbs are written with ---------------------------------------------------------------------------------

    def encode(self, images: tf.Tensor, *, training: bool, stream: str = "adversarial") -> tf.Tensor:
        """The features of images, or of what else `network` takes, `(batch, features)`.

        Args:
            images: `(batch, height, width, channels)` in [0, 1].
            training: Whether batch norm uses the batch's statistics and moves the running ones.
            stream: Which batch-norm branch is used, where the encoder has one of this name.
        """
        with self.stream(stream):
            return encode(self.network, images, training=training)

    @property
    def network(self) -> keras.Model:
        """What `encode` calls: the encoder, or the part of it that a task goes through."""
        return self.encoder

    @property
    def delivered_encoder(self) -> keras.Model:
        """The encoder that is evaluated and handed over."""
        return self.encoder

    @property
    def networks(self) -> tuple[keras.Model, ...]:
        """Every network that an attack prepares once: where a method goes through more than one, all of them."""
        return (self.network,)

    def stream(self, name: str) -> contextlib.AbstractContextManager[None]:
        """The context in which branched batch norm uses the branch `name`; nothing for an encoder without it."""
        return norm_branch(name) if name in self.branches else contextlib.nullcontext()

    @property
    def delivered_branch(self) -> str | None:
        """The batch-norm branch that is evaluated and handed over; None if the encoder has none.

        It is that of attacked images, whose robustness the training was for, or of clean ones where nothing attacks.
        """
        wanted = "clean" if self.attack is None else "adversarial"
        return wanted if wanted in self.branches else next(iter(self.branches), None)

    @property
    def attacked_streams(self) -> tuple[str, ...]:
        """The streams that go through the attack's loop, and are prepared for it."""
        return ("adversarial",)

    def total(self, terms: Terms) -> tf.Tensor:
        """The weighted sum of the loss terms, `(batch,)`."""
        return tf.add_n([weight * terms[name] for name, weight in self.term_weights().items()])

    def term_weights(self) -> dict[str, Any]:
        """The weights of the terms at this step: `loss_weights`, unless a schedule moves them."""
        return self.loss_weights

    def check(self, images: Any) -> None:
        """Refuses what `fit` brings in the place of images of the encoder's shape in [0, 1]."""
        check_images(images, self.encoder.input_shape[1:])

    # The step --------------------------------------------------------------------------------------------------------

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """One step on a batch: pose, attack, descend, apply. Returns the running means of what is reported."""
        batch, weights = self._batch(data)
        count, variables = global_size(batch.images), self.trainable_variables

        def of_part(part: Batch, own: tf.Tensor | None, number: tf.Tensor | None) -> tuple[list[Any], list[str]]:
            return self._gradients(part, own, count, number)

        gradients, names = summed(of_part, batch, weights, self.micro_batches, like=variables)
        self.optimizer.apply(same_verdict(gradients, self.optimizer), variables)
        mean_statistics(self)
        return self.results(names)

    def _gradients(
        self, batch: Batch, weights: tf.Tensor | None, count: tf.Tensor, number: tf.Tensor | None
    ) -> tuple[list[Any], list[str]]:
        """The gradients of a batch's share of the mean over `count` images, and the names of what it has reported."""
        seeds = [seed_for(self.seed, self.optimizer.iterations, role) for role in ("pose", "attack")]
        posing, attacking = seeds if number is None else [fold(seed, number) for seed in seeds]
        puzzle = self._posed(batch, posing)
        with tf.GradientTape() as tape:
            puzzle = self.share(puzzle, training=True)
            with tape.stop_recording():
                attacked = self._attack(self.attack, self.climb, puzzle, attacking)
            terms = self.descend(attacked.inputs, puzzle, training=True)
            loss = self.total(terms)
            objective = self.optimizer.scale_loss(self._objective(loss, weights, count))
        gradients = tape.gradient(objective, self.trainable_variables)
        return gradients, self.report({"loss": loss, **terms}, weights, attacked)

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """The same on held-out images, without a change to any weight; every pass draws the same random numbers."""
        batch, weights = never_empty(*self._batch(data))
        puzzle = self._posed(batch, seed_for(self.seed, 0, "evaluate/pose"))
        puzzle = self.share(puzzle, training=False)
        attacked = self._attack(self.eval_attack, self.probe, puzzle, seed_for(self.seed, 0, "evaluate/attack"))
        terms = self.measure(attacked.inputs, puzzle)
        return self.results(self.report({"loss": self.measured_loss(terms), **terms}, weights, attacked))

    def _posed(self, batch: Batch, seed: tf.Tensor) -> Puzzle:
        with drawing_for_xla(self.jit_compile):
            return self.pose(batch, seed)

    def _attack(
        self, attack: ProjectedGradientDescent | None, climb: Callable[..., tf.Tensor], puzzle: Puzzle, seed: tf.Tensor
    ) -> AttackResult:
        # Trained is what attacks train, measured is what is handed over: the branch that is prepared for the loop.
        delivered = self.delivered_branch if climb == self.probe else None
        streams = self.attacked_streams if delivered is None else (delivered,)
        return run_attack(self, attack, climb, puzzle, seed, streams=streams)

    def _objective(self, loss: tf.Tensor, weights: tf.Tensor | None, count: tf.Tensor) -> tf.Tensor:
        """This replica's share of the mean over the global batch; the optimizer adds the shares up."""
        share = tf.reduce_sum(loss if weights is None else loss * weights) / count
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        parts = replicas * self.micro_batches  # each of which adds its penalties
        return tf.add_n([share, *(tf.cast(penalty, tf.float32) / parts for penalty in self.losses)])

    # Keras -----------------------------------------------------------------------------------------------------------

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Builds the optimizer, which is all that the constructor has left unbuilt.

        Keras would draw a batch and run a symbolic step, which several workers cannot (keras issue 20585). Variables
        that are first made inside a step of several replicas fail: "You must feed a value for placeholder tensor".
        """
        self.build_optimizer()

    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """As `keras.Model.fit`; a dataset brings its own order, so Keras is not asked to shuffle it.

        Raises:
            InvalidInput: if batches are to be trained on in parts and that is not the same, see `micro_batch_norm`; if
                replicas would meet inside a loop, in batch norms that are synchronised.
        """
        check_exact(self)
        check_loops(self)
        if isinstance(x, tf.data.Dataset | tf.distribute.DistributedDataset) and len(args) < 7:
            kwargs.setdefault("shuffle", False)
        return super().fit(x, *args, **kwargs)

    def build_optimizer(self) -> None:
        """Makes the optimizer's variables, if the model is compiled and they are not there yet."""
        if self.optimizer is not None and not self.optimizer.built:
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)

    def get_config(self) -> dict[str, Any]:
        """What the base class was given, as plain data; subclasses add their own arguments."""
        serialize = keras.saving.serialize_keras_object
        return {
            "encoder": serialize(self.encoder),
            "attack": serialize(self.attack),
            "eval_attack": serialize(self.eval_attack),
            "seed": self.seed,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> RobustModel:
        config = dict(config)
        for key in ("encoder", "attack", "eval_attack"):
            config[key] = keras.saving.deserialize_keras_object(config[key], custom_objects=custom_objects)
        return cls(**config)

    def _batch(self, data: Any) -> tuple[Batch, tf.Tensor | None]:
        images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        self.check(images)
        weights = None if weights is None else tf.cast(tf.reshape(weights, (-1,)), tf.float32)
        return Batch(images, labels), weights
