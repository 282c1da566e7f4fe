"""The time that a grid still takes, by hand-worked sums."""

from __future__ import annotations

import pytest

from advss_tf.config import make_recipe
from advss_tf.grid.forecast import seconds_left, stage_seconds
from advss_tf.workdir import Workdir, write_json

SGD = {"kind": "sgd", "learning_rate": 0.1}
VALUES = {
    "name": "base",
    "seed": 0,
    "data": {"kind": "digits"},
    "encoder": {"kind": "resnet20", "width": 4},
    "pretrain": {"task": {"kind": "rotation"}, "attack": {"epsilon": 0.1}, "epochs": 1, "optimizer": SGD},
    "finetune": {
        "start": "pretrained", "train": "full", "how": "trades", "attack": {"epsilon": 0.2}, "epochs": 1,
        "optimizer": SGD,
    },
}  # fmt: skip
STAGES = ("pretrain", "finetune")


@pytest.fixture
def run(tmp_path):
    """Makes a run with some finished stages, `run("a", "seed=1", pretrain=3.0)`."""

    def making(name, *overrides, shared=False, **seconds):
        workdir = Workdir(tmp_path / name)
        for stage, value in seconds.items():
            extra = {"shared_from": "../a"} if shared and stage == "pretrain" else {}
            write_json(workdir.done(stage), {"seconds": value, **extra})
        return make_recipe(VALUES, overrides), workdir

    return making


def stages_of(recipe):
    return [stage for stage in STAGES if getattr(recipe, stage) is not None]


def left(*runs):
    found = seconds_left(runs, stages_of=stages_of)
    assert found.whole
    return found.seconds


def test_nothing_is_left_where_all_is_finished(run):
    assert left(run("a", pretrain=3.0, finetune=5.0)) == 0


def test_a_stage_takes_the_mean_of_the_finished_ones_of_its_kind(run):
    runs = [run("a", pretrain=2.0, finetune=5.0), run("b", "seed=1", pretrain=4.0, finetune=7.0), run("c", "seed=2")]
    assert left(*runs) == 3.0 + 6.0


def test_kinds_are_told_apart_and_what_is_not_known_takes_the_mean_of_its_stage(run):
    slow = "finetune.epochs=9"
    runs = [run("a", pretrain=2.0, finetune=5.0), run("b", slow, shared=True, pretrain=2.0, finetune=15.0)]
    assert left(*runs, run("c", "seed=1", slow)) == 2.0 + 15.0
    assert left(*runs, run("c", "seed=1", "finetune.epochs=4")) == 2.0 + 10.0


def test_a_pretraining_that_is_shared_is_due_once_and_one_that_is_there_not_at_all(run):
    known = run("a", pretrain=2.0, finetune=5.0)
    assert left(known, run("b", "seed=1"), run("c", "seed=1", "finetune.train=partial")) == 2.0 + 5.0 + 5.0
    assert left(known, run("b", "finetune.train=partial")) == 5.0


def test_what_was_taken_over_is_no_second_measurement(run):
    runs = [run("a", pretrain=2.0, finetune=5.0), run("b", "seed=1", pretrain=4.0, finetune=5.0)]
    shared = run("c", "finetune.train=partial", shared=True, pretrain=2.0, finetune=5.0)
    assert left(*runs, shared, run("d", "seed=2")) == 3.0 + 5.0


def test_a_classifier_takes_as_long_wherever_it_starts_from(run):
    scratch = ("pretrain=null", "finetune.start=scratch")
    assert left(run("a", pretrain=2.0, finetune=5.0), run("b", *scratch)) == 5.0


def test_before_anything_is_finished_nothing_is_known(run):
    assert seconds_left([run("a")], stages_of=stages_of) == (0.0, False)


def test_what_is_known_of_some_stages_is_the_least_that_is_left(run):
    runs = [run("a", pretrain=2.0), run("b", "seed=1")]
    assert seconds_left(runs, stages_of=stages_of) == (2.0, False)


def test_runs_that_are_not_due_tell_how_long_one_takes_and_what_is_made(run):
    others = [run("a", pretrain=2.0, finetune=5.0), run("b", "seed=1")]
    due = [run("c", "seed=2"), run("d", "finetune.train=partial")]
    # One pretraining, that of c, and two finetunings: b is not due, and a has made what d starts from.
    assert seconds_left(due, evidence=[*others, *due], stages_of=stages_of) == (2.0 + 5.0 + 5.0, True)


def test_a_stage_that_was_gone_on_with_is_no_evidence(run):
    recipe, workdir = run("a", finetune=5.0)
    write_json(workdir.done("pretrain"), {"seconds": 1.0, "resumed": True})
    assert stage_seconds(workdir, "pretrain") is None and stage_seconds(workdir, "finetune") == 5.0
    found = seconds_left([(recipe, workdir), run("b", "seed=1", pretrain=4.0), run("c", "seed=2")], stages_of=stages_of)
    assert found == (4.0 + 5.0 + 5.0, True)


def test_epochs_that_took_longer_than_the_stage_were_partly_run_before_a_kill(run):
    _, workdir = run("a", finetune=5.0)
    history = workdir.stage("finetune") / "history.jsonl"
    history.write_text('{"epoch": 1, "seconds": 2.0}\n{"epoch": 2, "seconds": 2.9}\n')
    assert stage_seconds(workdir, "finetune") == 5.0
    history.write_text('{"epoch": 1, "seconds": 3.0}\n{"epoch": 2, "seconds": 2.9}\n')
    assert stage_seconds(workdir, "finetune") is None and stage_seconds(workdir, "pretrain") is None


def test_what_cannot_be_read_is_no_evidence_and_stops_nothing(run):
    recipe, workdir = run("a", pretrain=2.0, finetune=5.0)
    other = run("b", "seed=1", pretrain=4.0, finetune=7.0)
    workdir.done("finetune").write_text("{")
    (other[1].stage("pretrain") / "history.jsonl").write_text("{")
    # A third takes 2 s as the first does, and 7 s as the second; both are finished, as far as time is asked for.
    assert left((recipe, workdir), other, run("c", "seed=2")) == 2.0 + 7.0
    assert stage_seconds(other[1], "pretrain") is None


def test_seconds_that_are_no_number_are_none(run):
    _, workdir = run("a", pretrain="long")
    assert stage_seconds(workdir, "pretrain") is None
