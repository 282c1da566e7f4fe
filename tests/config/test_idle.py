"""Recipes that do the same: which fields are idle beside which others, and which never are."""

from __future__ import annotations

import pytest

from advss_tf.config import make_recipe, settled

SGD = {"kind": "sgd", "learning_rate": 0.1}
VALUES = {
    "name": "base",
    "seed": 7,
    "data": {"kind": "digits"},
    "encoder": {"kind": "resnet20", "width": 4},
    "pretrain": {"task": {"kind": "rotation"}, "attack": {"epsilon": 0.1}, "epochs": 1, "optimizer": SGD},
    "finetune": {
        "start": "pretrained", "train": "full", "how": "adversarial", "attack": {"epsilon": 0.2}, "epochs": 1,
        "optimizer": SGD, "auxiliary": {"task": {"kind": "rotation"}, "mode": "plain"},
    },
}  # fmt: skip
TRADES = ("finetune.auxiliary=null", "finetune.how=trades")
CLEAN = ("pretrain.attack=null",)
TWO = "pretrain.task={kind: ensemble, tasks: [{kind: rotation, clean_weight: %s}, {kind: jigsaw}]}"


def same(*changes, beside=()):
    one, other = make_recipe(VALUES, beside), make_recipe(VALUES, [*beside, *changes])
    assert one != other
    return settled(one) == settled(other)


def test_beta_is_idle_unless_finetuning_is_trades():
    assert same("finetune.beta=2")
    assert not same("finetune.beta=2", beside=TRADES)


def test_the_name_of_a_preset_is_idle_beside_its_values():
    beside = ["finetune={preset: aff, start: pretrained}"]
    values = make_recipe(VALUES, beside).model_dump(mode="json")["finetune"]
    assert same(("finetune", {**values, "preset": None}), beside=beside)
    assert not same("finetune.preset=slf", beside=beside)


def test_the_weight_of_the_clean_puzzle_is_idle_without_an_attack():
    assert same("pretrain.task.clean_weight=0.25", beside=CLEAN)
    assert not same("pretrain.task.clean_weight=0.25")


def test_in_an_ensemble_without_an_attack_the_members_weights_and_the_diversity_are_idle():
    assert same("pretrain.task.diversity_weight=0.3", TWO % 0.3, beside=(*CLEAN, TWO % 0.5))
    assert not same(TWO % 0.3, beside=(TWO % 0.5,))
    assert not same("pretrain.task.diversity_weight=0.3", beside=(TWO % 0.5,))


@pytest.mark.parametrize("change", ["finetune.auxiliary.weight=2", "finetune.auxiliary.copies=stack"])
def test_a_task_beside_the_classes_weighs_nothing_in_the_mode_plain(change):
    assert same(change)
    assert not same(change, beside=["finetune.auxiliary.mode=sum"])


@pytest.mark.parametrize("change", ["seed=8", "finetune.epochs=2", "pretrain.epochs=2", "encoder.width=8"])
def test_what_is_not_idle_tells_recipes_apart(change):
    assert not same(change)


def test_without_stages_nothing_is_settled():
    recipe = make_recipe(VALUES, ["pretrain=null", "finetune.start=scratch", *TRADES])
    assert settled(recipe) == recipe
