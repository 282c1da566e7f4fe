"""What the results of a grid leave in its folder, and that it holds the numbers of the runs."""

from __future__ import annotations

import csv
import json

import pytest

from advss_tf.evaluation import Record, Result
from advss_tf.evaluation.report.grid_report import write_grid
from advss_tf.evaluation.report.grid_table import Outcome

AXES = ["pretraining", "finetuning"]


def record(right, *, epsilons=(0.1, 0.2)):
    def row(attack, right, **more):
        return Result.from_counts(attack, right, 100, class_correct=(right, 0), **more)

    balls = [row(attack, right, threat="Linf", eps=eps) for eps in epsilons for attack in ("pgd-20", "worst")]
    return Record(
        name="p3-f4", threat="Linf", eps=0.1, clean_acc=0.8, robust_acc=right / 100, suite="quick",
        results=(row("clean", 80), *balls), seed=0, batch_size=10, num_images=100, num_images_available=100,
        image_shape=(8, 8, 1), num_classes=2, class_names=("a", "b"), class_totals=(50, 50), images_fingerprint="f",
        output="logits", versions={}, device="cpu", date="2020-01-01", seconds=1.0, forward_passes=1.0,
        backward_passes=1.0,
    )  # fmt: skip


def fresh(seed, **more):
    place = {"pretraining": "P1", "finetuning": "F4", "seed": str(seed)}
    return Outcome(f"P1-F4-seed{seed}", place, "P1-F4", **more)


def run(seed, **more):
    place = {"pretraining": "P3", "finetuning": "F4", "seed": str(seed)}
    return Outcome(f"P3-F4-seed{seed}", place, "P3-F4", **more)


