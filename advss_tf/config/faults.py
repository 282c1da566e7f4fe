"""What is wrong with a recipe, in sentences: pydantic's errors are translated here, one line for each fault.

Synopsis:

    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError("my.yaml", faults_of(error, Recipe)) from None
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ..errors import InvalidInput, nearest
from .parts import Fault, Part, kind_of, sections_in


class RecipeError(InvalidInput):
    """A recipe that cannot be used, with everything that is wrong with it.

    Attributes:
        source: The file, or another name for where the recipe came from.
        faults: One line for each fault: `pretrain.epochs: must be … Expected: … Received: …`.
    """

    noun = "recipe"

    def __init__(self, source: str, faults: Iterable[Fault | str]) -> None:
        self.source, self.faults = source, tuple(str(fault) for fault in faults)
        count = f"{len(self.faults)} faults" if len(self.faults) > 1 else "a fault"
        expected = f"a {self.noun} without faults"
        super().__init__(f"The {self.noun} {source} has {count}.", expected=expected, received=source)

    def __str__(self) -> str:
        return "\n".join([self.what[:-1] + ":", *(f"  {fault}" for fault in self.faults)])


class GridError(RecipeError):
    """A grid that cannot be used, with everything that is wrong with it and with its cells."""

    noun = "grid"


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100
_SHORT.maxlevel = 3


def show(value: Any) -> str:
    """A value on one line as YAML would have it, shortened where it is long.

    >>> show([1, None, True, "a"]), show({"kind": "sgd"})
    ("[1, null, true, 'a']", "{kind: 'sgd'}")
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (dict, list, tuple)):
        return _shorter(_show_section(value) if isinstance(value, dict) else _show_list(value))
    if isinstance(value, int) and value.bit_length() > 64:
        return f"an integer of {value.bit_length()} bits"  # Python refuses to write out very long ones
    return _SHORT.repr(value)


def _show_section(value: dict[Any, Any]) -> str:
    body = [f"{key}: {show(inner)}" for key, inner in list(value.items())[:6]]
    return "{" + ", ".join(body + ["..."] * (len(value) > len(body))) + "}"


def _show_list(value: Sequence[Any]) -> str:
    body = [show(inner) for inner in value[:6]]
    return "[" + ", ".join(body + ["..."] * (len(value) > len(body))) + "]"


def _shorter(text: str, length: int = 160) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."


def unknown_key(path: str, known: Iterable[str], *, received: str) -> Fault:
    """The fault of a key that no section has at its place."""
    known = sorted(known)
    near = nearest(path.rpartition(".")[2], known)
    hint = f" (did you mean {near!r}?)" if near else ""
    return Fault(path, f"unknown key{hint}", f"one of {known}" if known else "no key below a single value", received)


def faults_of(error: ValidationError, root: type[Part]) -> list[Fault]:
    """Every fault that pydantic found, in the order of the schema."""
    found: list[Fault] = []
    errors = error.errors(include_url=False)
    above = {details["loc"][:depth] for details in errors for depth in range(len(details["loc"]))}
    for details in errors:
        if details["type"] == "too_short" and details["loc"] in above:
            continue  # pydantic does not count wrong entries, so a list of them is called too short as well
        place = _place(details["loc"], root)
        if details["type"] == "faults":
            faults = details["ctx"]["faults"]
            found += [fault._replace(path=".".join(filter(None, (place.path, fault.path)))) for fault in faults]
        else:
            found.append(_translated(details, place))
    return found


class _Place(NamedTuple):
    """Where an error is: its path, the section that holds the field, the field's name, the index in its list."""

    path: str
    section: type[Part]
    name: str
    indexed: bool


def _place(location: Sequence[str | int], root: type[Part]) -> _Place:
    """pydantic's location as a path: it names the kind of a union's section, the recipe does not."""
    path, section, name, indexed = "", root, "", False
    below: tuple[type[Part], ...] = (root,)
    for step in location:
        if isinstance(step, int):
            path, indexed = f"{path}[{step}]", True
        elif len(below) > 1:
            below = tuple(candidate for candidate in below if kind_of(candidate) == step)
        else:
            path, section, name, indexed = f"{path}.{step}" if path else step, below[0], step, False
            field = section.model_fields.get(step)
            below = sections_in(field.annotation) if field else ()
    return _Place(path, section, name, indexed)


