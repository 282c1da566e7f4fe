"""What puzzles ask of images and networks is refused at the recipe, wherever it can know their sizes and stages."""

from __future__ import annotations

from typing import Any

import pytest

from advss_tf.config import RecipeError, fitting_rules, make_recipe
from advss_tf.config.fitting_rules import STAGE_BEFORE_LAST
from advss_tf.encoders import build_encoder, stages

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


ROTATION = {"kind": "rotation"}
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


NONSENSE = "is no part of resnet20. Expected: one of ['stage1', 'stage2', 'stage3'], a block such as 'stage3_block1'"


@pytest.mark.parametrize("boundary", ["stage9", "stage4", "stage0", "nonsense", "stage2_blok1", "stage4_block1"])
@pytest.mark.parametrize(
    ("make", "place"),
    [
        (lambda boundary: {"kind": "selfie", "boundary": boundary}, "pretrain.task"),
        (lambda boundary: _ensemble(boundary=boundary), "pretrain.task"),
        (lambda boundary: _ensemble(ROTATION, {"kind": "selfie", "boundary": boundary}), "pretrain.task.tasks[1]"),
    ],
    ids=["alone", "trunk", "member"],
)
def test_a_boundary_that_the_network_does_not_have_is_at_fault_itself(make, place, boundary):
    (fault,) = _faults(_recipe, make(boundary))
    assert fault.startswith(f"{place}.boundary: {NONSENSE}") and fault.endswith(f"Received: boundary={boundary!r}.")


@pytest.mark.parametrize("finetune", [{}, {"train": "full", "reset_after_boundary": True}])
def test_finetuning_is_cut_where_its_own_encoder_can_be(finetune):
    (fault,) = _faults(_classifier, {"kind": "rotation"}, boundary="stage4", **finetune)
    assert fault.startswith(f"finetune.boundary: {NONSENSE}")
    _classifier({"kind": "rotation"}, encoder="resnet18", boundary="stage4", **finetune)
    _classifier({"kind": "rotation"}, start="runs/other/encoder", boundary="trunk_3", **finetune)


def test_a_puzzle_beside_the_classes_is_cut_where_its_encoder_can_be():
    task = {"kind": "selfie", "boundary": "stage4"}
    (fault,) = _faults(_classifier, task, train="full")
    assert fault.startswith(f"finetune.auxiliary.task.boundary: {NONSENSE}")
    _classifier(task, train="full", start="runs/other/encoder")


@pytest.mark.parametrize("boundary", ["stage1", "stage3", "stage2_block1", "stage2_block3_conv1", "stem", "stem_conv"])
def test_stages_blocks_and_layers_are_boundaries(boundary):
    _recipe({"kind": "selfie", "grid": 2, "boundary": boundary})


@pytest.mark.parametrize("kind", STAGE_BEFORE_LAST)
def test_every_layer_of_every_network_is_where_a_recipe_expects_it(kind):
    encoder = build_encoder(kind, (8, 8, 1), width=1)
    assert list(stages(encoder)) == fitting_rules._stages_of(kind)
    assert [layer.name for layer in encoder.layers if not fitting_rules._stands_in(layer.name, kind)] == []
