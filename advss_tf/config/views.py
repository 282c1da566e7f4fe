"""The views of a contrastive method in a recipe: a name, or a kind with arguments of its own.

Synopsis:

    views: [strong, {kind: strong, interpolation: bicubic}]

A name is the view as `advss_tf.data.VIEWS` has it; what its arguments do is said there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, PlainSerializer
from pydantic_core import CoreSchema, PydanticCustomError

from ..errors import nearest
from .faults import show
from .parts import Fault, Part, kind_of, sections_in


class WeakView(Part):
    """Shifted and mirrored."""

    kind: Literal["weak"] = Field(description="Padded and cropped, mirrored.")
    crop_padding: int | None = Field(
        default=None, ge=0, description="Largest shift in pixels; null: as `pretrain` or `data` says."
    )
    flip: bool = Field(default=True, description="Mirror half of the images; not if `pretrain` or `data` says false.")


class HighFrequencyView(WeakView):
    """The weak view without its low frequencies (Fan et al. 2021)."""

    kind: Literal["high_frequency"] = Field(description="The weak view without its low frequencies.")  # type: ignore[assignment]
    radius: float = Field(default=8.0, gt=0, description="Frequencies below are taken out; said for 32 x 32 pixels.")


class StrongView(Part):
    """Cropped and resized, mirrored, recoloured (Chen et al. 2020, SimCLR)."""

    kind: Literal["strong"] = Field(description="Cropped and resized, mirrored, recoloured.")
    smallest_area: float = Field(default=0.2, gt=0, le=1, description="Least part of the area that a crop keeps.")
    brightness: float = Field(default=0.4, ge=0, description="Brightness is multiplied by 1 plus or minus up to this.")
    contrast: float = Field(default=0.4, ge=0, description="The same of the contrast.")
    saturation: float = Field(default=0.4, ge=0, description="The same of the saturation.")
    hue: float = Field(default=0.1, ge=0, le=0.5, description="Largest turn of the hue, as a part of a full one.")
    jitter_probability: float = Field(default=0.8, ge=0, le=1, description="Share of images whose colours change.")
    grey_probability: float = Field(default=0.2, ge=0, le=1, description="Share of images that become grey.")
    interpolation: Literal["bilinear", "bicubic"] = Field(default="bilinear", description="How crops are resized.")
    flip: bool = Field(default=True, description="Mirror half of the images; not if `pretrain` or `data` says false.")


class AnnealedView(StrongView):
    """The strong view times the strength of a schedule (Luo et al. 2023)."""

    kind: Literal["annealed"] = Field(description="The strong view times the strength of a schedule.")  # type: ignore[assignment]
    smallest_area: float = Field(default=0.1, gt=0, le=1, description="Least part of the area that a crop keeps.")


class OriginalView(Part):
    """The image as it is."""

    kind: Literal["original"] = Field(description="The image as it is.")


WEAK, STRONG, ANNEALED = WeakView(kind="weak"), StrongView(kind="strong"), AnnealedView(kind="annealed")
HIGH_FREQUENCY = HighFrequencyView(kind="high_frequency")


class _Named:
    """Reads a name as the view of that kind, in validation and in the JSON schema."""

    def __init__(self, kinds: Any) -> None:
        self.kinds = sorted(kind for kind in map(kind_of, sections_in(kinds)) if kind)

    def read(self, written: Any) -> Any:
        """A view's section; what is a section already, or might be, as it came."""
        if isinstance(written, Mapping | Part):
            return written
        if isinstance(written, str) and written in self.kinds:
            return {"kind": written}
        near = nearest(written, self.kinds) if isinstance(written, str) else None
        hint = f" (did you mean {near!r}?)" if near else ""
        expected = f"one of {self.kinds}, or a section with one of them as `kind`"
        fault = Fault("", f"is no view that can stand here{hint}", expected, f"view={show(written)}")
        raise PydanticCustomError("faults", "{text}", {"text": str(fault), "faults": [fault]})

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"enum": self.kinds}, handler(core)]}


def _written(view: Part) -> Any:
    """A view as it is best written: its name, unless an argument differs from the view of that name."""
    fields = type(view).model_fields
    values = {name: getattr(view, name) for name in fields}
    changes = {name: value for name, value in values.items() if value != fields[name].default}
    return changes if len(changes) > 1 else changes["kind"]


_IMAGES = WeakView | StrongView | AnnealedView | OriginalView
_VIEWS = WeakView | HighFrequencyView | StrongView | AnnealedView | OriginalView
_image, _view = _Named(_IMAGES), _Named(_VIEWS)

Image = Annotated[_IMAGES, Field(discriminator="kind"), BeforeValidator(_image.read), _image, PlainSerializer(_written)]
"""A view that is an image, and so can be attacked."""

View = Annotated[_VIEWS, Field(discriminator="kind"), BeforeValidator(_view.read), _view, PlainSerializer(_written)]
"""Any view."""

Images = Annotated[tuple[Image, ...], Field(strict=False)]
"""Views that are images, written as a list."""

Views = Annotated[tuple[View, ...], Field(strict=False)]
"""Views, written as a list."""
