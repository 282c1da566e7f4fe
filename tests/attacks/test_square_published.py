"""The Square Attack equals an independent transcription of the published algorithm that is fed with the same draws."""

from __future__ import annotations

import numpy as np
import pytest

from advss_tf.attacks import L2, Linf
from advss_tf.attacks.square import SquareAttack
from advss_tf.attacks.square_moves import get_squares, pattern, query_numbers
from advss_tf.randomness import fold, seed_for

SEED = seed_for(0, 0, "attack")
THREATS = [Linf(0.06), L2(0.6)]
EACH_THREAT = pytest.mark.parametrize("threat", THREATS, ids=repr)


def published_p(query, p_init):
    for bound, divisor in [(8000, 512), (6000, 256), (4000, 128), (2000, 64), (1000, 32), (500, 16), (200, 8), (50, 4)]:
        if query > bound:
            return p_init / divisor
    return p_init / 2 if query > 10 else p_init


def published_bump(rows, columns):
    """Squares that grow around the middle, each added with the weight 1 / (its number) ** 2."""
    bump = np.zeros((rows, columns))
    for ring in range(max(rows // 2, columns // 2) + 1):
        top, left = max(rows // 2 - ring, 0), max(columns // 2 - ring, 0)
        bump[top : rows // 2 + ring + 1, left : columns // 2 + ring + 1] += 1 / (ring + 1) ** 2
    return bump / np.sqrt((bump**2).sum()) if rows else bump


def published_eta(side, number):
    eta = np.concatenate([published_bump(side // 2, side), -published_bump(side - side // 2, side)])
    eta /= np.sqrt((eta**2).sum())
    return eta.T if number > 0.5 else eta


def unit(delta):
    return delta / (np.sqrt((delta**2).sum()) + 1e-12)


def published_start(norm, image, epsilon, numbers):
    if norm == "linf":
        return np.clip(image + epsilon * np.where(numbers < 0.5, -1, 1), 0, 1)
    delta, side = np.zeros(image.shape), image.shape[0] // 5
    first = (image.shape[0] - 5 * side) // 2
    for row in range(image.shape[0] // side):
        for column in range(image.shape[1] // side):
            top, left, drawn = first + row * side, first + column * side, numbers[row, column]
            tile = published_eta(side, drawn[0])[:, :, None] * np.where(drawn[1:] < 0.5, -1, 1)
            delta[top : top + side, left : left + side] += tile
    return np.clip(image + epsilon * unit(delta), 0, 1)


def published_linf_move(image, best, epsilon, side, numbers):
    height, width, _ = image.shape
    top, left = int(numbers[0] * (height - side)), int(numbers[1] * (width - side))
    tried = best.copy()
    tried[top : top + side, left : left + side] += 2 * epsilon * np.where(numbers[5:] < 0.5, -1, 1)
    return np.clip(np.clip(tried, image - epsilon, image + epsilon), 0, 1)


def published_l2_move(image, best, epsilon, side, numbers):
    height, width, channels = image.shape
    delta = best - image
    corners = [int(number * (room - side)) for number, room in zip(numbers[:4], (height, width) * 2, strict=True)]
    here, there = (np.s_[top : top + side, left : left + side] for top, left in (corners[:2], corners[2:]))
    both = np.zeros((height, width, 1))
    both[here] = both[there] = 1
    spare = max(epsilon**2 - (delta**2).sum(), 0) / channels
    mass = np.sqrt(spare + ((delta * both) ** 2).sum())
    new = np.zeros((side, side, channels))
    for channel in range(channels):
        sign = -1 if numbers[5 + channel] < 0.5 else 1
        mixed = sign * published_eta(side, numbers[4]) + unit(delta[here][:, :, channel])
        new[:, :, channel] = unit(mixed) * mass
    delta[there] = 0
    delta[here] = new
    return np.clip(image + epsilon * unit(delta), 0, 1)


def published_side(norm, share, height, width):
    side = round(np.sqrt(share * height * width))
    if norm == "linf":
        return max(side, 1)
    return max(side, 3) + (max(side, 3) % 2 == 0)


def published_attack(clean_margin, threat, images, bias, queries, *, start=None, p_init=0.8):
    """The run of every image, float64, with the numbers that the attack draws; a margin is the clean one and a bias."""
    move = published_linf_move if threat.norm == "linf" else published_l2_move
    common = fold(SEED, 0)
    drawn = get_squares(threat.norm, p_init=p_init, shape=images.shape[1:]).start_numbers(common, len(images)).numpy()
    numbers = {query: query_numbers(common, query, images.shape[3]).numpy() for query in queries}
    found = []
    for row, image in enumerate(images.astype(np.float64)):
        margin = lambda point: clean_margin(point[None])[0] + bias[row]  # noqa: B023, E731
        best = published_start(threat.norm, image, threat.epsilon, drawn[row]) if start is None else start[row]
        if start is None and margin(image) > 0:
            best = image
        reached = margin(best)
        for query in queries:
            side = published_side(threat.norm, published_p(query, p_init), *image.shape[:2])
            tried = move(image, best, threat.epsilon, side, numbers[query])
            if reached <= 0 and margin(tried) > reached:
                best, reached = tried, margin(tried)
        found.append((best, reached))
    return tuple(np.array(part) for part in zip(*found, strict=True))


@pytest.mark.parametrize("side", [1, 2, 5, 6, 9, 29])
def test_the_pattern_is_two_bumps_of_opposite_sign(side):
    found = pattern(side)
    np.testing.assert_allclose(found, published_eta(side, 0.0), rtol=1e-5)
    assert (found[: side // 2] > 0).all() and (found[side // 2 :] < 0).all()


@pytest.mark.parametrize("shape", [(16, 16, 3), (10, 10, 1)], ids=str)
@EACH_THREAT
def test_it_equals_a_transcription_of_the_published_algorithm(threat, shape, wavy):
    images = wavy.pictures(*shape)
    bias = wavy.hard_and_easy(images, 3.0)
    result = SquareAttack(threat).run(wavy.margin_of(bias), {"images": images}, SEED, num_queries=80)
    points, margins = published_attack(wavy.clean_margin, threat, images, bias, range(80))
    np.testing.assert_allclose(result.inputs["images"], points, atol=2e-5)
    np.testing.assert_allclose(result.climb, margins, atol=2e-4)
    assert 1 < np.sum(margins > 0) < len(images)
    np.testing.assert_array_equal(result.inputs["images"][0], images[0])


@pytest.mark.parametrize("first", [195, 1990, 7990])
@EACH_THREAT
def test_late_queries_equal_the_transcription_as_well(threat, first, wavy):
    # Tiles of 4 and windows of 3 or 9: a window that meets its own pattern turned over divides rounding by rounding.
    images = wavy.pictures(20, 20, 3)
    bias = -20 - wavy.clean_margin(images).astype(np.float32)
    begin = SquareAttack(threat)(wavy.margin_of(bias), {"images": images}, SEED, num_queries=0)
    found = SquareAttack(threat)(
        wavy.margin_of(bias), {"images": images}, SEED, start=begin, first_query=first, num_queries=25
    )["images"]
    points, _ = published_attack(
        wavy.clean_margin,
        threat,
        images,
        bias,
        range(first, first + 25),
        start=begin["images"].numpy().astype(np.float64),
    )
    np.testing.assert_allclose(found, points, atol=2e-5)
    assert np.abs(found - begin["images"]).max() > 0.01
