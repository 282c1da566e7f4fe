"""Projections onto a hyperplane in the box: against a linear program, against bisection, and by hand."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tensorflow as tf
from scipy.optimize import linprog

from advss_tf.attacks.projections import dual_size, nearest_hyperplane, onto_hyperplane, size
from advss_tf.errors import InvalidInput

NORMS = ["linf", "l2"]


def problems(*, share, rows=6, pixels=12, seed=0):
    """Points of the box, some pixels on its border, and hyperplanes at a share of what the box allows."""
    rng = np.random.default_rng(seed)
    points = rng.random((rows, pixels))
    points[:, 0], points[:, 1] = 0.0, 1.0
    normals = rng.normal(size=(rows, pixels))
    normals[:, 2] = 0.0
    signs = np.where(np.arange(rows) % 2, 1.0, -1.0)
    reach = np.where(signs[:, None] * normals > 0, points, 1 - points)
    values = signs * share * np.sum(np.abs(normals) * reach, axis=1)
    return (each.astype(np.float32) for each in (points, normals, values))


def shortest_linf(point, normal, value):
    """min t, where |move| <= t, the point stays in the box and value + normal·move = 0: a linear program."""
    count = len(point)
    cost = np.append(np.zeros(count), 1.0)
    ones = np.ones((count, 1))
    sides = np.block([[np.eye(count), -ones], [-np.eye(count), -ones]])
    bounds = [*zip(-point, 1 - point, strict=True), (0, None)]
    equation = np.append(normal, 0.0)[None]
    return linprog(cost, A_ub=sides, b_ub=np.zeros(2 * count), A_eq=equation, b_eq=[-value], bounds=bounds).fun


def shortest_l2(point, normal, value):
    """The stationary point clip(point - multiplier * normal), with the multiplier by bisection in float64."""
    low, high = -1e4, 1e4
    for _ in range(200):
        middle = (low + high) / 2
        move = np.clip(point - middle * normal, 0, 1) - point
        low, high = (middle, high) if value + normal @ move > 0 else (low, middle)
    return move


@pytest.mark.parametrize("share", [0.05, 0.4, 0.9, 0.999])
def test_linf_moves_are_as_short_as_a_linear_program_says(share):
    points, normals, values = problems(share=share)
    moves = onto_hyperplane(points, normals, values, norm="linf").numpy()
    expected = [
        shortest_linf(*(x.astype(np.float64) for x in row)) for row in zip(points, normals, values, strict=True)
    ]
    np.testing.assert_allclose(np.abs(moves).max(1), expected, rtol=1e-5)


@pytest.mark.parametrize("share", [0.05, 0.4, 0.9, 0.999])
def test_l2_moves_are_those_of_bisection(share):
    points, normals, values = problems(share=share)
    moves = onto_hyperplane(points, normals, values, norm="l2")
    expected = [shortest_l2(*(x.astype(np.float64) for x in row)) for row in zip(points, normals, values, strict=True)]
    np.testing.assert_allclose(moves, expected, atol=2e-5)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.97])
@pytest.mark.parametrize("norm", NORMS)
def test_moves_end_on_the_hyperplane_and_in_the_box(norm, share):
    points, normals, values = problems(share=share, pixels=3072, rows=4)
    moves = onto_hyperplane(points, normals, values, norm=norm).numpy()
    gap = values + np.sum(normals.astype(np.float64) * moves, axis=1)
    assert np.abs(gap).max() < 1e-5 * np.sum(np.abs(normals), axis=1).max()
    assert (points + moves).min() >= -1e-6 and (points + moves).max() <= 1 + 1e-6
    assert (moves[:, 2] == 0).all(), "a pixel that does not count moved"
    if share == 0:
        assert (moves == 0).all()


@pytest.mark.parametrize("norm", NORMS)
def test_out_of_reach_the_move_ends_in_the_nearest_corner(norm):
    moves = onto_hyperplane(
        tf.constant([[0.25, 0.75, 0.5]]), tf.constant([[2.0, -1.0, 0.0]]), tf.constant([9.0]), norm=norm
    )
    np.testing.assert_array_equal(moves, [[-0.25, 0.25, 0.0]])


def test_moves_worked_out_by_hand():
    point, normal = tf.constant([[0.5, 0.9, 0.5]]), tf.constant([[2.0, -1.0, 0.0]])
    # Linf: both move alike until the second stops at 1 after 0.1; 0.3 are done, and the first goes on for 0.5 / 2.
    np.testing.assert_allclose(
        onto_hyperplane(point, normal, tf.constant([0.8]), norm="linf"), [[-0.35, 0.1, 0.0]], atol=1e-6
    )
    # L2: along (2, -1) unless the second stops: 0.4 is done by 0.08 * (2, -1), and 0.8 by 0.1 and 0.7 / 2.
    np.testing.assert_allclose(
        onto_hyperplane(point, normal, tf.constant([0.4]), norm="l2"), [[-0.16, 0.08, 0.0]], atol=1e-6
    )
    np.testing.assert_allclose(
        onto_hyperplane(point, normal, tf.constant([0.8]), norm="l2"), [[-0.35, 0.1, 0.0]], atol=1e-6
    )


@pytest.mark.parametrize("norm", NORMS)
def test_the_scale_of_the_function_does_not_matter_and_zero_moves_nothing(norm):
    points, normals, values = problems(share=0.5)
    moves = onto_hyperplane(points, normals, values, norm=norm).numpy()
    for scale in (2.0**-60, 2.0**60):
        scaled = onto_hyperplane(points, normals * np.float32(scale), values * np.float32(scale), norm=norm)
        np.testing.assert_array_equal(scaled, moves)
    np.testing.assert_array_equal(onto_hyperplane(points, 0 * normals, values, norm=norm), 0 * points)


@pytest.mark.parametrize("norm", NORMS)
def test_a_row_does_not_depend_on_the_rows_beside_it(norm):
    """Hard and easy rows end after different numbers of Newton's steps."""
    easy, hard = list(problems(share=0.01, seed=1)), list(problems(share=0.999, seed=2))
    alone = onto_hyperplane(*easy, norm=norm)
    beside = onto_hyperplane(*(np.concatenate(pair) for pair in zip(easy, hard, strict=True)), norm=norm)
    np.testing.assert_array_equal(beside[: len(alone)], alone)