LINES = ({"epoch": 1, "val_robust_accuracy": 0.3}, {"epoch": 2, "val_robust_accuracy": 0.4})
OUTCOMES = [
    run(0, record=record(40), history=LINES, pretrain_seconds=8.0, finetune_seconds=12.0),
    run(1, record=record(50), history=LINES, pretrain_seconds=8.0, finetune_seconds=12.0, shared_from="../P3-F3-seed1"),
    run(2, error="ValueError: <b>|pipe|"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grid")
    assert write_grid(OUTCOMES, folder, axes=AXES, title="tiny") == folder / "grid.md"
    return folder


def test_the_folder_holds_the_table_the_numbers_the_figures_and_the_page(folder):
    names = sorted(path.relative_to(folder).as_posix() for path in folder.iterdir())
    assert names == ["figures", "grid.csv", "grid.json", "grid.md", "report"]
    assert sorted(path.name for path in (folder / "figures").iterdir()) == [
        "accuracy-epsilon-F4.svg", "clean-robust.svg", "robust-epochs-F4.svg",
    ]  # fmt: skip
    assert (folder / "report" / "index.html").is_file()


def test_the_page_says_what_the_table_holds_what_failed_and_shows_the_figures(folder):
    text = (folder / "grid.md").read_text()
    assert text.startswith("# tiny\n") and "2 of 3 runs are finished" in text
    # 40 and 50 %: mean 45, half width 12.7062 · 7.0711 / √2 = 63.5.
    assert "| P3 | F4 | 2 of 3, 1 failed | 80.0 ± 0.0 % | **45.0 ± 63.5 %** | 2 ± 0.0 | 8 ± 0 s | 12 ± 0 s |" in text
    assert "P3-F4-seed2: ValueError: \\<b\\>\\|pipe\\|" in text
    for name in ("clean-robust", "robust-epochs-F4", "accuracy-epsilon-F4"):
        assert f'src="figures/{name}.svg"' in text


def test_programs_read_every_run_from_csv_and_means_from_json(folder):
    with (folder / "grid.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["finished", "finished", "failed"]
    assert float(rows[1]["worst at 0.1"]) == 0.5 and rows[2]["worst at 0.1"] == ""
    assert rows[1]["shared_from"] == "../P3-F3-seed1" and rows[2]["error"] == "ValueError: <b>|pipe|"
    found = json.loads((folder / "grid.json").read_text())
    (group,) = found["groups"]
    assert found["axes"] == AXES and group["numbers"]["worst at 0.1"]["mean"] == pytest.approx(0.45)
    assert len(found["runs"]) == 3


def test_without_pictures_the_table_is_written_alone(tmp_path):
    write_grid(OUTCOMES, tmp_path, axes=AXES, title="tiny", pictures=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grid.csv", "grid.json", "grid.md"]
    assert "figures" not in (tmp_path / "grid.md").read_text()


def test_before_the_first_run_there_is_an_empty_table_and_no_page(tmp_path):
    write_grid([run(0)], tmp_path, axes=AXES, title="tiny")
    assert (
        "0 of 1 runs are finished. Accuracies are of test images, under attack; means"
        in (tmp_path / "grid.md").read_text()
    )
    assert not (tmp_path / "report").exists()


def test_figures_of_before_are_removed_and_others_kept(tmp_path):
    (tmp_path / "figures").mkdir()
    for name in ("robust-epochs-F1.svg", "mine.svg"):
        (tmp_path / "figures" / name).write_text("<svg/>")
    write_grid(OUTCOMES, tmp_path, axes=AXES, title="tiny")
    left = {path.name for path in (tmp_path / "figures").iterdir()}
    assert "mine.svg" in left and "robust-epochs-F1.svg" not in left


def test_differences_to_a_baseline_have_a_table_of_their_own_and_are_in_json(tmp_path):
    """40 less 36 and 50 less 44: 4 and 6 points, mean 5, half width 12.7062 · 1.4142 / √2 = 12.7."""
    base = [fresh(seed, record=record(right), history=LINES[:1]) for seed, right in ((0, 36), (1, 44))]
    runs = [run(s, record=record(right), history=LINES, baseline=f"P1-F4-seed{s}") for s, right in ((0, 40), (1, 50))]
    write_grid([*base, *runs], tmp_path, axes=AXES, title="tiny", pictures=False)
    text = (tmp_path / "grid.md").read_text()
    assert "## Differences to the baseline" in text and "run of the same seed" in text
    points = "+0.0 ± 0.0 | 0 of 2 | **+5.0 ± 12.7** | 2 of 2"
    assert f"| P3 | F4 | P1-F4 | 2 | {points} | 1, 2 of 2 | 1 |" in text
    first, second = json.loads((tmp_path / "grid.json").read_text())["groups"]
    assert "differences" not in first
    found = second["differences"]
    assert found["baseline"] == "P1-F4" and found["ball"] == "Linf 0.1"
    assert found["robust"]["values"] == pytest.approx([0.04, 0.06]) and found["robust"]["positive"] == 2
    assert found["epochs_to_baseline_best"]["mean"] == 1 and found["epochs_to_baseline_best"]["of"] == 2
    write_grid(OUTCOMES, tmp_path, axes=AXES, title="tiny", pictures=False)
    assert "baseline" not in (tmp_path / "grid.md").read_text()
    assert "differences" not in (tmp_path / "grid.json").read_text()


def test_figures_of_two_norms_are_files_of_their_own_and_the_words_say_where_runs_are_judged(tmp_path):
    other = record(30).model_copy(update={"threat": "L2"})
    write_grid([run(0, record=record(40)), fresh(0, record=other)], tmp_path, axes=AXES, title="tiny")
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {"clean-robust-Linf.svg", "clean-robust-L2.svg", "accuracy-epsilon-F4_L2.svg"} <= names
    assert "under attack in several balls (at the epsilon of training where" in (tmp_path / "grid.md").read_text()
    write_grid(OUTCOMES, tmp_path, axes=AXES, title="tiny")
    assert "clean-robust-L2.svg" not in {path.name for path in (tmp_path / "figures").iterdir()}
