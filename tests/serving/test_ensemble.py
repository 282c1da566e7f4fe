"""An exported ensemble gives the mean of its members' probabilities, in one SavedModel, with TensorFlow alone."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.attacks import Linf, ProjectedGradientDescent
from advss_tf.encoders import load_encoder, resnet20
from advss_tf.encoders.handoff import read_card, read_provenance, read_variables
from advss_tf.errors import InvalidInput
from advss_tf.evaluation import load_model_for_evaluation
from advss_tf.finetune import RobustClassifier, RobustEnsemble
from advss_tf.serving import VerificationFailed, export_ensemble, verify_export

# Whole runs and exports, which take their time.
pytestmark = pytest.mark.slow

NAMES = ["cat", "dog", "ship"]


def member(seed, *, branches=("clean", "adversarial")):
    """A classifier with the same paths of variables as every other, and weights and statistics of its own."""
    attack = ProjectedGradientDescent(Linf(0.1), num_steps=3)
    model = RobustClassifier(resnet20((8, 8, 3), width=2, branches=branches), 3, attack=attack)
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        variable.assign(rng.uniform(-0.5, 0.5, variable.shape) + ("variance" in variable.path))
    return model


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((5, 8, 8, 3), dtype=np.float32)


@pytest.fixture(scope="module")
def ensemble():
    return RobustEnsemble([member(0), member(1), member(2, branches=())], weights=(1, 2, 1))


@pytest.fixture(scope="module")
def served(ensemble, tmp_path_factory):
    path = tmp_path_factory.mktemp("served") / "1"
    return export_ensemble(ensemble, path, class_names=NAMES, provenance={"seed": 3})


def test_every_signature_gives_what_the_members_give(ensemble, served, images):
    signatures = tf.saved_model.load(str(served)).signatures
    assert sorted(signatures) == ["encoded", "logits", "serving_default"]
    weighed = zip((0.25, 0.5, 0.25), ensemble.members, strict=True)
    expected = sum(weight * tf.nn.softmax(member(images)).numpy() for weight, member in weighed)
    answers = signatures["serving_default"](images=images)
    np.testing.assert_allclose(answers["probabilities"], expected, atol=1e-6)
    np.testing.assert_array_equal(answers["classes"], expected.argmax(axis=1))
    assert [name.decode() for name in answers["labels"].numpy()] == [NAMES[k] for k in expected.argmax(axis=1)]
    np.testing.assert_allclose(signatures["logits"](images=images)["logits"], np.log(expected), atol=1e-5)
    pixels = np.round(images * 255).astype(np.uint8)
    found = signatures["encoded"](image_bytes=tf.stack([tf.io.encode_png(image) for image in pixels]))
    same = signatures["serving_default"](images=pixels.astype(np.float32) / 255)
    np.testing.assert_allclose(found["probabilities"], same["probabilities"], atol=1e-6)


def test_the_mean_of_probabilities_is_served_as_the_same_model(ensemble, served, images, tmp_path):
    """Its `logits` are logits too, so whoever attacks the served model attacks what can be attacked."""
    averaged = RobustEnsemble(list(ensemble.members), weights=(1, 2, 1), combine="mean_probability")
    path = export_ensemble(averaged, tmp_path / "1")
    ours, theirs = (tf.saved_model.load(str(folder))(images) for folder in (path, served))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_cards_and_variables_say_which_member_is_which(ensemble, served):
    assert read_card(served, "ensemble")["weights"] == [0.25, 0.5, 0.25]
    assert read_card(served, "ensemble")["combine"] == "log_mean_probability"
    assert read_card(served, "ensemble")["members"] == ["classifier"] * 3
    card, arrays = read_card(served, "classifier"), read_variables(served)
    assert (card["num_classes"], card["class_names"]) == (3, NAMES)
    assert {row["path"] for row in card["variables"]} == set(arrays)
    assert len(arrays) == sum(len(member.variables) for member in ensemble.members)
    for number, one in enumerate(ensemble.members):
        np.testing.assert_array_equal(arrays[f"member{number}/{one.head.kernel.path}"], one.head.kernel)
    assert read_provenance(served)["seed"] == 3


def test_what_members_share_is_exported_once(images, tmp_path):
    one = member(0)
    ensemble = RobustEnsemble([one, one])
    path = export_ensemble(ensemble, tmp_path / "1")
    assert len(read_variables(path)) == len(one.variables)
    np.testing.assert_allclose(tf.saved_model.load(str(path))(images), ensemble(images), atol=1e-5)


def test_it_is_evaluated_from_its_folder(ensemble, served, images):
    model, info = load_model_for_evaluation(served)
    assert info.signature == "logits"
    np.testing.assert_allclose(model(tf.constant(images)), ensemble(images), atol=1e-5)


def test_no_encoder_is_taken_from_it(served):
    with pytest.raises(InvalidInput, match="several encoders, so none can be taken"):
        load_encoder(served)


def test_only_ensembles_with_images_of_one_size_and_fitting_names_are_exported(ensemble, tmp_path):
    with pytest.raises(InvalidInput, match="a RobustClassifier without members, member_weights, combine, image_shape"):
        export_ensemble(ensemble.members[0], tmp_path / "1")
    with pytest.raises(InvalidInput, match="`class_names` do not name the classes"):
        export_ensemble(ensemble, tmp_path / "1", class_names=["cat"])
    free = [
        keras.Sequential([keras.Input((None, None, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)])
        for _ in range(2)
    ]
    with pytest.raises(InvalidInput, match="images of one size"):
        export_ensemble(RobustEnsemble(free), tmp_path / "1")
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_an_exported_ensemble_is_verified(ensemble, served, images):
    found = verify_export(served, images=images, expected=ensemble)
    assert found["advss_tf_blocked"] is True
    assert found["signatures"] == ["encoded", "logits", "serving_default"]
    assert {"logits", "batch of 7", "__call__", "encoded", "saved_model_cli"} < set(found["differences"])
    assert max(found["differences"].values()) <= 1e-5
    with pytest.raises(VerificationFailed, match="other values"):
        verify_export(served, images=images, expected=ensemble.members[0](images).numpy())
