"""Every recipe in configs/ loads, says what it should in its head, and the paper's are at the paper's size."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from advss_tf.config import Recipe, difference, dump_grid, dump_recipe, load_grid, load_recipe, make_recipe
from advss_tf.config.yaml_text import read_yaml

EVERY = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
GRIDS = [path for path in EVERY if path.stem.startswith("grid_")]
CONFIGS = [path for path in EVERY if path not in GRIDS]
PAPER = [path for path in CONFIGS if path.stem.startswith("chen2020")]


def _load(name: str) -> Recipe:
    return load_recipe(Path(__file__).parents[2] / "configs" / f"{name}.yaml")


def test_the_recipes_are_found():
    names = {"digits", "digits_ensemble", "digits_jigsaw", "digits_selfie", "cifar10_small"} | {
        path.stem for path in PAPER
    }
    tasks = ("rotation", "jigsaw", "selfie")
    assert {f"chen2020_{task}_{start}" for task in tasks for start in ("p2", "p3")} | {"chen2020_ensemble_p3"} <= names
    assert names <= {path.stem for path in CONFIGS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_recipe_loads_is_named_as_its_file_and_survives_a_round_trip(path):
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert make_recipe(read_yaml(dump_recipe(recipe))) == recipe


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_a_grid_loads_is_named_as_its_file_and_survives_a_round_trip(path, tmp_path):
    grid = load_grid(path)
    assert grid.name == path.stem
    (tmp_path / "grid.yaml").write_text(dump_grid(grid))
    assert load_grid(tmp_path / "grid.yaml").cells == grid.cells


@pytest.mark.parametrize("path", EVERY, ids=lambda path: path.stem)
def test_the_head_of_a_recipe_says_what_to_expect(path):
    head = path.read_text().partition("\nname:")[0]
    for line in ("# Paper:", "# Machine, time:", "# Paper reports:", "# We measured:"):
        assert line in head
    flag = "grid" if path in GRIDS else "config"
    assert f"advss-train --{flag}=configs/{path.name} --workdir=runs/{path.stem}" in head


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_grid_that_a_recipe_names_for_more_of_its_method_has_the_method(path):
    def method(recipe):
        return recipe.pretrain and (recipe.pretrain.task.kind, recipe.refine is None)

    for name in re.findall(r"ALF and AFF.* in configs/(grid_\w+\.yaml)", path.read_text()):
        assert method(load_recipe(path)) in {method(cell.recipe) for cell in load_grid(path.with_name(name)).cells}


def test_the_recipe_of_acl_is_trained_in_the_ball_that_it_is_measured_in_by_every_preset():
    path = GRIDS[0].with_name("digits_acl.yaml")
    for preset in ("alf", "aff"):
        part = load_recipe(path, [f"finetune.preset={preset}"]).finetune
        assert part.attack == part.eval_attack and part.attack.epsilon == 0.1


def test_the_grid_of_digits_has_the_paper_s_names_at_three_seeds_and_p1_once():
    cells = load_grid(GRIDS[0].with_name("grid_digits.yaml")).cells
    tasks = ("rotation", "jigsaw", "selfie")
    names = {f"P1-{f}-seed{s}" for f in ("F1", "F2", "F3", "F4") for s in range(3)}
    names |= {f"{t}-{p}-{c}" for t in tasks for p in ("P2", "P3") for c in (n.removeprefix("P1-") for n in names)}
    assert {cell.name for cell in cells} == names and len(cells) == 84


def test_the_grid_of_modes_has_each_at_two_weights_and_three_seeds_and_t0_once():
    cells = load_grid(GRIDS[0].with_name("grid_digits_joint.yaml")).cells
    modes = ("T1-clean", "T2-attacked", "T3-own", "T4-sum")
    groups = {"T0-plain", *(f"{mode}-{weight}" for mode in modes for weight in ("w0.5", "w2"))}
    assert {cell.name for cell in cells} == {f"{group}-seed{seed}" for group in groups for seed in range(3)}
    assert len(cells) == 27 and {cell.group for cell in cells} == groups
    assert {cell.place["weight"] for cell in cells if cell.place["mode"] == "T0-plain"} == {None}


def test_the_f4_column_of_the_small_cifar_grid_is_the_recipe_itself():
    grid = load_grid(GRIDS[0].with_name("grid_cifar10_small.yaml"))
    (cell,) = grid.only(["pretraining=P3", "finetuning=F4", "seed=0"])
    ours, recipe = cell.recipe, _load("cifar10_small")
    assert cell.name == "P3-F4-seed0"
    for part in ("data", "encoder", "pretrain", "finetune", "evaluate"):
        assert getattr(ours, part) == getattr(recipe, part)


OTHERWISE = {
    "rotation-P2": {"pretrain.epochs: 200 -> 100"},
    "rotation-P3": set(),
    "jigsaw-P2": {"pretrain.epochs: 200 -> 100", "pretrain.optimizer.weight_decay: 0.0005 -> 0.0003"},
    "jigsaw-P3": set(),
    "selfie-P2": {"seed: 10 -> 22"},
    "selfie-P3": {"seed: 10 -> 22"},
}


@pytest.mark.parametrize("name", OTHERWISE)
def test_the_grid_of_chen_2020_is_its_recipes_but_for_what_its_head_lists(name):
    path, (task, start) = GRIDS[0].with_name("grid_chen2020.yaml"), name.split("-")
    (cell,) = load_grid(path).only([f"task={task}", f"pretraining={start}", "finetuning=F4"])
    recipe, head = _load(f"chen2020_{task}_{start.lower()}"), path.read_text().partition("\nname:")[0]
    found = {line for line in difference(recipe, cell.recipe) if not line.startswith("name: ")}
    assert found == OTHERWISE[name]
    listed = set(re.findall(r"^# \* (\S+)", head, re.MULTILINE))
    assert {line.partition(":")[0] for line in found} <= listed
    assert listed == {line.partition(":")[0] for lines in OTHERWISE.values() for line in lines}


@pytest.mark.parametrize("name", ["digits", "digits_jigsaw"])
def test_digits_are_never_mirrored(name):
    assert _load(name).data.flip is False


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_the_finetuning_of_chen_2020_is_that_of_the_reference_code(path):
    recipe = load_recipe(path)
    finetune, sgd = recipe.finetune, recipe.finetune.optimizer
    how, milestones = ("trades", (40, 60)) if path.stem == "chen2020_trades" else ("adversarial", (60, 80))
    assert (finetune.train, finetune.how, finetune.epochs, finetune.batch_size) == ("full", how, 100, 128)
    assert how == "adversarial" or finetune.beta == 1.0
    assert (sgd.kind, sgd.learning_rate, sgd.momentum, sgd.nesterov) == ("sgd", 0.1, 0.9, False)
    assert (sgd.weight_decay, sgd.decay) == (3e-4, "all")
    assert (sgd.schedule.milestones, sgd.schedule.factor) == (milestones, 0.1)
    assert finetune.reset_after_boundary and finetune.boundary == "stage3"
    attack = finetune.attack
    assert (attack.epsilon, attack.step_size, attack.num_steps) == (8 / 255, 2 / 255, 10)
    assert (attack.batch_norm, attack.random_start, attack.keep) == ("training", True, "last")
    assert (finetune.eval_attack.num_steps, finetune.eval_attack.batch_norm) == (20, "inference")


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_the_rest_of_chen_2020_is_that_of_the_reference_code(path):
    recipe = load_recipe(path)
    assert (recipe.data.name, recipe.data.held_out, recipe.data.crop_padding, recipe.data.flip) == (
        "cifar10",
        0.1,
        4,
        True,
    )
    own = (False, 2) if recipe.pretrain.task.kind == "selfie" else (None, None)
    assert (recipe.pretrain.flip, recipe.pretrain.crop_padding) == own
    assert (recipe.encoder.kind, recipe.encoder.width) == ("resnet50v2", 64)
    assert recipe.encoder.mean == (0.485, 0.456, 0.406) and recipe.encoder.std == (0.229, 0.224, 0.225)
    sgd, task = recipe.pretrain.optimizer, recipe.pretrain.task.kind
    decay = {"selfie": 1e-4, "ensemble": 1e-4}.get(task, 5e-4 if path.stem == "chen2020_jigsaw_p2" else 3e-4)
    assert (sgd.learning_rate, sgd.weight_decay, sgd.decay) == (0.001 if task == "ensemble" else 0.1, decay, "all")
    last = {"selfie": 1e-7, "ensemble": 1e-8}.get(task, 1e-6)
    assert (sgd.schedule.kind, sgd.schedule.final_learning_rate) == ("cosine", last)
    members = recipe.pretrain.task.tasks if task == "ensemble" else (recipe.pretrain.task,)
    assert {member.clean_weight for member in members} == {0.5}
    assert recipe.pretrain.batch_size == (32 if task == "ensemble" else 128)
    evaluate = recipe.evaluate
    assert (evaluate.epsilons, evaluate.num_steps, evaluate.step_size) == ((8 / 255,), (20,), 2 / 255)


@pytest.mark.parametrize("task", ["rotation", "jigsaw"])
def test_p2_is_clean_for_200_epochs_and_p3_attacked_for_100(task):
    p2, p3 = _load(f"chen2020_{task}_p2").pretrain, _load(f"chen2020_{task}_p3").pretrain
    assert (p2.epochs, p2.attack, p2.eval_attack) == (200, None, None)
    assert (p3.epochs, p3.attack.num_steps, p3.eval_attack.num_steps) == (100, 10, 20)
    assert p3.attack == _load(f"chen2020_{task}_p3").finetune.attack


@pytest.mark.parametrize("start", ["p2", "p3"])
def test_the_jigsaw_of_chen_2020_is_that_of_the_reference_code(start):
    task = _load(f"chen2020_jigsaw_{start}").pretrain.task
    assert (task.kind, task.grid, task.num_permutations, task.faithful) == ("jigsaw", 4, 30, True)
    assert (task.permutation_set, task.identity_share, task.balanced) == ("auto", None, None)  # as `faithful` says


def test_selfie_is_the_reference_code_s_own_for_200_epochs_clean_and_attacked():
    p2, p3 = _load("chen2020_selfie_p2").pretrain, _load("chen2020_selfie_p3").pretrain
    assert (p2.epochs, p2.attack, p3.epochs) == (200, None, 200)
    assert (p3.attack, p3.eval_attack.num_steps) == (_load("chen2020_selfie_p3").finetune.attack, 20)
    for part in (p2, p3):
        assert part.task.faithful and (part.task.grid, part.task.num_layers, part.task.num_heads) == (4, 12, 16)
        assert part.optimizer.nesterov and part.optimizer.schedule.warmup_epochs == 0


def test_the_ensemble_is_that_of_the_reference_code():
    recipe = _load("chen2020_ensemble_p3")
    part, task = recipe.pretrain, recipe.pretrain.task
    assert (part.epochs, part.eval_attack.num_steps, recipe.seed) == (150, 20, 22)
    assert part.attack == recipe.finetune.attack
    assert part.optimizer.nesterov and part.optimizer.schedule.warmup_epochs == 0
    assert (task.faithful, task.shared, task.boundary, task.diversity_weight) == (True, "trunk", "stage3", 0.1)
    _, jigsaw, selfie = task.tasks
    assert [member.kind for member in task.tasks] == ["rotation", "jigsaw", "selfie"]
    assert (jigsaw.grid, jigsaw.num_permutations) == (4, 30)
    assert (selfie.grid, selfie.num_layers, selfie.num_heads) == (4, 12, 16)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "stl10"])
def test_the_head_of_a_protocol_says_what_makes_the_encoder_that_it_starts_from(name):
    """And the command pretrains on the protocol's own images, cut and padded alike; of STL-10 those without labels."""
    path = GRIDS[0].with_name(f"protocol_{name}.yaml")
    head = " ".join(path.read_text().partition("\nname:")[0].replace("#", " ").split())
    config, options, folder = re.search(
        r"--config=configs/(\w+)\.yaml((?: --set \S+)*) --stages=pretrain --workdir=(\S+)", head
    ).groups()
    made = load_recipe(path.with_name(f"{config}.yaml"), options.replace("--set ", "").split())
    wanted = load_recipe(path)
    assert wanted.finetune.start == f"{folder}/pretrain/encoder" and f"{folder}/pretrain/encoder" in head
    if name == "stl10":
        assert (made.data.train_split, made.data.held_out) == ("unlabelled", 0.02) and "98,000" in head
        own = {"train_split": "train", "held_out": wanted.data.held_out}
        made = made.model_copy(update={"data": made.data.model_copy(update=own)})
    assert made.pretrain is not None and made.data == wanted.data
    for grid in (f"grid_protocol_{name}.yaml", *(("grid_label_budgets.yaml",) if name == "cifar10" else ())):
        assert f"configs/{path.name} says" in path.with_name(grid).read_text()


def test_the_head_of_the_label_budgets_counts_its_steps_right():
    """49,000 images to train on, 490 a per cent; batches of 512 for heads and of 128 for the whole network."""
    head = (GRIDS[0].with_name("grid_label_budgets.yaml")).read_text()
    steps = {size: [25 * -(-int(49_000 * part) // size) for part in (0.01, 0.1, 1.0)] for size in (512, 128)}
    few, some, most = (f"{count:,}" for count in steps[512])
    assert f"SLF and ALF, {few} in all (10 % are {some}, all {most})" in head
    few, some, most = (f"{count:,}" for count in steps[128])
    assert f"of AFF, {few} in all ({some}, {most})" in head
