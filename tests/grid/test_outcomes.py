"""What the folder of a cell says: finished or not, this recipe's or another's, and the numbers in it."""

from __future__ import annotations

import json

import pytest

from advss_tf.config import GridCell, dump_recipe, make_recipe
from advss_tf.grid.outcomes import error_file, finished, other_recipe, outcome_of, reason, unreadable
from advss_tf.workdir import Workdir, write_json

SGD = {"kind": "sgd", "learning_rate": 0.1}
VALUES = {
    "name": "base",
    "seed": 0,
    "data": {"kind": "digits"},
    "encoder": {"kind": "resnet20", "width": 4},
    "finetune": {
        "start": "scratch", "train": "full", "how": "adversarial", "attack": {"epsilon": 0.2}, "epochs": 1,
        "optimizer": SGD,
    },
    "export": {"classifier": False},
}  # fmt: skip
CLEAN = ["finetune.how=standard", "finetune.attack=null"]


def cell(*changes):
    return GridCell("a", {"x": "1"}, "a", make_recipe(VALUES, changes))


@pytest.fixture
def workdir(tmp_path):
    return Workdir(tmp_path / "a")


def hold(workdir, *changes):
    workdir.root.mkdir(exist_ok=True)
    workdir.recipe.write_text(dump_recipe(make_recipe(VALUES, changes)))


def test_a_cell_is_finished_when_its_last_stage_is(workdir):
    write_json(workdir.done("finetune"), {"seconds": 1.0})
    assert not finished(cell(), workdir)
    write_json(workdir.done("evaluate"), {"seconds": 1.0})
    assert finished(cell(), workdir) and not finished(cell("export.classifier=true"), workdir)


def test_a_folder_is_the_cell_s_if_it_is_empty_or_its_recipe_does_the_same(workdir):
    assert other_recipe(cell(), workdir) is None
    hold(workdir)
    assert other_recipe(cell(), workdir) is None
    hold(workdir, "finetune.beta=2")  # idle without TRADES
    assert other_recipe(cell(), workdir) is None


def test_a_folder_of_another_recipe_says_what_differs(workdir):
    hold(workdir, "finetune.epochs=3", "seed=4")
    words = other_recipe(cell(), workdir)
    assert words.endswith("holds the run of another recipe: seed: 4 -> 0; finetune.epochs: 3 -> 1")
    workdir.recipe.write_text("name: x\nsead: 3\n")
    words = other_recipe(cell(), workdir)
    assert "is no recipe" in words and "sead" in words and "\n" not in words
    assert words.endswith(f"Without the folder {workdir.root} the next call runs the cell anew.")
    workdir.root.rename(workdir.root.with_name("aside"))
    assert other_recipe(cell(), workdir) is None


def test_nothing_of_another_recipe_s_run_is_taken_over(workdir):
    write_json(workdir.done("finetune"), {"seconds": 1.0})
    found = outcome_of(cell(), workdir, foreign="holds another")
    assert (found.status, found.error, found.finetune_seconds) == ("failed", "holds another", None)


def test_what_an_error_says_last_is_the_reason(workdir):
    assert reason(workdir) is None
    workdir.root.mkdir()
    error_file(workdir).write_text("Traceback\n  line\nOSError: full\n")
    assert reason(workdir) == "OSError: full" == outcome_of(cell(), workdir).error


@pytest.mark.parametrize(
    ("changes", "picked_by", "eps"),
    [
        ([], "robust_accuracy", 0.2),
        (["finetune.select=accuracy"], "accuracy", 0.2),
        (CLEAN, "accuracy", None),
        ([*CLEAN, "finetune.eval_attack.epsilon=0.3"], "robust_accuracy", 0.3),
        ([*CLEAN, "finetune.eval_attack.epsilon=0.3", "finetune.select=accuracy"], "accuracy", 0.3),
        (["evaluate.norm=l2"], "robust_accuracy", None),
    ],
)
def test_the_recipe_says_what_a_run_is_picked_by_and_which_epsilon_it_trains_at(workdir, changes, picked_by, eps):
    found = outcome_of(cell(*changes), workdir)
    assert (found.picked_by, found.trained_eps, found.status) == (picked_by, eps, "not run")


def test_a_stage_that_was_gone_on_with_has_no_seconds(workdir):
    write_json(workdir.done("finetune"), {"seconds": 1.0, "resumed": True})
    assert outcome_of(cell(), workdir).finetune_seconds is None
    write_json(workdir.done("finetune"), {"seconds": 1.0})
    assert outcome_of(cell(), workdir).finetune_seconds == 1.0


@pytest.fixture
def whole(workdir, record):
    """A cell's folder with all that its stages leave."""
    record("a").save(workdir.record)
    for stage in ("pretrain", "finetune", "evaluate"):
        write_json(workdir.done(stage), {"seconds": 3.0})
        (workdir.stage(stage) / "history.jsonl").write_text('{"epoch": 1, "seconds": 1.0}\n')
    return workdir


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def of_another_version(path):
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 2}))


@pytest.mark.parametrize(
    ("file", "damage", "remedy"),
    [
        ("evaluate/record.json", cut, ("evaluate/record.json", "evaluate/done.json")),
        ("evaluate/record.json", of_another_version, ("evaluate/record.json", "evaluate/done.json")),
        ("evaluate/record.json", lambda path: path.unlink(), ("evaluate/done.json",)),
        ("finetune/history.jsonl", cut, ("finetune/history.jsonl",)),
        ("pretrain/done.json", cut, ("pretrain/done.json",)),
        ("finetune/done.json", cut, ("finetune/done.json",)),
        ("evaluate/done.json", cut, ("evaluate/done.json",)),
    ],
)
def test_a_file_that_cannot_be_read_fails_the_cell_in_a_line_with_the_remedy(file, damage, remedy, whole):
    found = outcome_of(cell(), whole)
    assert found.status == "finished" and unreadable(cell(), whole) is None
    damage(whole.root / file)
    words = unreadable(cell(), whole)
    found = outcome_of(cell(), whole)
    assert (found.status, found.error, found.record) == ("failed", words, None)
    assert words.startswith(str(whole.root / file)) and "ithout" in words and "\n" not in words
    for name in remedy:
        (whole.root / name).unlink()
    assert unreadable(cell(), whole) is None and outcome_of(cell(), whole).status != "failed"


def test_a_pretraining_whose_epochs_cannot_be_read_has_no_seconds_and_fails_nothing(whole):
    cut(whole.stage("pretrain") / "history.jsonl")
    found = outcome_of(cell(), whole)
    assert (found.status, found.pretrain_seconds, found.finetune_seconds) == ("finished", None, 3.0)


def test_an_error_of_bytes_that_are_no_text_is_read_as_far_as_it_goes(workdir):
    workdir.root.mkdir()
    error_file(workdir).write_bytes(b"OSError: \xff full")
    assert reason(workdir).startswith("OSError: ") and reason(workdir).endswith(" full")
