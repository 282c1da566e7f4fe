"""Views by name: what each does and draws, and that an image's draw is its seed's and its row's alone."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
import tensorflow as tf

from advss_tf.data.augment import crop_and_flip
from advss_tf.data.frequency import high_frequency
from advss_tf.data.view_kinds import VIEWS, Original, Strong, Weak
from advss_tf.data.views import check_strength, make_views, views_for
from advss_tf.errors import InvalidInput
from advss_tf.randomness import fold, role_number
from advss_tf.training.strategy import get_strategy

SEED = tf.constant([3, 4], tf.int32)


@pytest.fixture
def noise():
    """`noise(count, height, width)`: random pixels, float32 in [0, 1], three channels."""
    return lambda *shape: np.random.default_rng(7).random((*shape, 3), dtype=np.float32)


def one(view, images, seed=SEED, **options):
    return make_views((view,), tf.constant(images), seed, **options)[0].numpy()


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_view_is_float32_of_the_same_shape_and_of_pixels_unless_it_is_high_frequency(noise, name, channels):
    images = noise(20, 16, 16)[..., :channels]
    eight_bits = np.round(images * 255).astype(np.uint8)
    for given in (images, eight_bits):
        found = one(name, given)
        assert found.shape == images.shape and found.dtype == np.float32
        if name != "high_frequency":
            assert found.min() >= 0 and found.max() <= 1
        assert (name == "original") == bool(
            np.array_equal(found, given if given is images else given / np.float32(255))
        )


def test_weak_is_pad_crop_and_flip_by_an_eighth(noise):
    images = tf.constant(noise(30, 32, 32))
    seed = fold(fold(SEED, role_number("weak")), 0)
    np.testing.assert_array_equal(one("weak", images), crop_and_flip(images, seed, crop_padding=4, flip=True))


def test_high_frequency_is_that_of_the_first_weak_view(noise):
    images = tf.constant(noise(10, 32, 32))
    edges, weak, other, second = make_views(("high_frequency", "weak", "weak", "high_frequency"), images, SEED)
    np.testing.assert_array_equal(edges, high_frequency(weak, radius=8.0))
    np.testing.assert_array_equal(second, high_frequency(other, radius=8.0))
    assert not np.array_equal(weak, other)


def test_two_strong_views_differ_and_come_again_with_their_seed(noise):
    images = noise(20, 16, 16)
    first, second = make_views(("strong", "strong"), tf.constant(images), SEED)
    again = make_views(("strong", "strong"), tf.constant(images), SEED)
    assert np.abs(first - second).reshape(20, -1).max(axis=1).min() > 0.05
    np.testing.assert_array_equal(first, again[0])
    np.testing.assert_array_equal(second, again[1])
    assert not np.array_equal(first, one("strong", images, seed=tf.constant([3, 5])))


def test_a_strong_and_an_annealed_view_differ_by_their_draws_as_well(noise):
    """Both are of one family, whose second view draws other numbers than its first."""
    images = tf.constant(noise(20, 16, 16))
    alike = Strong(smallest_area=0.2, annealed=True)  # at full strength the strong view by another name
    first, second = make_views(("strong", alike), images, SEED)
    assert np.abs(first - second).reshape(20, -1).max(axis=1).min() > 0.05
    for view, pair in zip((first, second), make_views(("strong", "strong"), images, SEED), strict=True):
        np.testing.assert_array_equal(view, pair)


@pytest.mark.parametrize("name", ["weak", "strong", "annealed", "high_frequency"])
def test_slices_of_workers_join_to_the_global_batch(noise, name):
    images = noise(12, 16, 16)
    whole = one(name, images, strength=0.7)
    parts = [one(name, images[at : at + 4], strength=0.7, batch_size=12, first=at) for at in (0, 4, 8)]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-6)


@pytest.mark.parametrize("name", ["weak", "strong"])
def test_two_replicas_draw_what_one_draws(noise, name):
    images, strategy = tf.constant(noise(8, 16, 16)), get_strategy("mirrored")

    def replica():
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        return make_views((name,), images[4 * number : 4 * number + 4], SEED)[0]

    parts = strategy.experimental_local_results(tf.function(lambda: strategy.run(replica))())
    np.testing.assert_allclose(tf.concat(parts, 0), one(name, images), atol=1e-6)


def test_annealing_to_nothing_leaves_a_flip(noise):
    images = noise(40, 16, 16)
    found = one("annealed", images, strength=0.0)
    mirrored = images[:, :, ::-1]
    same = np.abs(found - images).reshape(40, -1).max(axis=1) < 1e-6
    turned = np.abs(found - mirrored).reshape(40, -1).max(axis=1) < 1e-6
    assert (same ^ turned).all() and 8 < same.sum() < 32


def test_full_strength_is_the_strong_view_with_a_tenth_of_the_area(noise):
    images = noise(10, 16, 16)
    np.testing.assert_array_equal(one("annealed", images), one(Strong(smallest_area=0.1), images))


def test_the_strength_may_be_a_tensor_and_changes_the_strength(noise):
    images = tf.constant(noise(40, 16, 16))
    function = tf.function(lambda strength: make_views(("annealed",), images, SEED, strength=strength)[0])
    np.testing.assert_allclose(function(tf.constant(0.5)), one("annealed", images, strength=0.5), atol=1e-6)
    spread = [float(np.mean((one("annealed", images, strength=s).mean((1, 2)) - 0.5) ** 2)) for s in (0.0, 0.5, 1.0)]
    assert spread[0] < spread[1] < spread[2]
    np.testing.assert_array_equal(one("strong", images, strength=0.3), one("strong", images))


def test_the_shares_of_grey_and_of_changed_colours_are_the_probabilities():
    """On images of one colour, which no crop can change: 1000 images, three standard errors of each share."""
    images = np.broadcast_to(np.float32([0.7, 0.4, 0.2]), (1000, 8, 8, 3))
    found = one("strong", images)[:, 0, 0]
    greyed = np.ptp(found, axis=1) < 1e-5
    changed = (np.abs(found - images[0, 0, 0]).max(axis=1) > 1e-5)[~greyed]
    assert abs(greyed.mean() - 0.2) < 0.04 and abs(changed.mean() - 0.8) < 0.045
    assert not (np.ptp(one(Strong(grey_probability=0.0), images)[:, 0, 0], axis=1) < 1e-5).any()
    still = one(Strong(grey_probability=0.0, jitter_probability=0.0), images)
    np.testing.assert_allclose(still, images, atol=1e-6)


@pytest.mark.parametrize(
    ("only", "limits"), [("brightness", (0.6, 1.4)), ("contrast", (0.6, 1.4)), ("saturation", (0.6, 1.4))]
)
def test_a_factor_is_uniform_within_its_range(only, limits):
    """Read from two pixels that a factor of 1.4 does not clip."""
    pixels = np.array([[[0.5, 0.3, 0.3], [0.3, 0.3, 0.3]]], np.float32)
    images = np.broadcast_to(np.repeat(pixels, 2, axis=0), (600, 2, 2, 3))
    silent = {name: 0.0 for name in ("brightness", "contrast", "saturation", "hue") if name != only}
    view = Strong(smallest_area=1.0, jitter_probability=1.0, grey_probability=0.0, **silent)
    found = one(view, images)
    of_pixel = {
        "brightness": found.max(axis=(1, 2, 3)) / 0.5,
        "contrast": np.ptp(found[..., 0], axis=(1, 2)) / 0.2,
        "saturation": np.ptp(found, axis=3).max(axis=(1, 2)) / 0.2,
    }[only]
    assert of_pixel.min() > limits[0] - 1e-4 and of_pixel.max() < limits[1] + 1e-4
    shares = np.histogram(of_pixel, bins=4, range=limits)[0] / 600
    assert np.abs(shares - 0.25).max() < 0.055  # three standard errors


def test_at_half_strength_half_as_many_images_become_grey_or_change_their_colours():
    """Probabilities 0.2 · 0.5 and 0.8 · 0.5: 4000 images of one colour, three standard errors of each share."""
    images = np.broadcast_to(np.float32([0.7, 0.4, 0.2]), (4000, 8, 8, 3))
    found = one("annealed", images, strength=0.5)[:, 0, 0]
    greyed = np.ptp(found, axis=1) < 1e-5
    changed = (np.abs(found - images[0, 0, 0]).max(axis=1) > 1e-5)[~greyed]
    assert abs(greyed.mean() - 0.1) < 3 * np.sqrt(0.1 * 0.9 / 4000)
    assert abs(changed.mean() - 0.4) < 3 * np.sqrt(0.4 * 0.6 / len(changed))


@pytest.mark.parametrize(
    ("only", "limits"),
    [("brightness", (0.8, 1.2)), ("contrast", (0.8, 1.2)), ("saturation", (0.8, 1.2)), ("hue", (-0.05, 0.05))],
)
def test_at_half_strength_a_factor_is_uniform_within_half_its_range(only, limits):
    """Of the images that change, read from a coloured pixel and a grey one, which no factor of 1.2 clips."""
    images = np.broadcast_to(np.float32([[[0.7, 0.4, 0.2], [0.4, 0.4, 0.4]]] * 2), (1200, 2, 2, 3))
    silent = {name: 0.0 for name in ("brightness", "contrast", "saturation", "hue") if name != only}
    always = {"smallest_area": 1.0, "jitter_probability": 1.0, "grey_probability": 0.0, "flip": False}
    found = one({"kind": "annealed", **always, **silent}, images, strength=0.5)[:, 0]
    of_image = {
        "brightness": found[:, 0, 0] / 0.7,
        "contrast": (found[:, 0, 0] - found[:, 1, 0]) / 0.3,
        "saturation": np.ptp(found[:, 0], axis=1) / 0.5,
        "hue": np.array([colorsys.rgb_to_hsv(*pixel)[0] for pixel in found[:, 0]]) - 1 / 15,
    }[only]
    changed = of_image[np.abs(of_image - np.mean(limits)) > 1e-5]
    assert abs(len(changed) / 1200 - 0.5) < 3 * np.sqrt(0.5 * 0.5 / 1200)  # a probability of 1 · 0.5
    assert changed.min() > limits[0] - 1e-4 and changed.max() < limits[1] + 1e-4
    shares = np.histogram(changed, bins=4, range=(limits[0] - 1e-4, limits[1] + 1e-4))[0] / len(changed)
    assert np.abs(shares - 0.25).max() < 3 * np.sqrt(0.25 * 0.75 / len(changed))


def test_at_half_strength_a_crop_keeps_at_least_fifty_five_percent_of_the_area():
    """1 - 0.9 · 0.5; below three quarters, where every aspect fits the image, areas are uniform.

    A pixel is its number, so that the first and the last one say how many rows and columns a crop keeps.
    """
    numbers = np.arange(64**2, dtype=np.float32).reshape(64, 64, 1) / (64**2 - 1)
    view = {"kind": "annealed", "jitter_probability": 0.0, "flip": False}
    found = one(view, np.broadcast_to(numbers, (600, 64, 64, 1)), strength=0.5)
    between = np.round((found[:, -1, -1, 0] - found[:, 0, 0, 0]) * (64**2 - 1))
    areas = (between // 64 + 1) * (between % 64 + 1) / 64**2
    # Rounding takes up to half a pixel from each of two sides, which are 41 pixels or more.
    assert areas.min() > 0.55 * (1 - 0.5 / 41) ** 2
    middling = areas[areas < 0.75]
    assert len(middling) > 300
    shares = np.histogram(np.maximum(middling, 0.55), bins=4, range=(0.55, 0.75))[0] / len(middling)
    assert np.abs(shares - 0.25).max() < 3 * np.sqrt(0.25 * 0.75 / len(middling))


def test_views_are_made_in_a_pipeline_with_batches_of_unknown_size(noise):
    images = noise(10, 16, 16)
    dataset = tf.data.Dataset.from_tensor_slices(images).batch(4)
    views = list(dataset.map(lambda batch: make_views(("strong", "high_frequency"), batch, SEED)))
    assert [pair[0].shape[0] for pair in views] == [4, 4, 2]
    np.testing.assert_allclose(views[0][0], one("strong", images[:4]), atol=1e-6)


def test_what_is_no_view_is_refused(noise):
    images = noise(2, 8, 8)
    with pytest.raises(InvalidInput, match=r"`view` is not known \(did you mean 'strong'"):
        one("strng", images)
    with pytest.raises(InvalidInput, match="`views` names no views"):
        make_views((), tf.constant(images), SEED)
    with pytest.raises(InvalidInput, match="`views` is no list of views"):
        make_views("weak", tf.constant(images), SEED)
    with pytest.raises(InvalidInput, match=r"`strength` is out of range.*strength=1.5"):
        one("annealed", images, strength=1.5)


def test_a_weak_view_takes_its_own_padding(noise):
    images = noise(5, 8, 8)
    np.testing.assert_array_equal(one(Weak(crop_padding=0, flip=False), images), images)


@pytest.mark.parametrize("name", ["strong", "annealed"])
def test_an_image_of_one_channel_is_changed_as_the_grey_picture_that_it_is(noise, name):
    """Saturation, hue and grey change nothing of a picture whose three channels are equal, nor of its one."""
    images = noise(40, 16, 16)[..., :1]
    found = one(name, images)
    np.testing.assert_allclose(found, one(name, np.repeat(images, 3, axis=-1))[..., :1], atol=1e-5)
    flat = one(name, np.full((40, 16, 16, 1), 0.5, np.float32))
    np.testing.assert_allclose(flat, np.broadcast_to(flat[:, :1, :1], flat.shape), atol=1e-6)
    assert len(np.unique(np.round(flat[:, 0, 0, 0], 4))) > 20  # brightness is that of each image


def test_without_a_flip_no_strong_view_mirrors(noise):
    images = noise(40, 16, 16)
    still = {"smallest_area": 1.0, "jitter_probability": 0.0, "grey_probability": 0.0}
    np.testing.assert_allclose(one(Strong(**still, flip=False), images), images, atol=1e-6)
    mirrored = np.abs(one(Strong(**still), images) - images).reshape(40, -1).max(axis=1) > 1e-3
    assert 8 < mirrored.sum() < 32


def test_a_view_without_a_flip_is_otherwise_the_same(noise):
    images = noise(30, 16, 16)
    found, plain = one("strong", images), one(Strong(flip=False), images)
    same = np.abs(found - plain).reshape(30, -1).max(axis=1) < 1e-5
    turned = np.abs(found[:, :, ::-1] - plain).reshape(30, -1).max(axis=1) < 1e-5
    assert (same | turned).all() and 6 < turned.sum() < 24


def test_a_data_set_says_the_padding_and_whether_anything_mirrors():
    cubic = Strong(interpolation="bicubic")
    own = Weak(crop_padding=1, flip=False)
    names = ("weak", "strong", "annealed", "high_frequency", "original", cubic, own)
    assert views_for(names, crop_padding=3, flip=False) == (
        Weak(crop_padding=3, flip=False),
        Strong(flip=False),
        Strong(smallest_area=0.1, annealed=True, flip=False),
        Weak(crop_padding=3, flip=False, radius=8.0),
        Original(),
        Strong(interpolation="bicubic", flip=False),
        own,
    )
    assert views_for(names, flip=True) == (*(VIEWS[name] for name in names[:5]), cubic, own)
    with pytest.raises(InvalidInput, match=r"This is no view.*'strong'.*view=3"):
        views_for(["weak", 3])


def test_what_is_no_strength_is_refused_at_its_step():
    check_strength(lambda step: tf.cast(step, tf.float32) / 10.0, 10)
    with pytest.raises(InvalidInput, match=r"`strength` is no function.*strength=0.5"):
        check_strength(0.5, 0)
    with pytest.raises(InvalidInput, match=r"gives no strength.*strength\(11\)=1.1"):
        check_strength(lambda step: tf.cast(step, tf.float32) / 10.0, 11)
    with pytest.raises(InvalidInput, match=r"gives no strength.*strength\(2\)=\[0.5\]"):
        check_strength(lambda step: [0.5], 2)
