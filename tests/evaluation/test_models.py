"""Models from disk: the same numbers as in memory, and refusals in words."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.errors import InvalidInput
from advss_tf.evaluation import evaluate, load_model_for_evaluation
from advss_tf.evaluation.models import are_probabilities


@pytest.fixture
def classifier() -> keras.Model:
    """(B, 8, 8, 3) -> (B, 3): the fewest layers that have a kernel and batch norm, seeded."""
    layers = keras.layers
    start = keras.initializers.HeNormal(seed=1)
    stack = [layers.Conv2D(4, 3, kernel_initializer=start), layers.BatchNormalization(), layers.Flatten()]
    return keras.Sequential([keras.Input((8, 8, 3)), *stack, layers.Dense(3, kernel_initializer=start)], name="net")


class Served(tf.Module):
    """A SavedModel as a server wants it: named signatures with named outputs."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 3), tf.float32, name="images")])
    def logits(self, images):
        return {"logits": self.model(images, training=False), "features": tf.reduce_mean(images, axis=[1, 2])}

    @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 3), tf.float32, name="images")])
    def probabilities(self, images):
        return {"classes": tf.zeros(1), "probabilities": tf.nn.softmax(self.model(images, training=False))}

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="jpeg")])
    def files(self, jpeg):
        return {"logits": tf.zeros((tf.shape(jpeg)[0], 3))}

    @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 3), tf.float32, name="images")])
    def unclear(self, images):
        return {"a": tf.zeros((1, 3)), "b": tf.zeros((1, 3))}


def save(module: Served, path, **signatures: str) -> None:
    tf.saved_model.save(module, str(path), signatures={name: getattr(module, f) for name, f in signatures.items()})


def counts(model, images, labels) -> list[int]:
    record = evaluate(model, (images, labels), num_steps=4, epsilons=(0.05, 0.2))
    return [row.correct for row in record.results]


def labels_near(model, images) -> np.ndarray:
    """Labels that make the model right on all images but the first, so that an attack has something to do."""
    labels = model(images, training=False).numpy().argmax(axis=1)
    labels[0] = (labels[0] + 1) % 3
    return labels


def test_a_keras_file_and_saved_models_give_the_numbers_of_the_model_in_memory(classifier, tiny_images, tmp_path):
    labels = labels_near(classifier, tiny_images)
    expected = counts(classifier, tiny_images, labels)
    assert expected[0] == 7 > expected[-1], "the attack should fool some"
    classifier.save(tmp_path / "net.keras")
    classifier.export(tmp_path / "exported", verbose=False)
    save(Served(classifier), tmp_path / "served", serving_default="probabilities", logits="logits")
    save(Served(classifier), tmp_path / "single", serving_default="probabilities")
    for name in ("net.keras", "exported", "served", "single"):
        model, info = load_model_for_evaluation(tmp_path / name)
        assert counts(model, tiny_images, labels) == expected, name
        assert info.path == str(tmp_path / name)


def test_gradients_flow_through_a_loaded_signature(classifier, tiny_images, tmp_path):
    classifier.export(tmp_path / "exported", verbose=False)
    gradients = []
    for model in (classifier, load_model_for_evaluation(tmp_path / "exported")[0]):
        images = tf.constant(tiny_images)
        with tf.GradientTape() as tape:
            tape.watch(images)
            value = tf.reduce_sum(model(images)[:, 0])
        gradients.append(tape.gradient(value, images).numpy())
    assert np.abs(gradients[0]).max() > 1e-4
    np.testing.assert_allclose(gradients[1], gradients[0], rtol=1e-4, atol=1e-7)


def test_the_signature_named_logits_is_preferred(classifier, tmp_path):
    save(Served(classifier), tmp_path / "served", serving_default="probabilities", logits="logits")
    model, info = load_model_for_evaluation(tmp_path / "served")
    assert (info.signature, model.output, info.format, info.architecture) == ("logits", "logits", "saved_model", None)


def test_the_architecture_of_a_keras_file_is_its_name(classifier, tmp_path):
    classifier.save(tmp_path / "mine.keras")
    _, info = load_model_for_evaluation(tmp_path / "mine.keras")
    assert (info.name, info.architecture, info.format, info.signature) == ("mine", "net", "keras", None)


def test_a_path_without_a_model_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="it does not exist"):
        load_model_for_evaluation(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["model.h5", "weights.npz"])
def test_another_format_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InvalidInput, match="or a SavedModel folder"):
        load_model_for_evaluation(tmp_path / name)


def test_a_broken_keras_file_is_refused(tmp_path):
    (tmp_path / "broken.keras").write_bytes(b"x")
    with pytest.raises(InvalidInput, match="could not be loaded in safe mode"):
        load_model_for_evaluation(tmp_path / "broken.keras")


def test_a_keras_file_that_holds_code_is_refused(tmp_path):
    keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Lambda(lambda x: x + 1)]).save(tmp_path / "code.keras")
    with pytest.raises(InvalidInput, match="without Python lambdas"):
        load_model_for_evaluation(tmp_path / "code.keras")


@pytest.mark.parametrize(
    "signatures,sentence",
    [
        ({"serving_default": "files"}, "does not take images"),
        ({"serving_default": "unclear"}, "not clear which output"),
        ({"other": "logits"}, "no signature that can be evaluated"),
    ],
)
def test_a_saved_model_without_a_usable_signature_is_refused(classifier, tmp_path, signatures, sentence):
    save(Served(classifier), tmp_path / "served", **signatures)
    with pytest.raises(InvalidInput, match=sentence):
        load_model_for_evaluation(tmp_path / "served")


def test_logits_are_not_taken_for_probabilities():
    assert are_probabilities(np.array([[0.25, 0.75], [1.0, 0.0]]))
    assert not are_probabilities(np.array([[0.25, 0.75], [1.5, -0.5]]))
    assert not are_probabilities(np.array([[0.25, 0.75], [0.5, 0.6]]))
