"""The published sizes of the distortions, and what the best of the published models reach at them.

Synopsis:

    SIZES["cifar-10"]["elastic"]             # (0.125, 0.25, 0.5, 1.0, 2.0, 8.0)
    ATA["cifar-10"]["elastic"]               # (0.8738, …), accuracies at these sizes
    make_attack("jpeg_l1", 64.0)             # a JPEGAttack
    published_sizes("fog")                   # the sizes, and the data they were calibrated on

Source: `advex_uar/analysis/calibrations/{cifar-10,imagenet-100}/calibs.out` of `ddkang/advex-uar`, the code of Kang et
al. 2019 (arXiv 1908.08016); accuracies are cut to four digits. Sizes were chosen among powers of two so that the six
accuracies come near those of Linf attacks of 1, 2, 4, 8, 16 and 32 levels. For CIFAR-10 the paper calibrates neither
fog nor snow nor Gabor. Its file has sizes for JPEG in L2, which its tables leave out: they take too little accuracy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from advss_tf.attacks.unforeseen.ascent import UnforeseenAttack
from advss_tf.attacks.unforeseen.elastic import ElasticAttack
from advss_tf.attacks.unforeseen.fog import FogAttack
from advss_tf.attacks.unforeseen.gabor import GaborAttack
from advss_tf.attacks.unforeseen.jpeg import JPEGAttack
from advss_tf.attacks.unforeseen.snow import SnowAttack
from advss_tf.errors import one_of

Table = dict[str, dict[str, tuple[float, ...]]]

SIZES: Table = {
    "cifar-10": {
        "elastic": (0.125, 0.25, 0.5, 1.0, 2.0, 8.0),
        "jpeg_linf": (0.03125, 0.0625, 0.125, 0.25, 0.5, 1.0),
        "jpeg_l2": (0.25, 0.5, 1.0, 2.0, 4.0, 8.0),
        "jpeg_l1": (2.0, 8.0, 64.0, 256.0, 512.0, 1024.0),
    },
    "imagenet-100": {
        "elastic": (0.25, 0.5, 2.0, 4.0, 8.0, 16.0),
        "jpeg_linf": (0.0625, 0.125, 0.25, 0.5, 1.0, 2.0),
        "jpeg_l2": (8.0, 16.0, 32.0, 64.0, 128.0, 256.0),
        "jpeg_l1": (256.0, 1024.0, 4096.0, 16384.0, 65536.0, 131072.0),
        "fog": (128.0, 256.0, 512.0, 2048.0, 4096.0, 8192.0),
        "snow": (0.0625, 0.125, 0.25, 2.0, 4.0, 8.0),
        "gabor": (6.25, 12.5, 25.0, 400.0, 800.0, 1600.0),
    },
}

# Adversarial training accuracy: the highest accuracy at a size among models that were trained against the distortion.
ATA: Table = {
    "cifar-10": {
        "elastic": (0.8738, 0.8126, 0.7209, 0.5822, 0.4545, 0.2785),
        "jpeg_linf": (0.8975, 0.8703, 0.8312, 0.7856, 0.6971, 0.3542),
        "jpeg_l2": (0.9218, 0.9099, 0.8842, 0.8584, 0.8125, 0.7198),
        "jpeg_l1": (0.9142, 0.8806, 0.8021, 0.6886, 0.5633, 0.3768),
    },
    "imagenet-100": {
        "elastic": (0.8588, 0.8318, 0.7806, 0.7564, 0.5704, 0.2254),
        "jpeg_linf": (0.8504, 0.8324, 0.7932, 0.7276, 0.3480, 0.0110),
        "jpeg_l2": (0.8478, 0.8246, 0.7894, 0.7232, 0.4746, 0.0344),
        "jpeg_l1": (0.8476, 0.8176, 0.7622, 0.6710, 0.4638, 0.4184),
        "fog": (0.8582, 0.8384, 0.7898, 0.6840, 0.6788, 0.6466),
        "snow": (0.8402, 0.8114, 0.7770, 0.6562, 0.5954, 0.4120),
        "gabor": (0.8402, 0.7984, 0.7984, 0.6622, 0.4468, 0.1460),
    },
}

DISTORTIONS: dict[str, tuple[Callable[..., UnforeseenAttack], dict[str, Any]]] = {
    "elastic": (ElasticAttack, {}),
    "jpeg_linf": (JPEGAttack, {"norm": "linf"}),
    "jpeg_l2": (JPEGAttack, {"norm": "l2"}),
    "jpeg_l1": (JPEGAttack, {"norm": "l1"}),
    "fog": (FogAttack, {}),
    "snow": (SnowAttack, {}),
    "gabor": (GaborAttack, {}),
}


def make_attack(name: str, epsilon: float, **options: Any) -> UnforeseenAttack:
    """The attack of a distortion's name, with the published settings but for `options`.

    Raises:
        InvalidInput: if the name is not known or an option is out of its range.
    """
    make, settings = DISTORTIONS[one_of("name", name, DISTORTIONS)]
    return make(epsilon, **(settings | options))


def published_sizes(name: str) -> tuple[tuple[float, ...], str]:
    """The six sizes of a distortion for CIFAR-10, or else for ImageNet-100, and which of the two.

    Raises:
        InvalidInput: if the name is not known.
    """
    one_of("name", name, DISTORTIONS)
    data = "cifar-10" if name in SIZES["cifar-10"] else "imagenet-100"
    return SIZES[data][name], data
