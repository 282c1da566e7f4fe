"""A user's photographs of frost, at the scale at which the corruption lays them over images.

Synopsis:

    frost_images = frost_photographs("photos/frost", side=32)
    icy = corrupt(images, "frost", 3, seed, frost_images=frost_images)

The published script for CIFAR-10-C shrinks its photographs to a fifth before it cuts 32 x 32 pixels out of them; that
for ImageNet leaves them, for 224 x 224. In between, here, they are shrunk in proportion: by `side / 160`, at most by 1.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from advss_tf.errors import InvalidInput

_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp")
_SIDE_OF_FULL_SCALE = 160


def frost_photographs(folder: str | Path, *, side: int) -> np.ndarray:
    """The photographs of a folder, all cut to the size of the smallest.

    Args:
        folder: Holds .jpg, .png or .bmp files.
        side: The shorter side of the images that will be corrupted, in pixels.

    Returns:
        `(n, H, W, 3)` uint8, in the order of the files' names.

    Raises:
        InvalidInput: if there are none, one cannot be read, or one is smaller than the images when it is shrunk.
    """
    files = sorted(path for path in Path(folder).glob("*") if path.suffix.lower() in _ENDINGS)
    if not files:
        raise InvalidInput(
            "There are no photographs of frost.", expected=f"files that end in {_ENDINGS}", received=f"folder={folder}"
        )
    scale = min(1.0, side / _SIDE_OF_FULL_SCALE)
    photographs = [_shrunk(path, scale) for path in files]
    height, width = (min(each.shape[axis] for each in photographs) for axis in (0, 1))
    if min(height, width) < side:
        raise InvalidInput(
            "A photograph of frost is smaller than the images.",
            expected=f"at least {int(np.ceil(side / scale))} pixels along each side",
            received=f"{int(min(height, width) / scale)} pixels",
        )
    return np.stack([each[:height, :width] for each in photographs])


def _shrunk(path: Path, scale: float) -> np.ndarray:
    try:
        image = tf.io.decode_image(tf.io.read_file(str(path)), channels=3, expand_animations=False)
    except tf.errors.InvalidArgumentError as error:
        raise InvalidInput("A photograph cannot be read.", expected="an image file", received=str(path)) from error
    size = [max(1, round(length * scale)) for length in image.shape[:2]]
    return tf.cast(tf.round(tf.image.resize(image, size, "area")), tf.uint8).numpy()
