"""From the sections of a recipe to the objects they describe."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from advss_tf import assembly
from advss_tf.attacks import L2
from advss_tf.config import load_grid, load_recipe
from advss_tf.data import load_data
from advss_tf.errors import InvalidInput
from advss_tf.stages import _monitor
from advss_tf.training import LARS, SGD, AdamW

DIGITS = Path(__file__).parents[1] / "configs" / "digits.yaml"


@pytest.mark.parametrize(("channels", "said", "flip"), [(1, "", False), (3, "", True), (1, "true", True)])
def test_images_are_mirrored_where_they_have_colours_unless_the_recipe_says_otherwise(channels, said, flip, tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, images=np.zeros((60, 8, 8, channels), np.uint8), labels=np.arange(60) % 2)
    more = f", flip: {said}" if said else ""
    recipe = load_recipe(DIGITS, [f"data={{kind: arrays, path: {path}, labels_per_class: 5{more}}}"])
    assert assembly.data_of(recipe).flip is flip


def test_an_attack_has_every_field_of_its_section():
    recipe = load_recipe(
        DIGITS,
        [
            "pretrain.attack={norm: l2, epsilon: 0.5, num_steps: 7, step_size: 0.2, num_restarts: 2, keep: best, "
            "batch_norm: training}"
        ],
    )
    attack = assembly.attack_of(recipe.pretrain.attack)
    assert isinstance(attack.threat, L2)
    assert attack.get_config() == {
        "threat": {"norm": "l2", "epsilon": 0.5}, "num_steps": 7, "step_size": 0.2, "random_start": True,
        "num_restarts": 2, "keep": "best", "batch_norm": "training",
    }  # fmt: skip
    assert assembly.attack_of(None) is None


def test_schedules_count_epochs_in_steps():
    piecewise = "{kind: piecewise, milestones: [4, 6], factor: 0.5, warmup_epochs: 2}"
    recipe = load_recipe(DIGITS, [f"pretrain.optimizer.schedule={piecewise}", "pretrain.optimizer.learning_rate=0.4"])
    rate = assembly.optimizer_of(recipe.pretrain, 20)._learning_rate
    for step, expected in ((0, 0.4 / 41), (40, 0.4), (79, 0.4), (80, 0.2), (120, 0.1)):
        assert float(rate(step)) == pytest.approx(expected)


def test_optimizers_have_every_field_of_their_section():
    changes = ("weight_decay=0.01", "decay=all", "clip_norm=2", "ema_momentum=0.9")
    recipe = load_recipe(DIGITS, [f"pretrain.optimizer.{change}" for change in changes])
    sgd = assembly.optimizer_of(recipe.pretrain, 20)
    assert isinstance(sgd, SGD)
    assert (sgd.weight_decay, sgd.decay, sgd.clip_norm, sgd.use_ema, sgd.ema_momentum) == (0.01, "all", 2, True, 0.9)
    adamw = load_recipe(DIGITS, ["pretrain.optimizer={kind: adamw, learning_rate: 0.001}"])
    assert isinstance(assembly.optimizer_of(adamw.pretrain, 20), AdamW)
    section = "{kind: lars, learning_rate: 5, trust_coefficient: 0.002, adapt: all, momentum: 0.8, nesterov: true}"
    recipe = load_recipe(DIGITS, [f"pretrain.optimizer={section}"])
    lars = assembly.optimizer_of(recipe.pretrain, 20)
    assert isinstance(lars, LARS)
    assert (lars.trust_coefficient, lars.adapt, lars.momentum, lars.nesterov) == (0.002, "all", 0.8, True)
    assert (lars.weight_decay, lars.decay, float(lars.learning_rate)) == (1e-6, "kernels", 5.0)


def test_the_two_words_of_the_grid_reach_the_classifier():
    recipe = load_recipe(DIGITS, ["finetune.train=partial", "finetune.how=adversarial", "encoder.width=2"])
    model = assembly.classifier_of(recipe, assembly.encoder_of(recipe, (8, 8, 1)), 10)
    assert (model.train, model.how, model.boundary, model.seed) == ("partial", "adversarial", "stage2", recipe.seed)
    pretext = assembly.pretext_of(recipe, assembly.encoder_of(recipe, (8, 8, 1)), assembly.data_of(recipe))
    assert pretext.attack.num_steps == recipe.pretrain.attack.num_steps


def test_a_task_beside_the_classes_has_every_field_of_its_section():
    changes = ["auxiliary.task={kind: jigsaw, grid: 2, num_permutations: 5}", "auxiliary.mode=stronger"]
    changes += ["auxiliary.copies=drawn", "auxiliary.weight=0.25", "auxiliary.attack_weight=2", "start=scratch"]
    recipe = load_recipe(DIGITS.with_name("digits_joint.yaml"), [f"finetune.{change}" for change in changes])
    encoder = assembly.encoder_of(recipe, (8, 8, 1))
    model = assembly.classifier_of(recipe, encoder, 10)
    assert (model.mode, model.copies, model.weight, model.attack_weight) == ("stronger", "drawn", 0.25, 2.0)
    assert (model.train, model.boundary, model.seed, model.num_classes) == ("full", None, recipe.seed, 10)
    task = model.auxiliary
    assert (task.task, task.grid, task.num_permutations, task.seed) == ("jigsaw", 2, 5, recipe.seed)
    assert task.encoder is model.encoder is encoder and task.attack is None
    assert model.attack.threat.epsilon == 0.1 and model.eval_attack is model.attack


def test_simclr_beside_the_classes_augments_as_the_data_say_and_goes_through_the_encoder_s_branches():
    branches = ("clean", "adversarial")
    changes = ["finetune.auxiliary={task: {kind: simclr, views: [strong, weak], temperature: 0.2}, mode: own}"]
    changes += [
        "data.flip=true",
        "data.crop_padding=2",
        f"encoder={{kind: resnet20, width: 2, branches: {[*branches]}}}",
    ]
    recipe = load_recipe(DIGITS.with_name("digits_joint.yaml"), changes)
    model = assembly.classifier_of(recipe, assembly.encoder_of(recipe, (8, 8, 1)), 10)
    task = model.auxiliary
    assert (task.flip, task.crop_padding, task.temperature, task.views) == (True, 2, 0.2, ("strong", "weak"))
    assert model.mode == "own" and set(task.branches) == set(branches) and task.seed == recipe.seed
    assert type(model).from_config(model.get_config()).auxiliary.get_config()["streams"] == task.streams


def test_an_ensemble_beside_the_classes_has_every_task_of_its_section():
    tasks = "[{kind: rotation}, {kind: jigsaw, grid: 2, num_permutations: 5}]"
    changes = [f"finetune.auxiliary={{task: {{kind: ensemble, tasks: {tasks}}}}}", "encoder.width=2"]
    recipe = load_recipe(DIGITS.with_name("digits_joint.yaml"), changes)
    model = assembly.classifier_of(recipe, assembly.encoder_of(recipe, (8, 8, 1)), 10)
    assert list(model.auxiliary.puzzles) == ["rotation", "jigsaw"] and model.auxiliary.puzzles["jigsaw"].grid == 2
    assert model.auxiliary.encoder is model.encoder and model.auxiliary.attack is None


def test_a_finetuning_that_compares_images_holds_each_once_in_a_batch():
    changes = ["finetune.auxiliary={task: {kind: simclr}, mode: clean}", "data.labels_per_class=5"]
    recipe = load_recipe(DIGITS.with_name("digits_joint.yaml"), changes)
    data = assembly.data_of(recipe)
    with pytest.raises(InvalidInput, match=r"finetune.batch_size of at most 50, .* Received: batch_size=64"):
        assembly.check_batch(recipe, data, "finetune")
    for change in ("finetune.batch_size=50", "finetune.auxiliary.mode=plain", "finetune.auxiliary=null"):
        assembly.check_batch(load_recipe(DIGITS.with_name("digits_joint.yaml"), [*changes, change]), data, "finetune")


@pytest.mark.parametrize("task", ["rotation", "jigsaw", "selfie"])
@pytest.mark.parametrize(("start", "monitor"), [("P2", "val_accuracy"), ("P3", "val_robust_accuracy")])
def test_the_grid_of_chen_2020_picks_a_clean_pretraining_by_clean_accuracy(task, start, monitor):
    grid = load_grid(DIGITS.with_name("grid_chen2020.yaml"), ["encoder={kind: resnet20, width: 8}"])
    for cell in grid.only([f"task={task}", f"pretraining={start}", "finetuning=F1,F4"]):
        assert (cell.recipe.pretrain.attack is None) == (start == "P2")
    encoder = assembly.encoder_of(cell.recipe, (16, 16, 3))
    model = assembly.pretext_of(cell.recipe, encoder, load_data(np.zeros((20, 16, 16, 3), np.uint8)))
    assert _monitor(model) == monitor


@pytest.mark.parametrize("views", [None, ("weak",)])
def test_the_augmentation_of_pretraining_is_that_of_pretraining_alone(views):
    # One white column at the left: where it lies tells whether an image was mirrored or shifted.
    images = np.zeros((64, 8, 8, 3), np.uint8)
    images[:, :, 0] = 255
    data = load_data((images, np.arange(64) % 2), flip=False, crop_padding=0)
    recipe = load_recipe(DIGITS, ["encoder.width=2"])

    def places(batches):
        seen = next(iter(batches)).numpy().reshape(-1, 8, 8, 3)
        return {tuple(np.flatnonzero(image.max(axis=(0, 2)))) for image in seen}

    def pretraining(*changes):
        changed = load_recipe(DIGITS, ["encoder.width=2", *changes])
        model = SimpleNamespace() if views is None else SimpleNamespace(views=views, strength=None)
        return places(assembly.batches_of(changed, model, data)(64, num_steps=1))

    assert pretraining() == {(0,)}
    assert pretraining("pretrain.flip=true") == {(0,), (7,)}
    assert pretraining("pretrain.crop_padding=1") == {(), (0,), (1,)}
    train = next(iter(data.train(32, num_steps=1)))[0].numpy()
    assert {tuple(np.flatnonzero(image.max(axis=(0, 2)))) for image in train} == {(0,)}
    assert assembly.pretraining_data(recipe, data).fingerprint == data.fingerprint


def test_views_made_in_the_step_are_augmented_as_pretraining_says():
    path = DIGITS.with_name("digits_acl.yaml")
    changes = ["pretrain.task={kind: acl, views: [weak, weak], projection: [4, 2]}", "encoder.width=2"]
    for more, expected in ([], (1, False)), (["pretrain.flip=true", "pretrain.crop_padding=3"], (3, True)):
        recipe = load_recipe(path, [*changes, "encoder.branches=[clean, adversarial]", *more])
        data = load_data("digits")
        model = assembly.pretext_of(recipe, assembly.encoder_of(recipe, data.image_shape), data)
        assert (model.crop_padding, model.flip) == expected


def test_a_section_that_is_null_is_refused():
    recipe = load_recipe(DIGITS, ["pretrain=null", "finetune.start=scratch"])
    with pytest.raises(InvalidInput, match="The recipe has no `pretrain`"):
        assembly.section(recipe, "pretrain")
