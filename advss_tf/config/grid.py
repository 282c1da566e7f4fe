"""Grids: a base recipe and axes, multiplied out into cells, each a recipe of its own.

Synopsis:

    grid = load_grid("configs/grid_digits.yaml", ["finetune.epochs=3"])
    for cell in grid.cells:
        cell.name, cell.place, cell.recipe      # "rotation-P3-F4-seed0", {"task": "rotation", …}, Recipe(…)

    name: grid_digits
    base: digits.yaml                           # beside this file; or the recipe itself
    set: {pretrain.epochs: 6}                   # changes of the base
    axes:                                       # see axes.py
      pretraining: [P1, P2, P3]
      finetuning: [F1, F2, F3, F4]
      seed: [0, 1, 2]
    skip: [{pretraining: P1, finetuning: [F1, F2]}]
    baseline: {pretraining: P1}                 # what each cell is compared with, seed by seed

Every cell is resolved and checked when the file is read. Cells that do the same are one (see idle.py): without
pretraining (P1) the task does not matter, and the name leaves it out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, ValidationError

from ..errors import InvalidInput, one_of
from .axes import Axis, read_axes, word_of
from .cells import GridCell, make_cells, names_in
from .faults import GridError, RecipeError, faults_of, show
from .loading import copy_values, differences, make_recipe, read_values
from .overrides import Override, apply_overrides
from .parts import Fault, Part, Rules
from .schema import Recipe
from .yaml_text import write_yaml


def _base_is_a_recipe(grid: GridFile) -> Iterator[Fault]:
    """The base is the path of a recipe, or the recipe."""
    if not grid.base or not isinstance(grid.base, (str, Mapping)):
        expected = "the path of a recipe beside the grid's file, or the recipe itself"
        yield Fault("base", "is no recipe", expected, f"base={show(grid.base)}")


def _set_is_changes(grid: GridFile) -> Iterator[Fault]:
    """The changes of the base are paths with values."""
    if not isinstance(grid.set, Mapping):
        yield Fault("set", "must be a section", "changes such as {pretrain.epochs: 6}", f"set={show(grid.set)}")


def _skip_fits_the_axes(grid: GridFile) -> Iterator[Fault]:
    """What is left out is written as values of the axes."""
    axes, faults = read_axes(grid.axes)
    if faults:
        return  # they are reported by themselves
    known = {axis.name: [value.name for value in axis.values] for axis in axes}
    parts = grid.skip if isinstance(grid.skip, (list, tuple)) else [None]
    for number, part in enumerate(parts):
        path = f"skip[{number}]"
        if not isinstance(part, Mapping) or not part:
            expected = "a list of parts of cells such as {pretraining: P1, finetuning: [F1, F2]}"
            yield Fault(path, "must be a section", expected, f"skip={show(grid.skip)}")
            continue
        for axis, wanted in part.items():
            if axis not in known:
                yield Fault(f"{path}.{axis}", "is no axis", f"one of {sorted(known)}", f"{axis}={show(wanted)}")
            elif unknown := sorted(names_in(wanted) - set(known[axis])):
                yield Fault(f"{path}.{axis}", "is no value of this axis", f"one of {known[axis]}", f"{unknown}")


def _baseline_fits_the_axes(grid: GridFile) -> Iterator[Fault]:
    """The baseline is a value of an axis or more, none of which only repeats cells."""
    axes, faults = read_axes(grid.axes)
    if faults or grid.baseline is None:
        return  # what is wrong with the axes is reported by itself
    if not isinstance(grid.baseline, Mapping) or not grid.baseline:
        expected = "a value of one axis or more, such as {pretraining: P1}"
        yield Fault("baseline", "must be a section", expected, f"baseline={show(grid.baseline)}")
        return
    known = {axis.name: [value.name for value in axis.values] for axis in axes if not axis.repeats}
    for axis, wanted in grid.baseline.items():
        path, received = f"baseline.{axis}", f"{axis}={show(wanted)}"
        if axis not in known:
            repeats = any(other.name == axis for other in axes)
            problem = "only repeats cells, which are compared value by value of it" if repeats else "is no axis"
            yield Fault(path, problem, f"one of {sorted(known)}", received)
        elif word_of(wanted) not in known[axis]:
            yield Fault(path, "is no value of this axis", f"one of {known[axis]}", received)


class GridFile(Part):
    """What a grid's file says."""

    rules: ClassVar[Rules] = (_base_is_a_recipe, _set_is_changes, _skip_fits_the_axes, _baseline_fits_the_axes)
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=64, description="Names the grid: a-z, 0-9, _ and -.")
    base: Any = Field(description="Path of a recipe beside this file, or the recipe itself.")
    set: Any = Field(default={}, description="Changes of the base, by dotted path.")
    axes: Any = Field(description="What is varied: named values of named axes.")
    skip: Any = Field(default=(), description="Parts of cells that are left out.")
    baseline: Any = Field(default=None, description="Values of axes; each cell is compared with the one that has them.")


