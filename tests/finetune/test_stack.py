"""The stack of Hendrycks et al. 2019: the copies, the losses and the attack, written again from the paper's sums."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.attacks import L2, Linf, ProjectedGradientDescent
from advss_tf.finetune import JointClassifier
from advss_tf.finetune.stack import stack_of, stack_terms
from advss_tf.pretext import Jigsaw, Rotation
from advss_tf.randomness import seed_for
from advss_tf.training import Batch, Puzzle


def joint(encoder, *, auxiliary=None, threat=None, **options):
    attack = ProjectedGradientDescent(threat or Linf(0.1), **{"num_steps": 3, **options.pop("attack", {})})
    model = JointClassifier(
        encoder, 3, auxiliary=auxiliary or Rotation(encoder), mode="sum", copies="stack", attack=attack, **options
    )
    model.compile(optimizer="sgd")
    return model


def attacked(model, images, labels):
    """The clean and the attacked inputs of the first training step."""
    puzzle = model.pose(Batch(tf.constant(images), tf.constant(labels)), seed_for(0, 0, "pose"))
    found = model._attack(model.attack, model.climb, puzzle, seed_for(0, 0, "attack"))
    return {name: np.asarray(values) for name, values in puzzle.inputs.items()}, found


def test_a_stack_is_every_turn_of_every_image(tiny_encoder, tiny_images):
    stack = stack_of(Rotation(tiny_encoder), tf.constant(tiny_images))
    assert list(stack.inputs) == ["puzzle0", "puzzle1", "puzzle2", "puzzle3"]
    for turn, copies in enumerate(stack.inputs.values()):
        np.testing.assert_array_equal(copies, np.rot90(tiny_images, turn, axes=(1, 2)))
    np.testing.assert_array_equal(stack.targets, np.repeat(np.arange(4), 8))


def test_a_stack_of_jigsaws_begins_with_the_image_as_it_was(tiny_encoder, tiny_images):
    stack = stack_of(Jigsaw(tiny_encoder, grid=2, num_permutations=2), tf.constant(tiny_images))
    assert len(stack.inputs) == 3
    np.testing.assert_array_equal(stack.inputs["puzzle0"], tiny_images)
    assert (stack.inputs["puzzle1"] != tiny_images).numpy().any()


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("training", [False, True])
def test_the_terms_are_those_of_one_pass_over_five_times_the_batch(training, tiny_encoder, tiny_images, tiny_labels):
    model = joint(tiny_encoder)
    stack = stack_of(model.auxiliary, tf.constant(tiny_images))
    inputs = {"images": tf.constant(tiny_images), **stack.inputs}
    five = np.concatenate([tiny_images, *(np.rot90(tiny_images, turn, axes=(1, 2)) for turn in range(4))])
    with keras.StatelessScope():
        features = np.asarray(tiny_encoder(five, training=training), np.float64)
        terms = stack_terms(model, inputs, Puzzle({}, tf.constant(tiny_labels)), stack, training=training)
    of_classes = log_softmax(features[:8] @ model.head.kernel.numpy())
    of_turns = log_softmax(features[8:] @ model.auxiliary.head.kernel.numpy()).reshape(4, 8, 4)
    right = np.stack([of_turns[turn, :, turn] for turn in range(4)])
    np.testing.assert_allclose(terms["adversarial_loss"], -of_classes[np.arange(8), tiny_labels], rtol=1e-4)
    np.testing.assert_allclose(terms["auxiliary_loss"], -right.mean(axis=0), rtol=1e-4)
    hits = (of_turns.argmax(axis=2) == np.arange(4)[:, None]).mean(axis=0)
    np.testing.assert_allclose(terms["auxiliary_accuracy"], hits)
    np.testing.assert_array_equal(terms["robust_accuracy"], of_classes.argmax(axis=1) == tiny_labels)


def ascended(encoder, model, images, labels, *, training, num_steps, epsilon, step):
    """The attack of Hendrycks et al. from the clean stack: Σ CE + ⅛ Σ CE of the turns, signs, one ball a copy."""
    five = np.concatenate([images, *(np.rot90(images, turn, axes=(1, 2)) for turn in range(4))])
    turns, points = np.repeat(np.arange(4), len(images)), tf.constant(five)
    for _ in range(num_steps):
        with tf.GradientTape() as tape, keras.StatelessScope():
            tape.watch(points)
            features = encoder(points, training=training)
            logits, answers = model.head(features[: len(images)]), model.auxiliary.head(features[len(images) :])
            of_classes = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            of_turns = tf.nn.sparse_softmax_cross_entropy_with_logits(turns, answers)
            height = tf.reduce_sum(of_classes) + tf.reduce_sum(of_turns) / 8
        moved = points + step * tf.sign(tape.gradient(height, points))
        points = tf.clip_by_value(tf.clip_by_value(moved, five - epsilon, five + epsilon), 0.0, 1.0)
    return np.split(points.numpy(), 5)


@pytest.mark.parametrize("batch_norm", ["inference", "training"])
def test_the_attack_is_that_of_hendrycks_2019(batch_norm, tiny_encoder, tiny_images, tiny_labels):
    """Training's weight of 0.5 on the mean of four copies is the ⅛ of the paper's code on their sum."""
    options = {"num_steps": 3, "step_size": 0.05, "random_start": False, "batch_norm": batch_norm}
    model = joint(tiny_encoder, attack=options)
    assert model.attack_weight == 0.5
    _, found = attacked(model, tiny_images, tiny_labels)
    expected = ascended(
        tiny_encoder, model, tiny_images, tiny_labels,
        training=batch_norm == "training", num_steps=3, epsilon=0.1, step=0.05,
    )  # fmt: skip
    # Where a gradient is nearly zero its sign is rounding: all but few pixels are the same, and those within a step.
    for name, copies in zip(("images", "puzzle0", "puzzle1", "puzzle2", "puzzle3"), expected, strict=True):
        different = np.abs(found.inputs[name] - copies) > 1e-5
        assert different.mean() < 0.01, name


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.5)], ids=["linf", "l2"])
def test_each_copy_stays_in_a_ball_of_its_own_that_is_not_twice_as_large(
    threat, tiny_encoder, tiny_images, tiny_labels
):
    """The public code projects to a ball around the point where it starts, and may end 2 epsilon away."""
    model = joint(tiny_encoder, threat=threat, attack={"num_steps": 20, "step_size": threat.epsilon})
    clean, found = attacked(model, tiny_images, tiny_labels)
    moved = [found.inputs[name].numpy() - clean[name] for name in clean]
    assert len(moved) == 5
    for one in moved:
        flat = one.reshape(8, -1)
        size = np.abs(flat).max(axis=1) if threat.norm == "linf" else np.linalg.norm(flat, axis=1)
        assert (size <= threat.epsilon * (1 + 1e-5)).all() and (size > 0.5 * threat.epsilon).all()
    turned_back = np.rot90(moved[2], -1, axes=(1, 2))
    assert np.abs(turned_back - moved[0]).max() > 0.5 * threat.epsilon / (1 if threat.norm == "linf" else 8)


def test_without_the_batch_s_statistics_the_weight_of_the_attack_changes_nothing(
    tiny_encoder, tiny_images, tiny_labels
):
    """Copies that share neither a perturbation nor statistics climb each its own loss: a sign has no size."""
    found = {}
    for batch_norm in ("inference", "training"):
        one, other = (
            attacked(
                joint(tiny_encoder, attack_weight=weight, attack={"batch_norm": batch_norm}), tiny_images, tiny_labels
            )[1].inputs["puzzle1"].numpy()
            for weight in (0.25, 4.0)
        )  # fmt: skip
        found[batch_norm] = (np.abs(one - other) > 1e-5).mean()
    assert found["inference"] < 0.01 < found["training"]
