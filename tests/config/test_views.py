"""Views in recipes: by name or with arguments, with the library's own defaults, and what is refused in words."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import get_args

import pytest

from advss_tf.config import (
    GridError,
    RecipeError,
    dump_recipe,
    json_schema,
    load_grid,
    load_recipe,
    make_recipe,
    read_yaml,
    views,
)
from advss_tf.config.parts import kind_of, sections_in
from advss_tf.data import VIEWS, view_of
from advss_tf.data.resized_crop import INTERPOLATIONS
from advss_tf.errors import InvalidInput

BASE = read_yaml((Path(__file__).parents[2] / "configs/digits_acl.yaml").read_text(encoding="utf-8"))
CUBIC = {"kind": "annealed", "hue": 0.0, "interpolation": "bicubic"}


def task_of(**task):
    return make_recipe({**BASE, "pretrain": {**BASE["pretrain"], "task": task}}).pretrain.task


def fault_of(**task):
    with pytest.raises(RecipeError) as caught:
        task_of(**task)
    (fault,) = caught.value.faults
    return fault


@pytest.mark.parametrize("section", sections_in(views.View), ids=kind_of)
def test_a_name_is_the_view_of_the_library_with_its_arguments_and_defaults(section):
    view = section(kind=kind_of(section))
    arguments = {field.name: getattr(VIEWS[view.kind], field.name) for field in dataclasses.fields(VIEWS[view.kind])}
    # What the kind says itself is no argument.
    arguments.pop("annealed", None)
    if view.kind == "weak":
        arguments.pop("radius")
    assert {name: getattr(view, name) for name in section.model_fields if name != "kind"} == arguments


def test_recipes_and_the_library_know_the_same_views():
    assert {kind_of(section) for section in sections_in(views.View)} == set(VIEWS)
    assert {kind_of(section) for section in sections_in(views.Image)} == set(VIEWS) - {"high_frequency"}


def test_what_is_written_is_what_the_library_reads():
    task = task_of(kind="acl", views=["strong", CUBIC])
    written = task.model_dump()["views"]
    assert written == ("strong", CUBIC)
    assert view_of(written[1]) == dataclasses.replace(VIEWS["annealed"], hue=0.0, interpolation="bicubic")


def test_a_view_that_differs_in_nothing_is_written_by_its_name():
    long = {"kind": "strong", "hue": 0.1, "interpolation": "bilinear"}
    assert task_of(kind="acl", views=[long, "weak"]) == task_of(kind="acl", views=["strong", "weak"])
    assert task_of(kind="acl", views=[long, "weak"]).model_dump()["views"] == ("strong", "weak")


def test_a_saved_recipe_keeps_its_views(tmp_path):
    values = {
        "kind": "advcl",
        "clean_views": ["strong", {"kind": "high_frequency", "radius": 4}],
        "attacked_view": CUBIC,
    }
    recipe = make_recipe({**BASE, "pretrain": {**BASE["pretrain"], "task": values}})
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    assert load_recipe(tmp_path / "recipe.yaml") == recipe


def test_the_command_line_changes_views(tmp_path):
    (tmp_path / "recipe.yaml").write_text(dump_recipe(make_recipe(BASE)), encoding="utf-8")
    changes = ["pretrain.task.views=[weak, {kind: strong, smallest_area: 0.5}]"]
    task = load_recipe(tmp_path / "recipe.yaml", overrides=changes).pretrain.task
    assert task.model_dump()["views"] == ("weak", {"kind": "strong", "smallest_area": 0.5})


def test_the_command_line_changes_an_argument_of_a_view_that_is_written_by_name(tmp_path):
    recipe = make_recipe(
        {**BASE, "pretrain": {**BASE["pretrain"], "task": {"kind": "advcl", "attacked_view": "strong"}}}
    )
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    task = load_recipe(tmp_path / "recipe.yaml", overrides=["pretrain.task.attacked_view.hue=0.2"]).pretrain.task
    assert task.model_dump()["attacked_view"] == {"kind": "strong", "hue": 0.2}


def test_a_grid_says_that_its_cells_overrule_a_view(tmp_path):
    task = {"kind": "advcl", "attacked_view": "weak"}
    axis = {"pretrain.task.attacked_view": ["weak", "original"]}
    grid = {"name": "g", "base": {**BASE, "pretrain": {**BASE["pretrain"], "task": task}}, "axes": axis}
    (tmp_path / "grid.yaml").write_text(json.dumps(grid), encoding="utf-8")
    assert len(load_grid(tmp_path / "grid.yaml").cells) == 2
    with pytest.raises(GridError, match="changes what the axes set anew in every cell"):
        load_grid(tmp_path / "grid.yaml", overrides=["pretrain.task.attacked_view.kind=strong"])


def limits(section):
    """`(name, bound, whether the bound itself is in, what lies beyond it)` of each number of a view."""
    for name, schema in section.model_json_schema()["properties"].items():
        forms = schema.get("anyOf", [schema])
        for form in forms:
            for word, inside, beyond in (("minimum", 1, -1e-3), ("exclusiveMinimum", 0, 0.0), ("maximum", 1, 1e-3)):
                if word in form:
                    step = beyond if form["type"] == "number" else round(1e3 * beyond)
                    yield name, form[word], bool(inside), form[word] + step


@pytest.mark.parametrize("section", sections_in(views.View), ids=kind_of)
def test_recipes_and_the_library_draw_the_same_limits(section):
    kind = kind_of(section)
    for name, bound, inside, beyond in limits(section):
        if inside:
            assert getattr(view_of({"kind": kind, name: bound}), name) == bound
        with pytest.raises(InvalidInput, match="out of range"):
            view_of({"kind": kind, name: beyond})
    numbers = {"weak": 1, "high_frequency": 2, "strong": 11, "annealed": 11, "original": 0}
    assert len(list(limits(section))) == numbers[kind]


def test_recipes_and_the_library_know_the_same_interpolations():
    assert set(get_args(views.StrongView.model_fields["interpolation"].annotation)) == set(INTERPOLATIONS)


IMAGES = "one of ['annealed', 'original', 'strong', 'weak'], or a section with one of them as `kind`"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            ["anneald", "weak"],
            f"views[0]: is no view that can stand here (did you mean 'annealed'?). Expected: {IMAGES}.",
        ),
        (
            ["weak", "high_frequency"],
            f"views[1]: is no view that can stand here. Expected: {IMAGES}. Received: view='hi",
        ),
        (["weak", 3], f"views[1]: is no view that can stand here. Expected: {IMAGES}. Received: view=3."),
        (["weak", None], "views[1]: is no view that can stand here."),
        (
            [{"hue": 0.2}, "weak"],
            "views[0].kind: is missing. Expected: one of ['annealed', 'original', 'strong', 'weak']",
        ),
        ([{"kind": "weak", "hue": 0}, "weak"], "views[0].hue: unknown key. Expected: one of ['crop_padding', 'flip'"),
        ([{"kind": "weak", "radius": 8}, "weak"], "views[0].radius: unknown key."),
        (
            [{"kind": "strong", "hue": 0.6}, "weak"],
            "views[0].hue: must be at most 0.5. Expected: a number >= 0 and <= 0.5",
        ),
        ([{"kind": "strong", "smallest_area": 0}, "weak"], "views[0].smallest_area: must be positive."),
        (
            [{"kind": "strong", "interpolation": "nearest"}, "weak"],
            "views[0].interpolation: is not known (did you mean 'bilinear'?).",
        ),
        ("strong", f"views: must be a list. Expected: a list, each entry {IMAGES}. Received: views='strong'."),
        (["strong"], f"views: must have at least 2 entries. Expected: a list, each entry {IMAGES}."),
    ],
)
def test_what_is_no_view_is_refused_with_its_place(given, sentence):
    assert fault_of(kind="acl", views=given).startswith(f"pretrain.task.{sentence}")


def test_a_single_view_is_refused_in_the_same_words():
    expected = f"pretrain.task.attacked_view: is no view that can stand here. Expected: {IMAGES}. Received: view=null."
    assert fault_of(kind="advcl", attacked_view=None) == expected


def test_the_schema_has_names_and_sections():
    names, sections = json_schema()["$defs"]["SimclrTask"]["properties"]["views"]["items"]["anyOf"]
    assert names == {"enum": sorted(VIEWS)} and set(sections["discriminator"]["mapping"]) == set(VIEWS)
    assert json.dumps(sections)