def _translated(error: ErrorDetails, place: _Place) -> Fault:
    value, context = error["input"], error.get("ctx", {})
    received = f"{place.path.rpartition('.')[2] or 'recipe'}={show(value)}"
    match error["type"]:
        case "extra_forbidden":
            return unknown_key(place.path, place.section.model_fields, received=received)
        case "missing":
            return Fault(place.path, "is missing", _expected(place), "nothing")
        case "union_tag_not_found":
            return Fault(f"{place.path}.kind", "is missing", f"one of {_kinds(place)}", show(value))
        case "union_tag_invalid":
            return _not_known(f"{place.path}.kind", value["kind"], _kinds(place))
        case "literal_error":
            return _not_known(place.path, value, _choices(place))
    return Fault(place.path, _sentence(error["type"], context, error["msg"]), _expected(place), received)


def _not_known(path: str, value: Any, choices: list[Any]) -> Fault:
    near = nearest(value, choices) if isinstance(value, str) else None
    hint = f" (did you mean {near!r}?)" if near else ""
    received = f"{path.rpartition('.')[2]}={show(value)}"
    return Fault(path, f"is not known{hint}", f"one of {choices}", received)


_SENTENCES = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be finite",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "string_pattern_mismatch": "has characters that are not allowed",
    "string_too_short": "must not be empty",
    "string_too_long": "is longer than {max_length} characters",
    "tuple_type": "must be a list",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "invalid_key": "has a key that is not text",
    "model_type": "must be a section with keys",
    "model_attributes_type": "must be a section with keys",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
}


def _sentence(kind: str, context: dict[str, Any], otherwise: str) -> str:
    if context.get("ge") == 0:
        return "must not be negative"
    if context.get("gt") == 0:
        return "must be positive"
    words = {name: _number(value) if isinstance(value, (int, float)) else value for name, value in context.items()}
    return _SENTENCES.get(kind, otherwise).format(**words)


def _json(place: _Place) -> dict[str, Any]:
    """What the section's JSON schema says of the field."""
    return place.section.model_json_schema()["properties"][place.name]


def _kinds(place: _Place) -> list[str]:
    sections = sections_in(place.section.model_fields[place.name].annotation)
    return sorted(kind for kind in map(kind_of, sections) if kind)


def _choices(place: _Place) -> list[Any]:
    """The words, or numbers, that a field or an entry of its list may be."""
    return sorted(_literals(_json(place)))


def _literals(schema: dict[str, Any]) -> Iterator[Any]:
    """Every literal of a JSON schema: its own, those of its forms (a field may be null as well) and of its entries."""
    yield from schema.get("enum", ())
    if "const" in schema:
        yield schema["const"]
    for part in (*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else ())):
        yield from _literals(part)


def _expected(place: _Place) -> str:
    if not place.name:
        return "a section with keys"
    schema, field = _json(place), place.section.model_fields[place.name]
    sections = sections_in(field.annotation)
    lists = [part for part in schema.get("anyOf", [schema]) if "items" in part]  # the field may be null as well
    if not sections:
        return _accepted(lists[0]["items"] if place.indexed else schema)
    kinds = _kinds(place)
    wanted = f"a section with `kind`, one of {kinds}" if kinds else f"a section with keys of {_keys(sections)}"
    if any("enum" in part for part in (lists[0]["items"] if lists else schema).get("anyOf", ())):
        wanted = f"one of {kinds}, or a section with one of them as `kind`"  # a name stands for a whole section
    wanted = f"a list, each entry {wanted}" if lists and not place.indexed else wanted
    return f"{wanted}, or null" if type(None) in getattr(field.annotation, "__args__", ()) else wanted


def _keys(sections: tuple[type[Part], ...]) -> list[str]:
    return sorted({name for section in sections for name in section.model_fields})


_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
_TYPES = {"integer": "an integer", "number": "a number", "boolean": "true or false", "null": "null"}


def _accepted(schema: dict[str, Any]) -> str:
    """A JSON schema of a single value or a list, in words."""
    limits = " and ".join(f"{sign} {_number(schema[bound])}" for bound, sign in _BOUNDS.items() if bound in schema)
    if "anyOf" in schema:
        return " or ".join(map(_accepted, schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return f"one of {sorted(schema.get('enum') or [schema['const']])}"
    if schema.get("type") == "array":
        return f"a list, each entry {_accepted(schema['items'])}"
    if schema.get("type") == "string":
        return f"text such as {schema['examples'][0]!r}" if "examples" in schema else "text"
    words = _TYPES.get(schema.get("type", ""), "a value")
    return f"{words} {limits}" if limits else words


def _number(bound: float) -> str:
    return str(bound) if isinstance(bound, int) else f"{bound:g}"
