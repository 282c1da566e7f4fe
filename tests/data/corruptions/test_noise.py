"""Noise: the moments of a NumPy implementation, the law of each pixel, what a value of zero gives."""

from __future__ import annotations

import numpy as np
import pytest

EACH_SEVERITY = pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])


def _gaussian(image, severity, rng):
    return np.clip(image / 255 + rng.normal(0, (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1], image.shape), 0, 1) * 255


def _shot(image, severity, rng):
    photons = (500, 250, 100, 75, 50)[severity - 1]
    return np.clip(rng.poisson(image / 255 * photons) / photons, 0, 1) * 255


def _impulse(image, severity, rng):
    share = (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
    fate = rng.choice(3, image.shape, p=[1 - share, share / 2, share / 2])
    return np.choose(fate, [image, 0, 255])


def _speckle(image, severity, rng):
    noise = rng.normal(0, (0.06, 0.10, 0.12, 0.16, 0.20)[severity - 1], image.shape)
    return np.clip(image / 255 * (1 + noise), 0, 1) * 255


_REFERENCES = {
    "gaussian_noise": _gaussian,
    "shot_noise": _shot,
    "impulse_noise": _impulse,
    "speckle_noise": _speckle,
}


@EACH_SEVERITY
@pytest.mark.parametrize("name", _REFERENCES)
def test_the_moments_are_those_of_an_independent_implementation(compare_moments, name, severity):
    compare_moments(name, severity, lambda image, rng: _REFERENCES[name](image, severity, rng), draws=16)


@pytest.mark.parametrize("name", ["shot_noise", "speckle_noise"])
def test_noise_that_follows_the_light_leaves_black_black(levels, name):
    assert levels(np.zeros((2, 8, 8, 3), np.uint8), name, 5).max() == 0


def test_impulses_are_black_or_white_and_come_channel_by_channel(levels):
    changed = levels(np.full((20, 32, 32, 3), 100, np.uint8), "impulse_noise", 5)
    assert set(np.unique(changed)) == {0, 100, 255}
    per_pixel = (changed != 100).sum(axis=-1)
    assert (per_pixel == 1).sum() > 10 * (per_pixel == 3).sum() > 0  # 3 · 0.07 · 0.93² against 0.07³


def test_shot_noise_takes_whole_numbers_of_photons(levels):
    noisy = levels(np.full((4, 16, 16, 1), 128, np.uint8), "shot_noise", 5)
    possible = np.floor(np.minimum(np.arange(200) / 50, 1) * 255)
    assert set(np.unique(noisy)) <= set(possible) and len(np.unique(noisy)) > 10
