"""JPEG against SciPy's cosine transform and a slow coder that is written from the standard."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import tensorflow as tf

from advss_tf.attacks.unforeseen.jpeg import JPEGAttack, planes_of
from advss_tf.randomness import seed_for

RANDOM = np.random.default_rng(4)
# ITU-T T.81, tables K.1 and K.2, row by row.
LUMA = np.array(
    [
        *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55),
        *(14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62),
        *(18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
        *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
    ],
    float,
).reshape(8, 8)
CHROMA = np.array([[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]], float)
CHROMA = np.pad(CHROMA, (0, 4), constant_values=99.0)


def coded(plane, moves, table):
    """A plane of levels through JPEG and back, its quantised coefficients moved and not rounded; block by block."""
    out = np.empty_like(plane)
    block = iter(moves.reshape(-1, 8, 8))
    for top in range(0, plane.shape[0], 8):
        for left in range(0, plane.shape[1], 8):
            levels = plane[top : top + 8, left : left + 8] - 128
            quantised = scipy.fft.dctn(levels, norm="ortho") / table + next(block)
            out[top : top + 8, left : left + 8] = scipy.fft.idctn(quantised * table, norm="ortho") + 128
    return out


def reference(image, parameters):
    """One image (h, w, c) in [0, 1], h and w whole blocks; a parameter moves its coefficient by half."""
    levels, (height, width) = image.astype(float) * 255, image.shape[:2]
    moves = parameters.astype(float) / 2
    if image.shape[2] == 1:
        return np.clip(coded(levels[..., 0], moves, LUMA)[..., None] / 255, 0, 1)
    red, green, blue = levels[..., 0], levels[..., 1], levels[..., 2]
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    chroma = [
        -0.168736 * red - 0.331264 * green + 0.5 * blue + 128,
        0.5 * red - 0.418688 * green - 0.081312 * blue + 128,
    ]
    luma = coded(luma, moves[: height * width], LUMA)
    planes = []
    for number, plane in enumerate(chroma):
        halved = plane.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))
        first = height * width + number * halved.size
        halved = coded(halved, moves[first : first + halved.size], CHROMA)
        planes.append(np.kron(halved, np.ones((2, 2))) - 128)
    out = [luma + 1.402 * planes[1], luma - 0.344136 * planes[0] - 0.714136 * planes[1], luma + 1.772 * planes[0]]
    return np.clip(np.stack(out, axis=-1) / 255, 0, 1)


@pytest.mark.parametrize("shape", [(16, 32, 3), (32, 32, 3), (24, 8, 1)], ids=str)
def test_the_distortion_is_a_jpeg_coder_with_moved_coefficients(shape):
    images = RANDOM.uniform(0.2, 0.8, (2, *shape)).astype(np.float32)
    count = shape[0] * shape[1] * (3 if shape[2] == 3 else 2) // 2
    parameters = RANDOM.uniform(-1.5, 1.5, (2, count)).astype(np.float32)
    planes = planes_of(tf.constant(images))
    found = JPEGAttack(2.0).render(tf.constant(images), tf.constant(parameters), tuple(planes), tf.fill([2], 2.0))
    expected = np.stack([reference(*pair) for pair in zip(images, parameters, strict=True)])
    assert np.mean((expected == 0) | (expected == 1)) > 0.01
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_one_constant_coefficient_by_hand():
    """A block's first coefficient has step 16 and is the sum over 64 pixels / 8: parameter 2 moves all by 2 levels."""
    image = np.full((1, 8, 8, 1), 0.5, np.float32)
    parameters = np.zeros((1, 64), np.float32)
    parameters[0, 0] = 2.0
    found = JPEGAttack(2.0).render(
        tf.constant(image), tf.constant(parameters), tuple(planes_of(tf.constant(image))), tf.constant([2.0])
    )
    np.testing.assert_allclose(found, 0.5 + 2 / 255, atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_with_size_0_only_the_round_trip_is_left(norm, images, climb):
    """Colour loses half of its chroma's resolution; nothing is rounded. Grey images come back as they were."""
    found = JPEGAttack(0.0, norm=norm, num_steps=2)(climb, {"images": images}, seed_for(0, 0, "attack"))["images"]
    expected = np.stack([reference(image, np.zeros(16 * 16 * 3 // 2)) for image in images])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    grey = images[..., :1]
    score = lambda inputs: tf.reduce_sum(inputs["images"], [1, 2, 3])  # noqa: E731
    found = JPEGAttack(0.0, norm=norm, num_steps=2)(score, {"images": grey}, seed_for(0, 0, "attack"))["images"]
    np.testing.assert_allclose(found, grey, atol=1e-6)


def test_sides_that_are_no_blocks_are_continued_and_cut():
    image = RANDOM.uniform(0.2, 0.8, (1, 9, 18, 3)).astype(np.float32)
    padded = np.pad(image, [(0, 0), (0, 7), (0, 14), (0, 0)], mode="edge")
    parameters = RANDOM.uniform(-1, 1, (1, 16 * 32 * 3 // 2)).astype(np.float32)
    planes = planes_of(tf.constant(image))
    assert [plane.shape[1:].as_list() for plane in planes] == [[16, 32], [8, 16], [8, 16]]
    found = JPEGAttack(1.0).render(tf.constant(image), tf.constant(parameters), tuple(planes), tf.constant([1.0]))
    np.testing.assert_allclose(found[0], reference(padded[0], parameters[0])[:9, :18], atol=1e-5)


def vertex_by_hand(point, slope, epsilon, largest):
    vertex, left = np.zeros_like(point), epsilon
    for place in sorted(range(len(point)), key=lambda place: -abs(slope[place])):
        spent = min(left, largest - np.sign(slope[place]) * point[place])
        vertex[place], left = np.sign(slope[place]) * spent, left - spent
    return vertex


def test_l1_goes_to_the_vertex_that_spends_on_the_largest_gradients():
    attack = JPEGAttack(5.0, norm="l1", num_steps=3)
    point = RANDOM.uniform(-0.1, 0.1, (3, 40)).astype(np.float32)
    slope = RANDOM.normal(size=(3, 40)).astype(np.float32)
    size = np.array([5.0, 0.3, 12.5], np.float32)
    vertices = np.stack([vertex_by_hand(*each, 2.0) for each in zip(point, slope, size, strict=True)])
    assert np.abs(vertices).sum(1) == pytest.approx(size, rel=1e-6)
    for step in (0, 1, 4):
        moved = attack.move(tf.constant(point), tf.constant(slope), (), tf.constant(size), tf.constant(step))
        expected = np.clip(point + (vertices - point) / (step + 1), -2, 2)
        expected *= np.minimum(1, size / np.abs(expected).sum(1))[:, None]
        np.testing.assert_allclose(moved, expected, atol=1e-6)


def test_in_l1_a_parameter_settles_at_half_of_its_bound_as_in_the_published_code():
    """p + (2s - 2p) / k with bound 2 and signs s that stay: at 2s - p, then at s for good."""
    attack, size = JPEGAttack(1000.0, norm="l1"), tf.constant([1000.0])
    slope = tf.constant([[1.0, -3.0, 2.0]])
    point = attack.move(tf.constant([[0.5, 0.5, 0.0]]), slope, (), size, tf.constant(0))
    np.testing.assert_allclose(point, [[1.5, -2.0, 2.0]])  # the second would be -2.5
    for step in range(1, 5):
        point = attack.move(point, slope, (), size, tf.constant(step))
        np.testing.assert_allclose(point, [[1.0, -1.0, 1.0]], atol=1e-6)


def test_l2_steps_along_the_gradient_by_the_step_s_length():
    attack = JPEGAttack(4.0, norm="l2", num_steps=16)
    slope = RANDOM.normal(size=(2, 30)).astype(np.float32) * 1e-9
    moved = attack.move(tf.zeros((2, 30)), tf.constant(slope), (), tf.constant([4.0, 1.0]), tf.constant(0)).numpy()
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), [1.0, 0.25], rtol=1e-5)
    np.testing.assert_allclose(moved[0], slope[0] / np.linalg.norm(slope[0]), atol=1e-6)
    still = attack.move(tf.zeros((2, 30)), tf.zeros((2, 30)), (), tf.constant([4.0, 1.0]), tf.constant(0))
    np.testing.assert_array_equal(still, np.zeros((2, 30)))


@pytest.mark.parametrize("norm, order", [("l1", 1), ("l2", 2), ("linf", np.inf)])
def test_starts_are_uniform_in_the_ball(norm, order):
    """P(size <= r) = r ** dimensions, so that power of the size is uniform: its mean is 1/2."""
    attack = JPEGAttack(0.5, norm=norm)
    start, _ = attack.draw(seed_for(0, 0, "attack"), tf.zeros((3000, 8, 8, 1)), tf.fill([3000], 0.5))
    sizes = np.linalg.norm(start.numpy(), ord=order, axis=1) / 0.5
    assert sizes.max() <= 1 + 1e-5
    assert abs(np.mean(sizes**64) - 0.5) < 0.03
    assert abs(start.numpy().mean()) < 0.02 * np.abs(start).mean() + 1e-3


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_gradients_reach_every_coefficient(norm, images, seeds):
    attack = JPEGAttack(0.1, norm=norm)
    parameters, fixed = attack.draw(seeds, tf.constant(images), tf.fill([16], 0.1))
    weights = RANDOM.normal(size=images.shape).astype(np.float32)
    with tf.GradientTape() as tape:
        tape.watch(parameters)
        score = tf.reduce_sum(attack.render(tf.constant(images), parameters, fixed, tf.fill([16], 0.1)) * weights)
    assert parameters.shape == (16, 16 * 16 * 3 // 2)
    assert np.all(tape.gradient(score, parameters) != 0)
