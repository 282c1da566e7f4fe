"""What recipes refuse of contrastive methods: one line for each fault, with its path."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from advss_tf.config import RecipeError, make_recipe
from advss_tf.config.contrastive_rules import streams_of

VALUES: dict[str, Any] = {
    "name": "tiny",
    "seed": 3,
    "data": {"kind": "digits"},
    "encoder": {"kind": "resnet20", "width": 4},
    "pretrain": {
        "task": {"kind": "acl"},
        "attack": {"epsilon": "8/255", "num_steps": 5},
        "epochs": 100,
        "optimizer": {"kind": "sgd", "learning_rate": 0.1},
    },
}
PSEUDO = {"kind": "advcl", "pseudo_labels": "clusters.npz"}


def _recipe(task: dict[str, Any] | None = None, branches: list[str] | None = None, **changes: Any) -> Any:
    values = copy.deepcopy(VALUES)
    values["pretrain"] |= {"task": task or {"kind": "acl"}, **changes}
    values["encoder"]["branches"] = branches or []
    return make_recipe(values)


def _fault(*args: Any, **changes: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        _recipe(*args, **changes)
    (fault,) = caught.value.faults
    return fault


def test_replicas_meet_in_no_loop():
    values = copy.deepcopy(VALUES)
    values["encoder"]["synchronized"] = True
    assert make_recipe(values).encoder.synchronized
    values["finetune"] = {
        "start": "pretrained", "train": "full", "how": "adversarial", "epochs": 1, "batch_size": 8, "micro_batches": 2,
        "micro_batch_norm": "per_part", "attack": {"epsilon": 0.1}, "eval_attack": {"epsilon": 0.1},
        "optimizer": {"kind": "sgd", "learning_rate": 0.1},
    }  # fmt: skip
    for attack in (values["pretrain"]["attack"], values["finetune"]["eval_attack"]):
        attack["batch_norm"] = "training"
    with pytest.raises(RecipeError) as caught:
        make_recipe(values)
    assert [fault.split(". Expected")[0] for fault in caught.value.faults] == [
        f"{path}: lets replicas meet in a loop"
        for path in ("pretrain.attack.batch_norm", "finetune.eval_attack.batch_norm", "finetune.micro_batches")
    ]
    del values["pretrain"]["attack"]["batch_norm"]
    values["finetune"]["train"] = "linear"
    assert make_recipe(values).finetune.micro_batches == 2, "a frozen network uses running statistics"


@pytest.mark.parametrize("kind", ["rocl", "acl", "acl_air", "dynacl", "advcl", "a_infonce"])
def test_what_attacks_needs_an_attack_and_two_images(kind):
    assert _recipe({"kind": kind}).pretrain.task.temperature == 0.5
    assert _fault({"kind": kind}, attack=None).startswith("pretrain.attack: is what")
    assert _fault({"kind": kind}, batch_size=1).startswith("pretrain.batch_size: leaves an image no negatives")


def test_a_batch_of_images_that_see_each_other_is_whole():
    assert _fault(micro_batches=2).startswith("pretrain.micro_batches: would part an image from its negatives")
    deacl = {"kind": "deacl", "teacher": "encoder"}
    assert _recipe(deacl, micro_batches=2, micro_batch_norm="per_part").pretrain.micro_batches == 2
    words = "pretrain.micro_batches: would normalise each part of a batch by itself"
    assert _fault(deacl, micro_batches=2).startswith(words) and _fault({"kind": "rotation"}, micro_batches=2)
    uneven = {"micro_batches": 3, "micro_batch_norm": "per_part"}
    assert _fault({"kind": "rotation"}, **uneven).startswith("pretrain.micro_batches: cannot share")


def test_a_momentum_encoder_is_the_average_that_is_handed_over():
    optimizer = {"kind": "sgd", "learning_rate": 0.1, "ema_momentum": 0.9}
    assert _fault({"kind": "dynacl"}, optimizer=optimizer).startswith("pretrain.optimizer.ema_momentum: averages")
    assert _recipe({"kind": "dynacl", "momentum": None}, optimizer=optimizer).pretrain.optimizer.ema_momentum == 0.9


def test_simclr_has_no_attack_of_either_kind():
    assert _fault({"kind": "simclr"}).startswith("pretrain.attack: is nothing that SimCLR has")
    eval_attack = {"epsilon": 0.1}
    assert _fault({"kind": "simclr"}, attack=None, eval_attack=eval_attack).startswith("pretrain.eval_attack")
    assert _recipe({"kind": "simclr"}, attack=None).pretrain.task.model_dump()["views"] == ("strong", "strong")


def test_deacl_needs_a_teacher_and_no_second_image():
    assert "teacher" in _fault({"kind": "deacl"})
    assert _recipe({"kind": "deacl", "teacher": "encoder"}, batch_size=1).pretrain.task.beta == 2.0


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({"kind": "acl", "temperature": 0}, "pretrain.task.temperature"),
        ({"kind": "acl", "views": ["strong"]}, "pretrain.task.views"),
        ({"kind": "acl", "views": ["strong", "high_frequency"]}, "pretrain.task.views"),
        ({"kind": "simclr", "views": []}, "pretrain.task.views"),
        ({"kind": "acl", "projection": []}, "pretrain.task.projection"),
        ({"kind": "acl", "sir_weight": -0.5}, "pretrain.task.sir_weight"),
        ({"kind": "advcl", "clean_views": []}, "pretrain.task.clean_views"),
        ({"kind": "advcl", "attacked_view": "high_frequency"}, "pretrain.task.attacked_view"),
        ({"kind": "advcl", "base_temperature": 0}, "pretrain.task.base_temperature"),
        ({"kind": "advcl", "pseudo_weight": -1}, "pretrain.task.pseudo_weight"),
        ({"kind": "advcl", "pseudo_labels": "labels.npz", "pseudo_weight": 0}, "leaves the heads untrained"),
        ({"kind": "a_infonce", "asymmetry": None}, "pretrain.task.asymmetry"),
        ({"kind": "dynacl", "annealing": None}, "pretrain.task.annealing"),
        ({"kind": "rocl", "asymmetry": {"tau_plus": 1.0}}, "pretrain.task.asymmetry.tau_plus"),
        ({"kind": "rocl", "asymmetry": {"clean_share": None, "beta": None}}, "leaves nothing asymmetric"),
        ({"kind": "rocl", "asymmetry": {"clean_share": None, "pair_weight": 2}}, "there are none"),
        ({"kind": "rocl", "asymmetry": {}, "one_sided": True}, "pretrain.task.one_sided"),
        ({"kind": "acl", "views": ["strong", "weak"], "annealing": {"growth": 0, "period": 1}}, "changes nothing"),
        ({"kind": "dynacl", "annealing": {"period": 100}}, "pretrain.task.annealing.period: is as long"),
    ],
)
def test_impossible_values_are_refused_with_their_place(task, words):
    if task["kind"] == "simclr":
        assert words in _fault(task, attack=None)
    else:
        assert words in _fault(task)


WEAKLESS = [
    {"kind": "acl"},
    {"kind": "advcl", "clean_views": ["strong"], "attacked_view": "annealed"},
    {"kind": "deacl", "teacher": "encoder", "view": {"kind": "weak", "crop_padding": 1}},
]
STILL = {"kind": "deacl", "teacher": "encoder", "view": "original"}


@pytest.mark.parametrize("task", [*WEAKLESS, STILL])
def test_a_padding_that_shifts_no_view_is_refused(task):
    sentence = "pretrain.crop_padding: is of weak views, and none asks for it. Expected: null, or a weak view"
    fault = _fault(task, crop_padding=1)
    assert fault.startswith(f"{sentence} without a padding of its own. Received: crop_padding=1, views=[")


@pytest.mark.parametrize("task", [{"kind": "advcl"}, {**STILL, "view": "weak"}, {"kind": "acl", "views": ["weak"] * 2}])
def test_a_padding_of_weak_views_is_accepted(task):
    assert _recipe(task, crop_padding=1).pretrain.crop_padding == 1


def test_a_word_on_mirroring_where_views_stay_as_they_are_is_refused():
    unmirrored = {"kind": "acl", "views": [{"kind": "strong", "flip": False}, "original"]}
    for task in (STILL, unmirrored):
        assert _fault(task, flip=True).startswith("pretrain.flip: mirrors views, and none lets it. Expected: null, or")
    assert all(_recipe(task, flip=True).pretrain.flip for task in WEAKLESS)


def test_an_average_of_weights_that_float16_would_lose_is_refused():
    values = copy.deepcopy(VALUES)
    values["precision"] = "mixed_float16"
    values["pretrain"]["optimizer"]["ema_momentum"] = 0.9
    with pytest.raises(RecipeError, match="averaged in vain"):
        make_recipe(values)
    assert make_recipe({**values, "precision": "mixed_bfloat16"}).pretrain.optimizer.ema_momentum == 0.9
    optimizer = values["pretrain"]["optimizer"]
    values["pretrain"]["optimizer"] = {**optimizer, "ema_momentum": None}
    values["refine"] = {"full": {"attack": {"epsilon": 0.1}, "optimizer": optimizer}}
    with pytest.raises(RecipeError, match=r"refine\.full\.optimizer\.ema_momentum.*averaged in vain"):
        make_recipe(values)


def test_a_schedule_of_views_alone_is_something():
    views = ["annealed", "annealed"]
    assert _recipe({"kind": "acl", "views": views, "annealing": {"growth": 0, "period": 1}}).pretrain.task.views[0]


@pytest.mark.parametrize(
    ("task", "streams"),
    [
        ({"kind": "acl"}, ["clean", "adversarial"]),
        ({"kind": "advcl"}, ["clean", "adversarial"]),
        (PSEUDO, ["clean", "adversarial", "pseudo"]),
        ({**PSEUDO, "perturbation": "shared"}, ["clean", "adversarial"]),
    ],
)
def test_branches_are_the_streams_or_none(task, streams):
    assert streams_of(_recipe(task, streams).pretrain.task) == tuple(streams)
    others = ["clean", "adversarial"] if len(streams) == 3 else ["clean", "adversarial", "pseudo"]
    assert _fault(task, others).startswith("encoder.branches: are not the streams")


def test_a_puzzle_has_no_stream_for_pseudo_labels():
    rotation = {"kind": "rotation"}
    assert _recipe(rotation, ["clean", "adversarial"]).encoder.branches == ("clean", "adversarial")
    assert _fault(rotation, ["clean", "adversarial", "pseudo"]).startswith("encoder.branches: are not the streams")
