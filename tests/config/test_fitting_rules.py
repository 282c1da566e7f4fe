"""What puzzles ask of images and networks is refused at the recipe, wherever it can know their sizes and stages."""

from __future__ import annotations

from typing import Any

import pytest

from advss_tf.config import RecipeError, make_recipe

SGD = {"kind": "sgd", "learning_rate": 0.1}
ATTACK = {"epsilon": 0.1}
UNKNOWN = {"kind": "tfds", "name": "cifar10"}


def _recipe(task: dict[str, Any], *changes: Any) -> Any:
    values = {
        "name": "tiny", "seed": 3, "data": {"kind": "digits"}, "encoder": {"kind": "resnet20", "width": 4},
        "pretrain": {"task": task, "attack": ATTACK, "epochs": 4, "optimizer": SGD},
    }  # fmt: skip
    return make_recipe(values, changes)


def _faults(make: Any, *args: Any, **more: Any) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        make(*args, **more)
    return caught.value.faults


def _ensemble(*tasks: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {"kind": "ensemble", **({"tasks": list(tasks)} if tasks else {}), **options}


JIGSAW3 = {"kind": "jigsaw", "grid": 3}


@pytest.mark.parametrize(
    ("task", "changes", "sentence"),
    [
        (
            JIGSAW3,
            (),
            "pretrain.task.grid: does not divide the images into whole patches. Expected: a divisor of both sides, or "
            "remainder: crop. Received: grid=3, images of 8x8.",
        ),
        (JIGSAW3, ["data.resize=[9, 10]"], "pretrain.task.grid: does not divide the images into whole patches."),
        (
            {"kind": "jigsaw", "grid": 9},
            (),
            "pretrain.task.grid: has more patches along a side than pixels. Expected: at most 8. Received: grid=9, ima",
        ),
        (
            {"kind": "jigsaw", "grid": 9, "remainder": "crop"},
            (),
            "pretrain.task.grid: has more patches along a side than pixels.",
        ),
        (_ensemble({"kind": "rotation"}, JIGSAW3), (), "pretrain.task.tasks[1].grid: does not divide the images into"),
        (
            _ensemble(),
            ["encoder={kind: resnet18}"],
            "pretrain.task.tasks: makes patches too small for the patch network. Expected: patches of 4 pixels a side "
            "or more, or an earlier `boundary`. Received: grid=4, images of 8x8.",
        ),
        (
            {"kind": "rotation"},
            ["data.resize=[16, 24]"],
            "pretrain.task: turns images by 90 degrees, which are not square. Expected: images as high as wide, or "
            "another task. Received: kind='rotation', images of 16x24.",
        ),
        (_ensemble(), ["data.resize=[16, 24]"], "pretrain.task.tasks: turns images by 90 degrees, which are not squar"),
        (
            {"kind": "rotation"},
            ["pretrain.crop_padding=8"],
            "pretrain.crop_padding: may shift the whole image away. Expected: below 8, the shorter side of the images.",
        ),
        ({"kind": "rotation"}, ["data.crop_padding=9"], "data.crop_padding: may shift the whole image away."),
        (
            {"kind": "simclr", "views": ["weak", {"kind": "weak", "crop_padding": 8}]},
            ["pretrain.attack=null"],
            "pretrain.task.views[1].crop_padding: may shift the whole image away. Expected: below 8,",
        ),
    ],
)
def test_a_puzzle_that_cannot_be_made_of_the_images_is_one_fault(task, changes, sentence):
    (fault,) = _faults(_recipe, task, *changes)
    assert fault.startswith(sentence)


def test_images_that_fit_none_of_the_unwritten_tasks_are_a_fault_for_each():
    faults = _faults(_recipe, _ensemble(), "data.resize=[9, 12]")
    whats = [fault.partition(". Expected")[0] for fault in faults]
    assert whats == [
        "pretrain.task.tasks: turns images by 90 degrees, which are not square",
        "pretrain.task.tasks: does not divide the images into whole patches",
        "pretrain.task.tasks: does not divide the images into whole patches",
    ]


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        ({"kind": "jigsaw", "grid": 8}, ()),
        ({"kind": "jigsaw", "grid": 3, "remainder": "crop"}, ()),
        ({"kind": "jigsaw", "grid": 3}, ["data.resize=[9, 12]"]),
        (JIGSAW3, [("data", UNKNOWN)]),
        ({"kind": "rotation"}, [("data", {**UNKNOWN, "crop_padding": 40})]),
        (_ensemble(boundary="stage2"), ["encoder={kind: resnet18}"]),
        (_ensemble(), ["encoder={kind: resnet18}", "data.resize=[16, 16]"]),
        ({"kind": "rotation"}, ["pretrain.crop_padding=7"]),
    ],
)
def test_a_puzzle_that_fits_or_whose_images_are_not_known_is_accepted(task, changes):
    _recipe(task, *changes)


