"""What a model has learned from beyond its own images: which words are said of whom, and what must be declared."""

from __future__ import annotations

import numpy as np
import pytest

from advss_tf import assembly
from advss_tf.config import make_recipe
from advss_tf.data import load_data
from advss_tf.errors import InvalidInput
from advss_tf.finetune import RobustClassifier
from advss_tf.outside import digest_of, learned_outside, origin_of, outside_of_clusters, outside_of_features
from advss_tf.serving import export_classifier, export_encoder


@pytest.fixture(scope="module")
def data():
    return load_data(np.random.default_rng(0).random((30, 8, 8, 3), dtype=np.float32))


def own(data):
    return {"data": {"name": data.name, "fingerprint": data.fingerprint}}


OTHER = {"data": {"name": "photographs", "fingerprint": "1"}}


def test_nothing_is_said_of_an_encoder_of_the_same_images(data):
    assert learned_outside(own(data), data, "it") is None
    assert outside_of_clusters(own(data), data, declared=False) is None


def test_what_was_learned_elsewhere_is_said_and_what_was_said_before_goes_on(data):
    assert learned_outside(OTHER, data, "its teacher") == "its teacher was trained on photographs"
    chained = {**OTHER, "external": "labels of ImageNet", "labels": True}
    words = "it was trained on photographs and has learned from labels; labels of ImageNet"
    assert learned_outside(chained, data, "it") == words
    assert learned_outside({**own(data), "external": "labels of ImageNet"}, data, "it") == "labels of ImageNet"
    assert learned_outside({**own(data), "labels": True}, data, "it") == "it has learned from labels"


@pytest.mark.parametrize("origin", [{}, {"data": None}, {"data": "photographs"}, {"data": {}}])
def test_an_export_that_says_nothing_is_of_unknown_data(origin, data):
    assert learned_outside(origin, data, "it") == "it was trained on unknown data"


def test_other_images_of_the_same_name_are_told_apart(data):
    origin = {"data": {"name": data.name, "fingerprint": "1"}}
    assert learned_outside(origin, data, "it") == f"it was trained on other images by the name of {data.name}"


def test_what_pseudo_labels_bring_in_must_be_declared(data):
    taught = {**own(data), "labels": True}
    for origin, words in ((OTHER, "trained on photographs"), ({}, "unknown data"), (taught, "has learned from labels")):
        with pytest.raises(InvalidInput, match=rf"cluster\.external: true.*{words}.*external=false"):
            outside_of_clusters(origin, data, declared=False)
        assert words in outside_of_clusters(origin, data, declared=True)
    said = {**own(data), "external": "labels of ImageNet"}
    assert outside_of_clusters(said, data, declared=False) == "labels of ImageNet", "it is declared where it came in"
    assert "as its recipe says" in outside_of_clusters(own(data), data, declared=True)


def test_what_a_loaded_encoder_brings_in_is_declared_in_words_or_refused(data):
    taught, told = {**own(data), "labels": True}, {"external": "labels of ImageNet"}
    for origin, words in ((OTHER, "photographs"), (taught, "has learned from labels"), (told, "labels of ImageNet")):
        with pytest.raises(InvalidInput, match=rf'external="…".*{words}.*external=None'):
            outside_of_features(origin, data, external=None)
        assert words in outside_of_features(origin, data, external="photographs of mine")
        assert outside_of_features(origin, data, external="photographs of mine").startswith("photographs of mine; it ")
    assert outside_of_features(own(data), data, external=None) is None
    assert outside_of_features({**own(data), **told}, data, external=None) == "labels of ImageNet"
    for silent in ({}, {"data": None}, {"labels": False}):
        assert outside_of_features(silent, data, external=None) == "it was trained on unknown data"
    said = outside_of_features(OTHER, data, external="it was trained on photographs, as its card says")
    assert said == "it was trained on photographs, as its card says", "nothing is said twice"


def test_a_classifier_has_learned_from_labels_and_an_encoder_has_not(tiny_encoder, tmp_path, data):
    export_encoder(tiny_encoder, tmp_path / "encoder", provenance=own(data))
    export_classifier(RobustClassifier(tiny_encoder, 3, how="standard"), tmp_path / "classifier", provenance=own(data))
    export_encoder(tiny_encoder, tmp_path / "told", provenance={**own(data), "finetuned": {"loss": 1.0}})
    found = [learned_outside(origin_of(tmp_path / name), data, "it") for name in ("encoder", "classifier", "told")]
    assert found == [None, "it has learned from labels", "it has learned from labels"]


def test_a_digest_is_of_the_weights_and_of_the_network(tiny_encoder, tmp_path, data):
    export_encoder(tiny_encoder, tmp_path / "one", provenance=own(data))
    export_encoder(tiny_encoder, tmp_path / "same", provenance=OTHER)
    tiny_encoder.get_layer("stage2_conv").bias.assign_add([1e-6] * 6)
    export_encoder(tiny_encoder, tmp_path / "moved", provenance=own(data))
    one, same, moved = (digest_of(tmp_path / name) for name in ("one", "same", "moved"))
    assert one == same != moved and len(one) == 64
    assert assembly.taught_by(_deacl(tmp_path / "one"), data) == {"teacher": one}


def test_a_teacher_passes_on_what_it_was_taught(tiny_encoder, tmp_path, data):
    export_encoder(tiny_encoder, tmp_path / "own", provenance={**own(data), "external": "labels of ImageNet"})
    export_encoder(tiny_encoder, tmp_path / "other", provenance={**OTHER, "external": "labels of ImageNet"})
    export_classifier(RobustClassifier(tiny_encoder, 3, how="standard"), tmp_path / "classifier", provenance=own(data))
    words = [_of_teacher(tmp_path / name, data) for name in ("own", "other", "classifier")]
    assert words == [
        "labels of ImageNet",
        "its teacher was trained on photographs; labels of ImageNet",
        "its teacher has learned from labels",
    ]


def _of_teacher(path, data):
    return assembly.external_of_pretraining(_deacl(path), data)


def _deacl(path):
    values = {
        "name": "deacl", "seed": 0, "data": {"kind": "digits"}, "encoder": {"kind": "resnet20"},
        "pretrain": {
            "task": {"kind": "deacl", "teacher": str(path)}, "attack": {"epsilon": 0.1}, "epochs": 1,
            "optimizer": {"kind": "sgd", "learning_rate": 0.1},
        },
    }  # fmt: skip
    return make_recipe(values)
