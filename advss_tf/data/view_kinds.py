"""The kinds of views: what each does to an image, and how it is written in a list of views.

Synopsis:

    view_of("strong"), view_of({"kind": "strong", "hue": 0.0}), view_of(Strong(hue=0.0))
    views_of(("strong", "weak"))
    spec_of(Strong(interpolation="bicubic"))              # {"kind": "strong", "interpolation": "bicubic"}

What they are for is said in views.py, which makes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import tensorflow as tf

from advss_tf.data.augment import crop_and_flip
from advss_tf.data.checks import check_augmentation
from advss_tf.data.colour import recolour
from advss_tf.data.frequency import high_frequency
from advss_tf.data.pixels import as_float
from advss_tf.data.resized_crop import INTERPOLATIONS, NUM_UNIFORMS, crop_boxes, resize_boxes
from advss_tf.errors import InvalidInput, one_of
from advss_tf.randomness import batch_uniform


def _make_plain(view: Any) -> None:
    """NumPy's numbers as Python's, which JSON knows, and no word but True and False for what is one of them."""
    for field in fields(view):
        value = getattr(view, field.name)
        if isinstance(value, np.generic):
            object.__setattr__(view, field.name, value.item())  # frozen for everybody else
        if isinstance(field.default, bool) and not isinstance(getattr(view, field.name), bool):
            received = f"{field.name}={value!r}"
            raise InvalidInput(f"`{field.name}` of a view is invalid.", expected="True or False", received=received)


def _check(name: str, value: Any, *, low: float, high: float = np.inf, above: bool = False) -> None:
    """Refuses what is no number from `low`, or above it, to `high`; infinity is none either."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))
    if not number or not low <= value <= high or (above and value == low):
        least = f"> {low}" if above else f">= {low}"
        expected = f"a number {least}" + (f" and <= {high:g}" if high < np.inf else "")
        raise InvalidInput(f"`{name}` of a view is out of range.", expected=expected, received=f"{name}={value!r}")


@dataclass(frozen=True)
class Weak:
    """Pad, crop and mirror, and then, where a radius is given, take out the low frequencies.

    Args:
        crop_padding: The largest shift in pixels; None is an eighth of the height: 4 at 32 pixels.
        flip: Whether images are mirrored, each with probability one half.
        radius: That of `high_frequency`; None leaves the pixels as they are.

    Raises:
        InvalidInput: if a value is out of its range.
    """

    crop_padding: int | None = None
    flip: bool = True
    radius: float | None = None

    family = "weak"

    def __post_init__(self) -> None:
        _make_plain(self)
        if self.crop_padding is not None:
            check_augmentation(self.crop_padding, self.flip)
        if self.radius is not None:
            _check("radius", self.radius, low=0, above=True)

    @property
    def kind(self) -> str:
        """Its name among `VIEWS`."""
        return "weak" if self.radius is None else "high_frequency"

    def draw(self, images: tf.Tensor, seed: tf.Tensor, *, batch_size: int | None, first: int, strength: Any) -> Any:
        """The view of images of any dtype; see `make_views`."""
        del strength
        padding = images.shape[1] // 8 if self.crop_padding is None else self.crop_padding
        rows = {"batch_size": batch_size, "first": first} if batch_size is not None else _rows_of_replica(images)
        moved = as_float(crop_and_flip(images, seed, crop_padding=padding, flip=self.flip, **rows))
        return moved if self.radius is None else high_frequency(moved, radius=self.radius)


@dataclass(frozen=True)
class Strong:
    """Crop and resize, mirror, jitter the colours, make grey. Of one channel, only brightness and contrast change.

    Args:
        smallest_area: The least part of the area that a crop keeps, in (0, 1].
        brightness: The factor is uniform within 1 ± this, not below 0.
        contrast: The same of the contrast.
        saturation: The same of the saturation.
        hue: The largest turn of the hue, as a part of a full one, at most 0.5.
        jitter_probability: How many images have their colours changed, in a random order of the four.
        grey_probability: How many images become grey.
        interpolation: `"bilinear"`, or `"bicubic"` as in the code of ACL and ACL-AIR.
        flip: Whether images are mirrored, each with probability one half.
        annealed: Whether `make_views`'s strength `s` applies: the jitter's ranges and both probabilities times `s`,
            and the least area `1 - s · (1 - smallest_area)`.

    Raises:
        InvalidInput: if a value is out of its range.
    """

    smallest_area: float = 0.2
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    jitter_probability: float = 0.8
    grey_probability: float = 0.2
    interpolation: str = "bilinear"
    flip: bool = True
    annealed: bool = False

    family = "strong"

    def __post_init__(self) -> None:
        _make_plain(self)
        _check("smallest_area", self.smallest_area, low=0, high=1, above=True)
        for name in ("brightness", "contrast", "saturation"):
            _check(name, getattr(self, name), low=0)
        _check("hue", self.hue, low=0, high=0.5)
        for name in ("jitter_probability", "grey_probability"):
            _check(name, getattr(self, name), low=0, high=1)
        one_of("interpolation", self.interpolation, INTERPOLATIONS)

    @property
    def kind(self) -> str:
        """Its name among `VIEWS`."""
        return "annealed" if self.annealed else "strong"

    def draw(self, images: tf.Tensor, seed: tf.Tensor, *, batch_size: int | None, first: int, strength: Any) -> Any:
        """The view of images of any dtype; see `make_views`."""
        strength = tf.cast(strength, tf.float32) if self.annealed else 1.0
        rows = tf.shape(images)[0]
        # One draw of the global batch, by row: what an image gets does not depend on who holds which rows.
        uniforms = batch_uniform(seed, (rows if batch_size is None else batch_size, NUM_UNIFORMS + 11))
        uniforms = uniforms[first : first + rows]
        crop, mirror, colour = tf.split(uniforms, [NUM_UNIFORMS, 1, 10], axis=1)
        least = 1.0 - strength * (1.0 - self.smallest_area)
        boxes = crop_boxes(crop, (images.shape[1], images.shape[2]), smallest_area=least)
        mirrored = mirror[:, 0] < 0.5 * self.flip
        images = resize_boxes(as_float(images), boxes, mirrored, interpolation=self.interpolation)
        return self._coloured(images, colour, strength)

    def _coloured(self, images: tf.Tensor, uniforms: tf.Tensor, strength: Any) -> tf.Tensor:
        amounts, order, jitters, greys = tf.split(uniforms, [4, 4, 1, 1], axis=1)
        widths = strength * np.array([self.brightness, self.contrast, self.saturation, self.hue], np.float32)
        middles = np.array([1.0, 1.0, 1.0, 0.0], np.float32)
        low = tf.maximum(middles - widths, np.array([0.0, 0.0, 0.0, -0.5], np.float32))
        factors = low + (middles + widths - low) * amounts
        factors = tf.where(jitters < strength * self.jitter_probability, factors, middles)
        greyed = greys[:, 0] < strength * self.grey_probability
        return recolour(images, factors, tf.argsort(order, axis=1), greyed)


