"""Recipes read, written, named and compared.

Synopsis:

    recipe = load_recipe("configs/digits.yaml", ["pretrain.epochs=3"])
    text = dump_recipe(recipe)                            # resolved: every default written
    recipe_fingerprint(recipe)                            # sha256 of what the recipe says
    difference(old, recipe)                               # ["pretrain.epochs: 15 -> 3"]

Everything that is wrong with a recipe is reported at once, one line for each fault.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..errors import nearest
from .faults import RecipeError, faults_of, show
from .overrides import Override, apply_overrides
from .parts import Fault
from .schema import Recipe
from .yaml_text import InvalidYaml, read_yaml, write_yaml

LARGEST_FILE = 2**20
"""Bytes of the largest file that is taken for a recipe."""


def load_recipe(path: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """The recipe in a YAML file, with overrides applied.

    Args:
        path: A YAML 1.2 file.
        overrides: Changes such as `"pretrain.attack.num_steps=5"` or `"finetune=null"`.

    Raises:
        RecipeError: for a file that cannot be read or a recipe that is not valid; it lists every fault.
    """
    return make_recipe(read_values(path), overrides, source=str(path))


def read_values(path: str | Path, *, error: type[RecipeError] = RecipeError) -> Any:
    """The plain values in a YAML file, not checked.

    Raises:
        RecipeError: or `error`, for a file that cannot be read or is not YAML 1.2.
    """
    source = str(path)
    try:
        return read_yaml(_text(Path(path)))
    except InvalidYaml as found:
        at = f"{source}:{found.line}" if found.line else source
        raise error(source, [fault._replace(path=fault.path or at) for fault in found.faults]) from None


def make_recipe(values: Any, overrides: Iterable[Override] = (), *, source: str = "from Python") -> Recipe:
    """The recipe that nested dicts describe, with overrides applied.

    Args:
        values: What a YAML file would hold. Left as it is.
        overrides: As in `load_recipe`, or pairs of a path and a value.
        source: What errors call the recipe.

    Raises:
        RecipeError: for a recipe that is not valid; it lists every fault.
    """
    if not isinstance(values, Mapping) or not values:
        what = "is empty" if values is None or values == {} else "must be a section with keys"
        raise RecipeError(source, [Fault(source, what, "keys such as name, seed, data and encoder", show(values))])
    values = copy_values(values)
    faults = apply_overrides(values, [overrides] if isinstance(overrides, str) else overrides, root=Recipe)
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError(source, faults + faults_of(error, Recipe)) from None
    if faults:
        raise RecipeError(source, faults)
    return recipe


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML with every default written, but for those of a view; it loads to an equal recipe."""
    return write_yaml(recipe.model_dump(mode="json"))


def recipe_fingerprint(recipe: Recipe) -> str:
    """sha256, in hexadecimal, of what the recipe says: equal recipes have equal fingerprints, however written."""
    return hashlib.sha256(json.dumps(recipe.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


def difference(old: Recipe, new: Recipe) -> list[str]:
    """What changed between two recipes, one line for each field: `pretrain.epochs: 10 -> 12`."""
    return differences(old.model_dump(mode="json"), new.model_dump(mode="json"))


def differences(old: Any, new: Any) -> list[str]:
    """What changed between nested dicts, one line for each place."""
    return list(_differences(old, new, ""))


def json_schema() -> dict[str, Any]:
    """The JSON schema of a recipe, for editors that complete and check YAML."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Recipe.model_json_schema()}


def _text(path: Path) -> str:
    """The text of a file, or the reason why there is none."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is a special file" if path.exists() else "does not exist"
        raise InvalidYaml([Fault("", what + _hint(path), "the path of a YAML file", f"path={str(path)!r}")])
    try:
        content = path.read_bytes() if path.stat().st_size <= LARGEST_FILE else None
    except OSError as error:
        raise InvalidYaml([Fault("", "cannot be read", "a readable file", str(error.strerror))]) from None
    if content is None:
        raise InvalidYaml([Fault("", "is too large", f"at most {LARGEST_FILE} bytes", f"{path.stat().st_size} bytes")])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        received = f"the byte {content[error.start]:#04x}"
        raise InvalidYaml([Fault("", "is not text in UTF-8", "a file saved as UTF-8", received)], line) from None


def _hint(path: Path) -> str:
    """The file that was most likely meant, from the folder that the path names."""
    folder = path if path.is_dir() else path.parent
    names = sorted(found.name for found in folder.glob("*.yaml")) if folder.is_dir() else []
    near = nearest(path.name, names)
    return f" (did you mean {str(folder / near)!r}?)" if near else ""


def copy_values(values: Any) -> Any:
    """A copy of nested sections and lists as plain dicts and lists."""
    if isinstance(values, Mapping):
        return {key: copy_values(inner) for key, inner in values.items()}
    return [copy_values(inner) for inner in values] if isinstance(values, list) else values


def _differences(old: Any, new: Any, path: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            below = f"{path}.{key}" if path else key
            yield from _differences(old.get(key, _ABSENT), new.get(key, _ABSENT), below)
    elif old != new:
        if isinstance(old, list) and isinstance(new, list) and _word(old) == _word(new):
            # Shortened, they read alike: what differs is then told entry by entry.
            for index, (one, other) in enumerate(zip_longest(old, new, fillvalue=_ABSENT)):
                yield from _differences(one, other, f"{path}[{index}]")
        else:
            yield f"{path}: {_word(old)} -> {_word(new)}"


_ABSENT = "absent"


def _word(value: Any) -> str:
    return value if isinstance(value, str) else show(value)
