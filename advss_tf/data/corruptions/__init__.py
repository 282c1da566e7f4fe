"""Corruptions of CIFAR-10-C, made on the fly: 15 types and 4 more, five severities, seeded.

Synopsis:

    for name in CORRUPTIONS:
        harmed = corrupt(images, name, severity, seed, first=number_of_the_first_image)

    corrupt(images, "frost", 3, seed, frost_images=photographs)
    record["frost"] = frost_source(photographs)     # "user's images" or "generated"
"""

from __future__ import annotations

from advss_tf.data.corruptions.photographs import frost_photographs
from advss_tf.data.corruptions.registry import CORRUPTIONS, EXTRA_CORRUPTIONS, corrupt
from advss_tf.data.corruptions.weather import frost_source

__all__ = ["CORRUPTIONS", "EXTRA_CORRUPTIONS", "corrupt", "frost_photographs", "frost_source"]