@dataclass(frozen=True)
class Original:
    """The images as they are."""

    family = kind = "original"

    def draw(self, images: tf.Tensor, seed: tf.Tensor, *, batch_size: int | None, first: int, strength: Any) -> Any:
        """The images as float32 in [0, 1]; see `make_views`."""
        del seed, batch_size, first, strength
        return as_float(images)


View = Weak | Strong | Original

Spec = str | Mapping[str, Any] | View
"""A view as it is written in a list: a name of `VIEWS`; a name as `kind` with arguments beside it; or a view."""

VIEWS: dict[str, View] = {
    "weak": Weak(),
    "strong": Strong(),
    "annealed": Strong(smallest_area=0.1, annealed=True),
    "high_frequency": Weak(radius=8.0),
    "original": Original(),
}


def view_of(spec: Spec) -> View:
    """The view that a spec stands for.

    Args:
        spec: A name of `VIEWS`, or a mapping with such a name as `kind` and what differs from that view, such as
            `{"kind": "strong", "interpolation": "bicubic"}`, or a view, which is returned as it is.

    Raises:
        InvalidInput: if it is none of these, a name is not known, or a value is out of its range.
    """
    if isinstance(spec, str):
        return VIEWS[one_of("view", spec, VIEWS)]
    if isinstance(spec, View):
        return spec
    if not isinstance(spec, Mapping) or "kind" not in spec:
        expected = f"one of {list(VIEWS)}, a dictionary with one of them as `kind`, or a view"
        raise InvalidInput("This is no view.", expected=expected, received=f"view={spec!r}")
    base = VIEWS[one_of("kind", spec["kind"], VIEWS)]
    changes = {name: value for name, value in spec.items() if name != "kind"}
    for name in changes:
        one_of("view argument", name, _arguments(base))
    view = replace(base, **changes)
    if view.kind != base.kind:
        expected = f"a number, or kind={view.kind!r}"
        raise InvalidInput(f"A view without a radius is not {base.kind!r}.", expected=expected, received=f"view={spec}")
    return view


def views_of(specs: Sequence[Spec]) -> tuple[View, ...]:
    """The views that a list of specs stands for, as `view_of`.

    Raises:
        InvalidInput: if a single spec stands in the place of a list, or as `view_of`.
    """
    if isinstance(specs, str | Mapping | View):
        raise InvalidInput("`views` is no list of views.", expected="a list of views", received=f"views={specs!r}")
    return tuple(map(view_of, specs))


def spec_of(view: View) -> str | dict[str, Any]:
    """The shortest spec of a view, as JSON: its name, or its name as `kind` with what differs from that view."""
    base = VIEWS[view.kind]
    own, usual = ({name: getattr(each, name) for name in _arguments(base)} for each in (view, base))
    changes = {name: value for name, value in own.items() if value != usual[name]}
    return {"kind": view.kind, **changes} if changes else view.kind


def _arguments(view: View) -> list[str]:
    """What may be said beside a kind, which itself says whether a view is annealed or of high frequencies."""
    fixed = {"annealed"} if view.kind != "weak" else {"radius"}
    return [field.name for field in fields(view) if field.name not in fixed]


def _rows_of_replica(images: tf.Tensor) -> dict[str, Any]:
    """How many rows all replicas have together, and the first of this one's; all of them outside a replica."""
    replica = tf.distribute.get_replica_context()
    count = replica.num_replicas_in_sync if replica is not None else 1
    if count == 1:
        return {}
    rows = tf.shape(images)[0]
    return {"batch_size": rows * count, "first": tf.cast(replica.replica_id_in_sync_group, tf.int32) * rows}
