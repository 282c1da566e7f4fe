"""The stages `cluster` and `refine` on digits, from files to files: what they leave, refuse, and go on with."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf import refining
from advss_tf.config import make_recipe
from advss_tf.data import PseudoLabels, load_data
from advss_tf.encoders import load_encoder, read_provenance
from advss_tf.errors import InvalidInput
from advss_tf.evaluation import Record
from advss_tf.outside import digest_of
from advss_tf.runner import planned, run
from advss_tf.screen import Screen
from advss_tf.staging import Run, external_of
from advss_tf.training.features import features_of
from advss_tf.training.loop import Trained
from advss_tf.workdir import Workdir

SGD = {"kind": "sgd", "learning_rate": 0.05}
ATTACK = {"epsilon": 0.1, "num_steps": 1}
VALUES = {
    "name": "pseudo",
    "seed": 1,
    "data": {"kind": "digits", "labels_per_class": 10},
    "encoder": {"kind": "wide_resnet", "depth": 10, "width": 1, "branches": ["clean", "adversarial"]},
    # So strong that what the branches see of images differs.
    "pretrain": {"task": {"kind": "rotation"}, "attack": {**ATTACK, "epsilon": 0.4}, "epochs": 1, "optimizer": SGD},
    "cluster": {"sizes": [2, 6], "branch": "clean"},
    "refine": {
        "clusters": 4, "linear": {"epochs": 1, "batch_size": 128},
        "full": {
            "attack": ATTACK, "epochs": 2, "batch_size": 128, "optimizer": {**SGD, "schedule": {"kind": "constant"}},
        },
    },
    "finetune": {"start": "pretrained", "train": "linear", "how": "standard", "epochs": 1, "optimizer": SGD},
    "evaluate": {"epsilons": [0.1], "num_steps": [1], "limit": 30},
    "export": {"verify": False},
    "checkpoint": {"every_steps": 4},
}  # fmt: skip
# What a run that only clusters another's encoder says.
ALONE = {name: VALUES[name] for name in ("name", "seed", "data", "encoder")}


class Cut(BaseException):
    """A run that is killed."""


class CuttingScreen(Screen):
    """A screen that ends the run after so many steps of one training."""

    def __init__(self, stage: str, step: int) -> None:
        super().__init__(quiet=True)
        self.stage, self.step = stage, step

    @contextmanager
    def bar(self, name, *, total):
        def advance(done, logs, seconds_left):
            if (name, done) == (self.stage, self.step):
                raise Cut

        yield advance


def _quiet_run(recipe, workdir, stages=None):
    run(recipe, workdir, stages=stages, screen=Screen(quiet=True))


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """A whole run, through the evaluation."""
    workdir = Workdir(tmp_path_factory.mktemp("whole"))
    _quiet_run(make_recipe(VALUES), workdir, ["pretrain", "cluster", "refine", "finetune", "evaluate"])
    return workdir


def _copy(story, folder, *, without=()):
    """The same run in another folder, without some of its stages."""
    shutil.copytree(story.root, folder, ignore=lambda path, names: [n for n in names if n in without])
    return Workdir(folder)


def test_the_stages_stand_between_pretraining_and_finetuning():
    whole = ["pretrain", "cluster", "refine", "finetune", "evaluate", "export", "report"]
    assert planned(make_recipe(VALUES)) == whole
    assert planned(make_recipe({**VALUES, "refine": None, "cluster": None})) == [whole[0], *whole[3:]]
    with pytest.raises(InvalidInput, match="has nothing to refine"):
        planned(make_recipe({**VALUES, "refine": None}), ["refine"])


def test_the_files_are_where_the_layout_says(story):
    for path in (story.encoder, story.kept_encoder("clean"), story.refined):
        assert (path / "saved_model.pb").is_file(), path
    assert story.pseudo_labels.is_file() and (story.root / "refine" / "pseudo_labels.npz").is_file()
    assert not list(story.root.rglob(".*")), "nothing half-written is left"


def test_what_is_clustered_are_the_features_of_the_branch_that_was_asked_for(story):
    """Those of `clean`: as `cluster.branch` says, and always as the labels that `refine` learns."""
    pseudo = PseudoLabels.load(story.pseudo_labels)
    own = PseudoLabels.load(story.root / "refine" / "pseudo_labels.npz")
    data = load_data("digits", labels_per_class=10, seed=1)
    assert pseudo.of(data).shape == (1797, 2) and pseudo.sizes == (2, 6)
    assert own.of(data).shape == (1797, 1) and own.sizes == (4,)
    assert pseudo.source["normalise"] is True and own.source["normalise"] is False
    clean, handed_over = (_features(path, data) for path in (story.kept_encoder("clean"), story.encoder))
    for labels, prepared in ((pseudo, _of_length_one), (own, np.asarray)):
        assert labels.source["encoder"]["name"] == "pretrain/encoder_clean" and labels.external is None
        trained, held_out = (labels.labels[part.numbers, -1] for part in (data.train_part, data.held_out_part))
        of_training, of_held_out, of_others = map(prepared, (*clean, handed_over[1]))
        means = np.array([of_training[trained == label].mean(axis=0) for label in range(labels.sizes[-1])])
        # Centres stop moving a hair before they are the means, so an image half-way may go to another.
        assert (_nearest(means, of_held_out) == held_out).mean() > 0.97
        assert (_nearest(means, of_others) == held_out).mean() < 0.9
    assert json.loads(story.done("cluster").read_text())["counts"] == pseudo.source["counts"]


def _features(path, data):
    """Of the training images, and of the held-out ones."""
    plain = data.train_part.store.read(data.train_part.numbers)[0].numpy()
    images = [plain.astype(np.float32) / (255 if plain.dtype == np.uint8 else 1)]
    return [features_of(load_encoder(path), batches)[0] for batches in (images, data.held_out())]


def _of_length_one(features):
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def _nearest(means, features):
    return ((features[:, None] - means) ** 2).sum(-1).argmin(1)


def test_everything_is_taught_from_the_head_that_was_learned_alone(story, monkeypatch):
    learned, begun = [], []

    def training(here, stage, model, *args, **kwargs):
        """In the place of a training: the head is given numbers, or the numbers that it begins with are kept."""
        if stage == "refine/full":
            begun.extend(model.head.get_weights())
            raise Cut
        rng = np.random.default_rng(0)
        learned.extend(rng.random(weight.shape, np.float32) for weight in model.head.get_weights())
        model.head.set_weights(learned)
        return Trained(epoch=1, value=None)

    monkeypatch.setattr(refining, "training", training)
    monkeypatch.setattr(refining, "measured", lambda *args: {})
    data = load_data("digits", labels_per_class=10, seed=1)
    here = Run(make_recipe(VALUES), story, data, tf.distribute.get_strategy(), Screen(quiet=True))
    with pytest.raises(Cut):
        refining.refine(here)
    assert len(begun) == 2
    for one, other in zip(begun, learned, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_was_refined_is_another_encoder_and_finetuning_takes_it(story):
    before, after = (load_encoder(path).get_weights() for path in (story.encoder, story.refined))
    assert any((one != other).any() for one, other in zip(before, after, strict=True))
    classifier = keras.models.load_model(story.classifier)
    for ours, theirs in zip(classifier.encoder.get_weights(), after, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    said = read_provenance(story.refined)
    assert said["refined"]["full"]["epoch"] in (1, 2) and "external" not in said
    assert said["refined"]["counts"] == PseudoLabels.load(story.root / "refine/pseudo_labels.npz").source["counts"]


def test_without_refining_finetuning_takes_what_was_pretrained(story, tmp_path):
    workdir = _copy(story, tmp_path / "plain", without=("refine", "finetune", "cluster", "evaluate", "recipe.yaml"))
    _quiet_run(make_recipe({**VALUES, "refine": None, "cluster": None}), workdir, ["finetune"])
    weights = keras.models.load_model(workdir.classifier).encoder.get_weights()
    for ours, theirs in zip(weights, load_encoder(workdir.encoder).get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_finetuning_without_the_refined_encoder_is_refused(story, tmp_path):
    workdir = _copy(story, tmp_path / "early", without=("refine", "finetune"))
    with pytest.raises(InvalidInput, match="needs what `refine` makes"):
        _quiet_run(make_recipe(VALUES), workdir, ["finetune"])
    with pytest.raises(InvalidInput, match="needs what `pretrain` makes"):
        _quiet_run(make_recipe(VALUES), Workdir(tmp_path / "empty"), ["refine"])


@pytest.mark.slow
def test_a_refinement_that_is_cut_goes_on_and_ends_with_the_same_bits(story, tmp_path):
    workdir = _copy(story, tmp_path / "cut", without=("refine", "finetune", "evaluate"))
    recipe, steps = make_recipe(VALUES), load_data("digits", seed=1).steps_per_epoch(128, "unlabelled")
    for stage, step in (("refine/linear", 6), ("refine/full", steps + 6)):
        with pytest.raises(Cut):
            run(recipe, workdir, stages=["refine"], screen=CuttingScreen(stage, step))
        assert workdir.finished("refine") is None and not workdir.refined.exists()
    _quiet_run(recipe, workdir, ["refine"])
    assert workdir.finished("refine")["resumed"] is True
    whole, cut = (load_encoder(each.refined).get_weights() for each in (story, workdir))
    for ours, theirs in zip(cut, whole, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("cluster.sizes=[2, 2000]", r"more clusters than images.*cluster\.sizes of at most 1294"),
        ("refine.clusters=2000", r"more clusters than images.*refine\.clusters of at most 1294"),
        ("pretrain.probe={k: 101}", r"more neighbours than.*pretrain\.probe\.k of at most 100"),
        ("pretrain.probe={k: 51, max_images: 50}", r"pretrain\.probe\.k of at most 50"),
        (
            "pretrain={task: {kind: acl}, attack: {epsilon: 0.1}, epochs: 1, batch_size: 1300, optimizer: {kind: sgd, "
            "learning_rate: 0.1}}",
            r"twice.*pretrain\.batch_size of at most 1294",
        ),
        ("cluster={sizes: [2], encoder: nowhere}", r"nowhere"),
    ],
)
def test_what_the_data_are_too_few_for_is_refused_before_anything_is_trained(change, words, tmp_path):
    workdir = Workdir(tmp_path / "run")
    with pytest.raises(InvalidInput, match=words):
        _quiet_run(make_recipe(VALUES, [change]), workdir)
    assert not workdir.stage("pretrain").exists()


@pytest.mark.slow
def test_a_pretraining_does_not_go_on_with_another_teacher(story, tmp_path):
    teacher, workdir = tmp_path / "teacher", Workdir(tmp_path / "run")
    shutil.copytree(story.kept_encoder("clean"), teacher)
    task = {"kind": "deacl", "teacher": str(teacher)}
    recipe = make_recipe({
        **ALONE, "encoder": {"kind": "wide_resnet", "depth": 10, "width": 1}, "checkpoint": VALUES["checkpoint"],
        "pretrain": {**VALUES["pretrain"], "task": task},
    })  # fmt: skip
    with pytest.raises(Cut):
        run(recipe, workdir, screen=CuttingScreen("pretrain", 6))
    shutil.rmtree(teacher)
    shutil.copytree(story.encoder, teacher)
    with pytest.raises(InvalidInput, match=r"learns from has changed since this run, or its grid, began: teacher\."):
        _quiet_run(recipe, workdir)
    shutil.rmtree(teacher)
    shutil.copytree(story.kept_encoder("clean"), teacher)
    _quiet_run(recipe, workdir)
    assert read_provenance(workdir.encoder)["taught_by"] == {"teacher": digest_of(teacher)}
    assert "taught_by" not in read_provenance(story.encoder)


@pytest.mark.slow
def test_another_run_learns_the_clusters_and_cut_it_ends_with_the_same_bits(story, tmp_path):
    pretrain = {**VALUES["pretrain"], "attack": {**ATTACK, "batch_norm": "training"}, "batch_size": 256}
    task = {"kind": "advcl", "pseudo_labels": str(story.pseudo_labels), "projection": [16, 8]}
    network = {**VALUES["encoder"], "branches": ["clean", "adversarial", "pseudo"]}
    recipe = make_recipe({
        **ALONE, "encoder": network, "pretrain": {**pretrain, "task": task}, "checkpoint": {"every_steps": 2},
    })  # fmt: skip
    whole, cut = Workdir(tmp_path / "whole"), Workdir(tmp_path / "cut")
    _quiet_run(recipe, whole)
    with pytest.raises(Cut):
        run(recipe, cut, screen=CuttingScreen("pretrain", 3))
    _quiet_run(recipe, cut)
    for ours, theirs in zip(*(load_encoder(each.encoder).get_weights() for each in (cut, whole)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert cut.finished("pretrain")["resumed"] is True
    assert read_provenance(whole.encoder)["taught_by"] == {
        "pseudo_labels": PseudoLabels.load(story.pseudo_labels).digest
    }


# What was learned from outside ----------------------------------------------------------------------------------------


@pytest.fixture
def foreign(story, tmp_path):
    """The encoder as one of other images."""
    path = tmp_path / "foreign"
    shutil.copytree(story.encoder, path)
    file = path / "assets.extra" / "advss" / "provenance.json"
    said = json.loads(file.read_text())
    file.write_text(json.dumps({**said, "data": {"name": "photographs", "fingerprint": "0" * 64}}))
    return path


def test_an_encoder_of_other_images_is_refused_unless_the_recipe_says_so(foreign, tmp_path):
    section = {"sizes": [2], "encoder": str(foreign)}
    with pytest.raises(InvalidInput, match=r"'digits' alone.*cluster\.external: true.*trained on photographs"):
        _quiet_run(make_recipe({**ALONE, "cluster": section}), Workdir(tmp_path / "run"))
    workdir = Workdir(tmp_path / "said")
    _quiet_run(make_recipe({**ALONE, "cluster": {**section, "external": True}}), workdir)
    pseudo = PseudoLabels.load(workdir.pseudo_labels)
    assert pseudo.external == "pseudo-labels are clusters of features of foreign: it was trained on photographs"
    assert workdir.finished("cluster")["external"] == pseudo.external
    assert str(tmp_path) not in json.dumps(pseudo.source)


@pytest.mark.slow
def test_what_pretraining_learned_from_outside_is_said_by_every_export_and_record_after_it(story, tmp_path):
    workdir = _copy(story, tmp_path / "outside", without=("refine", "finetune", "evaluate", "cluster"))
    for path in (workdir.encoder, workdir.kept_encoder("clean")):
        file = path / "assets.extra" / "advss" / "provenance.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "external": "labels of ImageNet"}))
    _quiet_run(make_recipe(VALUES), workdir)
    assert "labels of ImageNet" in PseudoLabels.load(workdir.pseudo_labels).external
    for path in (workdir.refined, workdir.classifier, workdir.served):
        assert external_of(path) == "labels of ImageNet", path
    assert Record.load(workdir.record).external == "labels of ImageNet"
    assert "has learned from outside: labels of ImageNet." in (workdir.report / "report.md").read_text().split("##")[0]
    assert Record.load(story.record).external is None and external_of(story.classifier) is None


def test_a_model_of_another_library_says_nothing(tmp_path):
    assert external_of(Path(tmp_path) / "model.keras") is None and external_of(tmp_path) is None
