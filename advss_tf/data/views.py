"""The views of contrastive learning, by name: weak, strong, annealed, high-frequency, original.

Synopsis:

    first, second, weak, edges = make_views(("strong", "strong", "weak", "high_frequency"), images, seed)
    dataset = batches.map(lambda step, images: make_views(("annealed",) * 2, images, seed_for(0, step, "views")))

| name | what it does, in this order | as in |
| --- | --- | --- |
| `weak` | pad with zeros and crop, mirror | AdvCL's attacked views, DeACL |
| `strong` | crop 20 to 100 % of the area, mirror, jitter colours, grey | AdvCL |
| `annealed` | the same, with 10 % of the area, all but the mirror times a strength in [0, 1] | DynACL; ACL at 1 |
| `high_frequency` | the weak view without its low frequencies | AdvCL |
| `original` | nothing | ACL-AIR |

All but `high_frequency` are pixels in [0, 1]. Nothing is rounded to 8 bits between the steps, as Pillow would.

References: Chen et al. 2020 (SimCLR, arXiv 2002.05709), appendix A; Fan et al. 2021 (AdvCL, arXiv 2111.01124); Luo et
al., "Rethinking the Effect of Data Augmentation in Adversarial Contrastive Learning" (DynACL), ICLR 2023 (arXiv
2303.01289); parameters as in the authors' code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from advss_tf.data.augment import crop_and_flip
from advss_tf.data.colour import recolour
from advss_tf.data.frequency import high_frequency
from advss_tf.data.pixels import as_float
from advss_tf.data.resized_crop import NUM_UNIFORMS, crop_boxes, resize_boxes
from advss_tf.errors import InvalidInput, one_of
from advss_tf.randomness import batch_uniform, fold, role_number


@dataclass(frozen=True)
class Weak:
    """Pad, crop and mirror, and then, where a radius is given, take out the low frequencies.

    Args:
        crop_padding: The largest shift in pixels; None is an eighth of the height: 4 at 32 pixels.
        flip: Whether images are mirrored, each with probability one half.
        radius: That of `high_frequency`; None leaves the pixels as they are.
    """

    crop_padding: int | None = None
    flip: bool = True
    radius: float | None = None

    family = "weak"

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

    family = "original"

    def draw(self, images: tf.Tensor, seed: tf.Tensor, *, batch_size: int | None, first: int, strength: Any) -> Any:
        """The images as float32 in [0, 1]; see `make_views`."""
        del seed, batch_size, first, strength
        return as_float(images)


View = Weak | Strong | Original

VIEWS: dict[str, View] = {
    "weak": Weak(),
    "strong": Strong(),
    "annealed": Strong(smallest_area=0.1, annealed=True),
    "high_frequency": Weak(radius=8.0),
    "original": Original(),
}


def views_for(views: Sequence[str | View], *, crop_padding: int | None = None, flip: bool = True) -> tuple[View, ...]:
    """Views by name, or as they are, with what a data set says of its images.

    Args:
        views: Names of `VIEWS`, or views with arguments of their own, such as `Strong(interpolation="bicubic")`.
        crop_padding: The largest shift of weak views that name none, in pixels; None is an eighth of the height.
        flip: False lets no view mirror images, whatever its own `flip` says, as digits and letters need it.

    Raises:
        InvalidInput: if there is no view, a name is not known, or something is no view.
    """
    if isinstance(views, str) or not views:
        raise InvalidInput("`views` names no views.", expected="a list of names", received=f"views={views!r}")
    return tuple(_with_settings(_named(view), crop_padding, flip) for view in views)


def make_views(
    views: Sequence[str | View],
    images: tf.Tensor,
    seed: tf.Tensor,
    *,
    strength: Any = 1.0,
    batch_size: int | None = None,
    first: int = 0,
) -> tuple[tf.Tensor, ...]:
    """Views of one batch, each image of each with random choices of its own.

    What an image gets depends on the seed and on its row in the global batch. The second strong view draws other
    numbers than the first, and so on. The first high-frequency view is that of the first weak view, as in AdvCL.

    Measured on one core of a shared two-core machine, best of five rounds through `tf.data`, images of 32 x 32 x 3 in 8
    bits, batches of 512: 25,000 strong views a second (21,000 bicubic), 87,000 weak ones, 29,000 high-frequency ones;
    8,500 images a second with AdvCL's four. Through `ImageData.unlabelled` from memory, while the machine did other
    work, the better of two runs: 11,600 images a second with two strong views, 7,500 with AdvCL's four (two strong,
    weak, high-frequency). No image is touched from Python.

    Args:
        views: Names of `VIEWS`, or views with arguments of their own, such as `Strong(interpolation="bicubic")`.
        images: `(rows, height, width, channels)`, 8 bits or float32 in [0, 1], one or three channels; rows `first` …
            `first + rows` of a global batch.
        seed: A stateless seed, shape `(2,)`.
        strength: That of annealed views, in [0, 1]; a number or a scalar tensor.
        batch_size: The size of the global batch, as for `crop_and_flip`. Defaults to the number of rows.
        first: Which row of the global batch the first image is.

    Returns:
        One float32 tensor of the images' shape a view.

    Raises:
        InvalidInput: if there is no view, a name is not known, or the strength is not in [0, 1].
    """
    found = views_for(views)
    if not tf.is_tensor(strength) and not 0 <= strength <= 1:
        raise InvalidInput("`strength` is out of range.", expected="a number in [0, 1]", received=f"{strength=}")
    made: list[tf.Tensor] = []
    seen = dict.fromkeys(VIEWS, 0)
    for view in found:
        kind = "high_frequency" if isinstance(view, Weak) and view.radius is not None else view.family
        own = fold(fold(seed, role_number(view.family)), seen[kind])
        seen[kind] += 1
        made.append(view.draw(images, own, batch_size=batch_size, first=first, strength=strength))
    return tuple(made)


def check_strength(strength: Callable[[tf.Tensor], Any], step: int) -> None:
    """Refuses what gives no strength in [0, 1] at a step.

    Args:
        strength: A function from a step, an int64 scalar tensor, to a scalar.
        step: The step at which it is tried.

    Raises:
        InvalidInput: if it cannot be called, or what it gives is no scalar in [0, 1].
    """
    expected = "a function from the step to a scalar in [0, 1]"
    if not callable(strength):
        raise InvalidInput("`strength` is no function.", expected=expected, received=f"strength={strength!r}")
    value = np.asarray(strength(tf.constant(step, tf.int64)))
    if value.shape or not 0 <= value <= 1:
        raise InvalidInput("`strength` gives no strength.", expected=expected, received=f"strength({step})={value}")


def _named(view: str | View) -> View:
    if isinstance(view, str):
        return VIEWS[one_of("view", view, VIEWS)]
    if not isinstance(view, View):
        raise InvalidInput("This is no view.", expected=f"one of {list(VIEWS)}, or a view", received=f"view={view!r}")
    return view


def _with_settings(view: View, crop_padding: int | None, flip: bool) -> View:
    if isinstance(view, Original):
        return view
    if isinstance(view, Weak) and view.crop_padding is None:
        view = replace(view, crop_padding=crop_padding)
    return replace(view, flip=view.flip and flip)


def _rows_of_replica(images: tf.Tensor) -> dict[str, Any]:
    """How many rows all replicas have together, and the first of this one's; all of them outside a replica."""
    replica = tf.distribute.get_replica_context()
    count = replica.num_replicas_in_sync if replica is not None else 1
    if count == 1:
        return {}
    rows = tf.shape(images)[0]
    return {"batch_size": rows * count, "first": tf.cast(replica.replica_id_in_sync_group, tf.int32) * rows}
