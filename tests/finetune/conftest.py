"""What the tests of the joint classifier share: it on a linear model, whose losses and gradients are worked by hand."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.attacks import Linf, ProjectedGradientDescent
from advss_tf.finetune import JointClassifier
from advss_tf.pretext import Rotation
from advss_tf.training import Puzzle


@dataclass(frozen=True)
class Linear:
    """One grey image of 2 x 2 pixels (a, b, c, d), label 1, turned once: t(x) = (b, d, a, c). Features: pixels.

    At the grey image the gradient of CE is (2, 1, -1, -2), that of SSL (1, -2, 2, -1): the sum a · CE + m · SSL changes
    its signs at m = a / 2.
    """

    grey: Any
    label: Any
    classes: Any  # class 0 has the logit 4a + 2b - 2c - 4d, class 1 the logit 0: CE = log(exp(logit) + 1)
    turns: Any  # answer 0 has the logit -8b - 4d + 4a + 8c at the turned image, the others 0: SSL = log(exp(logit) + 3)
    one_step: ProjectedGradientDescent
    ce: dict[str, float]  # at the grey image, at the adversary of the classes, and at that of the turns
    ssl: dict[str, float]

    def __call__(self, **options: Any) -> JointClassifier:
        """A joint classifier with these weights, each image turned once, attacked by one step."""
        images = keras.Input((2, 2, 1))
        encoder = keras.Model(images, keras.layers.Flatten()(images))
        rotation = Rotation(encoder)
        rotation.draw = lambda size, seed: Puzzle({}, tf.ones((size,), tf.int64))
        model = JointClassifier(encoder, 2, auxiliary=rotation, **{"attack": self.one_step, **options})
        model.head.kernel.assign(self.classes)
        rotation.head.kernel.assign(self.turns)
        model.compile(optimizer="sgd")
        return model

    def first_step(self, **options: Any) -> dict[str, float]:
        """The logs of the first step."""
        model = self(**options)
        model.build_optimizer()
        logs = model.train_step((tf.constant(self.grey), tf.constant(self.label)))
        return {name: float(value) for name, value in logs.items()}


@pytest.fixture
def linear():
    return Linear(
        grey=np.full((1, 2, 2, 1), 0.5, np.float32),
        label=np.array([1]),
        classes=np.array([[4.0, 0.0], [2.0, 0.0], [-2.0, 0.0], [-4.0, 0.0]]),
        turns=np.array([[-8.0, 0, 0, 0], [-4.0, 0, 0, 0], [4.0, 0, 0, 0], [8.0, 0, 0, 0]]),
        one_step=ProjectedGradientDescent(Linf(0.25), num_steps=1, step_size=0.25, random_start=False),
        ce={"grey": log(2), "of classes": log(1 + exp(3)), "of turns": log(1 + exp(1))},
        ssl={"grey": log(4), "of classes": log(exp(-2) + 3), "of turns": log(exp(6) + 3)},
    )
