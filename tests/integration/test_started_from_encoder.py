"""An encoder that is there already, on other images than it was pretrained on: hand-off, resize, presets, budgets."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

from advss_tf import assembly, runner
from advss_tf.cli import training
from advss_tf.cli.starting import refusing
from advss_tf.config import load_recipe, make_recipe
from advss_tf.encoders import load_encoder, wide_resnet
from advss_tf.errors import InvalidInput
from advss_tf.evaluation import load_model_for_evaluation
from advss_tf.serving import export_encoder
from advss_tf.workdir import Workdir

RECIPE = """
name: transfer
seed: 0
data: {kind: arrays, path: %s/others.npz, resize: [8, 8], crop_padding: 1}
encoder: {kind: wide_resnet, depth: 10, width: 1}
pretrain: null
finetune:
  preset: slf
  start: %s/encoder
  eval_attack: {epsilon: 0.1, num_steps: 1}
  epochs: 2
  batch_size: 32
  optimizer: {learning_rate: 0.1, schedule: {kind: constant}}
evaluate: {epsilons: [0.1], num_steps: [1], limit: 20}
export: {classifier: false}
report: {examples: 0}
"""
GRID = """
name: schemes
base: transfer.yaml
axes:
  data.label_fraction: [0.1, 1.0]
  finetuning: [SLF, AFF]
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with an encoder of 8 x 8 images, four classes of 12 x 12 images, a recipe and a grid."""
    folder = tmp_path_factory.mktemp("transfer")
    keras.utils.set_random_seed(0)
    export_encoder(wide_resnet((8, 8, 3), depth=10, width=1), folder / "encoder")
    labels = np.arange(160) % 4
    images = np.random.default_rng(0).integers(0, 256, (160, 12, 12, 3)) // 4
    images[np.arange(160), :, :, labels % 3] += 30 * (1 + labels[:, None, None])
    np.savez(folder / "others.npz", images=images.astype(np.uint8), labels=labels)
    (folder / "transfer.yaml").write_text(RECIPE % (folder, folder))
    (folder / "schemes.yaml").write_text(GRID)
    return folder


def train(*args):
    return refusing(training.main, training.flags().parse_args([str(arg) for arg in args]))


@pytest.fixture(scope="module")
def linear(place):
    workdir = Workdir(place / "linear")
    runner.run(load_recipe(place / "transfer.yaml"), workdir)
    return workdir


def test_a_linear_head_learns_other_images_of_another_size_on_the_encoder_as_it_was(place, linear):
    model, _ = load_model_for_evaluation(linear.classifier)
    assert (model.encoder.input_shape, model.num_classes) == ((None, 8, 8, 3), 4)
    for one, other in zip(model.encoder.get_weights(), load_encoder(place / "encoder").get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    record = json.loads(linear.record.read_text())
    assert (record["num_classes"], record["num_images"]) == (4, 20)


@pytest.mark.slow
def test_every_record_says_that_the_encoder_has_learned_from_elsewhere(place, linear, tmp_path):
    words = "the encoder that it started from was trained on unknown data"
    assert json.loads(linear.record.read_text())["external"] == words
    assert linear.finished("finetune")["external"] == words
    data = assembly.data_of(load_recipe(place / "transfer.yaml"))
    about = {"data": {"name": data.name, "fingerprint": data.fingerprint}}
    export_encoder(load_encoder(place / "encoder"), tmp_path / "own", provenance=about)
    workdir = Workdir(tmp_path / "run")
    changes = [f"finetune.start={tmp_path}/own", "finetune.epochs=1"]
    runner.run(load_recipe(place / "transfer.yaml", changes), workdir, stages=["finetune"])
    assert "external" not in workdir.finished("finetune")


def test_nothing_is_pretrained_and_the_saved_recipe_has_every_value(place, linear):
    assert not linear.stage("pretrain").exists() and linear.finished("finetune") is not None
    saved = load_recipe(linear.recipe)
    assert saved == load_recipe(place / "transfer.yaml")
    assert "momentum: 0.9" in linear.recipe.read_text() and "weight_decay: 0.0002" in linear.recipe.read_text()


@pytest.mark.slow
def test_a_grid_of_schemes_and_label_budgets_pretrains_nothing(place, capsys):
    assert train("--grid", place / "schemes.yaml", "--workdir", place / "grid") == 0
    assert "4 of 4 cells are finished" in capsys.readouterr().out
    cells = {path.name for path in (place / "grid").iterdir() if (path / "finetune").is_dir()}
    assert cells == {f"label_fraction{part}-{scheme}" for part in ("0.1", "1.0") for scheme in ("SLF", "AFF")}
    assert not list((place / "grid").glob("*/pretrain"))
    histories = {name: (place / "grid" / name / "finetune" / "history.jsonl").read_text() for name in cells}
    assert len(set(histories.values())) == 4


@pytest.mark.parametrize(("fraction", "labelled"), [(0.01, 4), (0.1, 12), (1.0, 115)])
def test_a_label_budget_is_a_part_of_every_class(place, fraction, labelled):
    # Of 160 images a fifth is the test split, and 13 are held out.
    recipe = make_recipe(_values(place), [f"data.label_fraction={fraction}"])
    data = assembly.data_of(recipe)
    counts = np.bincount(np.concatenate([labels for _, labels in data.labelled().as_numpy_iterator()]), minlength=4)
    assert counts.sum() == data.num_labelled == labelled and counts.max() - counts.min() <= 1


def test_an_encoder_of_another_size_or_of_no_place_is_refused(place, tmp_path):
    with pytest.raises(InvalidInput, match="`images` do not fit the encoder"):
        runner.run(load_recipe(place / "transfer.yaml", ["data.resize=null"]), Workdir(tmp_path / "large"))
    with pytest.raises(InvalidInput, match="nowhere"):
        runner.run(load_recipe(place / "transfer.yaml", [f"finetune.start={place}/nowhere"]), Workdir(tmp_path / "no"))


def _values(place):
    return load_recipe(place / "transfer.yaml").model_dump(mode="json")
