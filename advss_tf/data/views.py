"""The views of contrastive learning: weak, strong, annealed, high-frequency, original.

Synopsis:

    first, second, weak, edges = make_views(("strong", "strong", "weak", "high_frequency"), images, seed)
    soft, cubic = make_views(({"kind": "strong", "hue": 0.0}, Strong(interpolation="bicubic")), images, seed)
    dataset = batches.map(lambda step, images: make_views(("annealed",) * 2, images, seed_for(0, step, "views")))

| name | what it does, in this order | as in |
| --- | --- | --- |
| `weak` | pad with zeros and crop, mirror | AdvCL's attacked views, DeACL |
| `strong` | crop 20 to 100 % of the area, mirror, jitter colours, grey | AdvCL |
| `annealed` | the same, with 10 % of the area, all but the mirror times a strength in [0, 1] | DynACL; ACL at 1 |
| `high_frequency` | the weak view without its low frequencies | AdvCL |
| `original` | nothing | ACL-AIR |

All but `high_frequency` are pixels in [0, 1]. Crops are resized bilinearly, in ACL's own code bicubically. Nothing is
rounded to 8 bits between the steps, as Pillow would.

References: Chen et al. 2020 (SimCLR, arXiv 2002.05709), appendix A; Fan et al. 2021 (AdvCL, arXiv 2111.01124); Luo et
al., "Rethinking the Effect of Data Augmentation in Adversarial Contrastive Learning" (DynACL), ICLR 2023 (arXiv
2303.01289); parameters as in the authors' code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from advss_tf.data.view_kinds import VIEWS, Original, Spec, View, Weak, views_of
from advss_tf.errors import InvalidInput
from advss_tf.randomness import fold, role_number


def views_for(views: Sequence[Spec], *, crop_padding: int | None = None, flip: bool = True) -> tuple[View, ...]:
    """Views with what a data set says of its images.

    Args:
        views: What `view_of` takes: names of `VIEWS`, names with arguments, or views.
        crop_padding: The largest shift of weak views that name none, in pixels; None is an eighth of the height.
        flip: False lets no view mirror images, whatever its own `flip` says, as digits and letters need it.

    Raises:
        InvalidInput: if the list is empty, or as `views_of`.
    """
    found = views_of(views)
    if not found:
        raise InvalidInput("`views` names no views.", expected="a list of one view or more", received=f"{views=}")
    return tuple(_with_settings(view, crop_padding, flip) for view in found)


def make_views(
    views: Sequence[Spec],
    images: tf.Tensor,
    seed: tf.Tensor,
    *,
    strength: Any = 1.0,
    batch_size: int | None = None,
    first: int = 0,
) -> tuple[tf.Tensor, ...]:
    """Views of one batch, each image of each with random choices of its own.

    What an image gets depends on the seed and on its row in the global batch. The second strong view draws other
    numbers than the first, and so on, whether it is annealed or not. The first high-frequency view is that of the first
    weak view, as in AdvCL, if both are padded and mirrored alike.

    Measured by `taskset -c 0 python -m benchmarks.step --rows views --networks small`, images of 32 x 32 x 3 in 8 bits
    through `tf.data`, medians of five rounds on a core of a 2.4 GHz AMD EPYC without AVX-512 that other work shared, so
    in images a second of the core's own time: 26,000 weak views, 11,000 high-frequency ones, 2,700 pairs of strong
    ones, 2,300 times AdvCL's four. By the clock it was less than half of that. No image is touched from Python.

    Args:
        views: What `view_of` takes: names of `VIEWS`, names with arguments, or views.
        images: `(rows, height, width, channels)`, 8 bits or float32 in [0, 1], one or three channels; rows `first` …
            `first + rows` of a global batch.
        seed: A stateless seed, shape `(2,)`.
        strength: That of annealed views, in [0, 1]; a number or a scalar tensor.
        batch_size: The size of the global batch, as for `crop_and_flip`. Defaults to the number of rows.
        first: Which row of the global batch the first image is.

    Returns:
        One float32 tensor of the images' shape a view.

    Raises:
        InvalidInput: if the strength is not in [0, 1], or as `views_for`.
    """
    found = views_for(views)
    if not tf.is_tensor(strength) and not 0 <= strength <= 1:
        raise InvalidInput("`strength` is out of range.", expected="a number in [0, 1]", received=f"{strength=}")
    made: list[tf.Tensor] = []
    seen = dict.fromkeys(VIEWS, 0)
    for view in found:
        # A family draws from one sequence, but high frequencies are those of the weak view of the same number.
        line = view.kind if view.kind == "high_frequency" else view.family
        own = fold(fold(seed, role_number(view.family)), seen[line])
        seen[line] += 1
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


def _with_settings(view: View, crop_padding: int | None, flip: bool) -> View:
    if isinstance(view, Original):
        return view
    if isinstance(view, Weak) and view.crop_padding is None:
        view = replace(view, crop_padding=crop_padding)
    return replace(view, flip=view.flip and flip)
