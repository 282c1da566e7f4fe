"""Data: sources of images, their cuts into train, held-out and test, augmentation, and the batches of a run.

Synopsis:

    data = load_data("digits", labels_per_class=20)
    for images, labels in data.train(batch_size=32):  # float32 in [0, 1], int64
        ...
"""

from __future__ import annotations

from advss_tf.data.augment import crop_and_flip
from advss_tf.data.checks import check_images, check_labels
from advss_tf.data.corrupted import corrupted_catalogue
from advss_tf.data.frequency import high_frequency, low_frequency
from advss_tf.data.images import ImageData
from advss_tf.data.pseudo_labels import PseudoLabels
from advss_tf.data.sources import load_data
from advss_tf.data.view_kinds import VIEWS, Strong, Weak, spec_of, view_of, views_of
from advss_tf.data.views import make_views, views_for

__all__ = [
    "VIEWS",
    "ImageData",
    "PseudoLabels",
    "Strong",
    "Weak",
    "check_images",
    "check_labels",
    "corrupted_catalogue",
    "crop_and_flip",
    "high_frequency",
    "load_data",
    "low_frequency",
    "make_views",
    "spec_of",
    "view_of",
    "views_for",
    "views_of",
]
