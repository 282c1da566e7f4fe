"""How many images a second the views of contrastive learning leave the input pipeline with: one row.

Synopsis:

    for row in VIEW_ROWS["views"](Settings(networks=("small",), rounds=7)):
        print(row.first, row.note)

What a step needs a second beside it is its batch over its time, see the row `advcl`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from advss_tf.data.views import make_views
from advss_tf.randomness import seed_for
from benchmarks.contestants import Network
from benchmarks.pairs import Contestant, alternate, clocked, compare
from benchmarks.results import Row
from benchmarks.turns import Settings, networks_of

SETS: dict[str, tuple[str, ...]] = {
    "weak": ("weak",),
    "strong pair": ("strong", "strong"),
    "high-frequency": ("high_frequency",),
    "AdvCL's four": ("weak", "strong", "strong", "high_frequency"),
}
_IMAGES, _BATCHES = 512, 4


def views(settings: Settings) -> Iterator[Row]:
    """The views of a method beside the weak view alone, of images in 8 bits in memory; once for each size of image."""
    seen = set()
    for name, network in networks_of(settings):
        if network.size in seen:
            continue
        seen.add(network.size)
        contestants = {label: _pipeline(network, kinds) for label, kinds in SETS.items()}
        times = alternate(contestants, rounds=settings.rounds)
        for label in SETS:
            comparison = compare(times[label], times["weak"])
            rate = _IMAGES * _BATCHES / comparison.first
            own = _IMAGES * _BATCHES / float(np.median([seconds.cpu for seconds in times[label]]))
            note = f"{rate:,.0f} images a second, {own:,.0f} of the processor's own time"
            found = {"images_per_second": rate, "images_per_cpu_second": own}
            yield Row("views", name, label, "weak", comparison, note=note, times=times, found=found)


def _pipeline(network: Network, kinds: tuple[str, ...]) -> Contestant:
    """Batches of views of `_IMAGES` images, drawn anew for each batch, one batch after the other."""
    size = network.size
    images = tf.cast(tf.random.stateless_uniform((_IMAGES, size, size, 3), (0, 0), 0, 256, tf.int32), tf.uint8)
    dataset = tf.data.Dataset.range(_BATCHES).map(lambda step: make_views(kinds, images, seed_for(0, step, "views")))

    def drain() -> None:
        for _ in dataset:
            pass

    drain()
    return clocked(drain)


VIEW_ROWS: dict[str, Callable[[Settings], Iterator[Row]]] = {"views": views}