@dataclass(frozen=True)
class Grid:
    """A grid that has been read and checked.

    Attributes:
        name: Its name.
        base: The base recipe.
        axes: The axes in the order of the file.
        cells: The cells, the last axis varying fastest.
        written: The grid as plain values, the base and its changes in one.
    """

    name: str
    base: Recipe
    axes: tuple[Axis, ...]
    cells: tuple[GridCell, ...]
    written: Mapping[str, Any]

    def only(self, choices: Iterable[str]) -> tuple[GridCell, ...]:
        """The cells at the chosen values, all of them where nothing is chosen.

        Args:
            choices: Such as `"finetuning=F2,F4"`; those of one axis add up, and several axes must all fit. A cell that
                is the same for every value of an axis fits each.

        Raises:
            InvalidInput: for what is no choice, no axis or no value of it, or leaves no cell.
        """
        choices, wanted = list(choices), dict[str, set[str | None]]()
        known = {axis.name: [value.name for value in axis.values] for axis in self.axes}
        for choice in choices:
            axis, equals, values = choice.rpartition("=")
            if not equals or not values:
                raise InvalidInput("`only` chooses nothing.", expected="AXIS=A,B", received=f"only={choice!r}")
            names = known[one_of("only", axis, known)]
            wanted.setdefault(axis, {None}).update(one_of(f"only {axis}", value, names) for value in values.split(","))
        cells = tuple(cell for cell in self.cells if all(cell.place[axis] in some for axis, some in wanted.items()))
        if not cells:
            raise InvalidInput("`only` leaves no cell.", expected="cells that are not skipped", received=f"{choices}")
        return cells


def load_grid(path: str | Path, overrides: Iterable[Override] = ()) -> Grid:
    """The grid in a YAML file.

    Args:
        path: A YAML 1.2 file.
        overrides: Changes of the base such as `"finetune.epochs=3"`.

    Raises:
        GridError: for a file that cannot be read, what is wrong with the grid or one of its cells, by name, or a change
            of the base that the axes leave in no cell, or a baseline of no cell.
        RecipeError: for a base that is no valid recipe.
    """
    source = str(path)
    values = read_values(path, error=GridError)
    if not isinstance(values, Mapping) or not values:
        raise GridError(source, [Fault(source, "is empty", "keys name, base and axes", show(values))])
    try:
        file = GridFile.model_validate(values)
    except ValidationError as error:
        inner = read_axes(values["axes"])[1] if "axes" in values else []
        raise GridError(source, [*faults_of(error, GridFile), *inner]) from None
    axes, faults = read_axes(file.axes)
    if faults:
        raise GridError(source, faults)
    changes: list[Override] = [*file.set.items(), *overrides]

    def multiplied(changes: list[Override]) -> tuple[dict[str, Any], Recipe, tuple[GridCell, ...]]:
        base, recipe = _base(file, Path(path), changes)
        cells = make_cells(source, file.name, axes, skip=file.skip, base=base, baseline=file.baseline)
        return base, recipe, tuple(cells)

    base, recipe, cells = multiplied(changes)
    lost = list(_lost(changes, recipe, cells, without=lambda others: multiplied(others)[2], of_file=len(file.set)))
    if lost:
        raise GridError(source, lost)
    if file.baseline is not None and not any(cell.baseline for cell in cells):
        expected, received = "values that another cell differs from in them alone", f"baseline={show(file.baseline)}"
        raise GridError(source, [Fault("baseline", "is what no cell can be compared with", expected, received)])
    written = {"name": file.name, "base": base, "axes": file.axes, "skip": list(file.skip)}
    if file.baseline is not None:
        written["baseline"] = file.baseline
    return Grid(file.name, recipe, axes, cells, written)


def dump_grid(grid: Grid) -> str:
    """The grid as YAML, its base written out; it loads to the same cells."""
    return write_yaml(grid.written)


def grid_difference(old: Grid, new: Grid) -> list[str]:
    """What changed between two grids, one line for each place; not the baseline, which no run depends on."""
    return differences(_comparable(old), _comparable(new))


def _comparable(grid: Grid) -> dict[str, Any]:
    return {
        "base": grid.base.model_dump(mode="json"),
        "axes": grid.written["axes"],
        "order of axes": [axis.name for axis in grid.axes],
        "skip": grid.written["skip"],
    }


def _lost(
    changes: list[Override],
    base: Recipe,
    cells: Sequence[GridCell],
    *,
    without: Callable[[list[Override]], Sequence[GridCell]],
    of_file: int,
) -> Iterator[Fault]:
    """A change of the base that the axes overrule in every cell would be lost without a word.

    No cell has its value any more, and the cells are the same without it: F1 takes the base's attack away, for one, and
    measures with it.
    """
    values, resolved = base.model_dump(mode="json"), [cell.recipe.model_dump(mode="json") for cell in cells]
    for number, change in enumerate(changes):
        path = (change[0] if isinstance(change, tuple) else change.partition("=")[0]).strip()
        wanted = _at(values, path)
        if any(_at(recipe, path) == wanted for recipe in resolved):
            continue
        try:
            others = without([other for place, other in enumerate(changes) if place != number])
        except RecipeError:
            continue  # without it there is no grid
        if [cell.recipe for cell in others] == [cell.recipe for cell in cells]:
            where = "set" if number < of_file else "--set"
            expected = f"a change that some cell keeps; `{path}` is what the axes vary"
            yield Fault(where, "changes what the axes set anew in every cell", expected, f"{path}={show(wanted)}")


def _at(values: Any, path: str) -> Any:
    """What nested sections hold at a dotted path; where they end before, what they end in and the rest of the path."""
    keys = path.split(".")
    for depth, key in enumerate(keys):
        if not isinstance(values, Mapping):
            return values, keys[depth:]  # null, or a view that is written by its name
        if key not in values:
            return path
        values = values[key]
    return values


def _base(file: GridFile, path: Path, changes: list[Override]) -> tuple[dict[str, Any], Recipe]:
    """The base's values with its changes, and the recipe that they are."""
    beside = path.parent / file.base if isinstance(file.base, str) else None
    source = str(beside) if beside else f"{path}, base"
    values = copy_values(read_values(beside) if beside else file.base)
    recipe = make_recipe(values, changes, source=source)
    apply_overrides(values, changes, root=Recipe)
    return values, recipe
