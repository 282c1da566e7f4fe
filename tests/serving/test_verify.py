"""The verification of an export runs without the library, and fails when something is wrong."""

from __future__ import annotations

import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.errors import InvalidInput
from advss_tf.serving import VerificationFailed, export_classifier, export_encoder, verify_export
from advss_tf.serving.plain_tensorflow import (
    Blocked,
    coarsest_dtype,
    largest_difference,
    lost_probability,
    output_difference,
    relative_difference,
)
from advss_tf.serving.verify import outputs_on_cpu
from advss_tf.training.strategy import get_strategy


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((5, 8, 8, 3), dtype=np.float32)


def make_classifier(policy="float32", seed=0):
    start = keras.initializers.GlorotUniform(seed=seed)
    pixels = keras.Input((8, 8, 3), name="images")
    x = keras.layers.Conv2D(6, 3, kernel_initializer=start, dtype=policy, name="stem_conv")(pixels)
    x = keras.layers.GlobalAveragePooling2D(dtype=policy)(keras.layers.BatchNormalization(dtype=policy)(x))
    encoder = keras.Model(pixels, x)
    logits = keras.layers.Dense(3, kernel_initializer=start, dtype="float32", name="logits")(encoder.output)
    model = keras.Model(pixels, logits)
    model.encoder, model.num_classes = encoder, 3
    return model


@pytest.fixture(scope="module")
def classifier():
    return make_classifier()


@pytest.fixture(scope="module")
def served(classifier, tmp_path_factory):
    return export_classifier(classifier, tmp_path_factory.mktemp("served") / "1", class_names=["a", "b", "c"])


@pytest.mark.slow
def test_good_exports_are_verified_quietly(classifier, served, images, tmp_path, capfd):
    found = verify_export(served, images=images, expected=classifier)
    assert (found["computes_in"], found["tolerance"]) == ("float32", 1e-5)
    assert found["advss_tf_blocked"] is True
    assert found["signatures"] == ["encoded", "features", "logits", "serving_default"]
    assert set(found["differences"]) == {
        "logits",
        "batch of 1",
        "batch of 3",
        "batch of 7",
        "__call__",
        "encoded",
        "saved_model_cli",
    }
    assert max(found["differences"].values()) <= 1e-5
    assert found["versions"]["tensorflow"].startswith("2.")
    path = export_encoder(classifier, tmp_path / "encoder")
    found = verify_export(path, images=images, expected={"features": classifier.encoder(images).numpy()})
    assert found["differences"]["features"] <= 1e-5
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def test_other_values_than_expected_fail(classifier, served, images):
    expected = {"logits": classifier(images).numpy(), "features": classifier.encoder(images).numpy()}
    expected["features"][1, 2] += 0.01
    # Nothing else is named: the logits, the other batches and the files all agree.
    with pytest.raises(
        VerificationFailed,
        match=r"other values.*differences <= 1e-05, computed in float32\. Received: features: 0\.0\d* for",
    ):
        verify_export(served, images=images, expected=expected)


@pytest.mark.slow
def test_coarse_numbers_may_differ_by_their_rounding_and_by_no_more(images, tmp_path):
    coarse = make_classifier("mixed_bfloat16")
    path = export_classifier(coarse, tmp_path / "1")
    found = verify_export(path, images=images, expected=coarse)
    assert (found["computes_in"], found["tolerance"]) == ("bfloat16", 2**-6)
    assert max(found["differences"].values()) <= 2**-6
    other = make_classifier("mixed_bfloat16", seed=1)
    with pytest.raises(VerificationFailed, match=r"differences <= 0\.015625, computed in bfloat16.*logits: 0\.\d"):
        verify_export(path, images=images, expected=other)


@pytest.mark.slow
def test_export_that_does_not_load_fails_with_the_reason(served, images, tmp_path):
    broken = tmp_path / "1"
    shutil.copytree(served, broken)
    (broken / "saved_model.pb").write_bytes(b"no model")
    with pytest.raises(VerificationFailed, match="not possible to load and run the export without advss_tf"):
        verify_export(broken, images=images)


