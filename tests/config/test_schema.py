"""Every field refuses what it cannot use, and the rules between fields hold: one line for each fault, with its path."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from advss_tf.config import RecipeError, make_recipe
from advss_tf.config.parts import read_pixels, write_pixels

MISSING = object()
ATTACK = {"epsilon": "8/255", "step_size": "2/255", "num_steps": 5}
SGD = {"kind": "sgd", "learning_rate": 0.1, "schedule": {"kind": "cosine", "warmup_epochs": 1}}
STEPS = {"kind": "sgd", "learning_rate": 0.1, "schedule": {"kind": "piecewise", "milestones": [2, 3]}}
VALUES: dict[str, Any] = {
    "name": "tiny",
    "seed": 3,
    "data": {"kind": "digits", "labels_per_class": 5},
    "encoder": {"kind": "resnet20", "width": 4},
    "pretrain": {"task": {"kind": "rotation"}, "attack": {**ATTACK}, "epochs": 10, "optimizer": {**SGD}},
    "finetune": {
        "start": "pretrained", "train": "full", "how": "trades", "attack": {**ATTACK}, "epochs": 4, "optimizer": STEPS,
    },
}  # fmt: skip


def _changed(**changes: Any) -> dict[str, Any]:
    """The recipe above with values at paths written `pretrain__attack__epsilon`."""
    values = copy.deepcopy(VALUES)
    for path, value in changes.items():
        *sections, last = path.split("__")
        section = values
        for name in sections:
            section = section.setdefault(name, {})
        if value is MISSING:
            del section[last]
        else:
            section[last] = value
    return values


def _fault(**changes: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        make_recipe(_changed(**changes))
    (fault,) = caught.value.faults
    return fault


def test_the_recipe_that_the_tests_change_is_valid():
    recipe = make_recipe(VALUES)
    assert recipe.pretrain.attack.epsilon == 8 / 255
    assert recipe.pretrain.task.clean_weight == 0.5
    assert recipe.finetune.optimizer.schedule.milestones == (2, 3)


def test_defaults_are_those_of_the_documentation():
    recipe = make_recipe(_changed(pretrain__attack={"epsilon": 0.1}))
    assert recipe.pretrain.attack.model_dump() == {
        "norm": "linf", "epsilon": 0.1, "num_steps": 10, "step_size": None, "random_start": True, "num_restarts": 1,
        "keep": "last", "batch_norm": "inference",
    }  # fmt: skip
    assert recipe.evaluate.epsilons == (8 / 255,) and recipe.evaluate.num_steps == (20, 50)
    assert recipe.finetune.beta == 6.0 and recipe.finetune.select == "auto" and recipe.finetune.boundary is None
    assert recipe.pretrain.optimizer.weight_decay == 5e-4 and recipe.pretrain.optimizer.decay == "kernels"


@pytest.mark.parametrize("train", ["linear", "partial"])
def test_random_weights_are_frozen_where_the_recipe_says_that_it_wants_that(train):
    part = make_recipe(_changed(finetune__start="scratch", finetune__train=train, finetune__freeze_random=True))
    assert (part.finetune.start, part.finetune.train) == ("scratch", train)


def test_digits_are_not_mirrored_unless_asked_and_of_other_images_a_recipe_need_not_say():
    assert make_recipe(VALUES).data.flip is False
    assert make_recipe(_changed(data={"kind": "tfds", "name": "cifar10"})).data.flip is None


@pytest.mark.parametrize(
    ("text", "number"),
    [("8/255", 8 / 255), ("8 / 255", 8 / 255), ("0.5/255", 0.5 / 255), ("1/2", 0.5), ("-1/4", -0.25)],
)
def test_fractions_are_pixels(text, number):
    assert read_pixels(text) == number


@pytest.mark.parametrize("text", ["8/0", "a/255", "8", "8/255/2", "/255", "8//255", "٨/255x", ""])
def test_other_text_is_no_fraction(text):
    assert read_pixels(text) == text


@pytest.mark.parametrize("levels", range(256))
def test_every_grey_level_is_read_as_it_was_written(levels):
    written = write_pixels(levels / 255)
    assert read_pixels(written) == levels / 255


WRONG = [
    # the field by itself: path, value, the sentence after the path
    ("name", "A b", "has characters that are not allowed. Expected: text such as 'digits'. Received: name='A b'."),
    ("name", "", "has characters that are not allowed."),
    ("name", "x" * 65, "is longer than 64 characters."),
    ("name", MISSING, "is missing. Expected: text such as 'digits'. Received: nothing."),
    ("seed", -1, "must not be negative. Expected: an integer >= 0 and <= 2147483647. Received: seed=-1."),
    ("seed", 2**31, "must be at most 2147483647."),
    ("seed", 1.0, "must be a whole number. Expected: an integer >= 0 and <= 2147483647. Received: seed=1.0."),
    ("seed", True, "must be a whole number."),
    ("seed", None, "must be a whole number."),
    ("seeds", 1, "unknown key (did you mean 'seed'?). Expected: one of ['checkpoint', 'cluster', 'data',"),
    ("strategy", "mirror", "is not known (did you mean 'mirrored'?). Expected: one of ['auto', 'mirrored',"),
    ("precision", 16, "is not known. Expected: one of ['float32', 'mixed_bfloat16', 'mixed_float16']. Received:"),
    ("jit_compile", "no", "must be true or false. Expected: true or false. Received: jit_compile='no'."),
    ("jit_compile", 1, "must be true or false."),
    ("data", None, "must be a section with keys. Expected: a section with `kind`, one of ['arrays', 'digits',"),
    ("data", MISSING, "is missing. Expected: a section with `kind`, one of ['arrays', 'digits', 'folder', 'tfds']."),
    ("data__held_out", 0, "must be positive. Expected: a number > 0 and < 1. Received: held_out=0."),
    ("data__held_out", 1, "must be below 1. Expected: a number > 0 and < 1. Received: held_out=1."),
    ("data__labels_per_class", 0, "must be at least 1. Expected: an integer >= 1 or null. Received:"),
    ("data__resize", [8], "must have at least 2 entries."),
    ("data__resize", [8, 8, 3], "must have at most 2 entries. Expected: a list, each entry an integer >= 1 or null."),
    ("data__resize", 8, "must be a list."),
    ("data__resize", "88", "must be a list."),
    ("data__crop_padding", -1, "must not be negative."),
    ("pretrain__crop_padding", -1, "must not be negative. Expected: an integer >= 0 or null. Received: crop_padding="),
    ("pretrain__crop_padding", 1.5, "must be a whole number."),
    ("pretrain__flip", "no", "must be true or false. Expected: true or false or null. Received: flip='no'."),
    ("data__name", "x", "unknown key. Expected: one of ['crop_padding',"),
    ("encoder__width", 0, "must be at least 1."),
    ("encoder__mean", [], "must have at least 1 entries."),
    ("pretrain", 3, "must be a section with keys. Expected: a section with keys of ['attack',"),
    ("pretrain__attack", MISSING, "is missing. Expected: a section with keys of ['batch_norm', 'epsilon',"),
    ("pretrain__epochs", "10", "must be a whole number. Expected: an integer >= 1. Received: epochs='10'."),
    ("pretrain__epoch", 3, "unknown key (did you mean 'epochs'?). Expected: one of ['attack', 'batch_size', 'crop_pad"),
    ("pretrain__batch_size", 0, "must be at least 1."),
    ("pretrain__task__clean_weight", 1.5, "must be below 1. Expected: a number >= 0 and < 1. Received:"),
    ("pretrain__attack__epsilon", -0.1, "must not be negative. Expected: a number >= 0 or text such as '8/255'."),
    ("pretrain__attack__epsilon", "8/0", "must be a number. Expected: a number >= 0 or text such as '8/255'."),
    ("pretrain__attack__epsilon", float("nan"), "must be finite."),
    ("pretrain__attack__epsilon", True, "must be a number."),
    ("pretrain__attack__step_size", 0, "must be positive. Expected: a number > 0 or text such as '8/255' or null."),
    ("pretrain__attack__num_steps", 0, "must be at least 1."),
    ("pretrain__attack__keep", "first", "is not known. Expected: one of ['best', 'last']."),
    ("pretrain__optimizer", MISSING, "is missing. Expected: a section with `kind`, one of ['adamw', 'lars', 'sgd']."),
    ("pretrain__optimizer__learning_rate", 0, "must be positive."),
    ("pretrain__optimizer__learning_rate", "1/2", "must be a number."),
    ("pretrain__optimizer__momentum", 1, "must be below 1."),
    ("pretrain__optimizer__clip_norm", 0, "must be positive. Expected: a number > 0 or null. Received: clip_norm=0."),
    ("finetune__start", "", "must not be empty."),
    ("finetune__start", None, "must be text. Expected: text. Received: start=null."),
    ("finetune__train", "ful", "is not known (did you mean 'full'?). Expected: one of ['full', 'linear', 'partial']."),
    ("finetune__optimizer__schedule__milestones", [], "must have at least 1 entries."),
    ("evaluate", None, "must be a section with keys. Expected: a section with keys of ['autoattack', 'batch_size',"),
    ("evaluate__epsilons", [], "must have at least 1 entries."),
    ("evaluate__epsilons", "8/255", "must be a list. Expected: a list, each entry a number >= 0 or text such as"),
    ("report__examples", -1, "must not be negative."),
    ("report__title", "", "must not be empty."),
    ("checkpoint__every_seconds", 0, "must be positive."),
    ("checkpoint__keep", 0, "must be at least 1."),
    # between fields
    ("data__label_fraction", 0.5, "cannot be given with `labels_per_class`. Expected: one of the two. Received:"),
    ("data__labels_per_class", 175, "is more than there are images of a digit. Expected: at most 174."),
    ("data__train_limit", 1798, "is more than there are digits. Expected: at most 1797. Received: train_limit=1798."),
    ("pretrain__attack__epsilon", 8, "is wider than the pixels. Expected: at most 1, as pixels lie in [0, 1]; 8 grey"),
    ("pretrain__attack__step_size", "9/255", "must not be larger than the ball. Expected: at most epsilon=8/255, or"),
    ("evaluate__step_size", 0.5, "must not be larger than the ball. Expected: at most epsilon=8/255, or null"),
    ("evaluate__autoattack", "standart", "is not known (did you mean 'standard'?). Expected: one of ['plus', 'rand'"),
    ("evaluate__num_steps", [20, 20], "lists a value twice. Expected: each value once. Received: num_steps=[20, 20]."),
    ("pretrain__optimizer__schedule__final_learning_rate", 0.2, "must not be above `learning_rate`. Expected: at most"),
    ("pretrain__optimizer__schedule__warmup_epochs", 10, "must be shorter than the stage. Expected: below epochs=10."),
    ("finetune__optimizer__schedule__milestones", [3, 2], "must increase. Expected: epochs in increasing order."),
    ("finetune__optimizer__schedule__milestones", [2, 2], "must increase."),
    ("finetune__optimizer__schedule__milestones", [4], "must lie before the last epoch ends. Expected: epochs below"),
    ("finetune__optimizer__schedule__warmup_epochs", 2.5, "must be over before the first milestone. Expected: at most"),
    ("finetune__attack", None, "is missing, and `how` is trades. Expected: an attack, or how: standard. Received:"),
    ("finetune__start", "pretrain", "is not known (did you mean 'pretrained'?). Expected: one of ['pretrained',"),
    ("finetune__start", "Scratch", "is not known (did you mean 'scratch'?)."),
    ("encoder__mean", [0.5], "is missing beside `mean`."),
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    WRONG,
    ids=[f"{path}={'missing' if value is MISSING else repr(value)}"[:60] for path, value, _ in WRONG],
)
def test_a_wrong_value_gives_one_line_with_its_path(path, value, sentence):
    fault = _fault(**{path: value})
    where = "encoder.std" if "beside" in sentence else path.replace("__", ".")
    assert fault.startswith(f"{where}: {sentence}"), fault
    assert "Expected: " in fault and "Received: " in fault and "\n" not in fault


@pytest.mark.parametrize(
    "section", ["data", "encoder", "pretrain__task", "pretrain__optimizer", "pretrain__optimizer__schedule"]
)
def test_an_unknown_or_missing_kind_lists_the_kinds(section):
    path = section.replace("__", ".")
    unknown = _fault(
        **{section: {"kind": "x", "other": 1}} if section != "pretrain__task" else {section: {"kind": "x"}}
    )
    assert unknown.startswith(f"{path}.kind: is not known. Expected: one of [") and unknown.endswith(
        "Received: kind='x'."
    )
    assert _fault(**{section: {}}).startswith(f"{path}.kind: is missing. Expected: one of [")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"encoder__mean": [0.5], "encoder__std": [0.5, 0.5]}, "encoder.std: must have one entry per entry of `mean`."),
        ({"encoder__mean": [0.5], "encoder__std": [0]}, "encoder.std: must be positive. Expected: numbers > 0."),
        ({"encoder__std": [0.5]}, "encoder.mean: is missing beside `std`."),
        (
            {"encoder": {"kind": "wide_resnet", "depth": 27}},
            "encoder.depth: is not the depth of a wide residual network.",
        ),
        (
            {"data__train_limit": 40},
            "data.labels_per_class: is more than there are images of a digit. Expected: at most 4.",
        ),
        (
            {"pretrain__optimizer__nesterov": True, "pretrain__optimizer__momentum": 0},
            "pretrain.optimizer.nesterov: needs momentum.",
        ),
        (
            {"pretrain__optimizer": {"kind": "lars", "learning_rate": 1, "nesterov": True, "momentum": 0}},
            "pretrain.optimizer.nesterov: needs momentum.",
        ),
        (
            {"pretrain__optimizer": {"kind": "lars", "learning_rate": 1, "trust_coefficient": 0}},
            "pretrain.optimizer.trust_coefficient: must be positive.",
        ),
        (
            {"pretrain__attack__num_restarts": 2, "pretrain__attack__random_start": False},
            "pretrain.attack.num_restarts: needs a random start, else every restart is the same.",
        ),
        ({"evaluate__epsilons": [0.1, 2]}, "evaluate.epsilons[1]: is wider than the pixels."),
        ({"evaluate__epsilons": [0.1, -2]}, "evaluate.epsilons[1]: must not be negative."),
        (
            {"data__resize": [8, 0]},
            "data.resize[1]: must be at least 1. Expected: an integer >= 1. Received: resize[1]=0.",
        ),
        (
            {"evaluate__epsilons": [0], "evaluate__step_size": 0.1},
            "evaluate.step_size: must not be larger than the ball.",
        ),
        (
            {"evaluate__unforeseen": ["fogg"]},
            "evaluate.unforeseen[0]: is not known (did you mean 'fog'?). Expected: one of ['elastic', 'fog', 'gabor'",
        ),
        (
            {"evaluate__corruptions": {"severities": [9]}},
            "evaluate.corruptions.severities[0]: is not known. Expected: one of [1, 2, 3, 4, 5]. Received: severities",
        ),
        (
            {"evaluate__unseen": {"norm": "linf", "epsilons": [0.1]}},
            "evaluate.unseen.norm: is the norm that is evaluated anyway. Expected: unseen.norm: l2",
        ),
        ({"finetune__how": "standard"}, "finetune.attack: must be null when `how` is standard."),
        (
            {"finetune__how": "standard", "finetune__attack": None, "finetune__select": "robust_accuracy"},
            "finetune.select: needs an attack to measure robust accuracy.",
        ),
        ({"finetune__start": "scratch", "finetune__train": "linear"}, "finetune.train: would freeze random weights."),
        ({"finetune__start": "scratch", "finetune__train": "partial"}, "finetune.train: would freeze random weights."),
        (
            {"finetune__train": "linear", "finetune__reset_after_boundary": True},
            "finetune.reset_after_boundary: would freeze random weights.",
        ),
        (
            {"pretrain__task": {"kind": "jigsaw", "grid": 2, "num_permutations": 24}},
            "pretrain.task.num_permutations: is more than the patches have. Expected: at most 23 for grid=2, the image",
        ),
        (
            {"pretrain__task": {"kind": "jigsaw", "grid": 3, "num_permutations": 362880}},
            "pretrain.task.num_permutations: is more orders than are made. Expected: at most 10000 for grid=3",
        ),
        (
            {"pretrain__task": {"kind": "jigsaw", "num_permutations": 10**9}},
            "pretrain.task.num_permutations: is more orders than are made. Expected: at most 10000 for grid=4, the ima",
        ),
        ({"pretrain__task": {"kind": "jigsaw", "grid": 1}}, "pretrain.task.grid: must be at least 2."),
        (
            {"pretrain__task": {"kind": "jigsaw", "num_permutations": 0}},
            "pretrain.task.num_permutations: must be at least 1.",
        ),
        (
            {"pretrain__task": {"kind": "jigsaw", "identity_share": 1.0}},
            "pretrain.task.identity_share: must be below 1. Expected: a number >= 0 and < 1 or null.",
        ),
        (
            {"pretrain__task": {"kind": "jigsaw", "identity_share": -0.1}},
            "pretrain.task.identity_share: must not be negative.",
        ),
        (
            {"pretrain__task": {"kind": "jigsaw", "permutation_set": "max_haming"}},
            "pretrain.task.permutation_set: is not known (did you mean 'max_hamming'?).",
        ),
        ({"pretrain__task": {"kind": "rotation", "grid": 2}}, "pretrain.task.grid: unknown key"),
        (
            {"pretrain__task": {"kind": "selfie", "grid": 2, "num_masked": 4}},
            "pretrain.task.num_masked: leaves no patch to see. Expected: below 4, the patches of grid=2. Received: num",
        ),
        (
            {"pretrain__task": {"kind": "selfie", "num_masked": 1}},
            "pretrain.task.num_masked: must be at least 2. Expected: an integer >= 2 or null. Received: num_masked=1.",
        ),
        (
            {"pretrain__task": {"kind": "selfie", "grid": 3}},
            "pretrain.task.grid: does not divide the images into whole patches. Expected: a divisor of both sides.",
        ),
        (
            {"pretrain__task": {"kind": "selfie", "grid": 8}},
            "pretrain.task.grid: makes patches too small for the patch network. Expected: patches of 2 pixels a side",
        ),
        (
            {"pretrain__task": {"kind": "selfie", "boundary": "stage3"}},
            "pretrain.task.grid: makes patches too small for the patch network. Expected: patches of 4 pixels a side",
        ),
        (
            {"pretrain__task": {"kind": "ensemble", "tasks": [{"kind": "rotation"}, {"kind": "rotation"}]}},
            "pretrain.task.tasks: have a kind twice. Expected: tasks of different kinds. Received: kinds=['rotation', ",
        ),
        (
            {"pretrain__task": {"kind": "ensemble", "tasks": [{"kind": "rotation"}]}},
            "pretrain.task.tasks: must have at least 2 entries. Expected: a list, each entry a section with `kind`, ",
        ),
        (
            {"pretrain__task": {"kind": "ensemble", "tasks": ["jigsaw", {"kind": "rotation"}], "faithful": True}},
            "pretrain.task.tasks[0]: must be a section with keys.",
        ),
        (
            {"pretrain__task": {"kind": "ensemble", "tasks": "rotation"}},
            "pretrain.task.tasks: must be a list. Expected: a list, each entry a section with `kind`, one of ['jigsaw'",
        ),
        (
            {"pretrain__task": {"kind": "ensemble", "tasks": [{"kind": "rotation"}, {"kind": "selfy"}]}},
            "pretrain.task.tasks[1].kind: is not known (did you mean 'selfie'?). Expected: one of ['jigsaw', 'rot",
        ),
        (
            {"pretrain__task": {"kind": "ensemble", "tasks": [{"kind": "rotation"}, {"kind": "jigsaw", "grid": 1}]}},
            "pretrain.task.tasks[1].grid: must be at least 2. Expected: an integer >= 2. Received: grid=1.",
        ),
        (
            {"pretrain__task": {"kind": "ensemble", "tasks": [{"kind": "rotation"}, {"kind": "selfie", "grid": 8}]}},
            "pretrain.task.tasks[1].grid: makes patches too small for the patch network. Expected: patches of 2 pixels",
        ),
        (
            {"pretrain__task": {"kind": "ensemble", "diversity_weight": -0.1}},
            "pretrain.task.diversity_weight: must not be negative.",
        ),
        (
            {"pretrain__task": {"kind": "ensemble", "shared": "encoder", "boundary": "stage1"}},
            "pretrain.task.boundary: ends a trunk, and with shared: encoder there is none. Expected: null (Selfie has",
        ),
        (
            {"pretrain__task": {"kind": "ensemble"}, "precision": "mixed_float16"},
            "precision: lets the gradients underflow that the diversity looks at. Expected: float32 or mixed_bfloat16",
        ),
        ({"pretrain": None}, "finetune.start: has no pretraining to start from."),
        ({"pretrain": None, "finetune": None}, "pretrain: leaves nothing to do."),
    ],
)
def test_fields_that_do_not_go_together_give_one_line(changes, sentence):
    assert _fault(**changes).startswith(sentence)


@pytest.mark.parametrize(
    "changes",
    [
        {"pretrain__task": {"kind": "jigsaw", "grid": 2, "num_permutations": 23}},
        {"pretrain__task": {"kind": "jigsaw", "num_permutations": 10_000}},
        {"pretrain__task": {"kind": "jigsaw", "faithful": True, "identity_share": 0}},
        {"pretrain__attack__epsilon": 0, "pretrain__attack__step_size": None},
        {"pretrain__attack": {"norm": "l2", "epsilon": 2.5}},
        {"pretrain__attack": None},
        {"pretrain__attack__step_size": "8/255"},
        {"pretrain": None, "finetune__start": "scratch"},
        {"pretrain": None, "finetune__start": "encoder"},
        {"pretrain__task": {"kind": "selfie"}},
        {"pretrain__task": {"kind": "ensemble"}},
        {"pretrain__task": {"kind": "ensemble"}, "precision": "mixed_bfloat16"},
        {"pretrain__task": {"kind": "ensemble", "diversity_weight": 0}, "precision": "mixed_float16"},
        {"pretrain__task": {"kind": "ensemble"}, "pretrain__attack": None, "precision": "mixed_float16"},
        {"pretrain__task": {"kind": "rotation"}, "precision": "mixed_float16"},
        {"pretrain__task": {"kind": "ensemble", "shared": "encoder"}},
        {
            "pretrain__task": {
                "kind": "ensemble",
                "tasks": [{"kind": "selfie", "grid": 8}, {"kind": "rotation"}],
                "boundary": "stage1",
            }
        },
        {"pretrain__task": {"kind": "selfie", "grid": 8, "boundary": "stage1"}},
        {"pretrain__task": {"kind": "selfie", "grid": 3}, "data__resize": [9, 12]},
        {"pretrain__task": {"kind": "selfie", "grid": 7}, "data": {"kind": "tfds", "name": "cifar10"}},
        {"finetune__start": "./pretrain"},
        {"finetune": None},
        {
            "finetune__how": "standard", "finetune__attack": None, "finetune__eval_attack": ATTACK,
            "finetune__select": "robust_accuracy",
        },
        {"data__labels_per_class": None, "data__label_fraction": 1},
        {"data__labels_per_class": 174},
        {"data": {"kind": "folder", "path": "images", "labels_per_class": 5000}},
        {"evaluate": {"epsilons": [0, "4/255"], "step_size": "4/255"}},
        {"encoder": {"kind": "wide_resnet", "depth": 34}},
        {"pretrain__optimizer": {"kind": "adamw", "learning_rate": 1e-3}},
        {"pretrain__optimizer": {"kind": "lars", "learning_rate": 5.0, "adapt": "all", "trust_coefficient": 0.002}},
        {"pretrain__optimizer__schedule__warmup_epochs": 0.57},
    ],
)  # fmt: skip
def test_what_is_unusual_but_right_is_accepted(changes):
    make_recipe(_changed(**changes))


@pytest.mark.parametrize(
    ("changes", "allowed"),
    [
        ({"pretrain__micro_batches": 2}, False),
        ({"pretrain__micro_batches": 2, "pretrain__micro_batch_norm": "per_part"}, True),
        ({"finetune__micro_batches": 2}, False),
        ({"finetune__micro_batches": 2, "finetune__train": "partial"}, False),
        ({"finetune__micro_batches": 2, "finetune__train": "linear"}, True),
        ({"finetune__micro_batches": 2, "finetune__start": "runs/other/encoder"}, True),  # its norms are looked at then
        ({"refine": {"full": {"attack": ATTACK, "micro_batches": 2}}}, False),
        ({"refine": {"full": {"attack": ATTACK}, "linear": {"micro_batches": 2}}}, True),
    ],
)
def test_parts_of_a_batch_are_exact_or_accepted(changes, allowed):
    if allowed:
        make_recipe(_changed(**changes))
    else:
        assert "micro_batches: would normalise each part of a batch by itself" in _fault(**changes)


def test_pretraining_is_augmented_as_the_data_are_unless_it_says_otherwise():
    assert (make_recipe(VALUES).pretrain.flip, make_recipe(VALUES).pretrain.crop_padding) == (None, None)
    part = make_recipe(_changed(pretrain__flip=True, pretrain__crop_padding=0)).pretrain
    assert (part.flip, part.crop_padding) == (True, 0)


@pytest.mark.parametrize("said", [{}, {"pretrain__flip": None}])
def test_a_faithful_selfie_mirrors_nothing_unless_told_to_and_the_recipe_says_so(said):
    task, colour = {"kind": "selfie", "faithful": True}, {"data__flip": True, **said}
    recipe = make_recipe(_changed(pretrain__task=task, **colour))
    assert recipe.pretrain.flip is False and recipe.model_dump(mode="json")["pretrain"]["flip"] is False
    assert make_recipe(recipe.model_dump(mode="json")) == recipe
    for other in ({"kind": "selfie"}, {"kind": "jigsaw", "faithful": True}, {"kind": "ensemble", "faithful": True}):
        assert make_recipe(_changed(pretrain__task=other, **colour)).pretrain.flip is None
    assert make_recipe(_changed(pretrain__task=task, pretrain__flip=True)).pretrain.flip is True


def test_what_a_task_of_an_ensemble_says_of_being_faithful_wins_over_the_ensemble_and_is_written_down():
    tasks = [{"kind": "rotation"}, {"kind": "jigsaw"}, {"kind": "selfie", "faithful": False}]
    recipe = make_recipe(_changed(pretrain__task={"kind": "ensemble", "tasks": tasks, "faithful": True}))
    assert [getattr(task, "faithful", None) for task in recipe.pretrain.task.tasks] == [None, True, False]
    assert make_recipe(recipe.model_dump(mode="json")) == recipe
    tasks[1]["faithful"] = True
    recipe = make_recipe(_changed(pretrain__task={"kind": "ensemble", "tasks": tasks}))
    assert [getattr(task, "faithful", None) for task in recipe.pretrain.task.tasks] == [None, True, False]
    assert make_recipe(_changed(pretrain__task={"kind": "ensemble", "faithful": True})).pretrain.task.tasks is None


def test_several_faults_of_one_section_are_several_lines():
    with pytest.raises(RecipeError) as caught:
        make_recipe(_changed(data__label_fraction=0.5, data__labels_per_class=500, data__train_limit=5000))
    paths = [fault.split(":")[0] for fault in caught.value.faults]
    assert paths == ["data.label_fraction", "data.train_limit", "data.labels_per_class"]


def test_faults_of_values_that_are_long_stay_short():
    assert len(_fault(name="x" * 10_000)) < 300
    assert len(_fault(data=[{"a": ["x" * 1000] * 50}] * 50)) < 1000


def test_a_key_that_is_not_text_is_refused():
    assert "has a key that is not text" in _fault(report={1: 2})
