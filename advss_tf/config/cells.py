"""The cells of a grid: every choice of one value from each axis, resolved, checked and named.

Synopsis:

    for cell in make_cells("grid.yaml", "grid", axes, skip=[{"pretraining": "P1"}], base=values):
        cell.name, cell.place, cell.recipe      # "rotation-P3-F4-seed0", {"task": "rotation", …}, Recipe(…)
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .axes import Axis, Value, word_of
from .faults import GridError, RecipeError, show
from .idle import settled
from .loading import copy_values, make_recipe, recipe_fingerprint
from .overrides import apply_overrides
from .parts import Fault
from .schema import Recipe

MOST_CELLS = 5000
"""Cells of the largest grid."""
_TAKEN = ("figures", "report", "grid.csv", "grid.json", "grid.log", "grid.md", "grid.yaml")


@dataclass(frozen=True)
class GridCell:
    """One run of a grid.

    Attributes:
        name: Names its folder, such as `rotation-P3-F4-seed0`.
        place: The value of each axis by the axis' name; None where the cell is the same for several.
        group: The name without what only repeats it, such as the seed; no two methods have one.
        recipe: What is run.
        baseline: The name of the cell that it is compared with; None where there is none, or it is that itself.
    """

    name: str
    place: Mapping[str, str | None]
    group: str
    recipe: Recipe
    baseline: str | None = None


def make_cells(
    source: str,
    grid: str,
    axes: tuple[Axis, ...],
    *,
    skip: Sequence[Mapping[str, Any]],
    base: dict[str, Any],
    baseline: Mapping[str, Any] | None = None,
) -> Iterator[GridCell]:
    """The cells in order, those that do the same in one, the first of them.

    Args:
        source: What errors call the grid.
        grid: The grid's name.
        axes: The axes.
        skip: Parts of cells that are left out.
        base: The values of the base recipe.
        baseline: Values of axes. A cell is compared with the one that has these values and its own on the other axes.

    Raises:
        GridError: if one is not valid, or none is left.
    """
    count = math.prod(len(axis.values) for axis in axes)
    if count > MOST_CELLS:
        raise GridError(source, [Fault("axes", "make too many cells", f"at most {MOST_CELLS}", f"{count} cells")])
    same: dict[str, list[tuple[Value, ...]]] = {}
    recipes: dict[str, Recipe] = {}
    faulty: dict[str, list[str]] = {}
    for values in itertools.product(*(axis.values for axis in axes)):
        if _skipped(skip, axes, values):
            continue
        try:
            recipe = _resolved(base, values)
        except RecipeError as error:
            for fault in error.faults:
                faulty.setdefault(fault, []).append("-".join(value.label for value in values))
            continue
        key = recipe_fingerprint(settled(recipe))
        recipes.setdefault(key, recipe)
        same.setdefault(key, []).append(values)
    if faulty:
        raise GridError(source, [f"{_listed(cells)}: {fault}" for fault, cells in faulty.items()])
    if not same:
        raise GridError(source, [Fault("skip", "leaves no cell", "a cell or more", f"skip={show(list(skip))}")])
    cells = dict(zip(same, _named(grid, axes, same, recipes), strict=True))
    yield from _compared(cells, axes, same, base=base, baseline=baseline) if baseline else cells.values()


def _resolved(base: dict[str, Any], chosen: tuple[Value, ...]) -> Recipe:
    """The recipe of a cell: plain changes first, then null, so that what one axis takes away no other begins again."""
    values = copy_values(base)
    plain = [change for value in chosen if not value.last for change in value.changes(values)]
    faults = apply_overrides(values, sorted(plain, key=lambda change: change[1] is None), root=Recipe)
    for value in sorted((value for value in chosen if value.last), key=lambda value: value.last):
        if value.name == "P3" and not _has_attack(values):
            expected = "a base with a `pretrain` section and its attack"
            faults.append(Fault("pretrain.attack", "is missing, and P3 pretrains under attack", expected, "null"))
        faults += apply_overrides(values, value.changes(values), root=Recipe)
    if faults:
        raise RecipeError("of a cell", faults)
    recipe = make_recipe(values)
    if recipe.finetune is None:
        raise RecipeError("of a cell", [Fault("finetune", "is null", "a classifier to measure", "finetune=null")])
    return recipe


def _has_attack(values: Mapping[str, Any]) -> bool:
    part = values.get("pretrain")
    return isinstance(part, Mapping) and part.get("attack") is not None


def _named(
    grid: str, axes: tuple[Axis, ...], same: Mapping[str, list[tuple[Value, ...]]], recipes: Mapping[str, Recipe]
) -> Iterator[GridCell]:
    """Cells with names that differ, for people in folders and for recipes in small letters."""
    names = set(_TAKEN)  # what a grid's folder holds beside its cells
    groups: dict[str, tuple[str, str]] = {}
    for key, several in same.items():
        columns = [list(dict.fromkeys(column)) for column in zip(*several, strict=True)]
        alone = [column[0] if len(column) == 1 else None for column in columns]
        place = {axis.name: value.name if value else None for axis, value in zip(axes, alone, strict=True)}
        labels = [(axis.repeats, value.label) for axis, value in zip(axes, alone, strict=True) if value]
        group = _group("-".join(label for repeats, label in labels if not repeats), grid, recipes[key], groups)
        name = _safe("-".join(label for _, label in labels)) or grid
        if name.lower() in names:
            name = f"{name}-{recipe_fingerprint(recipes[key])[:8]}"
        names.add(name.lower())
        yield GridCell(name, place, group, recipes[key].model_copy(update={"name": _recipe_name(group)}))


def _compared(
    cells: Mapping[str, GridCell],
    axes: tuple[Axis, ...],
    same: Mapping[str, list[tuple[Value, ...]]],
    *,
    base: dict[str, Any],
    baseline: Mapping[str, Any],
) -> Iterator[GridCell]:
    """The cells with their baselines: what each would be with the baseline's values, if that is one of them.

    Which cell that is is told by its recipe, so that axes that the baseline does not have make no difference. A cell
    that stands for several values of an axis and so would be several others has no baseline.
    """
    known = {values: key for key, several in same.items() for values in several}
    wanted = {axis.name: word_of(baseline[axis.name]) for axis in axes if axis.name in baseline}
    fixed = [next((v for v in axis.values if v.name == wanted.get(axis.name)), None) for axis in axes]
    for key, cell in cells.items():
        swapped = [tuple(new or own for new, own in zip(fixed, values, strict=True)) for values in same[key]]
        (found, *others) = {known.get(values) or _key(base, values) for values in swapped}
        other = None if others or found == key else cells.get(found)
        yield replace(cell, baseline=other.name if other else None)


def _key(base: dict[str, Any], values: tuple[Value, ...]) -> str:
    """What tells the recipe of a choice that was left out from others; nothing where it is not valid."""
    try:
        return recipe_fingerprint(settled(_resolved(base, values)))
    except RecipeError:
        return ""


def _group(label: str, grid: str, recipe: Recipe, groups: dict[str, tuple[str, str]]) -> str:
    """The name of a group, with a hash where another is called the same: a group differs in nothing but the seed.

    Args:
        label: What is said of the group.
        grid: The name of a group of which nothing is said.
        recipe: One of the group.
        groups: Which group has each name of a recipe, which are the names that fold the most; one is added.
    """
    method = (label, recipe_fingerprint(settled(recipe).model_copy(update={"name": "group", "seed": 0})))
    name = _safe(label) or grid
    if groups.setdefault(_recipe_name(name), method) == method:
        return name
    return f"{name}-{hashlib.sha256(repr(method).encode()).hexdigest()[:8]}"


def _safe(label: str) -> str:
    """A label as the name of a folder."""
    return _cut(re.sub(r"[^\w.+-]+", "_", label, flags=re.ASCII).strip("._-"), longest=160, whole=label)


def _recipe_name(group: str) -> str:
    name = re.sub(r"[^a-z0-9_-]", "_", group.lower()).lstrip("_-") or "cell"
    return _cut(name, longest=64, whole=name)


def _cut(name: str, *, longest: int, whole: str) -> str:
    """A name of at most `longest` characters, with a hash of what it stands for where it was longer."""
    return name if len(name) <= longest else f"{name[: longest - 9]}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def _skipped(skip: Sequence[Mapping[str, Any]], axes: tuple[Axis, ...], values: tuple[Value, ...]) -> bool:
    place = {axis.name: value.name for axis, value in zip(axes, values, strict=True)}
    return any(all(place[axis] in names_in(wanted) for axis, wanted in part.items()) for part in skip)


def names_in(wanted: Any) -> set[str]:
    """The values that an entry of `skip` means: one, or a list."""
    return {word_of(entry) for entry in (wanted if isinstance(wanted, list) else [wanted])}


def _listed(cells: list[str]) -> str:
    return cells[0] if len(cells) == 1 else f"{cells[0]} and {len(cells) - 1} other cells"