def test_too_little_time_is_said_so(served, images):
    with pytest.raises(VerificationFailed, match=r"not enough time to load and run.*a larger `timeout`"):
        verify_export(served, images=images, timeout=0.05)


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((2, 8, 8, 1), np.float32),
        np.zeros((2, 8, 8, 3)),
        np.full((2, 8, 8, 3), 2, np.float32),
        np.full((2, 8, 8, 3), np.nan, np.float32),
        np.zeros((0, 8, 8, 3), np.float32),
        [[0.0]],
    ],
)
def test_images_that_do_not_fit_are_refused(served, bad):
    with pytest.raises(InvalidInput, match=r"`images` do not fit.*\(B, 8, 8, 3\)"):
        verify_export(served, images=bad)


def test_path_that_is_no_export_is_refused(tmp_path, images):
    with pytest.raises(InvalidInput, match="not an encoder or classifier exported"):
        verify_export(tmp_path, images=images)


def test_blocker_refuses_the_library_and_nothing_else():
    for name in ("advss_tf", "advss_tf.encoders"):
        with pytest.raises(ImportError, match="blocked"):
            Blocked().find_spec(name)
    assert Blocked().find_spec("advss_tfx") is None


def test_relative_difference_by_hand():
    assert relative_difference([0.5, 0.25], [0.5, 0.5]) == 0.25  # below 1: absolute
    assert relative_difference([4.0, 8.0], [4.0, 10.0]) == 0.2  # above 1: in units of the largest
    assert relative_difference([1.0], [1.0, 1.0]) == float("inf")
    assert relative_difference([np.nan], [1.0]) == float("inf")
    sure = {"logits": np.array([-400.0, 300.0]), "probabilities": np.array([0.0, 1.0])}
    assert output_difference("probabilities", [0.02, 0.98], sure) == pytest.approx(0.02 / 200)
    assert output_difference("logits", [-400.0, 304.0], sure) == pytest.approx(4 / 400)
    assert output_difference("probabilities", [np.nan, 1.0], sure) == float("inf")
    unsure = {**sure, "logits": np.array([1.0, -1.5])}
    assert output_difference("probabilities", [0.02, 0.98], unsure) == pytest.approx(0.02)


def test_a_class_is_as_far_off_as_it_is_less_probable():
    probabilities = np.array([[0.5, 0.5, 0.0], [0.1, 0.2, 0.7]])
    assert lost_probability([0, 2], probabilities) == lost_probability([1, 2], probabilities) == 0.0
    assert lost_probability([0, 1], probabilities) == pytest.approx(0.5)
    for no_classes in ([0], [0, 3], [-1, 0]):
        assert lost_probability(no_classes, probabilities) == float("inf")
    expected = {"probabilities": probabilities, "classes": np.array([0, 2])}
    labels = np.array([b"a", b"b"])
    near = {"probabilities": probabilities + 0.01, "classes": np.array([1, 2]), "labels": labels}
    assert largest_difference(near, expected) == pytest.approx(0.01)
    assert largest_difference({**near, "classes": np.array([1, 0])}, expected) == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("dtype", "name"), [(tf.float32, "float32"), (tf.float16, "float16"), (tf.bfloat16, "bfloat16")]
)
def test_the_coarsest_numbers_are_found_inside_called_functions(dtype, name):
    inner = tf.function(lambda images: tf.cast(tf.matmul(tf.cast(images, dtype), tf.ones((3, 2), dtype)), tf.float32))
    module = tf.Module()
    spec = tf.TensorSpec([None, 3], tf.float32, name="images")
    outer = tf.function(lambda images: {"logits": inner(images)}, input_signature=[spec])
    module.signatures = {"serving_default": outer.get_concrete_function()}
    assert coarsest_dtype(module) == name


def test_a_model_is_asked_on_the_cpu_wherever_it_is(classifier, images):
    devices = []

    class Watching(keras.layers.Layer):
        def call(self, inputs):
            devices.append(inputs.device)
            return inputs * 1.0

    with get_strategy("mirrored").scope():
        model = keras.Sequential([keras.Input((8, 8, 3)), Watching(), make_classifier()])
    model.set_weights(classifier.get_weights())
    devices.clear()
    with tf.device("/CPU:1"):  # where this process computes by default
        found = outputs_on_cpu(model, images)
    assert [device[-5:] for device in devices] == ["CPU:0"]
    np.testing.assert_allclose(found, classifier(images), atol=1e-6)
