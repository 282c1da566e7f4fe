"""Which corruptions there are, and the door through which a batch is corrupted.

Synopsis:

    dark = corrupt(images, "contrast", 3, seed)
    for name in CORRUPTIONS:
        harmed = corrupt(images, name, severity=5, seed=seed, first=number_of_the_first_image)

The 15 corruptions of CIFAR-10-C and the 4 that its authors set aside for choosing hyper-parameters (Hendrycks &
Dietterich 2019, arXiv:1903.12261), at five severities, made on the fly: any image size, grey or colour, no download.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from advss_tf.data.checks import check_images
from advss_tf.data.corruptions import blur, digital, noise, weather
from advss_tf.data.corruptions.draws import Draws
from advss_tf.data.corruptions.filters import divided
from advss_tf.errors import InvalidInput, one_of
from advss_tf.randomness import fold, role_number

CORRUPTIONS = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
EXTRA_CORRUPTIONS = ("gaussian_blur", "saturate", "spatter", "speckle_noise")

SEVERITIES = (1, 2, 3, 4, 5)
SMALLEST = 4  # pixels along a side; below, three points of the middle do not set an affine map

_FUNCTIONS: dict[str, Callable[..., tf.Tensor]] = {**noise.NOISE, **blur.BLUR, **weather.WEATHER, **digital.DIGITAL}
_PARAMETERS = {**noise.PARAMETERS, **blur.PARAMETERS, **weather.PARAMETERS, **digital.PARAMETERS}


def corrupt(images: Any, name: str, severity: int, seed: Any, *, first: Any = 0, frost_images: Any = None) -> tf.Tensor:
    """Images with one corruption, as CIFAR-10-C has it.

    The images are rounded to 256 grey levels, as the benchmark's are, corrupted in float64 and *truncated* to 256 grey
    levels, as the published script does. Deterministic: `seed`, an image's number, the name and the severity say what
    is drawn for it, whoever stands beside it. Usable inside `tf.function` and `tf.data.Dataset.map`.

    Args:
        images: float32 in [0, 1], `(batch, height, width, channels)`, with one or three channels; the size is static,
            at least 4 x 4 pixels, and the batch need not be.
        name: One of `CORRUPTIONS` or of `EXTRA_CORRUPTIONS`.
        severity: 1, 2, 3, 4 or 5.
        seed: A stateless seed, int32 `(2,)`; the same for a whole data set.
        first: The number of the first image in its data set, an integer or a scalar integer tensor.
        frost_images: For `frost`, photographs `(n, H, W, 3)`, uint8 or floats in [0, 1], no smaller than the images,
            at the scale at which they are to be seen (the published script shrinks its own to a fifth for images of
            32 pixels). Without them frost is generated; `frost_source` has the words for a record.

    Returns:
        float32 in [0, 1], the shape of `images`, each value k / 255 for a whole number k.

    Raises:
        InvalidInput: for an unknown name or severity, or images, a seed or photographs of another form.
    """
    one_of("name", name, CORRUPTIONS + EXTRA_CORRUPTIONS)
    severity = int(one_of("severity", str(severity), map(str, SEVERITIES)))
    images, seed = _checked(images), tf.convert_to_tensor(seed, tf.int32)
    if seed.shape != (2,):
        raise InvalidInput("`seed` has the wrong shape.", expected="(2,)", received=f"shape={tuple(seed.shape)}")
    inputs = [images, seed, tf.cast(first, tf.int32)]
    if name == "frost" and frost_images is not None:
        height, width = images.shape[1:3]
        inputs.append(weather.checked_photographs(frost_images, height=height, width=width))
    return _graph(name, severity, tuple(images.shape[1:]), len(inputs) == 4)(*inputs)


def _checked(images: Any) -> tf.Tensor:
    check_images(images)
    images = tf.convert_to_tensor(images)
    shape = images.shape[1:]
    if shape.rank is None or None in shape or shape[-1] not in (1, 3) or min(shape[:2]) < SMALLEST:
        raise InvalidInput(
            "`images` cannot be corrupted.",
            expected=f"a static (height, width, channels), {SMALLEST} pixels or more, 1 or 3 channels",
            received=f"shape={images.shape}",
        )
    return images


@functools.cache
def _graph(
    name: str, severity: int, image_shape: tuple[int, int, int], has_photographs: bool
) -> Callable[..., tf.Tensor]:
    """One graph for a corruption and an image size, for batches of any length; eager calls are as fast as others."""
    function, parameters = _FUNCTIONS[name], _PARAMETERS[name][severity - 1]

    def run(images: tf.Tensor, seed: tf.Tensor, first: tf.Tensor, *photographs: tf.Tensor) -> tf.Tensor:
        draws = Draws(fold(fold(seed, role_number(name)), severity), first=first, rows=tf.shape(images)[0])
        pixels = divided(tf.round(tf.cast(images, tf.float64) * 255), 255.0)
        corrupted = function(pixels, draws, parameters, *photographs)
        levels = tf.floor(tf.clip_by_value(corrupted, 0.0, 1.0) * 255)
        return tf.ensure_shape(divided(tf.cast(levels, tf.float32), 255.0), (None, *image_shape))

    signature = [((None, *image_shape), tf.float32), ((2,), tf.int32), ((), tf.int32)]
    signature += [((None, None, None, 3), tf.float64)] * has_photographs
    with tf.init_scope():  # the graph outlives the one that a caller may be tracing
        return tf.function(run, autograph=False).get_concrete_function(*(tf.TensorSpec(*each) for each in signature))
