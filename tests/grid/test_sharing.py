"""Pretraining that runs share: which do, and what a run that takes it over has on its disk."""

from __future__ import annotations

import json
import shutil

import pytest

from advss_tf.config import make_recipe
from advss_tf.grid import sharing
from advss_tf.grid.sharing import SHARED_FROM, adopt, learn_from_the_same, pretraining_key
from advss_tf.workdir import Workdir

SGD = {"kind": "sgd", "learning_rate": 0.1}
VALUES = {
    "name": "base",
    "seed": 7,
    "data": {"kind": "digits", "labels_per_class": 5},
    "encoder": {"kind": "resnet20", "width": 4},
    "pretrain": {"task": {"kind": "rotation"}, "attack": {"epsilon": 0.1}, "epochs": 1, "optimizer": SGD},
    "finetune": {
        "start": "pretrained", "train": "full", "how": "trades", "attack": {"epsilon": 0.2}, "epochs": 1,
        "optimizer": SGD,
    },
}  # fmt: skip


def key(*overrides):
    return pretraining_key(make_recipe(VALUES, overrides))


@pytest.mark.parametrize(
    "override",
    [
        "name=other", "finetune.epochs=9", "finetune.train=partial", "evaluate.epsilons=[0.3]", "checkpoint.keep=5",
        "export.verify=false", "report.title=x", "data.labels_per_class=9", "data.labels_per_class=null",
    ],
)  # fmt: skip
def test_what_pretraining_does_not_see_does_not_part_it(override):
    assert key(override) == key()


@pytest.mark.parametrize(
    "override",
    [
        "seed=8", "precision=mixed_bfloat16", "strategy=single", "jit_compile=true", "encoder.width=8",
        "pretrain.epochs=2", "pretrain.attack=null", "pretrain.attack.num_steps=3", "pretrain.task.clean_weight=0.25",
        "data.held_out=0.2", "data.train_limit=500", "data.crop_padding=2", "data.flip=true", "pretrain.flip=true",
        "pretrain.crop_padding=2",
    ],
)  # fmt: skip
def test_what_decides_the_weights_parts_it(override):
    assert key(override) != key()


@pytest.mark.parametrize(("name", "one", "other"), [("flip", "false", "true"), ("crop_padding", "2", "1")])
def test_what_counts_of_the_augmentation_is_what_pretraining_sees(name, one, other):
    own = f"pretrain.{name}={one}"
    assert key(own, f"data.{name}={other}") == key(own) == key(f"data.{name}={one}")
    assert key(own) != key(f"pretrain.{name}={other}") == key(f"data.{name}={other}")


@pytest.mark.parametrize("budget", ["data.labels_per_class=9", "data.labels_per_class=null"])
def test_a_label_budget_parts_it_where_a_probe_reads_the_labels(budget):
    probe = "pretrain.probe={k: 5}"
    assert key(probe, budget) != key(probe) == key(probe, "finetune.epochs=9")


def test_a_stage_that_reads_another_branch_parts_it_and_one_that_does_not_does_not():
    values = {**VALUES, "encoder": {**VALUES["encoder"], "branches": ["clean", "adversarial"]}}
    refine = {"full": {"attack": {"epsilon": 0.1}}}
    plain, refined, same = (
        pretraining_key(make_recipe({**values, **more}))
        for more in ({}, {"refine": refine}, {"cluster": {}, "finetune": None})
    )
    assert plain == same != refined
    assert pretraining_key(make_recipe({**VALUES, "refine": refine})) == key(), "without branches there is one encoder"


def test_what_pretraining_without_an_attack_does_not_heed_does_not_part_it():
    assert key("pretrain.attack=null", "pretrain.task.clean_weight=0.25") == key("pretrain.attack=null")


def test_without_pretraining_there_is_nothing_to_share():
    assert key("pretrain=null", "finetune.start=scratch") is None


@pytest.fixture
def donor(tmp_path):
    workdir = Workdir(tmp_path / "first")
    workdir.encoder.mkdir(parents=True)
    (workdir.encoder / "saved_model.pb").write_bytes(b"weights")
    workdir.done("pretrain").write_text('{"loss": 1.5, "seconds": 12.0}')
    return workdir


