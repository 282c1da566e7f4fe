"""From the sections of a recipe to the objects they describe."""

from __future__ import annotations

from pathlib import Path

import pytest

from advss_tf import assembly
from advss_tf.attacks import L2
from advss_tf.config import load_recipe
from advss_tf.errors import InvalidInput
from advss_tf.training import LARS, SGD, AdamW

DIGITS = Path(__file__).parents[1] / "configs" / "digits.yaml"


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


def test_a_section_that_is_null_is_refused():
    recipe = load_recipe(DIGITS, ["pretrain=null", "finetune.start=scratch"])
    with pytest.raises(InvalidInput, match="The recipe has no `pretrain`"):
        assembly.section(recipe, "pretrain")