def _classifier(task: dict[str, Any], encoder: str = "resnet20", **finetune: Any) -> Any:
    part = {
        "start": "pretrained", "train": "partial", "how": "adversarial", "attack": ATTACK, "epochs": 4,
        "optimizer": SGD, "auxiliary": {"task": task}, **finetune,
    }  # fmt: skip
    return _recipe({"kind": "rotation"}, f"encoder.kind={encoder}", ("data", UNKNOWN), ("finetune", part))


@pytest.mark.parametrize(
    ("task", "finetune", "shown"),
    [
        ({}, {}, "boundary=null, finetune.boundary=null"),
        ({"boundary": "stage1"}, {}, "boundary='stage1', finetune.boundary=null"),
        ({"boundary": "stage2"}, {}, "boundary='stage2', finetune.boundary=null"),
        ({"boundary": "stage2_block1"}, {}, "boundary='stage2_block1', finetune.boundary=null"),
        ({"boundary": "stage1"}, {"boundary": "stage2_block1"}, "boundary='stage1', finetune.boundary='stage2_block1'"),
        ({}, {"boundary": "stage3"}, "boundary=null, finetune.boundary='stage3'"),
        ({"boundary": "stage3"}, {"encoder": "resnet18"}, "boundary='stage3', finetune.boundary=null"),
        ({}, {"start": "runs/other/encoder"}, "boundary=null, finetune.boundary=null"),
    ],
)
def test_selfie_beside_the_classes_is_refused_where_all_that_it_reads_is_frozen(task, finetune, shown):
    (fault,) = _faults(_classifier, {"kind": "selfie", **task}, **finetune)
    assert fault == (
        "finetune.auxiliary.task.boundary: ends the patch network among the layers that are frozen. Expected: a stage "
        f"after the last frozen one, or train: full. Received: {shown}, train='partial'."
    )


@pytest.mark.parametrize(
    ("task", "finetune"),
    [
        ({}, {"train": "full"}),
        ({}, {"boundary": "stage1"}),
        ({"boundary": "stage3"}, {}),
        ({"boundary": "stage2"}, {"boundary": "stage2_block1"}),
        ({}, {"boundary": "stage1", "encoder": "resnet18"}),
        # The stages of another encoder than the recipe's own are not known.
        ({"boundary": "stage2"}, {"start": "runs/other/encoder"}),
    ],
)
def test_selfie_beside_the_classes_is_accepted_where_some_of_what_it_reads_is_trained(task, finetune):
    _classifier({"kind": "selfie", **task}, **finetune)


def test_a_task_that_is_not_learned_may_read_what_is_frozen():
    auxiliary = {"task": {"kind": "selfie"}, "mode": "plain"}
    _classifier({}, auxiliary=auxiliary)


def test_a_task_that_reads_the_whole_encoder_goes_with_partial_finetuning():
    _classifier({"kind": "jigsaw"})
