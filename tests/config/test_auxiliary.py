"""The section of a task beside the classes: defaults, refusals, dotted changes, and the recipe of Hendrycks et al."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from advss_tf.config import RecipeError, load_grid, load_recipe, make_recipe
from advss_tf.grid.sharing import pretraining_key

CONFIGS = Path(__file__).parents[2] / "configs"
PATH = "finetune.auxiliary"
SGD = {"kind": "sgd", "learning_rate": 0.1}
PAIR = [{"kind": "rotation"}, {"kind": "jigsaw", "grid": 2, "num_permutations": 5}]


def _values(*, finetune: dict[str, Any] | None = None, **auxiliary: Any) -> dict[str, Any]:
    return {
        "name": "tiny",
        "seed": 3,
        "data": {"kind": "digits"},
        "encoder": {"kind": "resnet20", "width": 4},
        "finetune": {
            "start": "scratch", "train": "full", "how": "adversarial", "attack": {"epsilon": 0.1}, "epochs": 4,
            "optimizer": SGD, "auxiliary": {"task": {"kind": "rotation"}, **auxiliary}, **(finetune or {}),
        },
    }  # fmt: skip


def test_a_task_beside_the_classes_is_t4_of_one_drawn_puzzle_unless_said_otherwise():
    auxiliary = make_recipe(_values()).finetune.auxiliary
    assert (auxiliary.mode, auxiliary.copies) == ("sum", "drawn")
    assert (auxiliary.weight, auxiliary.attack_weight) == (0.5, None)
    assert (auxiliary.class_weight, auxiliary.attack_class_weight, auxiliary.auxiliary_at) == (1.0, None, None)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (_values(weight=-0.1), "finetune.auxiliary.weight: must not be negative. Expected: a number >= 0. Received:"),
        (_values(attack_weight=-1), "finetune.auxiliary.attack_weight: must not be negative."),
        (_values(mode="sums"), "finetune.auxiliary.mode: is not known (did you mean 'sum'?). Expected: one of ["),
        (_values(copies="all"), "finetune.auxiliary.copies: is not known."),
        *(
            (_values(mode=mode, attack_weight=1.0), f"{PATH}.attack_weight: weighs nothing in the attack of mode")
            for mode in ("plain", "clean", "attacked", "own")
        ),
        *(
            (_values(mode=mode, copies="stack"), f"{PATH}.copies: stacks are attacked together with the image.")
            for mode in ("clean", "attacked", "own", "stronger")
        ),
        *(
            (_values(mode=mode, attack_class_weight=1.0), f"{PATH}.attack_class_weight: weighs nothing in the attack")
            for mode in ("plain", "own")
        ),
        (_values(mode="own", auxiliary_at="clean"), f"{PATH}.auxiliary_at: is what mode own says by itself."),
        (_values(auxiliary_at="own"), f"{PATH}.auxiliary_at: is not known."),
        (_values(class_weight=0), f"{PATH}.class_weight: must be"),
        (_values(attack_class_weight=-1), f"{PATH}.attack_class_weight: must not be negative."),
        (
            _values(attack_class_weight=0, attack_weight=0),
            f"{PATH}.attack_class_weight: leaves the attack nothing to climb. Expected: null or above 0",
        ),
        (_values(weight=0, attack_class_weight=0), f"{PATH}.attack_class_weight: leaves the attack nothing to climb."),
        (
            _values(mode="stronger", weight=0),
            f"{PATH}.weight: leaves one of two adversaries a head that is never trained. Expected: above 0",
        ),
        (
            _values(copies="stack", auxiliary_at="clean"),
            f"{PATH}.auxiliary_at: would leave a stack attacked in vain. Expected: null, or copies: drawn",
        ),
        (
            _values(copies="stack", task={"kind": "selfie"}),
            "finetune.auxiliary.copies: needs a task whose puzzles can be counted.",
        ),
        *(
            (_values(copies="stack", task={"kind": kind}), f"{PATH}.copies: needs a task whose puzzles can be counted.")
            for kind in ("simclr", "ensemble")
        ),
        *(
            (
                _values(task={"kind": kind, **more}),
                f"{PATH}.task.kind: is an attack on views by definition, and beside the classes one attack moves both "
                "heads. Expected: one of ['rotation', 'jigsaw', 'selfie', 'ensemble', 'simclr'] (simclr is what it "
                f"attacks), or pretrain.task: {kind}. Received: kind={kind!r}.",
            )
            for kind in ("rocl", "acl", "acl_air", "dynacl", "advcl", "a_infonce", "deacl")
            for more in ([{"teacher": "teacher"}] if kind == "deacl" else [{}])
        ),
        (
            _values(mode="own", task={"kind": "simclr", "views": ["strong", "high_frequency"]}),
            f"{PATH}.task.views[1]: is no image, and mode own attacks the views themselves.",
        ),
        (
            _values(finetune={"batch_size": 1}, task={"kind": "simclr"}),
            "finetune.batch_size: leaves an image no negatives. Expected: 2 or more.",
        ),
        (
            _values(finetune={"micro_batches": 2}, task={"kind": "simclr"}),
            "finetune.micro_batches: would part an image from its negatives. Expected: 1; more replicas are exact.",
        ),
        (
            _values(task={"kind": "simclr", "views": ["strong", {"kind": "weak", "crop_padding": 8}]}),
            f"{PATH}.task.views[1].crop_padding: may shift the whole image away.",
        ),
        (
            _values(task={"kind": "simclr", "views": ["strong"]}),
            f"{PATH}.task.views: ",
        ),
        (
            _values(task={"kind": "ensemble", "tasks": PAIR, "diversity_weight": 0.5}),
            f"{PATH}.task.diversity_weight: is of an attack of the task's own. Expected: no",
        ),
        (
            _values(task={"kind": "ensemble", "tasks": [PAIR[0], {**PAIR[1], "clean_weight": 0.25}]}),
            f"{PATH}.task.tasks[1].clean_weight: has no meaning beside the classes.",
        ),
        (
            _values(task={"kind": "ensemble", "tasks": [PAIR[0], {"kind": "jigsaw", "grid": 3}]}),
            f"{PATH}.task.tasks[1].grid: does not divide the images into whole patches.",
        ),
        (
            _values(finetune={"train": "partial", "start": "encoder"}, task={"kind": "ensemble", "tasks": PAIR}),
            f"{PATH}.task.boundary: ends the trunk among the layers that are frozen.",
        ),
        (
            _values(weight=0, attack_weight=1.0),
            f"{PATH}.attack_weight: would climb the loss of a head that is never trained. Expected: null or 0",
        ),
        (
            _values(copies="stack", task={"kind": "jigsaw", "identity_share": 0.2}),
            f"{PATH}.task.identity_share: is drawn, and a stack has each puzzle once.",
        ),
        (
            _values(copies="stack", task={"kind": "jigsaw", "balanced": False}),
            f"{PATH}.task.balanced: is of what is drawn, and a stack has each puzzle once.",
        ),
        (
            _values(copies="stack", task={"kind": "jigsaw", "faithful": True, "balanced": True}),
            f"{PATH}.task.identity_share: is drawn, and a stack has each puzzle once. Expected: 0, or copies: drawn.",
        ),
        (
            _values(task={"kind": "rotation", "clean_weight": 0.25}),
            "finetune.auxiliary.task.clean_weight: has no meaning beside the classes.",
        ),
        (
            _values(task={"kind": "selfie", "grid": 3}),
            "finetune.auxiliary.task.grid: does not divide the images into whole patches.",
        ),
        (_values(task={"kind": "puzzle"}), "finetune.auxiliary.task.kind: is not known."),
        (_values(finetune={"how": "trades"}), "finetune.auxiliary: is a part of adversarial training."),
        (
            _values(finetune={"train": "linear", "start": "encoder"}),
            "finetune.auxiliary: would teach a frozen encoder nothing.",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_gives_one_line(values, sentence):
    with pytest.raises(RecipeError) as caught:
        make_recipe(values)
    (fault,) = caught.value.faults
    assert fault.startswith(sentence)


@pytest.mark.parametrize(
    "values",
    [
        _values(weight=0, attack_weight=0),
        _values(mode="stronger", attack_weight=2.0),
        _values(mode="stronger", attack_class_weight=0, auxiliary_at="clean"),
        _values(attack_class_weight=0, auxiliary_at="attacked", copies="stack"),
        _values(mode="own", class_weight=0.25),
        _values(mode="plain", copies="stack"),
        _values(copies="stack", task={"kind": "jigsaw", "grid": 2, "num_permutations": 5}),
        _values(copies="stack", task={"kind": "jigsaw", "faithful": True, "balanced": True, "identity_share": 0}),
        _values(finetune={"auxiliary": None}),
        _values(finetune={"train": "partial", "start": "encoder"}),
        _values(mode="own", task={"kind": "simclr", "views": ["strong", "weak", "annealed"]}),
        _values(mode="stronger", task={"kind": "simclr", "views": ["strong", "high_frequency"]}),
        # Nothing is compared where the task is not learned.
        _values(mode="plain", finetune={"batch_size": 1}, task={"kind": "simclr"}),
        _values(weight=0, finetune={"micro_batches": 2, "micro_batch_norm": "per_part"}, task={"kind": "simclr"}),
        _values(finetune={"micro_batches": 2, "micro_batch_norm": "per_part"}),
        _values(task={"kind": "ensemble", "tasks": PAIR, "diversity_weight": 0}),
        _values(
            finetune={"train": "partial", "start": "encoder"},
            task={"kind": "ensemble", "tasks": PAIR, "shared": "encoder"},
        ),
    ],
)
def test_what_is_unusual_but_right_is_accepted(values):
    make_recipe(values)


def test_every_option_is_swept_by_a_dotted_path():
    changes = ["mode=stronger", "copies=drawn", "weight=0.25", "attack_weight=1", "task.kind=rotation"]
    changes += ["class_weight=2", "attack_class_weight=0", "auxiliary_at=clean"]
    recipe = load_recipe(CONFIGS / "digits_joint.yaml", [f"finetune.auxiliary.{change}" for change in changes])
    auxiliary = recipe.finetune.auxiliary
    assert (auxiliary.mode, auxiliary.copies, auxiliary.weight, auxiliary.attack_weight) == (
        "stronger",
        "drawn",
        0.25,
        1,
    )
    assert (auxiliary.class_weight, auxiliary.attack_class_weight, auxiliary.auxiliary_at) == (2, 0, "clean")


@pytest.mark.parametrize("name", ["digits_joint", "hendrycks2019_rotation"])
def test_a_recipe_is_brought_to_every_mode_by_one_or_two_changes(name):
    changed = [["plain"], ["sum"], *([mode, "drawn"] for mode in ("clean", "attacked", "own", "stronger"))]
    for words in changed:
        changes = [f"{PATH}.{key}={word}" for key, word in zip(("mode", "copies"), words, strict=False)]
        assert load_recipe(CONFIGS / f"{name}.yaml", changes).finetune.auxiliary.mode == words[0]


def test_the_recipe_of_hendrycks_2019_is_that_of_the_reference_code():
    recipe = load_recipe(CONFIGS / "hendrycks2019_rotation.yaml")
    encoder, part = recipe.encoder, recipe.finetune
    assert (encoder.kind, encoder.depth, encoder.width, encoder.mean, encoder.std) == (
        "wide_resnet", 40, 2, (0.5,) * 3, (0.5,) * 3,
    )  # fmt: skip
    auxiliary, attack, sgd = part.auxiliary, part.attack, part.optimizer
    assert (auxiliary.task.kind, auxiliary.mode, auxiliary.copies) == ("rotation", "sum", "stack")
    # ⅛ of the sum over four copies is half of their mean; the attack's weight, not given, is that of training.
    assert auxiliary.weight == 4 / 8 and auxiliary.attack_weight is None
    assert (attack.epsilon, attack.step_size, attack.num_steps, attack.random_start) == (8 / 255, 2 / 255, 10, True)
    assert (sgd.learning_rate, sgd.momentum, sgd.nesterov, sgd.weight_decay, sgd.decay) == (0.1, 0.9, True, 5e-4, "all")
    assert (sgd.schedule.kind, sgd.schedule.warmup_epochs, sgd.schedule.final_learning_rate) == ("cosine", 0, 1e-6)
    assert (part.epochs, part.batch_size, part.start, recipe.pretrain) == (100, 128, "scratch", None)
    # Beyond the ball of training as well; 8/255 is the paper's.
    assert recipe.evaluate.epsilons == tuple(k / 255 for k in (2, 4, 8, 12, 16)) and recipe.evaluate.num_steps == (20,)


MODES = ("plain", "clean", "attacked", "own", "sum", "stronger")


@pytest.mark.parametrize("task", ["rotation", "simclr"])
def test_a_grid_multiplies_scratch_and_a_robust_pretraining_with_every_mode(task, tmp_path):
    pretrain = {"task": {"kind": "rotation"}, "attack": {"epsilon": 0.1}, "epochs": 2, "optimizer": SGD}
    path = tmp_path / "grid.yaml"
    path.write_text(
        json.dumps(
            {
                "name": "grid",
                "base": {**_values(task={"kind": task}, finetune={"start": "pretrained"}), "pretrain": pretrain},
                "axes": {"pretraining": ["P1", "P3"], "mode": {m: {f"{PATH}.mode": m} for m in MODES}},
            }
        )
    )
    cells = load_grid(path).cells
    assert [cell.name for cell in cells] == [f"{start}-{mode}" for start in ("P1", "P3") for mode in MODES]
    for cell in cells:
        recipe, robust = cell.recipe, cell.place["pretraining"] == "P3"
        auxiliary = recipe.finetune.auxiliary
        assert (auxiliary.mode, auxiliary.task.kind) == (cell.place["mode"], task)
        assert recipe.finetune.start == ("pretrained" if robust else "scratch")
        assert recipe.pretrain is None or recipe.pretrain.attack.epsilon == 0.1
        assert (recipe.pretrain is not None) == robust
    assert len({pretraining_key(cell.recipe) for cell in cells if cell.recipe.pretrain is not None}) == 1
