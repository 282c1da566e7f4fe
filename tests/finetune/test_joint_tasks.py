"""The joint classifier with each pretext task: steps, frozen parts, branches, running statistics."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.attacks import Linf, ProjectedGradientDescent
from advss_tf.encoders import BranchedBatchNormalization
from advss_tf.finetune import JointClassifier
from advss_tf.finetune.joint_options import MODES
from advss_tf.pretext import EnsemblePretraining, Jigsaw, Rotation, Selfie, SimCLR
from advss_tf.randomness import fold
from advss_tf.training import SGD, Batch

ATTACK = ProjectedGradientDescent(Linf(0.1), num_steps=2)
TASKS = {
    "rotation": Rotation,
    "jigsaw": lambda encoder: Jigsaw(encoder, grid=2, num_permutations=3),
    "selfie": lambda encoder: Selfie(encoder, num_layers=1, num_heads=2),
    "ensemble": lambda encoder: EnsemblePretraining(
        encoder, tasks=("rotation", {"kind": "jigsaw", "grid": 2, "num_permutations": 3})
    ),
    "simclr": lambda encoder: SimCLR(encoder, projection=(8, 4)),
}


def made(encoder, *, task="rotation", **options):
    model = JointClassifier(encoder, 3, **{"auxiliary": TASKS[task](encoder), "attack": ATTACK, **options})
    model.compile(optimizer=SGD(0.05, momentum=0.9, weight_decay=1e-3))
    return model


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("mode", MODES)
def test_each_mode_takes_a_step_with_each_task(mode, task, tiny_images, tiny_labels, two_stages):
    model = made(two_stages(), task=task, mode=mode)
    of_encoder, trained = ({id(v) for v in part} for part in (model.encoder.variables, model.trainable_variables))
    encoder, *heads = [
        [v for v in part.trainable_variables if (id(v) in of_encoder) == (part is model.encoder)]
        for part in (model.encoder, model.supervised, model.auxiliary)
    ]
    before = [[v.numpy() for v in part] for part in (encoder, *heads)]
    model.build_optimizer()
    logs = model.train_step((tf.constant(tiny_images), tf.constant(tiny_labels)))
    assert np.isfinite(logs["loss"])
    moved = [
        [(v.numpy() != old).any() for v, old in zip(part, olds, strict=True)]
        for part, olds in zip((encoder, *heads), before, strict=True)
    ]
    # The encoder, the head of the classes, and the task's own variables: all of these, or in T0 none.
    assert all(moved[0]) and all(moved[1]) and moved[2]
    still = {"selfie": 1}.get(task, 0) if mode != "plain" else len(moved[2])
    assert moved[2].count(False) <= still, [v.path for v, one in zip(heads[1], moved[2], strict=True) if not one]
    assert all(id(v) in trained for v in heads[1]) == any(moved[2]) == (mode != "plain")
    assert ("auxiliary_loss" in logs) == (mode != "plain")


def test_an_ensemble_is_the_mean_of_its_tasks_at_the_same_attacked_images(tiny_images, tiny_labels, two_stages):
    model = made(two_stages(), task="ensemble", mode="attacked")
    batch = Batch(tf.constant(tiny_images), tf.constant(tiny_labels))
    puzzle = model.pose(batch, tf.constant([3, 4]))
    attacked = tf.clip_by_value(batch.images + 0.05, 0.0, 1.0)
    terms = model.descend({"images": attacked}, puzzle, training=False)
    found = []
    for number, task in enumerate(model.auxiliary.puzzles.values()):
        asked = task.pose(batch, fold(tf.constant([3, 4]), number))
        found.append(task.solve(task.render(attacked, asked), asked, training=False, stream="clean"))
    for name, values in zip(("auxiliary_loss", "auxiliary_accuracy"), zip(*found, strict=True), strict=True):
        np.testing.assert_allclose(terms[name], np.mean(values, axis=0), rtol=1e-5)
    assert model.chance == pytest.approx((1 / 4 + 1 / 4) / 2) and len(model.auxiliary.puzzles) == 2


@pytest.mark.parametrize("task", ["jigsaw", "selfie", pytest.param("simclr", marks=pytest.mark.slow)])
def test_inside_the_graph_of_a_step_the_images_keep_the_size_that_a_task_has_to_know(
    task, tiny_images, tiny_labels, two_stages
):
    logs = made(two_stages(), task=task, mode="sum").train_on_batch(tiny_images, tiny_labels, return_dict=True)
    assert logs["loss"] == pytest.approx(logs["adversarial_loss"] + 0.5 * logs["auxiliary_loss"], rel=1e-5)


def test_a_stack_of_jigsaws_takes_a_step(tiny_images, tiny_labels, two_stages):
    logs = made(two_stages(), task="jigsaw", copies="stack").train_on_batch(tiny_images, tiny_labels, return_dict=True)
    assert logs["loss"] == pytest.approx(logs["adversarial_loss"] + 0.5 * logs["auxiliary_loss"], rel=1e-5)


@pytest.mark.parametrize(
    ("options", "moved"),
    [
        ({"mode": "clean"}, {"clean", "adversarial"}),
        ({"mode": "own"}, {"adversarial"}),
        ({"mode": "sum", "auxiliary_at": "clean"}, {"clean", "adversarial"}),
    ],
)
def test_the_task_goes_through_the_branch_of_the_images_that_it_is_learned_on(
    options, moved, tiny_images, tiny_labels, two_stages
):
    encoder = two_stages(BranchedBatchNormalization)
    model = made(encoder, **options)
    before = {variable.path: variable.numpy() for variable in encoder.variables}
    model.train_on_batch(tiny_images, tiny_labels)
    changed = {v.path for v in encoder.variables if "moving_mean" in v.path and (v.numpy() != before[v.path]).any()}
    assert {path.split("/")[1] for path in changed} == moved
    assert model.delivered_branch == "adversarial"


@pytest.mark.parametrize("form", [{"mode": "stronger"}, {"mode": "sum", "copies": "stack"}])
def test_no_attack_moves_running_statistics(form, tiny_images, tiny_labels, two_stages):
    """Steps too short to matter: what is left to move them is one pass of each term."""
    moved = []
    for num_steps in (1, 4):
        attack = ProjectedGradientDescent(Linf(1e-7), num_steps=num_steps, batch_norm="training")
        model = made(two_stages(keras.layers.BatchNormalization), attack=attack, **form)
        model.train_on_batch(tiny_images, tiny_labels)
        moved.append([v.numpy() for v in model.encoder.non_trainable_variables])
    for one, other in zip(*moved, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_part_of_the_encoder_can_be_kept(tiny_encoder, tiny_images, tiny_labels):
    before = {variable.path: variable.numpy() for variable in tiny_encoder.variables}
    made(tiny_encoder, train="partial").train_on_batch(tiny_images, tiny_labels)
    changed = {v.path.split("/")[0] for v in tiny_encoder.variables if (v.numpy() != before[v.path]).any()}
    assert changed == {"stage2_conv"}
