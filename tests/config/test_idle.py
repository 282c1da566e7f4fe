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


def test_what_allows_batch_norm_by_the_part_is_idle():
    beside = ["refine={full: {attack: {epsilon: 0.1}}}"]
    for section in ("pretrain", "finetune", "refine.linear", "refine.full"):
        assert same(f"{section}.micro_batch_norm=per_part", beside=beside)
    assert not same("pretrain.micro_batches=2", "pretrain.micro_batch_norm=per_part")


def test_the_weight_of_the_clean_puzzle_is_idle_without_an_attack():
    assert same("pretrain.task.clean_weight=0.25", beside=CLEAN)
    assert not same("pretrain.task.clean_weight=0.25")


def test_in_an_ensemble_without_an_attack_the_members_weights_and_the_diversity_are_idle():
    assert same("pretrain.task.diversity_weight=0.3", TWO % 0.3, beside=(*CLEAN, TWO % 0.5))
    assert not same(TWO % 0.3, beside=(TWO % 0.5,))
    assert not same("pretrain.task.diversity_weight=0.3", beside=(TWO % 0.5,))


@pytest.mark.parametrize("change", ["true", "false"])
def test_norms_of_its_own_are_idle_in_an_ensemble_without_selfie(change):
    change = f"pretrain.task.own_norms={change}"
    assert same(change, beside=[TWO % 0.5])
    assert not same(change, beside=["pretrain.task={kind: ensemble}"])


@pytest.mark.parametrize("change", ["finetune.auxiliary.weight=2", "finetune.auxiliary.copies=stack"])
def test_a_task_beside_the_classes_weighs_nothing_in_the_mode_plain(change):
    assert same(change)
    assert not same(change, beside=["finetune.auxiliary.mode=sum"])


@pytest.mark.parametrize("change", ["attack_weight=0.5", "attack_class_weight=1", "auxiliary_at=attacked"])
def test_what_says_the_same_as_null_of_the_attack_of_a_sum_is_idle(change):
    beside, name = ["finetune.auxiliary.mode=sum"], change.partition("=")[0]
    assert same(f"finetune.auxiliary.{change}", beside=beside)
    other = "clean" if name == "auxiliary_at" else "0.75"
    assert not same(f"finetune.auxiliary.{name}={other}", beside=beside)


def test_the_diversity_of_an_ensemble_beside_the_classes_is_idle():
    beside = ["finetune.auxiliary.mode=own", "finetune.auxiliary.task={kind: ensemble, tasks: [{kind: rotation}, "
              "{kind: jigsaw}]}"]  # fmt: skip
    assert same("finetune.auxiliary.task.diversity_weight=0", beside=beside)
    assert not same("finetune.auxiliary.task.shared=encoder", beside=beside)


def test_the_weight_of_the_classes_is_idle_in_no_mode():
    assert not same("finetune.auxiliary.class_weight=2")


CONTRASTIVE = "pretrain.task={kind: %s}"


@pytest.mark.parametrize("kind", ["advcl", "a_infonce"])
@pytest.mark.parametrize("change", ["pretrain.task.pseudo_weight=2", "pretrain.task.perturbation=shared"])
def test_what_is_said_of_pseudo_labels_is_idle_without_them(kind, change):
    assert same(change, beside=[CONTRASTIVE % kind])
    assert not same(change, beside=[CONTRASTIVE % kind, "pretrain.task.pseudo_labels=clusters.npz"])


@pytest.mark.parametrize("kind", ["rocl", "advcl", "a_infonce"])
def test_how_often_negatives_are_positives_is_idle_unless_they_are_weighed(kind):
    beside = [CONTRASTIVE % kind, "pretrain.task.asymmetry.clean_share=0.2"]
    assert same("pretrain.task.asymmetry.tau_plus=0.3", beside=[*beside, "pretrain.task.asymmetry.beta=null"])
    assert not same("pretrain.task.asymmetry.tau_plus=0.3", beside=beside)


@pytest.mark.parametrize("kind", ["acl", "acl_air", "dynacl"])
def test_the_form_of_invariances_is_idle_where_none_has_a_weight(kind):
    none = ["pretrain.epochs=99", CONTRASTIVE % kind, "pretrain.task.sir_weight=0", "pretrain.task.air_weight=0"]
    assert same("pretrain.task.invariance=code", beside=none)
    for name in ("sir_weight", "air_weight"):
        assert not same("pretrain.task.invariance=code", beside=[*none, f"pretrain.task.{name}=0.5"])


def test_a_cache_changes_no_gradient():
    assert same("pretrain.task.cache=false", beside=[CONTRASTIVE % "advcl"])


@pytest.mark.parametrize(
    ("said", "other", "of_data"),
    [
        ("pretrain.flip=true", "pretrain.flip=false", "data.flip=true"),
        ("pretrain.crop_padding=2", "pretrain.crop_padding=1", "data.crop_padding=2"),
    ],
)
def test_an_augmentation_that_says_what_the_data_say_is_idle(said, other, of_data):
    assert same(said, beside=[of_data])
    assert not same(other, beside=[of_data])
    assert not same(said)


def test_that_random_weights_may_be_frozen_changes_nothing_where_they_are_not():
    assert same("finetune.freeze_random=true")
    scratch = ["finetune.auxiliary=null", "finetune.start=scratch", "finetune.freeze_random=true"]
    assert not same("finetune.train=partial", beside=scratch)


def test_another_probe_is_another_history():
    assert not same("pretrain.probe={k: 5}")
    assert not same("pretrain.probe.k=6", beside=["pretrain.probe={k: 5}"])


@pytest.mark.parametrize("change", ["seed=8", "finetune.epochs=2", "pretrain.epochs=2", "encoder.width=8"])
def test_what_is_not_idle_tells_recipes_apart(change):
    assert not same(change)


def test_without_stages_nothing_is_settled():
    recipe = make_recipe(VALUES, ["pretrain=null", "finetune.start=scratch", *TRADES])
    assert settled(recipe) == recipe
