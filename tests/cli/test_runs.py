"""A run's folder in the place of a file: its classifier is measured, on the images that its recipe names."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from advss_tf.attacks import Linf, ProjectedGradientDescent
from advss_tf.cli import evaluating
from advss_tf.cli.runs import classifier_file, images_of, run_of
from advss_tf.cli.starting import refusing
from advss_tf.data import load_data
from advss_tf.errors import InvalidInput
from advss_tf.evaluation import Record
from advss_tf.finetune import RobustClassifier
from advss_tf.workdir import Workdir

RECIPE = """
name: odd
seed: 3
data: {kind: digits, resize: [6, 6], labels_per_class: 5}
encoder: {kind: resnet20, width: 4}
finetune:
  {start: scratch, train: full, how: adversarial, attack: {norm: linf, epsilon: 0.07, num_steps: 1}, epochs: 1,
   batch_size: 8, optimizer: {kind: sgd, learning_rate: 0.1}}
"""
QUICK = ("--epsilons", "0.1", "--limit", "20", "--num_steps", "2")


def command(*args):
    """Runs `advss-evaluate` in this process, as its entry point does; gives its exit code."""
    return refusing(evaluating.main, evaluating.flags().parse_args([str(arg) for arg in args]))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of images that no name of a data set stands for, as far as it is read."""
    root = tmp_path_factory.mktemp("runs") / "odd"
    (root / "finetune").mkdir(parents=True)
    (root / "recipe.yaml").write_text(RECIPE)
    images = keras.Input((6, 6, 1))
    features = keras.layers.Dense(6, "relu")(keras.layers.Flatten()(images))
    attack = ProjectedGradientDescent(Linf(0.07), num_steps=1)
    model = RobustClassifier(keras.Model(images, features), 10, attack=attack)
    model.head.kernel.assign(np.random.default_rng(0).normal(size=model.head.kernel.shape))
    model.save(root / "finetune" / "classifier.keras")
    return root


def test_a_run_is_measured_on_its_own_images_with_its_own_seed(run, tmp_path):
    first, second = tmp_path / "record.json", tmp_path / "record.again.json"
    assert command(run, *QUICK, "--out", first) == 0
    record = Record.load(first)
    recipe, data = images_of(Workdir(run))
    assert record.data_fingerprint == data.fingerprint == load_data("digits", resize=(6, 6), seed=3).fingerprint
    assert (record.name, record.seed, record.training_eps) == ("odd", recipe.seed, 0.07) == ("odd", 3, 0.07)
    assert [result.attack for result in record.results] == ["clean", "pgd-2", "worst"]

    # A file elsewhere on the images of that run, as of an ensemble of it and others.
    elsewhere = tmp_path / "copy.keras"
    elsewhere.write_bytes((run / "finetune" / "classifier.keras").read_bytes())
    assert command(elsewhere, "--data", run, *QUICK, "--seed", 4, "--out", second) == 0
    again = Record.load(second)
    assert (again.name, again.seed, again.data_fingerprint) == ("copy", 4, record.data_fingerprint)
    assert again.clean_acc == record.clean_acc


def test_the_length_of_steps_is_a_flag(run, tmp_path):
    out = tmp_path / "record.json"
    assert command(run, *QUICK, "--step_size", "2/255", "--out", out) == 0
    (result,) = (each for each in Record.load(out).results if each.attack == "pgd-2")
    assert result.parameters["step_size"] == pytest.approx(2 / 255)


def test_paths_of_a_run_and_beside_one(run, tmp_path):
    file = run / "finetune" / "classifier.keras"
    assert classifier_file(run) == file and classifier_file(file) == file
    assert run_of(file).root.resolve() == run.resolve() and run_of(run / "recipe.yaml") is None
    with pytest.raises(InvalidInput, match="is no run"):
        images_of(Workdir(tmp_path))


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("{tmp}/copy.keras",), "Nothing says which images are meant"),
        (("{tmp}/copy.keras", "--data", "{tmp}/unfinished", "--num_steps", "0"), "no list of steps"),
        (("{tmp}/unfinished",), "holds no finetuned classifier"),
        (("{run}", "--num_steps", "20,x"), "`--num_steps` is no list of steps"),
        (("{run}", "--step_size", "far"), "step_size"),
        (("{run}", "--suite", "corruptions", "--num_steps", "20"), "`--num_steps` means nothing to this suite"),
        (("{run}", "--suite", "black_box", "--step_size", "0.1"), "`--step_size` means nothing to this suite"),
    ],
)  # fmt: skip
def test_what_names_no_images_or_no_model_is_refused(args, words, run, tmp_path, capsys):
    (tmp_path / "copy.keras").write_bytes((run / "finetune" / "classifier.keras").read_bytes())
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "recipe.yaml").write_text(RECIPE)
    asked = [arg.format(tmp=tmp_path, run=run) for arg in args]
    assert command(*asked, "--out", tmp_path / "record.json") == 2
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said and not (tmp_path / "record.json").exists()