def test_what_is_taken_over_is_whole_says_where_it_came_from_and_replaces_what_was_half_done(donor, tmp_path):
    workdir = Workdir(tmp_path / "second")
    workdir.stage("pretrain").mkdir(parents=True)
    (workdir.stage("pretrain") / "half").write_text("x")
    adopt(workdir, donor=donor)
    assert (workdir.encoder / "saved_model.pb").read_bytes() == b"weights"
    assert workdir.finished("pretrain") == {"loss": 1.5, "seconds": 12.0, SHARED_FROM: "../first"}
    assert sorted(path.name for path in workdir.root.rglob("*")) == [
        "done.json",
        "encoder",
        "pretrain",
        "saved_model.pb",
    ]
    assert json.loads(donor.done("pretrain").read_text()) == {"loss": 1.5, "seconds": 12.0}
    assert (workdir.encoder / "saved_model.pb").samefile(donor.encoder / "saved_model.pb")


def test_a_run_that_has_not_begun_is_held_to_the_images_of_what_it_takes_over(donor, tmp_path):
    fresh, begun = Workdir(tmp_path / "fresh"), Workdir(tmp_path / "begun")
    begun.root.mkdir()
    begun.data.write_text('{"fingerprint": "own"}')
    donor.data.write_text('{"fingerprint": "of then"}')
    for workdir in (fresh, begun):
        adopt(workdir, donor=donor)
    assert fresh.data.read_text() == '{"fingerprint": "of then"}'
    assert begun.data.read_text() == '{"fingerprint": "own"}'


def test_a_third_run_says_where_it_was_done_not_where_it_was_taken_from(donor, tmp_path):
    second, third = Workdir(tmp_path / "second"), Workdir(tmp_path / "third")
    adopt(second, donor=donor)
    adopt(third, donor=second)
    assert third.finished("pretrain")[SHARED_FROM] == "../first"


def test_where_there_are_no_links_files_are_copied(donor, tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError("no links here")

    monkeypatch.setattr(sharing.os, "link", refuse)
    workdir = Workdir(tmp_path / "second")
    adopt(workdir, donor=donor)
    shutil.rmtree(donor.root)
    assert (workdir.encoder / "saved_model.pb").read_bytes() == b"weights"


def clustered(path, *overrides):
    task = {"kind": "advcl", "pseudo_labels": path}
    values = {**VALUES, "encoder": {**VALUES["encoder"], "branches": ["clean", "adversarial", "pseudo"]}}
    return make_recipe({**values, "pretrain": {**VALUES["pretrain"], "task": task}}, overrides)


def begun(root, files):
    workdir = Workdir(root)
    workdir.stage("pretrain").mkdir(parents=True)
    workdir.taught_by("pretrain").write_text(json.dumps(files))
    return workdir


def test_a_pretraining_is_held_to_the_files_that_one_with_the_same_paths_began_with(tmp_path):
    clusters, again = {"pseudo_labels": "1f"}, Workdir(tmp_path / "again")
    elsewhere = begun(tmp_path / "other", {"pseudo_labels": "77"})
    same = begun(tmp_path / "same", clusters)
    others = [(make_recipe(VALUES), Workdir(tmp_path / "none")), (clustered("b.npz"), elsewhere)]
    learn_from_the_same(clustered("a.npz", "seed=1"), again, others=others)
    assert not again.root.exists()
    learn_from_the_same(clustered("a.npz", "seed=1"), again, others=[*others, (clustered("a.npz"), same)])
    assert json.loads(again.taught_by("pretrain").read_text()) == clusters


def test_what_has_begun_and_what_learns_from_images_alone_is_left_as_it_is(tmp_path):
    one, other = begun(tmp_path / "one", {"pseudo_labels": "1f"}), begun(tmp_path / "other", {"pseudo_labels": "77"})
    learn_from_the_same(clustered("a.npz"), one, others=[(clustered("a.npz"), other)])
    assert json.loads(one.taught_by("pretrain").read_text()) == {"pseudo_labels": "1f"}
    alone = Workdir(tmp_path / "alone")
    learn_from_the_same(make_recipe(VALUES), alone, others=[(clustered("a.npz"), other), (make_recipe(VALUES), one)])
    assert not alone.root.exists()
