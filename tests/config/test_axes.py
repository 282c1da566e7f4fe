"""Axes of a grid: what each form of writing changes in a recipe, the paper's words, and every refusal."""

from __future__ import annotations

import itertools

import pytest

from advss_tf.config import make_recipe
from advss_tf.config.axes import read_axes, word_of

ATTACK = {"epsilon": 0.1, "num_steps": 3}


def changes(axis, *, word, values):
    """What a value of one of the paper's axes changes, as a dict."""
    (found,), faults = read_axes({axis: [word]})
    assert faults == []
    return dict(found.values[0].changes(values))


def test_a_list_under_the_path_of_a_field_sweeps_that_field():
    (seeds, beta), faults = read_axes({"seed": [0, 1], "finetune.beta": [1, 6.5]})
    assert faults == []
    assert [(v.name, v.label, v.changes({})) for v in seeds.values] == [
        ("0", "seed0", [("seed", 0)]),
        ("1", "seed1", [("seed", 1)]),
    ]
    assert [(v.label, v.changes({})) for v in beta.values][1] == ("beta6.5", [("finetune.beta", 6.5)])
    assert seeds.repeats and not beta.repeats


def test_a_section_names_its_values_and_says_what_each_changes():
    (axis,), faults = read_axes({"strength": {"weak": {"finetune.beta": 1, "finetune.epochs": 3}, "base": {}}})
    assert faults == []
    assert [value.label for value in axis.values] == ["weak", "base"]
    assert axis.values[0].changes({}) == [("finetune.beta", 1), ("finetune.epochs", 3)]
    assert axis.values[1].changes({}) == []


def test_seeds_with_names_repeat_too_and_seeds_with_other_changes_do_not():
    (axis,), _ = read_axes({"which": {"first": {"seed": 3}, "second": {"seed": 4}}})
    assert axis.repeats
    (axis,), _ = read_axes({"which": {"first": {"seed": 3}, "second": {"seed": 4, "finetune.beta": 2}}})
    assert not axis.repeats


def test_a_list_of_tasks_changes_the_kind_of_the_task():
    (axis,), faults = read_axes({"task": ["rotation", "jigsaw"]})
    assert faults == [] and [value.label for value in axis.values] == ["rotation", "jigsaw"]
    assert axis.values[1].changes({}) == [("pretrain.task.kind", "jigsaw")]


def test_p1_starts_from_scratch_and_freezes_random_weights_only_where_some_are_frozen():
    scratch = {"pretrain": None, "finetune.start": "scratch"}
    assert changes("pretraining", word="P1", values={"finetune": {"train": "full"}}) == scratch
    partial = changes("pretraining", word="P1", values={"finetune": {"train": "partial"}})
    assert partial == {**scratch, "finetune.freeze_random": True}


def test_p1_takes_away_what_needs_pretraining():
    finetune = {"train": "full"}
    values = {"finetune": finetune, "cluster": {"sizes": [2]}, "refine": {"clusters": 10}}
    scratch = {"pretrain": None, "finetune.start": "scratch"}
    assert changes("pretraining", word="P1", values=values) == {**scratch, "cluster": None, "refine": None}
    other = {"finetune": finetune, "cluster": {"encoder": "runs/other"}, "refine": None}
    assert changes("pretraining", word="P1", values=other) == scratch


def test_p1_has_no_branches_as_what_is_handed_over_has_none():
    values = {"encoder": {"branches": ["clean", "adversarial"]}, "finetune": {"train": "full"}}
    assert changes("pretraining", word="P1", values=values)["encoder.branches"] == []
    for word in ("P2", "P3"):
        assert "encoder.branches" not in changes("pretraining", word=word, values=values)


@pytest.mark.parametrize(("preset", "frozen"), [("slf", True), ("alf", True), ("aff", False)])
def test_p1_knows_what_a_preset_freezes(preset, frozen):
    found = changes("pretraining", word="P1", values={"finetune": {"preset": preset}})
    assert ("finetune.freeze_random" in found) == frozen


