"""The figures of a grid: which panels there are, what stands in them, and where the points lie."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection

from advss_tf.evaluation import Record, Result
from advss_tf.evaluation.report import grid_figures, grid_scatter
from advss_tf.evaluation.report.grid_figures import accuracy_by_epsilon, robust_by_epoch
from advss_tf.evaluation.report.grid_scatter import clean_against_robust
from advss_tf.evaluation.report.grid_table import Outcome

AXES = ["task", "pretraining", "finetuning"]


def record(clean, robust, *, epsilons=(0.1,), training_eps=None, threat="Linf"):
    def row(attack, right, **more):
        return Result.from_counts(attack, right, 100, class_correct=(right, 0), **more)

    worst = [row("worst", robust - 10 * place, threat=threat, eps=eps) for place, eps in enumerate(epsilons)]
    attacked = [each.model_copy(update={"attack": "pgd-20"}) for each in worst]
    return Record(
        name="x", threat=threat, eps=epsilons[0], clean_acc=clean / 100, robust_acc=robust / 100, suite="quick",
        results=(row("clean", clean), *attacked, *worst), seed=0, batch_size=10, num_images=100,
        num_images_available=100, image_shape=(8, 8, 1), num_classes=2, class_names=("a", "b"), class_totals=(50, 50),
        images_fingerprint="f", output="logits", versions={}, device="cpu", date="2020-01-01", seconds=1.0,
        forward_passes=1.0, backward_passes=1.0, training_eps=training_eps,
        training_threat=threat if training_eps else None,
    )  # fmt: skip


def run(task, pretraining, finetuning, seed=0, *, best=2, clean=80, robust=50, **more):
    place = {"task": task, "pretraining": pretraining, "finetuning": finetuning, "seed": str(seed)}
    group = "-".join(filter(None, (task, pretraining, finetuning)))
    lines = tuple({"epoch": e, "val_robust_accuracy": 0.1 * e if e <= best else 0.05} for e in range(1, 5))
    return Outcome(f"{group}-{seed}", place, group, record=record(clean, robust, **more), history=lines)


OUTCOMES = [
    run(task, pretraining, finetuning, seed, best=1 + seed, clean=70 + 5 * seed)
    for task, pretraining in ((None, "P1"), ("rotation", "P3"), ("selfie", "P3"))
    for finetuning in ("F3", "F4")
    for seed in (0, 1)
]


def texts(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")]


def scatter(outcomes, axes=AXES):
    (panel,) = clean_against_robust(outcomes, axes=axes)
    assert panel.name == ""
    return panel.svg


@pytest.fixture
def drawn(monkeypatch):
    """The pairs of axes that were drawn on, by the order of drawing."""
    found, real = [], grid_figures.panel

    def panel(**options):
        figure, axes = real(**options)
        found.append(axes)
        return figure, axes

    for module in (grid_figures, grid_scatter):
        monkeypatch.setattr(module, "panel", panel)
    return found


def test_a_marker_stands_at_the_means_and_its_area_is_in_proportion_to_the_epochs(drawn):
    outcomes = [
        run(None, "P1", "F4", 0, best=4, clean=60, robust=20), run(None, "P1", "F4", 1, best=4, clean=70, robust=30),
        run("rotation", "P3", "F4", 0, best=1, clean=80, robust=50),
    ]  # fmt: skip
    scatter(outcomes)
    (axes,) = drawn
    first, second = (each for each in axes.collections if isinstance(each, PathCollection))
    np.testing.assert_allclose(first.get_offsets(), [[0.65, 0.25]])
    np.testing.assert_allclose(second.get_offsets(), [[0.8, 0.5]])
    assert first.get_sizes()[0] == pytest.approx(4 * second.get_sizes()[0])


def test_few_groups_are_drawn_with_their_intervals_and_many_without(drawn):
    """Clean 60 and 61 %: a half width of 12.706 · 0.5 points, as of two runs. Robust 20 and 30 %: cut off at 0."""
    pair = [run("rotation", "P3", "F4", seed, clean=60 + seed, robust=20 + 10 * seed) for seed in (0, 1)]
    single = run("selfie", "P3", "F4", clean=80, robust=50)
    assert "95 % t-interval" in texts(scatter([*pair, single]))
    sideways, upwards = (each.get_segments() for each in drawn[0].collections if isinstance(each, LineCollection))
    np.testing.assert_allclose(np.concatenate(sideways)[:, 0], [0.605 - 0.06353, 0.605 + 0.06353], atol=1e-4)
    np.testing.assert_allclose(np.concatenate(upwards)[:, 1], [0.0, 0.25 + 0.6353], atol=1e-4)
    assert "95 % t-interval" not in texts(scatter([single]))
    assert "95 % t-interval" not in texts(scatter(OUTCOMES))
    assert not any(isinstance(each, LineCollection) for axes in drawn[1:] for each in axes.collections)


@pytest.mark.parametrize(("robust", "ticks"), [(20, ["5 %", "25 %"]), (40, ["10 %", "50 %"]), (60, ["25 %", "100 %"])])
def test_the_scale_of_all_panels_holds_the_highest_curve(robust, ticks):
    outcomes = [run("rotation", "P3", "F3", clean=20, robust=15, epsilons=(0.1, 0.2))]
    outcomes += [run("rotation", "P3", "F4", clean=robust, robust=robust, epsilons=(0.1, 0.2))]
    panels = accuracy_by_epsilon(outcomes, axes=AXES)
    assert [panel.name for panel in panels] == ["F3", "F4"]
    for panel in panels:
        found = [text for text in texts(panel.svg) if text.endswith(" %")]
        assert found[0] == "0 %" and found[1] == ticks[0] and found[-1] == ticks[1]


def test_what_has_no_best_epoch_is_a_small_marker_and_the_legend_says_so(drawn):
    picked = replace(run("rotation", "P3", "F3", best=3), picked_by="accuracy")
    words = texts(scatter([run(None, "P1", "F4", best=1), picked]))
    first, second = drawn[0].collections
    assert second.get_sizes()[0] == 8.0 < first.get_sizes()[0]
    assert {"best after 1 epochs", "no best: picked by accuracy, or 0"} <= set(words)
    alone = texts(scatter([picked]))
    assert "no best: picked by accuracy, or 0" in alone and not [
        word for word in alone if word.startswith("best after")
    ]
    assert "no best: picked by accuracy, or 0" not in texts(scatter(OUTCOMES))


def test_the_scatter_says_what_colours_shapes_and_areas_are():
    words = texts(scatter(OUTCOMES))
    assert {"any task", "rotation", "selfie", "F3", "F4", "best after 1.5 epochs", "P1", "P3"} <= set(words)
    assert {"clean accuracy", "robust accuracy in Linf 0.1"} <= set(words)


def test_groups_differ_in_colour_and_shape(drawn):
    scatter(OUTCOMES)
    looks = [
        (tuple(points.get_facecolor()[0]), points.get_paths()[0].vertices.tobytes()) for points in drawn[0].collections
    ]
    assert len(looks) == 6 and len(set(looks)) == 6


@pytest.mark.parametrize("axes", [[], ["finetuning"], ["pretraining", "finetuning"]])
def test_fewer_axes_are_drawn_as_well(axes):
    assert scatter(OUTCOMES, axes).startswith("<svg")
    assert robust_by_epoch(OUTCOMES, axes=axes)


def test_without_a_record_there_is_no_scatter_and_no_curve():
    nothing = [Outcome("a", {"task": None}, "a")]
    for draw in (clean_against_robust, robust_by_epoch, accuracy_by_epsilon):
        assert draw(nothing, axes=["task"]) == []


def test_there_is_a_panel_for_each_way_of_finetuning_with_and_without_pretraining(drawn):
    panels = robust_by_epoch(OUTCOMES, axes=AXES)
    assert [each.name for each in panels] == ["F3", "F4"]
    assert {"P1", "rotation P3", "selfie P3", "F4", "epoch of finetuning"} <= set(texts(panels[1].svg))
    # Seed 0 is best in epoch 1 and falls to 0.05 after it, seed 1 rises once more: means 0.1, 0.125, 0.05, 0.05.
    line = drawn[0].lines[0]
    np.testing.assert_allclose(line.get_xdata(), [1, 2, 3, 4])
    np.testing.assert_allclose(line.get_ydata(), [0.1, 0.125, 0.05, 0.05])


def test_the_band_reaches_from_the_lowest_run_to_the_highest(drawn):
    robust_by_epoch(OUTCOMES, axes=AXES)
    band = drawn[0].collections[0].get_paths()[0].vertices
    at_two = band[band[:, 0] == 2.0][:, 1]
    assert (at_two.min(), at_two.max()) == (pytest.approx(0.05), pytest.approx(0.2))


def test_one_run_has_no_band(drawn):
    robust_by_epoch([run(None, "P1", "F4")], axes=AXES)
    assert len(drawn[0].collections) == 0


def test_accuracy_falls_from_clean_over_the_radii_and_the_trained_one_is_marked(drawn):
    outcomes = [
        run(None, "P1", "F4", seed, clean=80 + 2 * seed, epsilons=(0.05, 0.1, 0.2), training_eps=0.1) for seed in (0, 1)
    ]
    (found,) = accuracy_by_epsilon(outcomes, axes=AXES)
    line = drawn[0].lines[0]
    np.testing.assert_allclose(line.get_xdata(), [0, 0.05, 0.1, 0.2])
    np.testing.assert_allclose(line.get_ydata(), [0.81, 0.5, 0.4, 0.3])
    assert "trained at 0.1" in texts(found.svg)
    assert drawn[0].get_xlim()[1] >= 0.2


def in_two_norms():
    """Two groups in each norm; those in Linf are trained at 0.1, those in L2 at 0.5."""
    balls = {"Linf": ((0.05, 0.1, 0.2), 0.1), "L2": ((0.25, 0.5, 1.0), 0.5)}
    found = []
    for finetuning, (norm, (epsilons, trained)) in [(f, b) for f in ("F3", "F4") for b in balls.items()]:
        each = run(norm, "P1", finetuning, epsilons=epsilons, training_eps=trained, threat=norm)
        found.append(replace(each, trained_eps=trained))
    return found


def test_radii_of_two_norms_are_never_on_one_axis(drawn):
    panels = accuracy_by_epsilon(in_two_norms(), axes=AXES)
    assert [panel.name for panel in panels] == ["F3, Linf", "F4, Linf", "F3, L2", "F4, L2"]
    for panel, axes in zip(panels, drawn, strict=True):
        norm = panel.name.partition(", ")[2]
        assert axes.get_xlabel() == f"{norm} ε  (pixels in [0, 1])"
        (line,) = (line for line in axes.lines if len(line.get_xdata()) == 4)
        np.testing.assert_allclose(line.get_xdata(), {"Linf": [0, 0.05, 0.1, 0.2], "L2": [0, 0.25, 0.5, 1.0]}[norm])
        assert f"trained at {0.1 if norm == 'Linf' else 0.5}" in texts(panel.svg)


def test_scatter_and_epochs_are_parted_by_norm_as_well(drawn):
    assert [panel.name for panel in clean_against_robust(in_two_norms(), axes=AXES)] == ["Linf", "L2"]
    labels = [axes.get_ylabel() for axes in drawn]
    assert labels == ["robust accuracy in Linf 0.1", "robust accuracy in L2 0.5"]
    panels = robust_by_epoch(in_two_norms(), axes=["pretraining"])
    assert [panel.name for panel in panels] == ["Linf", "L2"]


def test_each_group_of_a_sweep_stands_at_the_epsilon_of_its_training_and_has_a_ring_there(drawn):
    """Robust accuracy is 50, 40, 30, 20, 10 % at the five radii, of which each group was trained at another."""
    radii = (0.02, 0.05, 0.1, 0.2, 0.3)
    outcomes = [run(str(eps), "P1", "F4", epsilons=radii, training_eps=eps) for eps in radii]
    words = texts(scatter(outcomes))
    heights = [points.get_offsets()[0][1] for points in drawn[0].collections if isinstance(points, PathCollection)]
    np.testing.assert_allclose(heights, [0.5, 0.4, 0.3, 0.2, 0.1])
    assert "robust accuracy in the ball of training" in words
    (found,) = accuracy_by_epsilon(outcomes, axes=AXES)
    rings = [line for line in drawn[1].lines if line.get_fillstyle() and line.get_markerfacecolor() == "none"]
    places = [(*line.get_xdata(), *line.get_ydata()) for line in rings if len(line.get_xdata())]
    np.testing.assert_allclose(places, list(zip(radii, (0.5, 0.4, 0.3, 0.2, 0.1), strict=True)))
    assert "the ε of training" in texts(found.svg)
    (found,) = accuracy_by_epsilon(outcomes[:1], axes=AXES)
    assert "the ε of training" not in texts(found.svg) and "trained at 0.02" in texts(found.svg)


def test_one_radius_is_no_curve():
    assert accuracy_by_epsilon(OUTCOMES, axes=AXES) == []


def test_many_curves_are_parted_by_the_last_axis():
    outcomes = [
        Outcome(f"{a}{b}", {"a": a, "b": b}, f"{a}{b}", record=record(80, 50, epsilons=(0.1, 0.2)))
        for a in "uvwxyz" for b in "pq"
    ]  # fmt: skip
    assert [each.name for each in accuracy_by_epsilon(outcomes, axes=["a", "b"])] == ["p", "q"]
    assert [each.name for each in accuracy_by_epsilon(outcomes[:9], axes=["a", "b"])] == [""]


def modes(*names, weights=("w0.5", "w2")):
    """A baseline that has no weight, and modes that have each of them."""
    places = [("plain", None), *((name, weight) for name in names for weight in weights)]
    return [
        Outcome(f"{m}-{w}", {"mode": m, "weight": w}, "-".join(filter(None, (m, w))),
                record=record(90 - n, 50, epsilons=(0.1, 0.2)))
        for n, (m, w) in enumerate(places)
    ]  # fmt: skip


def test_nine_curves_are_one_figure_and_no_two_of_them_look_alike(drawn):
    assert [each.name for each in accuracy_by_epsilon(modes("a", "b", "c", "d"), axes=["mode", "weight"])] == [""]
    (axes,) = drawn
    lines = [line for line in axes.lines if len(line.get_xdata()) == 3]
    assert len(lines) == 9
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == 9
    assert len({(line.get_marker(), str(line._unscaled_dash_pattern)) for line in lines}) == 9


def test_a_baseline_that_panels_do_not_tell_apart_is_drawn_in_each_of_them(drawn):
    panels = accuracy_by_epsilon(modes("a", "b", "c", "d", "e"), axes=["mode", "weight"])
    assert [each.name for each in panels] == ["w0.5", "w2"]
    for each, axes in zip(panels, drawn, strict=True):
        assert {"plain", "a", "b", "c", "d", "e", each.name} <= set(texts(each.svg))
        assert axes.lines[0].get_ydata()[0] == 0.9  # its clean accuracy; those of the others are lower
        assert len([line for line in axes.lines if len(line.get_xdata()) == 3]) == 6


def test_a_baseline_without_any_other_value_has_its_own_name():
    fresh = run(None, "P1", None)
    for panel in robust_by_epoch([fresh, run("rotation", "P3", "F3"), run("rotation", "P3", "F4")], axes=AXES):
        assert panel.name in ("F3", "F4") and {"P1", "rotation P3"} <= set(texts(panel.svg))
    base = replace(fresh, place={"finetuning": None}, group="base")
    (panel,) = robust_by_epoch([base, replace(fresh, place={"finetuning": "F4"}, group="F4")], axes=["finetuning"])
    assert panel.name == "F4" and {"base", "F4"} <= set(texts(panel.svg))
    (panel,) = robust_by_epoch([base], axes=["finetuning"])
    assert panel.name == ""


def test_figures_have_no_colours_of_their_own_and_names_are_text():
    outcomes = [run(task, "P3", "F4", seed) for task in ("<b>&", "rotation") for seed in (0, 1)]
    for svg in (scatter(outcomes), robust_by_epoch(outcomes, axes=AXES)[0].svg):
        assert not re.findall(r": ?#[0-9a-f]{3,6}\b", svg)
        assert any("<b>&" in word for word in texts(svg))


def test_long_names_leave_the_axes_their_width_and_are_all_within_the_figure(drawn):
    """Names as long as those of configs/grid_digits_contrastive.yaml, where three columns would be wider than it."""
    names = ("simclr", "advcl-without-high-frequency", "advcl-without-pseudo-labels", "deacl-with-weights-of-its-own")
    outcomes = [run(name, "P3", finetuning, seed) for name in names for finetuning in ("F3", "F4") for seed in (0, 1)]
    for short in (False, True):
        for outcome in outcomes if short else ():
            outcome.place["task"] = outcome.place["task"][:6]
        clean_against_robust(outcomes, axes=AXES)
        robust_by_epoch(outcomes, axes=AXES)
        sizes = []
        for axes in drawn:
            figure = axes.figure
            figure.draw_without_rendering()
            legend, box = axes.get_legend().get_window_extent(), axes.get_window_extent()
            assert legend.x0 >= 0 and legend.x1 <= figure.bbox.width and legend.y1 <= figure.bbox.height
            sizes.append((box.width / figure.bbox.width, box.height / 72))
        assert min(width for width, _ in sizes) > 0.75 and min(height for _, height in sizes) > 2.4
        drawn.clear()
