"""`--set a.b=c` changes one place of a recipe, whatever it holds."""

from __future__ import annotations

import pytest

from advss_tf.config import RecipeError, make_recipe

ATTACK = {"epsilon": "8/255", "num_steps": 5}
SGD = {"kind": "sgd", "learning_rate": 0.1, "schedule": {"kind": "piecewise", "milestones": [2]}}
VALUES = {
    "name": "tiny",
    "seed": 3,
    "data": {"kind": "digits", "labels_per_class": 5},
    "encoder": {"kind": "wide_resnet", "depth": 10, "width": 2},
    "pretrain": {"task": {"kind": "rotation"}, "attack": ATTACK, "epochs": 10, "optimizer": SGD},
}


def _faults(*overrides: object) -> tuple[str, ...]:
    with pytest.raises(RecipeError) as caught:
        make_recipe(VALUES, overrides)
    return caught.value.faults


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("pretrain.attack.num_steps=7", "pretrain.attack.num_steps", 7),
        ("pretrain.attack.epsilon=4/255", "pretrain.attack.epsilon", 4 / 255),
        (" pretrain.epochs = 12 ", "pretrain.epochs", 12),
        ("pretrain.attack=null", "pretrain.attack", None),
        ("pretrain.attack={epsilon: 2/255, norm: l2}", "pretrain.attack.norm", "l2"),
        ("pretrain.optimizer.weight_decay=1e-4", "pretrain.optimizer.weight_decay", 1e-4),
        ("pretrain.optimizer.schedule.milestones=[3, 5]", "pretrain.optimizer.schedule.milestones", (3, 5)),
        ("evaluate.epsilons=[0, 4/255]", "evaluate.epsilons", (0.0, 4 / 255)),
        ("report.title=a=b", "report.title", "a=b"),
        ("report.title=no", "report.title", "no"),
        ("checkpoint.every_steps=5", "checkpoint.every_steps", 5),
        ("encoder.kind=resnet18", "encoder.kind", "resnet18"),
    ],
)
def test_an_override_is_read_as_yaml_and_put_in_its_place(override, path, value):
    found = make_recipe(VALUES, [override])
    for key in path.split("."):
        found = getattr(found, key)
    assert found == value


def test_the_last_of_two_overrides_counts_and_one_string_is_one_override():
    assert make_recipe(VALUES, ["seed=4", "seed=5"]).seed == 5
    assert make_recipe(VALUES, "seed=6").seed == 6


def test_another_kind_drops_the_keys_that_it_does_not_know_and_keeps_the_others():
    encoder = make_recipe(VALUES, ["encoder.kind=resnet20"]).encoder
    assert encoder.model_dump() == {
        "kind": "resnet20",
        "width": 2,
        "mean": None,
        "std": None,
        "branches": (),
        "synchronized": False,
    }
    schedule = make_recipe(VALUES, ["pretrain.optimizer.schedule.kind=cosine"]).pretrain.optimizer.schedule
    assert schedule.kind == "cosine" and schedule.warmup_epochs == 0


@pytest.mark.parametrize("order", [1, -1])
def test_the_kind_and_the_keys_that_only_it_knows_come_in_any_order(order):
    overrides = ["data.kind=tfds", "data.name=mnist", "data.data_dir=/data"][::order]
    assert make_recipe(VALUES, overrides).data.name == "mnist"


def test_what_an_override_asked_for_is_never_dropped_silently():
    (fault,) = _faults("encoder.depth=16", "encoder.kind=resnet20")
    assert fault.startswith("encoder.depth: unknown key")


def test_the_same_kind_again_changes_nothing():
    assert make_recipe(VALUES, ["encoder.kind=wide_resnet"]) == make_recipe(VALUES)


def test_a_section_that_is_absent_is_begun_and_what_it_lacks_is_named():
    faults = _faults("finetune.epochs=3")
    assert [fault.split(".")[1].split(":")[0] for fault in faults] == ["optimizer", "start", "train", "how"]


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        (
            "pretrain.epoch=3",
            "pretrain.epoch: unknown key (did you mean 'epochs'?). Expected: one of ['attack', 'batch_size',",
        ),
        ("pretrian.epochs=3", "pretrian: unknown key (did you mean 'pretrain'?)."),
        (
            "pretrain.optimizer.schedule.milestone=[1]",
            "pretrain.optimizer.schedule.milestone: unknown key (did you mean 'mil",
        ),
        ("seed.x=3", "seed.x: unknown key. Expected: no key below a single value. Received: --set 'seed.x=3'."),
        ("evaluate.epsilons.0=3", "evaluate.epsilons.0: unknown key. Expected: no key below"),
        ("pretrain..epochs=3", "pretrain.: unknown key."),
        ("pretrain.epochs", "--set: is not followed by path=value. Expected: path=value, such as pretrain.epochs=3"),
        ("pretrain.epochs=", "--set: is not followed by path=value."),
        ("=3", "--set: is not followed by path=value."),
        ("", "--set: is not followed by path=value."),
        (
            3,
            "--set: is not followed by path=value. Expected: path=value, such as pretrain.epochs=3",
        ),
        ("evaluate.epsilons=[1", "evaluate.epsilons: is not YAML 1.2:"),
        ("report.title=${x}", "report.title: holds an interpolation."),
        ("report={title: [2024-01-01]}", "report.title[0]: is read as a date."),
        ("report.title=!!python/none x", "report.title: the tag 'python/none' is refused."),
        ("encoder.kind=resnet", "encoder.kind: is not known (did you mean 'resnet20'?). Expected: one of ['resnet18',"),
        ("encoder.kind=null", "encoder.kind: is not known. Expected: one of ['resnet18',"),
        ("data.name=cifar10", "data.name: unknown key."),
    ],
)
def test_an_override_that_cannot_be_applied_is_one_line(override, sentence):
    (fault,) = _faults(override)
    assert fault.startswith(sentence)
    assert "Expected: " in fault and "Received: " in fault and "\n" not in fault


def test_a_pair_is_an_override_whose_value_is_read_and_it_is_never_changed_itself():
    attack = {"epsilon": 0.1}
    recipe = make_recipe(VALUES, [("pretrain.attack", attack), ("pretrain.attack.num_steps", 3)])
    assert (recipe.pretrain.attack.epsilon, recipe.pretrain.attack.num_steps) == (0.1, 3)
    assert attack == {"epsilon": 0.1}
    (fault,) = _faults(("pretrain.epoch", 3))
    assert fault.startswith("pretrain.epoch: unknown key (did you mean 'epochs'?)") and "pretrain.epoch: 3" in fault