def test_p2_is_p3_without_the_attack():
    values = {"pretrain": {"attack": ATTACK}}
    assert changes("pretraining", word="P3", values=values) == {"finetune.start": "pretrained"}
    assert changes("pretraining", word="P2", values=values) == {"finetune.start": "pretrained", "pretrain.attack": None}


def test_p2_is_not_measured_under_the_base_s_attack_either():
    values = {"pretrain": {"attack": ATTACK, "eval_attack": ATTACK}}
    cleared = {"finetune.start": "pretrained", "pretrain.attack": None, "pretrain.eval_attack": None}
    assert changes("pretraining", word="P2", values=values) == cleared
    assert changes("pretraining", word="P3", values=values) == {"finetune.start": "pretrained"}


@pytest.mark.parametrize(("word", "train"), [("F1", "partial"), ("F3", "full")])
def test_f1_and_f3_train_on_clean_images_and_measure_under_the_attack(word, train):
    values = {"finetune": {"how": "trades", "attack": ATTACK}}
    assert changes("finetuning", word=word, values=values) == {
        "finetune.train": train,
        "finetune.how": "standard",
        "finetune.attack": None,
        "finetune.eval_attack": ATTACK,
        "finetune.select": "accuracy",
    }


def test_what_a_base_says_of_measuring_and_picking_stays():
    values = {"finetune": {"attack": ATTACK, "eval_attack": {"epsilon": 0.2}, "select": "robust_accuracy"}}
    found = changes("finetuning", word="F3", values=values)
    assert "finetune.eval_attack" not in found and "finetune.select" not in found


@pytest.mark.parametrize(("word", "train"), [("F2", "partial"), ("F4", "full")])
def test_f2_and_f4_train_under_attack_in_the_way_of_the_base(word, train):
    trades = changes("finetuning", word=word, values={"finetune": {"how": "trades", "attack": ATTACK}})
    assert trades == {"finetune.train": train}
    standard = changes("finetuning", word=word, values={"finetune": {"how": "standard"}})
    assert standard == {"finetune.train": train, "finetune.how": "adversarial"}


@pytest.mark.parametrize(
    ("word", "train", "how"),
    [("SLF", "linear", "standard"), ("ALF", "linear", "adversarial"), ("AFF", "full", "trades")],
)
@pytest.mark.parametrize("of_base", ["standard", "adversarial", "trades"])
def test_slf_alf_and_aff_change_what_is_trained_and_how_and_nothing_else(word, train, how, of_base):
    found = changes("finetuning", word=word, values={"finetune": {"how": of_base, "attack": ATTACK}})
    plain = {"finetune.train": train, "finetune.how": how}
    measured = {"finetune.attack": None, "finetune.eval_attack": ATTACK, "finetune.select": "accuracy"}
    assert found == (plain | measured if word == "SLF" else plain)


def test_on_a_base_with_a_preset_the_words_are_presets():
    base = {"preset": "aff", "start": "encoder", "attack": {"epsilon": 0.1}}
    values = {"name": "x", "seed": 0, "data": {"kind": "digits"}, "encoder": {"kind": "resnet20"}, "finetune": base}
    found = {}
    for word in ("SLF", "ALF", "AFF"):
        part = make_recipe(values, list(changes("finetuning", word=word, values=values).items())).finetune
        found[word] = (part.preset, part.batch_size, part.optimizer.learning_rate)
        attack = part.eval_attack if word == "SLF" else part.attack
        assert (attack.epsilon, attack.num_steps, part.attack is None) == (0.1, 10, word == "SLF")
    assert found == {"SLF": ("slf", 512, 0.01), "ALF": ("alf", 512, 0.01), "AFF": ("aff", 128, 0.1)}


def test_slf_on_a_preset_without_an_attack_of_its_own_is_measured_by_that_of_the_preset():
    found = changes("finetuning", word="SLF", values={"finetune": {"preset": "aff", "start": "encoder"}})
    assert "finetune.eval_attack" not in found and found["finetune.preset"] == "slf"


