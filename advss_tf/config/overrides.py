"""Changes of a recipe from the command line: `--set pretrain.attack.num_steps=5`.

Synopsis:

    faults = apply_overrides(values, ["pretrain.epochs=3", "finetune=null", "encoder.kind=resnet18"], root=Recipe)

A value is read as YAML, so lists, sections, null and `8/255` are written as in a file. Overrides are applied in order.
A pair, such as `("pretrain.epochs", 3)`, is an override whose value has been read.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from .faults import show, unknown_key
from .parts import Fault, Part, kind_of, sections_in
from .yaml_text import InvalidYaml, read_yaml

Override = str | tuple[str, Any]


def apply_overrides(values: dict[str, Any], overrides: Iterable[Override], *, root: type[Part]) -> list[Fault]:
    """Changes `values` in place.

    A new `kind` drops those keys of its section that the new kind does not know, unless an override set them; what both
    kinds know stays. A section that is null or absent is begun.

    Returns:
        The faults of overrides that could not be applied.
    """
    faults: list[Fault] = []
    applied: set[tuple[str, ...]] = set()
    for override in overrides:
        try:
            keys, value = _read(override, root)
        except InvalidYaml as error:
            faults += error.faults
            continue
        section = _section(values, keys[:-1])
        if keys[-1] == "kind" and section.get("kind", value) != value:
            keep = _known_to(value, _sections_at(root, keys[:-1])) | {
                path[-1] for path in applied if path[:-1] == keys[:-1]
            }
            _drop(section, keep)
        section[keys[-1]] = value
        applied.add(keys)
    return faults


def _read(override: Any, root: type[Part]) -> tuple[tuple[str, ...], Any]:
    """The keys and the value of `a.b=c`, or of a pair."""
    if isinstance(override, tuple):
        path, value = override
        # Several recipes may be changed by the same pair, and further overrides may change what it brings.
        return _keys(path, root, received=f"{path}: {show(value)}"), copy.deepcopy(value)
    path, equals, written = override.partition("=") if isinstance(override, str) else ("", "", "")
    path, received = path.strip(), f"--set {show(override)}"
    if not (path and equals and written.strip()):
        expected = "path=value, such as pretrain.epochs=3 or finetune=null"
        raise InvalidYaml([Fault("--set", "is not followed by path=value", expected, received)])
    keys = _keys(path, root, received=received)
    try:
        return keys, read_yaml(written)
    except InvalidYaml as error:
        faults = [fault._replace(path=path + ("." * bool(fault.path)) + fault.path) for fault in error.faults]
        raise InvalidYaml([fault._replace(received=received) for fault in faults]) from None


def _keys(path: str, root: type[Part], *, received: str) -> tuple[str, ...]:
    """The keys of a dotted path; each must be one that some recipe has there."""
    keys = tuple(path.split("."))
    for depth, key in enumerate(keys):
        known = {name for section in _sections_at(root, keys[:depth]) for name in section.model_fields}
        if key not in known:
            raise InvalidYaml([unknown_key(".".join(keys[: depth + 1]), known, received=received)])
    return keys


def _sections_at(root: type[Part], keys: tuple[str, ...]) -> tuple[type[Part], ...]:
    """Every section, of whatever kind, that a path may mean."""
    sections: tuple[type[Part], ...] = (root,)
    for key in keys:
        fields = [section.model_fields[key] for section in sections if key in section.model_fields]
        sections = tuple(dict.fromkeys(found for field in fields for found in sections_in(field.annotation)))
    return sections


def _section(values: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """The section at a path, begun where it is missing."""
    for key in keys:
        if not isinstance(values.get(key), dict):
            # A view may be written by its name, which stands for a section.
            values[key] = {"kind": values[key]} if isinstance(values.get(key), str) else {}
        values = values[key]
    return values


def _known_to(kind: Any, sections: tuple[type[Part], ...]) -> set[str]:
    """The keys of a kind; those of every kind where no such kind is known, so that nothing but the kind is a fault."""
    chosen = [section for section in sections if kind_of(section) == kind] or sections
    return {name for section in chosen for name in section.model_fields}


def _drop(section: dict[str, Any], keep: set[str]) -> None:
    for key in [key for key in section if key not in keep]:
        del section[key]
