"""The heart: one training step for every method, in four verbs.

    puzzle      = pose(batch, seed)                   draw the randomness once
    context     = context(puzzle)                     compute once what the attack holds fixed
    adversarial = attack(climb, puzzle.inputs)        what the attack ascends
    loss        = Σ weight · descend(adversarial, puzzle)      what the weights descend, term by term

A method is a subclass that says what its head is and what the verbs do; `fit`, `evaluate`, `predict`, callbacks and
saving are Keras'. Clean training is the same step with `attack=None`, finetuning the same step with another subclass.

The arithmetic is that of the *global* batch: random numbers, the mean of the loss, gradients and metrics do not depend
on how many replicas share it. Batch norm's statistics do, as everywhere in Keras: each replica normalises by its own
images, unless the layers are synchronised.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import keras
import tensorflow as tf

from advss_tf.attacks import AttackResult, ProjectedGradientDescent
from advss_tf.encoders import branches, norm_branch
from advss_tf.randomness import drawing_for_xla, seed_for
from advss_tf.training.checks import check_images, checked_attack, checked_encoder
from advss_tf.training.inference import encode, hoisting

Terms: TypeAlias = dict[str, tf.Tensor]


class Batch(NamedTuple):
    """What the data brings: `images` `(batch, height, width, channels)` in [0, 1]; `labels` `(batch,)` or None."""

    images: tf.Tensor
    labels: tf.Tensor | None = None


class Puzzle(NamedTuple):
    """What one batch asks, after every random choice has been made.

    Attributes:
        inputs: `{name: (batch, height, width, channels)}`, the images that the attack may move, in [0, 1].
        targets: What is to be answered, such as labels `(batch,)`; None if nothing is.
        fixed: Tensors by name that neither the attack nor the weights move; None if there are none.
    """

    inputs: dict[str, tf.Tensor]
    targets: Any = None
    fixed: dict[str, tf.Tensor] | None = None


class RobustModel(keras.Model):
    """A Keras model whose training step attacks its own batch first.

    Subclasses define a head in their constructor and the verbs `pose`, `descend`, and where they differ from the
    defaults `context`, `climb` and `measure`.

    Args:
        encoder: The Functional Keras model that is trained and kept, images -> features.
        loss_weights: `{term: weight}`: which of the terms that `descend` returns make the loss. Names that `descend` or
            `measure` return beside them are only reported.
        reported: The names that are only reported, such as `"accuracy"`.
        attack: The attack of the training step; None trains on clean images.
        eval_attack: The attack of `evaluate` and of validation; `"attack"` takes the training attack, None none.
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
        self.encoder = checked_encoder(encoder)
        self.attack = checked_attack("attack", attack)
        self.eval_attack = self.attack if isinstance(eval_attack, str) else checked_attack("eval_attack", eval_attack)
        self.seed = int(seed)
        self.loss_weights = dict(loss_weights)
        self.branches = branches(encoder)
        names = ("loss", *loss_weights, *reported, "attack_climb", "attack_at_bound")
        self._trackers = [keras.metrics.Mean(name=name) for name in dict.fromkeys(names)]

    # The verbs -------------------------------------------------------------------------------------------------------

    def pose(self, batch: Batch, seed: tf.Tensor) -> Puzzle:
        """Makes the batch a puzzle: every random choice of the step is drawn here, from `seed` `(2,)`."""
        raise TypeError(f"{type(self).__name__} does not say how a puzzle is posed: define `pose`.")

    def share(self, puzzle: Puzzle, *, training: bool) -> Puzzle:
        """Adds to `puzzle.fixed` what is forwarded once for the attack and the weights, whose gradient flows through it.

        By default nothing. Such are the answers of a teacher, or clean embeddings where the attack runs in the mode
        that the weights are trained in.
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
        step = self.optimizer.iterations
        puzzle = self._posed(batch, seed_for(self.seed, step, "pose"))
        count = _global_size(batch.images)
        with tf.GradientTape() as tape:
            puzzle = self.share(puzzle, training=True)
            with tape.stop_recording():
                attacked = self._attack(self.attack, self.climb, puzzle, seed_for(self.seed, step, "attack"))
            terms = self.descend(attacked.inputs, puzzle, training=True)
            loss = self.total(terms)
            objective = self.optimizer.scale_loss(self._objective(loss, weights, count))
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(objective, variables), variables)
        return self._report({"loss": loss, **terms}, weights, attacked)

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """The same on held-out images, without a change to any weight; every pass draws the same random numbers."""
        batch, weights = self._batch(data)
        puzzle = self._posed(batch, seed_for(self.seed, 0, "evaluate/pose"))
        puzzle = self.share(puzzle, training=False)
        attacked = self._attack(self.eval_attack, self.probe, puzzle, seed_for(self.seed, 0, "evaluate/attack"))
        terms = self.measure(attacked.inputs, puzzle)
        return self._report({"loss": self.measured_loss(terms), **terms}, weights, attacked)

    def _posed(self, batch: Batch, seed: tf.Tensor) -> Puzzle:
        with drawing_for_xla(self.jit_compile):
            return self.pose(batch, seed)

    def _attack(
        self, attack: ProjectedGradientDescent | None, climb: Callable[..., tf.Tensor], puzzle: Puzzle, seed: tf.Tensor
    ) -> AttackResult:
        if attack is None:
            return AttackResult(puzzle.inputs, None, None)
        training = attack.batch_norm == "training"
        # Trained is what attacks train, measured is what is handed over: the branch that is prepared for the loop.
        stream = (self.delivered_branch if climb == self.probe else None) or "adversarial"
        with self.stream(stream), hoisting(*(() if training else self.networks)), keras.StatelessScope():
            context = self.context(puzzle, training=training)
            return attack.run(lambda inputs: climb(inputs, puzzle, context, training=training), puzzle.inputs, seed)

    def _objective(self, loss: tf.Tensor, weights: tf.Tensor | None, count: tf.Tensor) -> tf.Tensor:
        """This replica's share of the mean over the global batch; the optimizer adds the shares up."""
        share = tf.reduce_sum(loss if weights is None else loss * weights) / count
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        return tf.add_n([share, *(tf.cast(penalty, tf.float32) / replicas for penalty in self.losses)])

    # Reporting -------------------------------------------------------------------------------------------------------

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return list(self._trackers)

    def get_metrics_result(self) -> dict[str, Any]:
        """The running means of what has been reported since the last reset; names that were not are left out."""
        return {tracker.name: tracker.result() for tracker in self._trackers if _was_updated(tracker)}

    def _report(self, terms: Terms, weights: tf.Tensor | None, attacked: AttackResult) -> dict[str, tf.Tensor]:
        if attacked.climb is not None:
            terms = {**terms, "attack_climb": attacked.climb, "attack_at_bound": attacked.at_bound}
        trackers = {tracker.name: tracker for tracker in self._trackers}
        for name, values in terms.items():
            trackers[name].update_state(values, sample_weight=weights)
        # Several workers can only average what has a first axis (keras issue 20585).
        shape = (1,) if isinstance(self.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy) else ()
        return {name: tf.reshape(trackers[name].result(), shape) for name in terms}

    # Keras -----------------------------------------------------------------------------------------------------------

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Builds the optimizer, which is all that the constructor has left unbuilt.

        Keras would draw a batch and run a symbolic step, which several workers cannot (keras issue 20585). Variables
        that are first made inside a step of several replicas fail: "You must feed a value for placeholder tensor".
        """
        self.build_optimizer()

    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """As `keras.Model.fit`; a dataset brings its own order, so Keras is not asked to shuffle it."""
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


def _global_size(images: tf.Tensor) -> tf.Tensor:
    """The number of images that all replicas have together, float32."""
    replica = tf.distribute.get_replica_context()
    count = tf.cast(tf.shape(images)[0], tf.float32)
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, count) if replica.num_replicas_in_sync > 1 else count


def _was_updated(tracker: keras.metrics.Mean) -> bool:
    return not tf.executing_eagerly() or tracker.count.numpy() > 0
