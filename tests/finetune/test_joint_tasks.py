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
from advss_tf.pretext import Jigsaw, Rotation, Selfie
from advss_tf.training import SGD

ATTACK = ProjectedGradientDescent(Linf(0.1), num_steps=2)
TASKS = {
    "rotation": Rotation,
    "jigsaw": lambda encoder: Jigsaw(encoder, grid=2, num_permutations=3),
    "selfie": lambda encoder: Selfie(encoder, num_layers=1, num_heads=2),
}


def made(encoder, *, task="rotation", **options):
    model = JointClassifier(encoder, 3, **{"auxiliary": TASKS[task](encoder), "attack": ATTACK, **options})
    model.compile(optimizer=SGD(0.05, momentum=0.9, weight_decay=1e-3))
    return model


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("mode", MODES)
def test_each_mode_takes_a_step_with_each_task(mode, task, tiny_images, tiny_labels, two_stages):
    model = made(two_stages(), task=task, mode=mode)
    heads = [[v.numpy() for v in part.trainable_variables] for part in (model.supervised, model.auxiliary)]
    model.build_optimizer()
    logs = model.train_step((tf.constant(tiny_images), tf.constant(tiny_labels)))
    assert np.isfinite(logs["loss"])
    after = [[v.numpy() for v in part.trainable_variables] for part in (model.supervised, model.auxiliary)]
    moved = [
        any((one != other).any() for one, other in zip(*each, strict=True)) for each in zip(heads, after, strict=True)
    ]
    assert moved == [True, True]
    of_task = [v for v in model.auxiliary.variables if all(v is not other for other in model.encoder.variables)]
    trained = {id(v) for v in model.trainable_variables}
    assert any(id(v) in trained for v in of_task) == (mode != "plain")
    assert ("auxiliary_loss" in logs) == (mode != "plain")


@pytest.mark.parametrize("task", ["jigsaw", "selfie"])
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
