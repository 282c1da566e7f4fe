"""The benchmark's command runs, what it compares is the same step, and its ratios are what they say they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def benchmarks_importable(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))


def test_contestants_take_turns_and_every_other_round_is_in_the_opposite_order():
    from benchmarks.pairs import Seconds, alternate

    order = []

    def contestant(name):
        return lambda: order.append(name) or Seconds(1.0, 1.0)

    alternate({"a": contestant("a"), "b": contestant("b")}, rounds=3)
    assert "".join(order) == "abbaab"


def test_a_pair_that_spreads_is_measured_longer_and_a_settled_one_is_not():
    from benchmarks.pairs import Seconds, alternate

    noisy = iter([1.0, 9.0] * 10)
    contestants = {"noisy": lambda: Seconds(next(noisy), 1.0), "even": lambda: Seconds(1.0, 1.0)}
    assert len(alternate(contestants, rounds=2, most=6)["even"]) == 6
    assert len(alternate({"one": contestants["even"], "even": contestants["even"]}, rounds=2, most=6)["even"]) == 2


def test_the_ratio_is_the_median_of_the_rounds_ratios_not_the_ratio_of_the_medians():
    from benchmarks.pairs import Seconds, compare

    first = [Seconds(wall, 2.0) for wall in (1.0, 10.0, 12.0)]
    second = [Seconds(wall, 1.0) for wall in (2.0, 10.0, 4.0)]
    found = compare(first, second)
    assert (found.first, found.second, found.ratio, found.cpu_ratio) == (10.0, 4.0, 1.0, 2.0)
    assert (found.low, found.high, found.rounds) == (0.75, 2.0, 3)


def test_ours_and_plain_make_the_same_step_from_the_same_start():
    from benchmarks.contestants import NETWORKS, ours, plain

    network = NETWORKS["tiny"]._replace(width=4, batch=8)
    models = [make(network, num_steps=2, random_start=False) for make in (ours, plain)]
    before = [weight.numpy() for weight in models[0].trainable_variables]
    # Not traced: twice the tracing takes longer than these few passes.
    losses = [float(model.train_step(network.data())["loss"]) for model in models]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    moved = 0.0
    for one, other, start in zip(*(model.trainable_variables for model in models), before, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=2e-3)
        moved = max(moved, float(np.abs(one.numpy() - start).max()))
    assert moved > 1e-3


@pytest.mark.slow
def test_the_views_have_a_rate_and_a_row_each():
    from benchmarks import view_rows
    from benchmarks.turns import Settings

    rows = list(view_rows.views(Settings(networks=("tiny",), rounds=1)))
    assert [row.first for row in rows] == ["weak", "strong pair", "high-frequency", "AdvCL's four"]
    for row in rows:
        assert row.found["images_per_second"] == pytest.approx(512 * 4 / row.times[row.first][0].wall)
        assert row.note.endswith("of the processor's own time")
    assert rows[0].comparison.ratio == 1.0 < rows[-1].comparison.ratio, "four views take longer than one of them"


@pytest.mark.slow
def test_advcl_takes_less_time_with_its_clean_views_forwarded_once_and_has_the_same_gradient():
    from benchmarks.pretext_rows import advcl_cache
    from benchmarks.turns import Settings

    training, inference = advcl_cache(Settings(networks=("tiny",), num_steps=2, rounds=2))
    assert training.first == "clean views once, training" and inference.second == "at every step"
    for row in (training, inference):
        assert row.comparison.rounds >= 2 and row.comparison.ratio > 0
        assert float(row.note.split()[3]) < 1e-3, row.note


@pytest.mark.slow
def test_the_command_prints_a_table_and_writes_facts_and_every_time(tmp_path, capsys):
    from benchmarks.step import main

    arguments = ["--rows", "floor", "bfloat16", "torch", "--networks", "tiny", "--rounds", "2", "--num-steps", "1"]
    path = main([*arguments, "--out", str(tmp_path)])
    written = json.loads(path.read_text(encoding="utf-8"))
    floor, bfloat16, torch = written["rows"]
    assert written["machine"]["cores"] >= 1
    assert floor["comparison"]["ratio"] > 0
    assert {len(times) for times in floor["times"].values()} == {2}
    if not written["machine"]["bfloat16"]:
        assert bfloat16["note"] == "this CPU has no bfloat16 instructions"
    assert torch["comparison"] is None
    assert "Time of the training step" in capsys.readouterr().out
