"""The moves of the Square Attack: the schedule, the windows, the patterns and the starts, by literals."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from advss_tf.attacks.square_moves import get_squares, halvings, pattern, query_numbers, signs, window
from advss_tf.errors import InvalidInput
from advss_tf.randomness import seed_each, seed_for

SEED = seed_for(0, 0, "attack")


@pytest.mark.parametrize(
    ("query", "times"),
    [
        (0, 0), (10, 0), (11, 1), (50, 1), (51, 2), (200, 2), (201, 3), (500, 3), (501, 4), (1000, 4), (1001, 5),
        (2000, 5), (2001, 6), (4000, 6), (4001, 7), (4999, 7), (6000, 7), (6001, 8), (8000, 8), (8001, 9), (10**6, 9),
    ],
)  # fmt: skip
def test_the_share_of_pixels_is_halved_after_the_published_queries(query, times):
    assert halvings(query) == times
    assert halvings(tf.constant(query)) == times


@pytest.mark.parametrize(
    ("norm", "shape", "sides"),
    [
        ("linf", (32, 32, 3), [29, 20, 14, 10, 7, 5, 4, 3, 2, 1]),
        ("l2", (32, 32, 3), [29, 21, 15, 11, 7, 5, 5, 3, 3, 3]),
        ("linf", (4, 16, 1), [4, 4, 4, 3, 2, 1, 1, 1, 1, 1]),
        ("l2", (16, 4, 1), [4, 4, 4, 3, 3, 3, 3, 3, 3, 3]),
        ("l2", (2, 5, 3), [2] * 10),
    ],
)
def test_the_side_of_the_window_follows_the_share_of_pixels(norm, shape, sides):
    """32 x 32: sqrt(0.8 * 1024) = 28.6, sqrt(0.4 * 1024) = 20.2, … L2 has odd sides of at least three."""
    assert get_squares(norm, p_init=0.8, shape=shape).sides == sides


def test_the_pattern_of_side_three_is_worked_out_by_hand():
    upper = np.array([[1, 5, 1]]) / np.sqrt(27)
    lower = np.array([[1, 1, 1], [1, 5, 1]]) / np.sqrt(30)
    np.testing.assert_allclose(pattern(3), np.concatenate([upper, -lower]) / np.sqrt(2), rtol=1e-6)


def test_a_window_lies_where_its_numbers_say():
    mask, rows, columns = window(tf.constant([0.5, 0.99]), 2, (5, 7, 3))
    np.testing.assert_array_equal(np.argwhere(mask[..., 0]), [[1, 4], [1, 5], [2, 4], [2, 5]])
    assert rows[1] == 0 and columns[4] == 0


def test_every_window_lies_wholly_inside_the_image():
    for number in np.linspace(0, 1, 9, endpoint=False, dtype=np.float32):
        for side in (1, 3, 4):
            assert np.sum(window(tf.stack([number, 1 - 2**-24 - number]), side, (4, 6, 1))[0]) == side**2


def test_the_numbers_of_a_query_come_from_its_seed_and_number_alone():
    one, same = query_numbers(SEED, 3, 3), query_numbers(SEED, tf.constant(3), 3)
    np.testing.assert_array_equal(one, same)
    assert one.shape == (8,)
    assert not np.isin(one, query_numbers(SEED, 4, 3)).any()
    assert not np.isin(one, query_numbers(seed_for(1, 0, "attack"), 3, 3)).any()


def test_signs_and_windows_are_spread_evenly():
    numbers = np.stack([query_numbers(SEED, query, 3) for query in range(300)])
    assert set(np.unique(signs(tf.constant(numbers)))) == {-1.0, 1.0}
    assert np.abs(np.mean(signs(tf.constant(numbers)), axis=0)).max() < 0.2
    assert np.abs(numbers.mean(0) - 0.5).max() < 0.07


def test_the_linf_start_is_vertical_stripes_of_the_whole_radius():
    images = tf.fill((6, 4, 50, 3), 0.5)
    squares = get_squares("linf", p_init=0.8, shape=(4, 50, 3))
    change = squares.start(images, 0.1, squares.start_numbers(SEED, 6)).numpy() - 0.5
    np.testing.assert_allclose(np.abs(change), 0.1, rtol=1e-6)
    np.testing.assert_array_equal(change, np.broadcast_to(change[:, :1], change.shape))
    assert abs(change.mean()) < 0.02 and len({one.tobytes() for one in change}) == 6


def test_the_l2_start_is_five_tiles_a_side_with_a_sign_a_channel():
    squares = get_squares("l2", p_init=0.8, shape=(32, 32, 3))
    change = squares.start(tf.fill((2, 32, 32, 3), 0.5), 0.5, squares.start_numbers(SEED, 2)).numpy() - 0.5
    np.testing.assert_allclose(np.linalg.norm(change.reshape(2, -1), axis=1), 0.5, rtol=1e-5)
    tile = 0.5 * pattern(6) / np.sqrt(25 * 3)
    for row in range(1, 31, 6):
        for column in range(1, 31, 6):
            found = change[1, row : row + 6, column : column + 6]
            for one in np.moveaxis(found, -1, 0):
                errors = [np.abs(one - sign * turned).max() for sign in (-1, 1) for turned in (tile, tile.T)]
                assert min(errors) < 1e-6
    assert not change[:, [0, 31]].any() and not change[:, :, [0, 31]].any()


@pytest.mark.parametrize("shape", [(14, 14, 1), (9, 9, 3), (32, 64, 1), (20, 3, 3), (1, 1, 1)])
def test_the_l2_start_fits_images_of_any_size(shape):
    squares = get_squares("l2", p_init=0.8, shape=shape)
    change = squares.start(tf.fill((3, *shape), 0.5), 0.1, squares.start_numbers(SEED, 3)).numpy() - 0.5
    assert change.shape == (3, *shape)
    np.testing.assert_allclose(np.linalg.norm(change.reshape(3, -1), axis=1), 0.1, rtol=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_start_is_drawn_for_each_example_by_itself(norm):
    squares = get_squares(norm, p_init=0.8, shape=(10, 12, 1))
    together = squares.start_numbers(seed_each(SEED, tf.range(5)), 5)
    np.testing.assert_array_equal(
        squares.start_numbers(seed_each(SEED, tf.constant([3, 1])), 2), together.numpy()[[3, 1]]
    )


def test_a_linf_move_sets_one_square_to_the_ends_of_the_interval():
    squares = get_squares("linf", p_init=0.25, shape=(4, 4, 2))
    points = tf.fill((1, 4, 4, 2), 0.5)
    moved = squares.move(points, points, 0.1, 0, tf.constant([0.0, 0.5, 0, 0, 0, 0.2, 0.8]))
    expected = np.full((1, 4, 4, 2), 0.5)
    expected[0, 0:2, 1:3] = [0.4, 0.6]
    np.testing.assert_allclose(moved, expected, rtol=1e-6)


def test_an_l2_move_empties_one_window_and_fills_the_other():
    squares = get_squares("l2", p_init=9 / 144, shape=(12, 12, 1))
    centers = tf.fill((1, 12, 12, 1), 0.5)
    change = np.zeros((1, 12, 12, 1), np.float32)
    change[0, 9, 9], change[0, 1, 10] = 0.3, 0.4  # of length 0.5, the whole ball
    numbers = tf.constant([0.0, 0.0, 8 / 9 + 0.01, 8 / 9 + 0.01, 0.3, 0.9])  # corners (0, 0) and (8, 8), not turned
    moved = squares.move(centers + change, centers, 0.5, 0, numbers).numpy() - 0.5
    expected = np.zeros_like(change)
    expected[0, :3, :3, 0], expected[0, 1, 10] = 0.3 * pattern(3), 0.4
    np.testing.assert_allclose(moved, expected, atol=1e-6)


def test_a_norm_without_squares_is_refused():
    with pytest.raises(InvalidInput, match="`norm` is not known"):
        get_squares("l1", p_init=0.8, shape=(8, 8, 1))
