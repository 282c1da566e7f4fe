"""Pictures with structure, and the comparison of what is random with an independent implementation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from advss_tf.data.corruptions import corrupt


def _pictures() -> np.ndarray:
    """Six uint8 images, 32 x 32 RGB: ramps, a coloured disk, a checkerboard, smooth noise, a flat one, black/white."""
    y, x = np.mgrid[:32, :32]
    ramps = np.stack([8 * x, 8 * y, 4 * (x + y)], axis=-1)
    disk = np.where(((x - 14) ** 2 + (y - 18) ** 2 < 90)[..., None], [200, 60, 30], [20, 90, 160])
    board = np.repeat(((x // 4 + y // 4) % 2 * 180 + 40)[..., None], 3, axis=-1)
    waves = np.random.default_rng(0).uniform(0, 255, (8, 8, 3)).repeat(4, axis=0).repeat(4, axis=1)
    flat = np.full((32, 32, 3), 128)
    halves = np.repeat(np.where(x < 16, 0, 255)[..., None], 3, axis=-1)
    return np.stack([ramps, disk, board, waves, flat, halves]).astype(np.uint8)


@pytest.fixture(scope="session")
def pictures() -> np.ndarray:
    """`(6, 32, 32, 3)`, uint8."""
    return _pictures()


def _levels(images: np.ndarray, name: str, severity: int, **options: Any) -> np.ndarray:
    images = (images / np.float32(255)).astype(np.float32)
    return np.rint(corrupt(images, name, severity, options.pop("seed", (3, 7)), **options).numpy() * 255).astype(int)


@pytest.fixture(scope="session")
def levels() -> Callable[..., np.ndarray]:
    """`levels(uint8 images, name, severity)`: the corrupted images as grey levels, int."""
    return _levels


@pytest.fixture(scope="session")
def compare_moments() -> Callable[..., None]:
    """`compare_moments(name, severity, reference, draws)`, with `reference(image, rng) -> levels` for one image.

    The mean and the standard deviation of an image's change are taken for each draw. Their averages over the draws
    must agree within five standard errors of the difference, and a twentieth of a grey level for what is not random.
    """

    def compare(name: str, severity: int, reference: Callable, draws: int, **options: Any) -> None:
        rng = np.random.default_rng(severity)
        for picture in _pictures()[[1, 3]]:
            ours = _levels(np.repeat(picture[None], draws, axis=0), name, severity, **options)
            theirs = np.stack([np.clip(reference(picture, rng), 0, 255).astype(np.uint8) for _ in range(draws)])
            for moment in (np.mean, np.std):
                a, b = (moment(values - picture.astype(float), axis=(1, 2, 3)) for values in (ours, theirs))
                error = np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / draws)
                assert abs(a.mean() - b.mean()) <= 5 * error + 0.05, (moment.__name__, a.mean(), b.mean(), error)

    return compare