def test_the_search_ends_where_every_pixel_stops_at_another_time():
    """Room that doubles from pixel to pixel is hard for Newton's method: a few pixels stop at each step."""
    room = 2.0 ** -np.arange(24)
    points, normals = np.array([room], np.float32), np.array([2.0 ** np.arange(24)], np.float32)
    for share in (0.1, 0.5, 0.99):
        values = np.array([share * 24], np.float32)
        for norm in NORMS:
            move = onto_hyperplane(points, normals, values, norm=norm).numpy().astype(np.float64)
            np.testing.assert_allclose(values + np.sum(normals * move, 1), 0, atol=1e-4)


@pytest.mark.parametrize(("norm", "chosen"), [("linf", 1), ("l2", 0)])
def test_the_nearest_hyperplane_is_measured_in_the_dual_norm(norm, chosen):
    # Gradients (3, 0) and (2, 2), both valued 1: L1 lengths 3 and 4, L2 lengths 3 and 2.83.
    weights = tf.constant([[3.0, 2.0], [0.0, 2.0]])
    values, normals = nearest_hyperplane(lambda points: points @ weights + 1.0, tf.zeros((2, 2)), norm=norm)
    np.testing.assert_array_equal(values, [1.0, 1.0])
    np.testing.assert_array_equal(normals, [weights[:, chosen]] * 2)


def test_the_nearest_hyperplane_is_chosen_row_by_row_and_may_lie_behind():
    weights = tf.constant([[1.0, 0.0], [0.0, 1.0]])
    points = tf.constant([[5.0, -2.0], [-1.0, 4.0], [0.0, 0.5]])
    values, normals = nearest_hyperplane(lambda points: points @ weights, points, norm="l2")
    np.testing.assert_array_equal(values, [-2.0, -1.0, 0.0])
    np.testing.assert_array_equal(normals, [[0, 1], [1, 0], [1, 0]])


@pytest.mark.parametrize("options", [{}, {"jit_compile": True}], ids=["graph", "xla"])
@pytest.mark.parametrize("norm", NORMS)
def test_compiled_projections_are_the_eager_ones(norm, options):
    points, normals, values = problems(share=0.6)
    eager = onto_hyperplane(points, normals, values, norm=norm)
    compiled = tf.function(lambda *args: onto_hyperplane(*args, norm=norm), **options)(points, normals, values)
    np.testing.assert_allclose(compiled, eager, atol=1e-6)


def test_sizes_are_the_norms_and_their_duals():
    vectors = tf.constant([[3.0, -4.0], [0.0, 0.0]])
    assert size(vectors, norm="linf").numpy().tolist() == [4.0, 0.0]
    assert size(vectors, norm="l2").numpy().tolist() == [5.0, 0.0]
    assert dual_size(vectors, norm="linf").numpy().tolist() == [7.0, 0.0]
    assert dual_size(vectors, norm="l2").numpy().tolist() == [5.0, 0.0]


@pytest.mark.parametrize(
    "call",
    [
        lambda: size(tf.zeros((1, 2)), norm="l1"),
        lambda: dual_size(tf.zeros((1, 2)), norm="l1"),
        lambda: onto_hyperplane(tf.zeros((1, 2)), tf.zeros((1, 2)), tf.zeros(1), norm="l1"),
        lambda: nearest_hyperplane(lambda points: points, tf.zeros((1, 2)), norm="l1"),
    ],
)
def test_other_norms_are_refused(call):
    with pytest.raises(InvalidInput, match=re.escape("`norm` is not known")):
        call()