@pytest.mark.parametrize(
    ("base", "written"),
    [
        *itertools.product(("slf", "alf", "aff"), ({}, {"eval_attack": ATTACK})),
        ("slf", {"attack": None, "eval_attack": ATTACK}),  # of the other two it would be a fault of the base
    ],
)
def test_on_a_base_that_says_what_is_measured_words_train_under_that(base, written):
    values = {"name": "x", "seed": 0, "data": {"kind": "digits"}, "encoder": {"kind": "resnet20"}}
    values["finetune"] = {"preset": base, "start": "encoder", **written}
    for word in ("SLF", "ALF", "AFF", "F1", "F2", "F3", "F4"):
        part = make_recipe(values, list(changes("finetuning", word=word, values=values).items())).finetune
        clean = word in ("SLF", "F1", "F3")
        attack = part.eval_attack if clean else part.attack
        assert (attack.epsilon, attack.num_steps) == ((0.1, 3) if "eval_attack" in written else (8 / 255, 10)), word
        assert (part.attack is None, part.select) == (clean, "accuracy" if clean else "auto"), word


@pytest.mark.parametrize("base", ["slf", "alf", "aff"])
def test_f1_to_f4_stand_beside_slf_alf_and_aff_with_the_values_of_the_base_s_preset(base):
    values = {"name": "x", "seed": 0, "data": {"kind": "digits"}, "encoder": {"kind": "resnet20"}}
    values["finetune"] = {"preset": base, "start": "encoder", "optimizer": {"learning_rate": 0.3}}
    of_base, found = make_recipe(values).finetune, {}
    for word in ("F1", "F2", "F3", "F4"):
        part = make_recipe(values, list(changes("finetuning", word=word, values=values).items())).finetune
        assert (part.preset, part.epochs, part.batch_size) == (None, of_base.epochs, of_base.batch_size)
        assert part.optimizer == of_base.optimizer
        found[word] = (part.train, part.how)
    attacked = "trades" if base == "aff" else "adversarial"
    expected = [("partial", "standard"), ("partial", attacked), ("full", "standard"), ("full", attacked)]
    assert found == dict(zip(("F1", "F2", "F3", "F4"), expected, strict=True))


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (None, "axes: must be a section with an axis or more"),
        ({}, "axes: must be a section with an axis or more"),
        ({"seed": []}, "axes.seed: has no values"),
        ({"seed": 3}, "axes.seed: has no values"),
        ({"seed": [0, 0]}, "axes.seed: lists a value twice"),
        (
            {"pretraining": ["P4"]},
            "axes.pretraining: has a value that is not known. Expected: one of ['P1', 'P2', 'P3']",
        ),
        ({"pretrainin": ["P1"]}, "axes.pretrainin: is no axis that is known (did you mean 'pretraining'?)"),
        ({"finetune.bta": [1]}, "axes.finetune.bta: is no axis that is known"),
        ({"x": {"a": {"finetune.bta": 1}}}, "axes.x.a.finetune.bta: unknown key (did you mean 'beta'?)"),
        ({"x": {"a": 3}}, "axes.x.a: must be a section with changes"),
        ({"status": {"a": {}}}, "axes.status: is the name of another column of the table"),
        ({"Clean": {"a": {}}}, "axes.Clean: is the name of another column of the table"),
        ({"pgd-20 at 0.1": {"a": {}}}, "axes.pgd-20 at 0.1: is the name of another column of the table"),
    ],
)
def test_what_is_no_axis_is_refused_in_words(written, words):
    _, faults = read_axes(written)
    assert any(str(fault).startswith(words) for fault in faults), [str(fault) for fault in faults]


def test_values_that_are_cut_to_be_shown_keep_words_and_labels_of_their_own():
    radii = [[0.1, 0.11, 0.12, 0.13, 0.14, 0.15, last] for last in (0.16, 0.17)]
    (axis,), faults = read_axes({"evaluate.epsilons": radii})
    assert faults == []
    names, labels = ({getattr(value, which) for value in axis.values} for which in ("name", "label"))
    assert len(names) == len(labels) == 2
    assert all(name.startswith("[0.1,0.11,0.12,0.13,0.14,0.15,...]-") for name in names)
    assert word_of([0.1, 0.2]) == "[0.1,0.2]"  # what is written out whole stays as it is
