"""What a recipe's sections are made of: the strict frozen base, the wording of a fault, and fields that are pixels.

Synopsis:

    class Ball(Part):
        rules = (my_rule,)                     # a rule takes the section and yields a Fault for each thing wrong
        epsilon: Radius = Field(description="Radius of the ball.")

    Ball(epsilon="8/255").epsilon              # 0.03137...
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Annotated, Any, ClassVar, NamedTuple, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError


class Fault(NamedTuple):
    """One thing that is wrong in a recipe, in the three beats of every refusal.

    Attributes:
        path: Where, as `pretrain.attack.epsilon`; inside a rule, relative to the section that the rule checks.
        what: What is invalid, without a full stop.
        expected: What would have been accepted.
        received: What came, as `name=value`.
    """

    path: str
    what: str
    expected: str
    received: str

    def __str__(self) -> str:
        head = f"{self.path}: " if self.path else ""
        return f"{head}{self.what}. Expected: {self.expected}. Received: {self.received}."


Rule = Callable[[Any], Iterable[Fault]]
Rules = tuple[Rule, ...]


class Part(BaseModel):
    """A section of a recipe: frozen, no unknown keys, no silent conversion (`"10"` is not 10, `1` is not true).

    `rules` are the conditions between fields. They are checked once every field of the section is right by itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True)
    rules: ClassVar[Rules] = ()

    @model_validator(mode="after")
    def _follow_rules(self) -> Part:
        faults = [fault for rule in self.rules for fault in rule(self)]
        if faults:
            # pydantic reports one error for a section; the faults travel in its context, see faults.py.
            raise PydanticCustomError("faults", "{text}", {"text": " ".join(map(str, faults)), "faults": faults})
        return self


def sections_in(annotation: Any) -> tuple[type[Part], ...]:
    """The sections that a field's type allows: none for a number, one for a section, several for a union of kinds."""
    if isinstance(annotation, type) and issubclass(annotation, Part):
        return (annotation,)
    return tuple(section for inner in get_args(annotation) for section in sections_in(inner))


def kind_of(section: type[Part]) -> str | None:
    """What `kind` says of a section, or None for a section of one kind only.

    >>> kind_of(Part) is None
    True
    """
    field = section.model_fields.get("kind")
    return get_args(field.annotation)[0] if field and get_args(field.annotation) else None


_FRACTION = re.compile(r"(-?\d+(?:\.\d+)?) */ *(\d+(?:\.\d+)?)")


def read_pixels(value: Any) -> Any:
    """`"8/255"` as a number; anything else as it came.

    >>> read_pixels("51/255")
    0.2
    """
    found = _FRACTION.fullmatch(value) if isinstance(value, str) else None
    return float(found[1]) / float(found[2]) if found and float(found[2]) else value


def write_pixels(value: float) -> float | str:
    """`8 / 255` as `"8/255"` where that reads back to the same number, else the number itself.

    >>> write_pixels(8 / 255), write_pixels(0.1), write_pixels(1.0)
    ('8/255', 0.1, 1.0)
    """
    levels = round(value * 255)
    return f"{levels}/255" if 0 < levels < 255 and levels / 255 == value else value


def _pixels_schema(**bound: float) -> WithJsonSchema:
    fraction = {"type": "string", "pattern": r"^-?[\d.]+ */ *[\d.]+$", "examples": ["8/255"]}
    return WithJsonSchema({"anyOf": [{"type": "number", **bound}, fraction]})


_READ, _WRITE = BeforeValidator(read_pixels), PlainSerializer(write_pixels, when_used="json")

Radius = Annotated[float, _READ, Field(ge=0), _WRITE, _pixels_schema(minimum=0)]
"""The radius of a ball in pixels, which lie in [0, 1]: a number, or a fraction such as `8/255`."""

Step = Annotated[float, _READ, Field(gt=0), _WRITE, _pixels_schema(exclusiveMinimum=0)]
"""The length of a step in pixels, a number or a fraction."""

Text = Annotated[str, Field(min_length=1)]
"""Text that is not empty."""

Counts = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(strict=False)]
"""Whole numbers from 1. Not strict, as YAML has lists and no tuples; what the list holds is strict all the same."""

Numbers = Annotated[tuple[float, ...], Field(strict=False)]
"""Numbers, written as a list."""

Radii = Annotated[tuple[Radius, ...], Field(strict=False)]
"""Radii of balls in pixels, written as a list."""
