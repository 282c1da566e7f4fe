"""YAML 1.2 text to plain values and back, with ruamel.yaml.

Synopsis:

    values = read_yaml("epochs: 1e1\nflip: no")           # {"epochs": 10.0, "flip": "no"}
    text = write_yaml({"name": "digits", "title": None})

Only what a recipe needs is read: sections, lists, text, numbers, true, false and null. Anchors and merge keys are
copied out, so a later change of one place leaves the other alone.
"""

from __future__ import annotations

import io
import math
import re
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import CollectionEndEvent, CollectionStartEvent

from .faults import show
from .parts import Fault

DEEPEST = 20
"""Levels of nesting that are read; a recipe has six."""
MOST_VALUES = 10_000
"""Values that are read, anchors copied out; a recipe has about a hundred."""


class InvalidYaml(ValueError):
    """Text that is not the YAML of a recipe.

    Attributes:
        faults: What is wrong, where a path is the path inside the text.
        line: The line of the text, from 1, or None where the fault is not of one line.
    """

    def __init__(self, faults: list[Fault], line: int | None = None) -> None:
        self.faults, self.line = faults, line
        super().__init__("; ".join(map(str, faults)))


def read_yaml(text: str) -> Any:
    """The plain values that YAML 1.2 text holds.

    Raises:
        InvalidYaml: for what is not YAML 1.2, keys that appear twice, tags, interpolations, dates, keys that are not
            text, and more nesting or values than a recipe can have.
    """
    if re.search(r"^%YAML\s+(?!1\.2\s*$)", text, re.MULTILINE):
        raise InvalidYaml([Fault("", "is another version of YAML", "YAML 1.2, or no %YAML line", "a %YAML line")])
    faults: list[Fault] = []
    values = _plain(_parsed(text), "", faults, [0, 0])
    if faults:
        raise InvalidYaml(faults)
    return values


def write_yaml(values: Any) -> str:
    """Plain values as YAML 1.2 text, keys in the order given."""
    yaml: Any = _yaml()
    text = io.StringIO()
    yaml.default_flow_style, yaml.sort_base_mapping_type_on_output = False, False
    yaml.allow_unicode, yaml.width = True, 120
    yaml.dump(values, text)
    return text.getvalue()


def _yaml() -> YAML:
    return YAML(typ="safe", pure=True)


def _parsed(text: str) -> Any:
    try:
        _refuse_excess(text)
        return _yaml().load(text)
    except InvalidYaml:
        raise
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise InvalidYaml([_syntax_fault(error, text, line)], line) from None
    except Exception as error:
        # `!!int ''`, `!!bool x`, a control character: ruamel lets out whatever its conversion happened to raise.
        reason = " ".join(str(error).split())[:100]
        raise InvalidYaml([Fault("", "cannot be read", "YAML 1.2", f"{type(error).__name__} {reason}")]) from None


def _refuse_excess(text: str) -> None:
    """Stops at the first level or value too many: ruamel takes minutes for text that nests thousands of levels."""
    depth = 0
    for count, event in enumerate(_yaml().parse(text)):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if depth > DEEPEST or count > 2 * MOST_VALUES:
            raise _excess()


def _excess() -> InvalidYaml:
    limit = f"at most {MOST_VALUES} values and {DEEPEST} levels"
    return InvalidYaml([Fault("", "is too large for a recipe", limit, "more; does an anchor hold itself?")])


def _syntax_fault(error: MarkedYAMLError, text: str, line: int | None) -> Fault:
    problem = " ".join(str(error.problem or error.context).split())
    lines = text.splitlines()
    received = show(lines[line - 1].strip()) if line and line <= len(lines) else "the end of the text"
    if key := re.match(r'found duplicate key "(.*?)" with', problem):
        return Fault("", f"the key {key[1]!r} appears twice", "each key once", received)
    if tag := re.search(r"constructor for the tag '(?:tag:yaml\.org,2002:)?(.*)'", problem):
        return Fault("", f"the tag {tag[1]!r} is refused", "plain values without tags", received)
    return Fault("", f"is not YAML 1.2: {problem}", "YAML 1.2", received)


def _plain(value: Any, path: str, faults: list[Fault], seen: list[int]) -> Any:
    """A copy of `value` in which nothing is shared; `seen` holds the number of values so far and the depth."""
    seen[0] += 1
    if seen[0] > MOST_VALUES or seen[1] > DEEPEST:
        raise _excess()
    if isinstance(value, (dict, list)):
        seen[1] += 1
        copy = (
            _plain_section(value, path, faults, seen)
            if isinstance(value, dict)
            else _plain_list(value, path, faults, seen)
        )
        seen[1] -= 1
        return copy
    if problem := _refusal(value):
        faults.append(Fault(path, *problem, show(value)))
    return value


def _plain_section(value: dict[Any, Any], path: str, faults: list[Fault], seen: list[int]) -> dict[str, Any]:
    for key in value:
        if not isinstance(key, str):
            faults.append(Fault(path, "has a key that is not text", "text as the key", show(key)))
    return {k: _plain(v, f"{path}.{k}" if path else str(k), faults, seen) for k, v in value.items()}


def _plain_list(value: list[Any], path: str, faults: list[Fault], seen: list[int]) -> list[Any]:
    return [_plain(inner, f"{path}[{index}]", faults, seen) for index, inner in enumerate(value)]


def _refusal(value: Any) -> tuple[str, str] | None:
    """What is invalid about a single value and what was expected, or None."""
    if isinstance(value, str) and "${" in value:
        return "holds an interpolation", "the value itself, or a YAML anchor"
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return "is too large a number", "an integer of 64 bits"
    if isinstance(value, float) and not math.isfinite(value):
        return "must be finite", "a finite number"
    if value is not None and not isinstance(value, (str, int, float, bool)):
        return f"is read as a {type(value).__name__}", "text in quotes, a number, true, false or null"
    return None
