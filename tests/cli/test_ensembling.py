"""`advss-ensemble`: runs and files become one SavedModel that is measured as any other; what does not fit is not."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.attacks import Linf, ProjectedGradientDescent
from advss_tf.cli import ensembling, evaluating
from advss_tf.cli.starting import refusing
from advss_tf.encoders import read_provenance
from advss_tf.encoders.handoff import read_card
from advss_tf.finetune import JointClassifier, RobustClassifier
from advss_tf.pretext import Rotation
from advss_tf.serving import export_classifier

ATTACK = ProjectedGradientDescent(Linf(0.1), num_steps=1)


def command(module, *args):
    """Runs a command in this process, as its entry point does; gives its exit code."""
    return refusing(module.main, module.flags().parse_args([str(arg) for arg in args]))


def encoder_of(seed, *, side=8):
    images = keras.Input((side, side, 1))
    start = keras.initializers.GlorotUniform(seed=seed)
    features = keras.layers.Dense(6, "relu", kernel_initializer=start)(keras.layers.Flatten()(images))
    return keras.Model(images, features)


def classifier(seed, *, num_classes=10, side=8):
    model = RobustClassifier(encoder_of(seed, side=side), num_classes, attack=ATTACK, seed=seed)
    model.head.kernel.assign(3 * np.random.default_rng(seed).normal(size=model.head.kernel.shape))
    return model


def run_of(folder, model, *, class_names=None, **done):
    """The folder of a run, as far as it is read: recipe, classifier, result, and where names are given an export."""
    (folder / "finetune").mkdir(parents=True)
    (folder / "recipe.yaml").write_text(f"name: {folder.name}\n")
    model.save(folder / "finetune" / "classifier.keras")
    (folder / "finetune" / "done.json").write_text(json.dumps({"epoch": 1, **done}))
    if class_names is not None:
        export_classifier(model, folder / "export" / "classifier" / "1", class_names=class_names)
    return folder


@pytest.fixture
def two(tmp_path):
    """The files of two classifiers that go together."""
    files = []
    for seed in (0, 1):
        files.append(tmp_path / f"model{seed}.keras")
        classifier(seed).save(files[-1])
    return files


def test_a_run_and_a_file_become_one_saved_model_that_is_measured(tmp_path, capsys):
    names, encoder = [f"digit {k}" for k in range(10)], encoder_of(1)
    joint = JointClassifier(encoder, 10, auxiliary=Rotation(encoder), attack=ATTACK)
    single = classifier(0)
    first = run_of(tmp_path / "one", single, class_names=names, external="its start was trained on photographs")
    second = run_of(tmp_path / "two", joint) / "finetune" / "classifier.keras"
    out = tmp_path / "out" / "1"
    assert command(ensembling, first, second, "--out", out) == 0
    assert f"Ensemble of 2 classifiers: {out}" in capsys.readouterr().out

    images = np.random.default_rng(0).random((4, 8, 8, 1), dtype=np.float32)
    expected = (tf.nn.softmax(single(images)) + tf.nn.softmax(joint(images))) / 2
    answers = tf.saved_model.load(str(out)).signatures["serving_default"](images=tf.constant(images))
    np.testing.assert_allclose(answers["probabilities"], expected, atol=1e-6)
    assert read_card(out, "classifier")["class_names"] == names
    # Of the joint classifier the puzzle's head is not served.
    assert len(read_card(out, "classifier")["variables"]) == len(single.variables) + len(joint.supervised.variables)
    said = read_provenance(out)
    assert said["external"] == "its start was trained on photographs"
    assert [each["name"] for each in said["members"]] == ["one", "two"]
    assert said["members"][0]["recipe"] == "name: one\n"
    assert said["members"][1]["finetuned"]["auxiliary"]["task"] == "rotation"

    record = tmp_path / "record.json"
    flags = ("--data", "digits", "--epsilons", "0.1", "--limit", 20, "--out", record)
    assert command(evaluating, out, *flags) == 0
    measured = json.loads(record.read_text())
    assert measured["num_images"] == 20 and measured["external"] == "its start was trained on photographs"


def test_the_names_of_the_classes_are_a_flag(two, tmp_path):
    out = tmp_path / "out"
    assert command(ensembling, *two, "--class_names", ",".join("abcdefghij"), "--out", out) == 0
    said = read_provenance(out)
    assert said["members"] == [{"name": "model0"}, {"name": "model1"}]
    assert (said["combine"], said["faithful"]) == ("log_mean_probability", False)
    assert read_card(out, "classifier")["class_names"] == list("abcdefghij")


def test_the_papers_form_is_a_flag_that_the_cards_repeat(two, tmp_path):
    out = tmp_path / "out"
    assert command(ensembling, *two, "--faithful", "--out", out) == 0
    said = read_provenance(out)
    assert (said["combine"], said["faithful"]) == ("mean_probability", True)
    assert read_card(out, "ensemble")["combine"] == "mean_probability"


@pytest.mark.parametrize(
    ("models", "flags", "words"),
    [
        (["model0.keras"], [], "An ensemble needs several models."),
        (["model0.keras", "model0.keras"], [], "A model is named twice."),
        (["model0.keras", "nowhere"], [], "nowhere does not exist. Expected: a run's folder with finetune/classifier"),
        (["model0.keras", "nowhere.keras"], [], "nowhere.keras does not exist."),
        (["model0.keras", "."], [], ". holds no finetuned classifier."),
        (["model0.keras", "text.txt"], [], "text.txt holds no finetuned classifier."),
        (["model0.keras", "text.keras"], [], "The .keras file could not be loaded in safe mode."),
        (["model0.keras", "large.keras"], [], "The members do not take the same images."),
        (["model0.keras", "few.keras"], [], "The members do not have the same number of classes."),
        (["model0.keras", "model1.keras"], ["--class_names", "a,b"], "`class_names` do not name the classes."),
        (["model0.keras", "model1.keras"], ["--out", "text.txt"], "There is something where the ensemble is to be."),
        (["model0.keras", "model1.keras"], ["--out", "."], "There is something where the ensemble is to be."),
    ],
)
def test_what_does_not_fit_is_refused_in_words_and_leaves_nothing(
    models, flags, words, two, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    classifier(2, side=10).save("large.keras")
    classifier(2, num_classes=3).save("few.keras")
    for name in ("text.txt", "text.keras"):
        (tmp_path / name).write_text("no model")
    before = sorted(path.name for path in tmp_path.iterdir())
    assert command(ensembling, *models, *(flags if "--out" in flags else [*flags, "--out", "out"])) == 2
    said = capsys.readouterr().err
    assert words in said and "Expected:" in said and "Traceback" not in said
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_runs_of_other_classes_are_refused_unless_the_classes_are_named(tmp_path, capsys):
    runs = [
        run_of(tmp_path / name, classifier(seed), class_names=[f"{name}{k}" for k in range(10)])
        for seed, name in enumerate(("cat", "dog"))
    ]
    assert command(ensembling, *runs, "--out", tmp_path / "out") == 2
    assert "The runs do not have the same classes." in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert command(ensembling, *runs, "--class_names", ",".join("abcdefghij"), "--out", tmp_path / "out") == 0
