"""The story from a user's seat: one command from a recipe to a report, told again, changed, broken and used."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.cli import evaluating, reporting, training
from advss_tf.cli.starting import refusing
from advss_tf.data.corruptions import CORRUPTIONS
from advss_tf.evaluation import DistortionRecord, Record, load_record
from advss_tf.evaluation.records.header import Header

RECIPE = """
name: story
seed: 1
data: {kind: digits, labels_per_class: 8, crop_padding: 1}
encoder: {kind: wide_resnet, depth: 10, width: 1}
pretrain:
  task: {kind: rotation}
  attack: {norm: linf, epsilon: 0.1, num_steps: 1}
  epochs: 1
  batch_size: 128
  optimizer: {kind: sgd, learning_rate: 0.05}
finetune:
  start: pretrained
  train: full
  how: trades
  attack: {norm: linf, epsilon: 0.1, num_steps: 1}
  epochs: 2
  batch_size: 40
  optimizer: {kind: adamw, learning_rate: 0.01}
evaluate:
  epsilons: [0.05, 0.1]
  num_steps: [2]
  limit: 20
  unseen: {norm: l2, epsilons: [0.5]}
  corruptions: {severities: [1, 5]}
export: {verify: false}
"""


def command(module, *args):
    """Runs a command in this process, as its entry point does; gives its exit code."""
    return refusing(module.main, module.flags().parse_args([str(arg) for arg in args]))


def train(*args):
    return command(training, *args)


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    folder = tmp_path_factory.mktemp("story")
    recipe, workdir = folder / "story.yaml", folder / "run"
    recipe.write_text(RECIPE)
    assert train("--config", recipe, "--workdir", workdir) == 0
    return recipe, workdir


def test_a_run_leaves_everything_that_its_layout_promises(story):
    _, workdir = story
    for name in (
        "recipe.yaml", "data.json", "run.log",
        "pretrain/encoder/saved_model.pb", "pretrain/history.jsonl", "pretrain/tensorboard",
        "finetune/classifier.keras", "finetune/best.json", "evaluate/record.json", "evaluate/record.examples.npz",
        "evaluate/record.l2.json", "evaluate/record.corruptions.json",
        "export/classifier/1/saved_model.pb", "report/index.html", "report/report.md",
    ):  # fmt: skip
        assert (workdir / name).exists(), name
    assert not list(workdir.rglob(".*")), "nothing half-written is left"


def test_what_guessing_reaches_is_said_when_a_puzzle_begins_and_after_each_of_its_epochs(story):
    log = (story[1] / "run.log").read_text()
    assert "pretrain: rotation, chance 25 %, 1 epochs" in log and "finetune: classifier, 2 epochs" in log
    (epoch,) = re.findall(r"pretrain 1/1: .*", log)
    for name in ("accuracy", "robust_accuracy", "val_accuracy", "val_robust_accuracy"):
        assert re.search(rf"[:,] {name} \d+\.\d % \(chance 25\.0 %\)", epoch), (name, epoch)
    assert all("chance" not in line for line in re.findall(r"finetune \d/2: .*", log))


def test_the_second_time_nothing_is_run_again(story, capsys):
    recipe, workdir = story
    before = (workdir / "finetune" / "classifier.keras").stat().st_mtime_ns
    assert train("--config", recipe, "--workdir", workdir) == 0
    said = capsys.readouterr().out
    assert said.count("finished before") == 5 and "Accuracy of story wide_resnet on digits test" in said
    assert (workdir / "finetune" / "classifier.keras").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("change", "difference"),
    [("finetune.epochs=3", "finetune.epochs: 2 -> 3"), ("pretrain.flip=true", "pretrain.flip: null -> true")],
)
def test_a_changed_recipe_in_an_old_folder_is_refused_with_the_difference(change, difference, story, capsys):
    recipe, workdir = story
    assert train("--config", recipe, "--workdir", workdir, "--set", change) == 2
    assert difference in capsys.readouterr().err


def test_the_record_counts_exactly(story):
    record = json.loads((story[1] / "evaluate" / "record.json").read_text())
    assert record["num_images"] == 20
    assert record["dataset"] == "digits" and record["split"] == "test"


@pytest.mark.slow
def test_any_saved_model_is_evaluated(story, tmp_path, capsys):
    accuracies = []
    for number, model in enumerate(("finetune/classifier.keras", "export/classifier/1")):
        out = tmp_path / f"record{number}.json"
        flags = ("--data", "digits", "--suite", "quick", "--epsilons", "0.1", "--limit", 60, "--seed", 1, "--out", out)
        assert command(evaluating, story[1] / model, *flags) == 0
        accuracies.append(json.loads(out.read_text())["clean_acc"])
    assert accuracies[0] == pytest.approx(accuracies[1], abs=0.02)
    assert command(reporting, tmp_path, "--out", tmp_path / "report") == 0
    assert (tmp_path / "report" / "index.html").stat().st_size > 10_000
    assert "Report:" in capsys.readouterr().out


def test_further_records_are_of_what_the_recipe_asked_for(story):
    balls, harmed = (load_record(story[1] / "evaluate" / f"record.{which}.json") for which in ("l2", "corruptions"))
    assert (balls.threat, balls.eps, balls.training_threat, balls.training_eps) == ("L2", 0.5, "Linf", 0.1)
    assert harmed.kinds == CORRUPTIONS and harmed.levels == (1, 5)
    assert {record.num_images for record in (balls, harmed)} == {20} and balls.clean_acc == harmed.clean_acc
    page = (story[1] / "report" / "index.html").read_text()
    assert "gaussian" in page and "L2" in page


@pytest.mark.slow
def test_attacks_that_no_training_foresees_are_a_record_of_their_own(tmp_path):
    further = "  unseen: {norm: l2, epsilons: [0.5]}\n  corruptions: {severities: [1, 5]}\n"
    assert further in RECIPE
    (tmp_path / "odd.yaml").write_text(RECIPE.replace(further, "  unforeseen: [fog]\n"))
    assert train("--config", tmp_path / "odd.yaml", "--workdir", tmp_path / "run") == 0
    record = load_record(tmp_path / "run" / "evaluate" / "record.unforeseen.json")
    assert record.kinds == ("fog",) and record.threat == "unforeseen" and record.num_images == 20


@pytest.mark.slow
def test_corruptions_and_transfer_are_suites_and_flags(story, tmp_path):
    model, served = story[1] / "finetune/classifier.keras", story[1] / "export/classifier/1"
    flags = ("--data", "digits", "--limit", 20)
    first, second, third = (tmp_path / name for name in ("record.a.json", "record.b.json", "record.c.json"))
    images = keras.Input((8, 8, 1))
    linear = keras.Model(images, keras.layers.Dense(10)(keras.layers.Flatten()(images)))
    linear.save(tmp_path / "linear.keras")
    run = (evaluating, tmp_path / "linear.keras", *flags, "--suite", "corruptions")
    assert command(*run, "--out", first) == 0
    assert command(*run, "--baseline", first, "--out", second) == 0
    assert load_record(second).mce == pytest.approx(1.0) and load_record(first).mce is None
    attacked = tmp_path / "attacked"
    run = (evaluating, model, *flags)
    assert command(*run, "--epsilons", "0.1", "--source", served, "--save_attacked", attacked, "--out", third) == 0
    assert load_record(third).source and (attacked / "batch-000000.npz").is_file()


def test_a_report_takes_records_of_both_kinds_and_each_file_once(story, tmp_path, capsys):
    record = Record.load(story[1] / "evaluate" / "record.json")
    clean = record.result("clean")
    found = {"threat": "corruptions", "corruptions_acc": clean.accuracy}
    rows = (clean, clean.model_copy(update={"attack": "fog", "level": 1}))
    header = {name: getattr(record, name) for name in Header.model_fields}
    DistortionRecord(**header | found | {"results": rows}).save(tmp_path / "record.corruptions.json")
    record.save(tmp_path / "record.json")
    args = (tmp_path, tmp_path / "record.json", "--out", tmp_path / "report")
    assert command(reporting, *args) == 0
    text = (tmp_path / "report" / "report.md").read_text()
    assert "One model on digits" in text and "under corruptions (1 type × 1 severity)" in text
    assert "| fog |" in text


def test_a_set_that_is_a_test_split_alone_is_evaluated(cifar10_c, tmp_path):
    images = keras.Input((32, 32, 3))
    keras.Model(images, keras.layers.Dense(10)(keras.layers.Flatten()(images))).save(tmp_path / "net.keras")
    flags = ("--data", "cifar10_corrupted/fog_3", "--data_dir", cifar10_c[0], "--split")
    out = tmp_path / "record.json"
    assert command(evaluating, tmp_path / "net.keras", *flags, "test", "--out", out) == 0
    record = json.loads(out.read_text())
    assert (record["dataset"], record["split"], record["num_images"]) == ("cifar10_corrupted/fog_3", "test", 12)
    assert command(evaluating, tmp_path / "net.keras", *flags, "held_out", "--out", out) == 2


def test_the_handed_over_encoder_needs_no_advss_tf(story):
    images = np.random.default_rng(0).random((3, 8, 8, 1), dtype=np.float32)
    layer = keras.layers.TFSMLayer(story[1] / "pretrain" / "encoder", call_endpoint="serving_default")
    plain = tf.saved_model.load(str(story[1] / "pretrain" / "encoder"))
    np.testing.assert_allclose(layer(images)["features"], plain(tf.constant(images)), atol=1e-6)


def test_a_stage_that_lacks_what_it_starts_from_says_so(story, tmp_path, capsys):
    assert train("--config", story[0], "--workdir", tmp_path / "empty", "--stages", "finetune") == 2
    assert "A stage needs what `pretrain` makes" in capsys.readouterr().err


def test_a_run_that_is_refused_before_it_has_learned_anything_leaves_its_folder_to_a_better_one(
    story, tmp_path, capsys
):
    task = f"{{kind: deacl, teacher: {story[1]}/pretrain/encoder}}"
    for width in (2, 3):
        changes = ("--set", f"encoder.width={width}", "--set", f"pretrain.task={task}")
        assert train("--config", story[0], "--workdir", tmp_path / "run", *changes) == 2
        assert "Teacher and student do not take and give the same shapes" in capsys.readouterr().err
        assert [path.name for path in (tmp_path / "run").rglob("*")] == ["run.log"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--workdir", "x"), "`--config` is missing"),
        (("--config", "no.yaml", "--workdir", "x"), "no.yaml"),
        (("--config", "{recipe}", "--workdir", "x", "--set", "pretrain.epoch=3"), "did you mean 'epochs'"),
        (("--config", "{recipe}", "--workdir", "x", "--set", "pretrain.attack.epsilon=-1"), "pretrain.attack.epsilon"),
        (("--config", "{recipe}", "--workdir", "x", "--stages", "train"), "`stages` is not known"),
        (("--config", "{recipe}", "--workdir", "{recipe}/x"), "Not a directory"),
        (("--config", "{recipe}", "--workdir", "x", "--set", "data.labels_per_class=175"), "labels_per_class"),
        (("--config", "{recipe}", "--workdir", "x", "--set", "evaluate.unseen.norm=linf"), "evaluated anyway"),
    ],
)
def test_mistakes_are_answered_in_words_and_leave_nothing(args, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    assert train(*(arg.format(recipe=recipe) for arg in args)) == 2
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recipe.yaml"]


def test_a_model_that_cannot_be_read_is_refused(tmp_path, capsys):
    (tmp_path / "model.keras").write_text("no model")
    args = (tmp_path / "model.keras", "--data", "digits", "--out", tmp_path / "record.json")
    assert command(evaluating, *args) == 2
    assert "model.keras" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--suite", "corruption"), "`suite` is not known (did you mean 'corruptions'?)"),
        (("--suite", "quick", "--published"), "`--published` means nothing to this suite"),
        (("--suite", "corruptions", "--source", "other.keras"), "`--source` means nothing to this suite"),
        (("--suite", "unforeseen", "--baseline", "r.json"), "Expected: --suite=corruptions, or no --baseline"),
        (("--suite", "corruptions", "--epsilons", "8/255"), "`--epsilons` means nothing to this suite"),
        (("--suite", "unforeseen", "--norm", "linf"), "`--norm` means nothing to this suite"),
        (("--suite", "corruptions", "--num_restarts", "1"), "`--num_restarts` means nothing to this suite"),
        (("--suite", "standard", "--autoattack", "rand"), "Expected: --suite=full, or no --autoattack"),
    ],
)
def test_flags_that_a_suite_does_not_heed_are_refused_before_the_model_is_read(flags, words, tmp_path, capsys):
    args = (tmp_path / "missing.keras", "--data", "digits", *flags, "--out", tmp_path / "record.json")
    assert command(evaluating, *args) == 2
    assert words in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_help_and_mistakes_do_not_wait_for_tensorflow(tmp_path):
    (tmp_path / "bad.yaml").write_text(RECIPE.replace("epochs: 1", "epochs: 0"))
    for args in (["--help"], ["--config", str(tmp_path / "bad.yaml"), "--workdir", "x"]):
        code = (
            "import sys, advss_tf.cli as cli\n"
            f"sys.argv = ['advss-train', *{args!r}]\n"
            "try:\n    cli.train()\n"
            "except SystemExit:\n    pass\n"
            "sys.exit('tensorflow' in sys.modules)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "usage: advss-train" in done.stdout or "pretrain.epochs" in done.stderr


def test_the_schema_for_editors_is_written(tmp_path):
    assert train("--schema", tmp_path / "schema.json") == 0
    assert "pretrain" in json.loads(Path(tmp_path / "schema.json").read_text())["properties"]
