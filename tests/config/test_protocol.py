"""SLF, ALF and AFF: what they say, what a recipe may say beside them, and what it may not."""

from __future__ import annotations

import copy

import pytest

from advss_tf.config import RecipeError, dump_recipe, json_schema, make_recipe, read_yaml
from advss_tf.config.protocol import PRESETS, filled

VALUES = {
    "name": "base",
    "seed": 7,
    "data": {"kind": "digits"},
    "encoder": {"kind": "resnet20", "width": 4},
    "finetune": {"preset": "slf", "start": "encoder"},
}


def finetune(*changes):
    return make_recipe(VALUES, changes).finetune


def faults(*changes):
    with pytest.raises(RecipeError) as caught:
        make_recipe(VALUES, changes)
    return caught.value.faults


@pytest.mark.parametrize(
    ("preset", "train", "how", "rate", "batch_size"),
    [
        ("slf", "linear", "standard", 0.01, 512),
        ("alf", "linear", "adversarial", 0.01, 512),
        ("aff", "full", "trades", 0.1, 128),
    ],
)
def test_a_preset_is_the_protocol_of_the_literature(preset, train, how, rate, batch_size):
    part = finetune(f"finetune.preset={preset}")
    assert (part.train, part.how, part.epochs, part.batch_size) == (train, how, 25, batch_size)
    sgd = part.optimizer
    assert (sgd.kind, sgd.learning_rate, sgd.momentum, sgd.nesterov) == ("sgd", rate, 0.9, False)
    assert (sgd.weight_decay, sgd.decay) == (2e-4, "all")
    assert (sgd.schedule.kind, sgd.schedule.milestones, sgd.schedule.factor) == ("piecewise", (15, 20), 0.1)
    attack = part.eval_attack if preset == "slf" else part.attack
    assert (attack.norm, attack.epsilon, attack.step_size, attack.num_steps) == ("linf", 8 / 255, 2 / 255, 10)
    assert (part.attack is None, part.beta) == (preset == "slf", 6.0)
    assert part.select == ("accuracy" if preset == "slf" else "auto")


@pytest.mark.parametrize("preset", PRESETS)
def test_a_saved_recipe_has_every_value_and_is_the_same_without_the_name(preset):
    recipe = make_recipe(VALUES, [f"finetune.preset={preset}"])
    values = read_yaml(dump_recipe(recipe))
    assert make_recipe(values) == recipe
    assert values["finetune"]["optimizer"]["schedule"]["milestones"] == [15, 20]
    alone = make_recipe(values, ["finetune.preset=null"]).finetune
    assert alone.model_dump(exclude={"preset"}) == recipe.finetune.model_dump(exclude={"preset"})


def test_what_is_written_stays_key_by_key():
    part = finetune("finetune.epochs=30", "finetune.optimizer.learning_rate=0.5", "finetune.eval_attack.num_steps=20")
    assert (part.epochs, part.batch_size) == (30, 512)
    assert (part.optimizer.learning_rate, part.optimizer.momentum, part.optimizer.weight_decay) == (0.5, 0.9, 2e-4)
    assert (part.eval_attack.num_steps, part.eval_attack.step_size) == (20, 2 / 255)


def test_another_schedule_is_the_recipe_s_own_and_so_is_the_step_of_another_ball():
    part = finetune("finetune.optimizer.schedule={kind: cosine}", "finetune.eval_attack={epsilon: 0.1}")
    assert part.optimizer.schedule.kind == "cosine" and part.optimizer.learning_rate == 0.01
    assert (part.eval_attack.epsilon, part.eval_attack.num_steps, part.eval_attack.step_size) == (0.1, 10, None)


@pytest.mark.parametrize("preset", ["alf", "aff"])
def test_what_is_measured_alone_is_trained_too(preset):
    part = finetune(f"finetune.preset={preset}", "finetune.eval_attack={epsilon: 0.1, num_steps: 5}")
    assert part.attack == part.eval_attack and (part.attack.epsilon, part.attack.num_steps) == (0.1, 5)
    part = finetune(f"finetune.preset={preset}", "finetune.attack.num_steps=3", "finetune.eval_attack={epsilon: 0.1}")
    assert (part.attack.epsilon, part.attack.num_steps, part.eval_attack.epsilon) == (8 / 255, 3, 0.1)
    assert finetune(f"finetune.preset={preset}", "finetune.eval_attack=null").attack.epsilon == 8 / 255


def test_slf_trains_under_no_attack_whatever_is_measured():
    assert finetune("finetune.eval_attack={epsilon: 0.1}").attack is None


def test_null_is_written_too():
    assert finetune("finetune.eval_attack=null").eval_attack is None


def test_filling_changes_neither_what_was_written_nor_the_presets():
    written, presets = {"preset": "alf", "optimizer": {"learning_rate": 1.0}}, copy.deepcopy(PRESETS)
    values = filled(written)
    values["attack"]["num_steps"] = values["optimizer"]["schedule"]["factor"] = 3
    assert presets == PRESETS and written == {"preset": "alf", "optimizer": {"learning_rate": 1.0}}
    assert filled({"start": "x"}) == {"start": "x"} and filled(3) == 3


def test_what_a_preset_means_cannot_be_changed():
    (fault,) = faults("finetune.train=full")
    assert fault.startswith(
        "finetune.train: is not what the preset slf means. Expected: train: linear, or preset: null"
    )
    (fault,) = faults("finetune.preset=aff", "finetune.how=adversarial")
    assert fault.startswith("finetune.how: is not what the preset aff means. Expected: how: trades")
    assert any(fault.startswith("finetune.attack: must be null") for fault in faults("finetune.attack={epsilon: 0.1}"))


@pytest.mark.parametrize(("word", "hint"), [("slff", " (did you mean 'slf'?)"), ("3", ""), ("[slf]", "")])
def test_a_preset_that_is_not_known_is_the_only_fault(word, hint):
    (fault,) = faults(f"finetune.preset={word}")
    assert fault.startswith(f"finetune.preset: is not known{hint}. Expected: one of ['aff', 'alf', 'slf'].")


def test_without_a_preset_everything_is_asked_for():
    missing = {fault.partition(":")[0] for fault in faults("finetune.preset=null")}
    assert missing == {f"finetune.{name}" for name in ("epochs", "optimizer", "train", "how")}


def test_editors_are_told_that_a_preset_stands_in():
    section = json_schema()["$defs"]["Finetune"]
    assert section["required"] == ["start"]
    with_values, with_preset = section["anyOf"]
    assert sorted(with_values["required"]) == ["epochs", "how", "optimizer", "train"]
    assert with_preset["required"] == ["preset"]
