"""What is timed: our step, the same step written plainly with cleverhans, and the passes that no step can do without.

Synopsis:

    step = steps_of(ours(NETWORKS["small"], num_steps=10), NETWORKS["small"])
    step()                                       # one training step through Keras' own train function; its loss
    passes = input_gradients(NETWORKS["small"])  # one forward pass and its gradient by the images
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from cleverhans.tf2.attacks.projected_gradient_descent import projected_gradient_descent

import advss_tf as advss
from advss_tf.encoders import build_encoder, hoisted, linear_head
from advss_tf.losses import cross_entropy
from advss_tf.pretext import TASKS, LabelledPuzzle
from advss_tf.randomness import derived_seed
from advss_tf.training import Puzzle

EPSILON, STEP_SIZE = 8 / 255, 2 / 255
NUM_CLASSES = 10
CLUSTERS = (2, 10)


class Network(NamedTuple):
    """A network and its batch: images `(batch, size, size, 3)`."""

    kind: str
    width: int
    batch: int
    size: int = 32

    def encoder(self, *, policy: str = "float32") -> keras.Model:
        """A new encoder, always with the same weights."""
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(policy)
        try:
            return build_encoder(self.kind, (self.size, self.size, 3), width=self.width)
        finally:
            keras.config.set_dtype_policy(before)

    def views(self, count: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Views `(batch, count, size, size, 3)` in [0, 1] and pseudo-labels `(batch, clusterings)`, always the same."""
        rng = np.random.default_rng(0)
        views = rng.random((self.batch, count, self.size, self.size, 3), dtype=np.float32)
        return tf.constant(views), tf.constant(rng.integers(0, CLUSTERS, (self.batch, len(CLUSTERS))))

    def data(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Images in [0, 1] and labels, always the same."""
        rng = np.random.default_rng(0)
        images = rng.random((self.batch, self.size, self.size, 3), dtype=np.float32)
        return tf.constant(images), tf.constant(rng.integers(0, NUM_CLASSES, self.batch))


NETWORKS = {
    "small": Network("resnet20", width=16, batch=64),
    "wide": Network("resnet18", width=64, batch=16),
    "tiny": Network("resnet20", width=2, batch=2, size=8),  # only shows that a row runs
}


class Plain(keras.Model):
    """The step as one writes it without this library: cleverhans' attack, then Keras' own `train_step`."""

    def __init__(self, encoder: keras.Model, *, num_steps: int, random_start: bool = True) -> None:
        super().__init__()
        self.encoder, self.num_steps, self.random_start = encoder, num_steps, random_start
        self.head = _head(encoder)
        self.built = True

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        return self.head(self.encoder(images, training=training))

    # One bound method for all steps: cleverhans then traces the gradient once, not once a step.
    def inference(self, images: tf.Tensor) -> tf.Tensor:
        return self(images, training=False)

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        images, labels = data
        attacked = projected_gradient_descent(
            self.inference,
            images,
            EPSILON,
            STEP_SIZE,
            self.num_steps,
            np.inf,
            clip_min=0.0,
            clip_max=1.0,
            y=labels,
            rand_init=self.random_start,
        )
        return super().train_step((attacked, labels))


def ours(
    network: Network,
    *,
    num_steps: int,
    jit_compile: bool = False,
    policy: str = "float32",
    random_start: bool = True,
) -> keras.Model:
    """`RobustClassifier`, compiled for training on attacked images."""
    attack = advss.ProjectedGradientDescent(
        advss.Linf(EPSILON), num_steps=num_steps, step_size=STEP_SIZE, random_start=random_start
    )
    model = advss.RobustClassifier(network.encoder(policy=policy), NUM_CLASSES, how="adversarial", attack=attack)
    model.compile(_optimizer(), jit_compile=jit_compile)
    return model


def pretext(network: Network, kind: str, *, num_steps: int, **options: Any) -> keras.Model:
    """A pretext task, compiled for training on attacked images."""
    attack = advss.ProjectedGradientDescent(advss.Linf(EPSILON), num_steps=num_steps, step_size=STEP_SIZE)
    model = TASKS[kind](network.encoder(), attack=attack, **options)
    model.compile(_optimizer(), jit_compile=False)
    return model


def advcl(network: Network, *, cache: bool, num_steps: int, batch_norm: str) -> keras.Model:
    """AdvCL with two clusterings and three streams, its clean views forwarded once a step or at each attack's."""
    attack = advss.ProjectedGradientDescent(
        advss.Linf(EPSILON), num_steps=num_steps, step_size=STEP_SIZE, batch_norm=batch_norm
    )
    streams = ("clean", "adversarial", "pseudo")
    encoder = build_encoder(network.kind, (network.size, network.size, 3), width=network.width, branches=streams)
    model = advss.AdvCL(encoder, attack=attack, pseudo_sizes=CLUSTERS, cache=cache)
    model.compile(_optimizer(), jit_compile=False)
    return model


class Unposed(LabelledPuzzle):
    """A task without a puzzle: images as they are, answers that need no draw."""

    def draw(self, size: Any, seed: tf.Tensor) -> Puzzle:
        del seed
        return Puzzle({}, tf.range(tf.cast(size, tf.int64)) % self.num_answers)

    def render(self, images: tf.Tensor, puzzle: Puzzle) -> tf.Tensor:
        del puzzle
        return images


def unposed(network: Network, num_answers: int, *, num_steps: int) -> keras.Model:
    """`Unposed` with the head of a task of so many answers, compiled as `pretext` does."""
    attack = advss.ProjectedGradientDescent(advss.Linf(EPSILON), num_steps=num_steps, step_size=STEP_SIZE)
    model = Unposed(network.encoder(), task="unposed", num_answers=num_answers, attack=attack)
    model.compile(_optimizer(), jit_compile=False)
    return model


def plain(network: Network, *, num_steps: int, random_start: bool = True) -> keras.Model:
    """`Plain` with the same weights, optimizer and metrics as `ours`."""
    model = Plain(network.encoder(), num_steps=num_steps, random_start=random_start)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(_optimizer(), loss=loss, metrics=["accuracy"], jit_compile=False)
    return model


def steps_of(model: keras.Model, network: Network, data: Any = None) -> Callable[[], float]:
    """A function that makes one training step through the function that `fit` uses, and returns the running loss.

    `data` is the batch; None for the network's own.
    """
    model.optimizer.build(model.trainable_variables)
    model.make_train_function()
    batches = iter(tf.data.Dataset.from_tensors(network.data() if data is None else data).repeat())
    return lambda: float(model.train_function(batches)["loss"])


def input_gradients(network: Network, *, folded: bool = False) -> Callable[[], Any]:
    """One forward pass in inference mode and its gradient by the images; `folded` with batch norm folded beforehand."""
    encoder, (images, labels) = network.encoder(), network.data()
    head = _head(encoder)
    features_of = hoisted(encoder) if folded else lambda images: encoder(images, training=False)

    @tf.function
    def gradient(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            loss = cross_entropy(head(features_of(images)), labels)
        return tape.gradient(loss, images)

    return lambda: gradient(images, labels).numpy()


def weight_gradients(network: Network) -> Callable[[], Any]:
    """One forward pass in training mode and its gradient by the weights, without an update of them."""
    encoder, (images, labels) = network.encoder(), network.data()
    head = _head(encoder)
    variables = [*encoder.trainable_variables, *head.trainable_variables]

    @tf.function
    def gradient(images: tf.Tensor, labels: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(cross_entropy(head(encoder(images, training=True)), labels))
        return tape.gradient(loss, [variable.value for variable in variables])

    return lambda: [part.numpy() for part in gradient(images, labels)]


def _head(encoder: keras.Model) -> keras.layers.Layer:
    head = linear_head(NUM_CLASSES, seed=derived_seed(0, "classifier"))
    head.build(encoder.output_shape)
    return head


def _optimizer() -> keras.optimizers.Optimizer:
    return keras.optimizers.SGD(0.01, momentum=0.9)
