"""Views from the input pipeline and from the step itself, and what is refused in their place."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.data import Strong
from advss_tf.errors import InvalidInput
from advss_tf.pretext import ACL, AdvCL, DeACL, DynACL, RoCL, SimCLR
from advss_tf.pretext.viewed import attackable
from advss_tf.training import Batch

SEED = tf.constant([3, 4])


def test_views_from_the_pipeline_are_taken_as_they_are(two_stages, views):
    given = views(2)
    puzzle = SimCLR(two_stages(), projection=(4,)).pose(Batch(given), SEED)
    for number in range(2):
        np.testing.assert_array_equal(puzzle.inputs[f"view{number}"], given[:, number])


def test_of_plain_images_the_step_makes_views_by_its_seed(two_stages, tiny_images):
    model, images = SimCLR(two_stages(), projection=(4,)), Batch(tf.constant(tiny_images))
    one, again, other = (model.pose(images, seed).inputs for seed in (SEED, SEED, SEED + 1))
    np.testing.assert_array_equal(one["view0"], again["view0"])
    assert np.abs(one["view0"] - other["view0"]).max() > 0.1
    assert np.abs(one["view0"] - one["view1"]).max() > 0.1


def test_batches_of_other_views_or_pixels_are_refused(two_stages, views):
    model = SimCLR(two_stages(), projection=(4,))
    with pytest.raises(InvalidInput, match=r"\(batch, 2, 8, 8, 3\)"):
        model.check(views(3))
    with pytest.raises(tf.errors.InvalidArgumentError, match="outside"):
        model.check(views(2) - 0.5)


def test_high_frequencies_may_be_negative_and_other_views_may_not(two_stages, small_attack, views):
    model = AdvCL(two_stages(), attack=small_attack(), projection=(4,))
    given = np.array(views(4))
    given[:, 3] -= 0.5
    model.check(tf.constant(given))
    given[:, 2] -= 0.5
    with pytest.raises(tf.errors.InvalidArgumentError, match="outside"):
        model.check(tf.constant(given))
    given[:, 2], given[:, 3] = 0.5, np.nan
    with pytest.raises(tf.errors.InvalidArgumentError, match="outside"):
        model.check(tf.constant(given))


def test_high_frequencies_are_not_attacked():
    attackable("weak", {"kind": "strong", "hue": 0.0}, Strong(annealed=True), "original")
    with pytest.raises(InvalidInput, match="no pixels"):
        attackable("strong", "high_frequency")


def test_views_with_arguments_are_made_reported_and_saved(two_stages, tiny_images, tmp_path):
    """Those of the step and of the pipeline, which are the same views, and those of a model that was loaded."""
    still = {"kind": "strong", "smallest_area": 1.0, "jitter_probability": 0.0, "grey_probability": 0.0}
    pretext = SimCLR(two_stages(), views=(still, Strong(smallest_area=0.5), "weak"), projection=(4,), flip=False)
    assert pretext.views == (still, {"kind": "strong", "smallest_area": 0.5}, "weak")
    assert json.loads(json.dumps(pretext.provenance))["views"] == list(pretext.views)
    posed = pretext.pose(Batch(tf.constant(tiny_images)), SEED).inputs
    np.testing.assert_allclose(posed["view0"], tiny_images, atol=1e-6)
    assert np.abs(posed["view1"] - tiny_images).max() > 0.1

    pretext.save(tmp_path / "pretext.keras")
    loaded = keras.saving.load_model(tmp_path / "pretext.keras")
    assert loaded.views == pretext.views
    again = loaded.pose(Batch(tf.constant(tiny_images)), SEED).inputs
    np.testing.assert_array_equal(again["view1"], posed["view1"])


def test_what_is_no_view_is_refused(two_stages, small_attack):
    with pytest.raises(InvalidInput, match=r"`hue` of a view is out of range"):
        SimCLR(two_stages(), views=("strong", {"kind": "strong", "hue": 1}))
    for single in ("strong", {"kind": "strong", "hue": 0.1}, Strong()):
        with pytest.raises(InvalidInput, match="`views` is no list of views"):
            SimCLR(two_stages(), views=single)
        with pytest.raises(InvalidInput, match="`views` is no list of views"):
            ACL(two_stages(), attack=small_attack(), views=single)
        with pytest.raises(InvalidInput, match="`clean_views` leaves the attacked view no positive"):
            AdvCL(two_stages(), attack=small_attack(), clean_views=single)
    with pytest.raises(InvalidInput, match="no pixels"):
        AdvCL(two_stages(), attack=small_attack(), attacked_view={"kind": "high_frequency", "radius": 4})
    with pytest.raises(InvalidInput, match=r"`view` is not known \(did you mean 'weak'"):
        DeACL(two_stages(), two_stages(), attack=small_attack(), view="weka")


def test_views_and_plain_images_may_come_after_each_other(two_stages, views, tiny_images):
    """One traced function for both would not know how many axes its batches have."""
    model = SimCLR(two_stages(), views=("weak", "weak"), projection=(4,))  # soon traced
    model.compile(optimizer=keras.optimizers.SGD(0.1))
    for given in (views(2), tiny_images, views(2)):
        dataset = tf.data.Dataset.from_tensor_slices(given).batch(8)
        assert np.isfinite(model.fit(dataset, verbose=0).history["loss"]).all()
    assert np.isfinite(model.fit(tiny_images, verbose=0, shuffle=False).history["loss"]).all()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (DynACL, {"annealing": {"epochs": 3}}),
        (AdvCL, {"asymmetry": {"clean_shares": 0.2}}),
        (RoCL, {"asymmetry": {"share": 0.2}}),
    ],
)
def test_options_by_wrong_names_are_refused(kind, options, two_stages, small_attack):
    with pytest.raises(InvalidInput, match=r"does not have the arguments of (Annealing|Asymmetry)\. Expected: \w+"):
        kind(two_stages(), attack=small_attack(), **options)
