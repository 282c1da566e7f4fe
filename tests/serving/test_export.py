"""What is exported is what was trained, loads with TensorFlow alone, and answers as documented."""

from __future__ import annotations

import io
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from advss_tf.attacks import Linf, ProjectedGradientDescent
from advss_tf.encoders.handoff import load_encoder, read_card, read_provenance, read_variables
from advss_tf.encoders.normalization import BranchedBatchNormalization, norm_branch
from advss_tf.errors import InvalidInput
from advss_tf.finetune import RobustClassifier
from advss_tf.serving import export_classifier, export_encoder

NAMES = ["cat", "dog", "ship"]


def network(*, channels: int = 3, side: int | None = 8, branched: bool = False) -> keras.Model:
    """Images -> 6 features; weights and statistics are random, so that every one of them matters."""
    images = keras.Input((side, side, channels), name="images")
    x = keras.layers.Conv2D(6, 3, name="stem_conv")(images)
    norm = BranchedBatchNormalization if branched else keras.layers.BatchNormalization
    x = keras.layers.ReLU(name="stem_relu")(norm(name="stem_norm")(x))
    x = keras.layers.Dropout(0.5, name="stage1_dropout")(x)
    x = keras.layers.Conv2D(6, 3, name="stage1_conv")(x)
    model = keras.Model(images, keras.layers.GlobalAveragePooling2D(name="features")(x), name="small")
    numbers = np.random.default_rng(0)
    for variable in model.variables:
        if "seed_generator" not in variable.path:
            variable.assign(numbers.uniform(-0.5, 0.5, variable.shape) + ("variance" in variable.path))
    return model


class Classifier(keras.Model):
    """A stand-in for a finetuned classifier; its logits always come from the clean branch."""

    def __init__(self, encoder, num_classes=3, **kwargs):
        super().__init__(name="classifier", **kwargs)
        self.encoder, self.num_classes = encoder, num_classes
        self.head = keras.layers.Dense(num_classes, kernel_initializer=keras.initializers.HeNormal(seed=1), name="head")

    def call(self, images, training=None):
        return self.head(self.encoder(images, training=training))


@pytest.fixture(scope="module")
def images():
    """Five images, of which one is black and one has a bright red half."""
    images = np.random.default_rng(0).random((5, 8, 8, 3), dtype=np.float32)
    images[0] = 0.0
    images[1] = 0.0
    images[1, :, :4, 0] = 1.0
    return images


@pytest.fixture(scope="module")
def encoder():
    return network()


@pytest.fixture(scope="module")
def encoder_path(encoder, tmp_path_factory):
    return export_encoder(encoder, tmp_path_factory.mktemp("exports") / "deep" / "encoder", provenance={"seed": 3})


@pytest.fixture(scope="module")
def classifier(images):
    classifier = Classifier(network())
    # The mean logits become equal, so that the images are of different classes.
    mean = tf.reduce_mean(classifier(images), axis=0)
    classifier.head.bias.assign(-mean)
    return classifier


@pytest.fixture(scope="module")
def served_path(classifier, tmp_path_factory):
    return export_classifier(classifier, tmp_path_factory.mktemp("served") / "1", class_names=NAMES)


@pytest.fixture(scope="module")
def served(served_path):
    return tf.saved_model.load(str(served_path))


# Encoders ----------------------------------------------------------------------------------------------------


def test_loaded_encoder_gives_the_same_features_for_any_batch(encoder, encoder_path, images):
    loaded = tf.saved_model.load(str(encoder_path))
    for batch in (images, images[:1], np.concatenate([images, images, images[:3]])):
        features = loaded(batch)
        np.testing.assert_allclose(features, encoder(batch), atol=1e-6)
        np.testing.assert_allclose(loaded.signatures["serving_default"](images=batch)["features"], features, atol=1e-6)


def test_gradient_flows_through_the_loaded_encoder(encoder, encoder_path, images):
    loaded = tf.saved_model.load(str(encoder_path))

    def gradient(network):
        with tf.GradientTape() as tape:
            tape.watch(pixels := tf.constant(images))
            value = tf.reduce_sum(network(pixels) ** 2)
        return tape.gradient(value, pixels)

    assert float(tf.norm(gradient(loaded))) > 0
    np.testing.assert_allclose(gradient(loaded), gradient(encoder), atol=1e-5)


def test_encoder_is_a_keras_layer_again(encoder, encoder_path, images):
    layer = keras.layers.TFSMLayer(str(encoder_path), call_endpoint="serving_default")
    np.testing.assert_allclose(layer(images)["features"], encoder(images), atol=1e-6)
    np.testing.assert_allclose(keras.layers.TFSMLayer(str(encoder_path))(images), encoder(images), atol=1e-6)


def test_checkpoint_holds_each_variable_once_under_its_keras_path(encoder, encoder_path):
    keys = [name for name, _ in tf.train.list_variables(str(encoder_path / "variables" / "variables"))]
    assert "variables_by_path/stem_norm/moving_variance/.ATTRIBUTES/VARIABLE_VALUE" in keys
    assert len(keys) == len(encoder.variables) + 1  # and the graph of objects
    files = sorted(str(file.relative_to(encoder_path)) for file in encoder_path.rglob("*") if file.is_file())
    assert files == [
        "assets.extra/advss/encoder.json",
        "assets.extra/advss/provenance.json",
        "fingerprint.pb",
        "saved_model.pb",
        "variables/variables.data-00000-of-00001",
        "variables/variables.index",
    ]


def test_encoder_card_lists_shapes_and_types(encoder_path):
    card = read_card(encoder_path, "encoder")
    assert (card["format_version"], card["input_shape"], card["features_shape"]) == (1, [8, 8, 3], [6])
    assert card["variables"][0] == {"path": "stem_conv/kernel", "shape": [3, 3, 3, 6], "dtype": "float32"}
    assert read_provenance(encoder_path)["seed"] == 3


def test_encoder_of_a_model_is_exported_under_its_own_paths(tmp_path, images):
    class Inner(keras.Model):
        def build(self, shape):
            self.encoder = network()  # built inside another model: its paths begin with that model's name
            self.built = True

        def call(self, images):
            return self.encoder(images)

    model = Inner(name="pretext")
    model(images)
    assert model.encoder.variables[0].path == "pretext/stem_conv/kernel"
    path = export_encoder(model, tmp_path / "encoder")
    assert "stem_conv/kernel" in read_variables(path)
    np.testing.assert_allclose(load_encoder(path)(images), model(images), atol=1e-6)


def test_encoder_of_free_height_and_width_takes_any_size(tmp_path):
    encoder = network(side=None)
    loaded = tf.saved_model.load(str(export_encoder(encoder, tmp_path / "encoder")))
    larger = np.random.default_rng(1).random((2, 12, 9, 3), dtype=np.float32)
    np.testing.assert_allclose(loaded(larger), encoder(larger), atol=1e-6)


def test_a_branch_becomes_plain_batch_norm(tmp_path, images):
    encoder = network(branched=True)
    loaded = load_encoder(export_encoder(encoder, tmp_path / "encoder", branch="adversarial"))
    with norm_branch("adversarial"):
        np.testing.assert_allclose(loaded(images), encoder(images), atol=1e-6)
    assert float(tf.reduce_max(tf.abs(loaded(images) - encoder(images)))) > 1e-3
    assert type(loaded.get_layer("stem_norm")) is keras.layers.BatchNormalization


def test_branches_must_be_chosen_where_there_are_any(tmp_path, encoder):
    branched = network(branched=True)
    with pytest.raises(InvalidInput, match=r"has batch-norm branches.*one of \['adversarial', 'clean'\]"):
        export_encoder(branched, tmp_path / "encoder")
    with pytest.raises(InvalidInput, match=r"did you mean 'adversarial'"):
        export_encoder(branched, tmp_path / "encoder", branch="adversary")
    with pytest.raises(InvalidInput, match="no batch-norm branches to choose from"):
        export_encoder(encoder, tmp_path / "encoder", branch="clean")
    assert not any(tmp_path.iterdir())


def test_what_is_no_encoder_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="There is no encoder"):
        export_encoder("encoder", tmp_path / "encoder")


@pytest.mark.parametrize("provenance", [{"loss": float("nan")}, {"model": object()}, {"array": np.zeros(2)}])
def test_provenance_that_is_not_json_is_refused(encoder, tmp_path, provenance):
    with pytest.raises(InvalidInput, match="`provenance` is not JSON"):
        export_encoder(encoder, tmp_path / "encoder", provenance=provenance)
    assert not any(tmp_path.iterdir())


# Classifiers ----------------------------------------------------------------------------------------------------


def test_every_signature_gives_what_the_classifier_gives(classifier, served, images):
    logits = classifier(images).numpy()
    answers = served.signatures["serving_default"](images=images)
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = exponentials / exponentials.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(answers["probabilities"], expected, atol=1e-6)
    np.testing.assert_array_equal(answers["classes"], logits.argmax(axis=1))
    assert answers["classes"].dtype == tf.int64
    assert [name.decode() for name in answers["labels"].numpy()] == [NAMES[k] for k in logits.argmax(axis=1)]
    assert len(set(logits.argmax(axis=1))) > 1  # or the lines above say little
    np.testing.assert_allclose(served.signatures["logits"](images=images)["logits"], logits, atol=1e-6)
    np.testing.assert_allclose(served(images), logits, atol=1e-6)
    features = served.signatures["features"](images=images)["features"]
    np.testing.assert_allclose(features, classifier.encoder(images), atol=1e-6)


def test_classifier_card_and_encoder_are_in_the_export(classifier, served_path, images):
    card = read_card(served_path, "classifier")
    assert (card["num_classes"], card["class_names"]) == (3, NAMES)
    assert {row["path"] for row in card["variables"]} == {"classifier/head/kernel", "classifier/head/bias"}
    assert {"classifier/head/kernel", "stem_conv/kernel"} < set(read_variables(served_path))
    np.testing.assert_allclose(load_encoder(served_path)(images), classifier.encoder(images), atol=1e-6)


@pytest.mark.parametrize("bad", [1.001, -0.001, np.nan, np.inf])
@pytest.mark.parametrize("signature", ["serving_default", "logits", "features"])
def test_pixels_outside_the_unit_interval_are_refused_in_the_graph(served, images, bad, signature):
    images = images.copy()
    images[2, 3, 4, 1] = bad
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"hold pixels that are invalid.*finite numbers in \[0, 1\]"
    ):
        served.signatures[signature](images=images)


def test_gradient_flows_through_the_loaded_classifier(classifier, served, images):
    def gradient(network):
        with tf.GradientTape() as tape:
            tape.watch(pixels := tf.constant(images))
            value = tf.reduce_sum(network(pixels)[:, 0])
        return tape.gradient(value, pixels)

    logits = served.signatures["logits"]
    np.testing.assert_allclose(gradient(lambda x: logits(images=x)["logits"]), gradient(classifier), atol=1e-6)


def encoded(pixels, kind, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def smooth(height, width):
    """A picture without sharp edges, so that JPEG keeps it, uint8 RGB."""
    rows, columns = np.mgrid[0:height, 0:width]
    planes = [rows / height, columns / width, (rows + columns) / (height + width)]
    return np.round(255 * np.stack(planes, axis=-1)).astype(np.uint8)


def test_encoded_files_give_what_their_pixels_give(served, images):
    assert list(served.signatures["encoded"].structured_input_signature[1]) == ["image_bytes"]
    pixels = np.round(images * 255).astype(np.uint8)
    same = served.signatures["serving_default"](images=pixels.astype(np.float32) / 255)
    for kind in ("PNG", "BMP"):
        found = served.signatures["encoded"](image_bytes=tf.constant([encoded(image, kind) for image in pixels]))
        np.testing.assert_allclose(found["probabilities"], same["probabilities"], atol=1e-6)
        np.testing.assert_array_equal(found["labels"], same["labels"])
        np.testing.assert_array_equal(found["classes"], same["classes"])


def test_encoded_jpeg_is_near_to_its_pixels(served):
    pixels = smooth(8, 8)
    same = served.signatures["serving_default"](images=pixels[None].astype(np.float32) / 255)["probabilities"]
    file = encoded(pixels, "JPEG", quality=100, subsampling=0)
    found = served.signatures["encoded"](image_bytes=tf.constant([file]))["probabilities"]
    np.testing.assert_allclose(found, same, atol=0.02)


def test_encoded_files_are_resized_with_antialias_and_may_differ_in_size_and_kind(served):
    large = smooth(32, 48)
    grey = large[:, :, 0]
    files = [
        encoded(large, "PNG"),
        encoded(grey, "PNG"),
        encoded(grey, "JPEG", quality=100),
        encoded(smooth(8, 8), "PNG"),
    ]
    resized = tf.image.resize(large.astype(np.float32) / 255, (8, 8), antialias=True)
    resized_grey = tf.image.resize(np.repeat(grey[..., None], 3, -1).astype(np.float32) / 255, (8, 8), antialias=True)
    pixels = tf.stack([resized, resized_grey, resized_grey, smooth(8, 8).astype(np.float32) / 255])
    same = served.signatures["serving_default"](images=tf.clip_by_value(pixels, 0, 1))["probabilities"]
    found = served.signatures["encoded"](image_bytes=tf.constant(files))["probabilities"]
    np.testing.assert_allclose(found.numpy()[[0, 1, 3]], same.numpy()[[0, 1, 3]], atol=1e-5)
    np.testing.assert_allclose(found[2], same[2], atol=0.02)
    assert float(tf.reduce_max(tf.abs(same[0] - same[1]))) > 1e-3


def test_alpha_is_dropped(served):
    opaque = smooth(8, 8)
    alpha = np.full((8, 8, 1), 100, np.uint8)
    files = [encoded(image, "PNG") for image in (opaque, np.concatenate([opaque, alpha], axis=-1))]
    found = served.signatures["encoded"](image_bytes=tf.constant(files))["probabilities"]
    np.testing.assert_array_equal(found[0], found[1])


def test_bytes_that_are_no_picture_are_refused(served):
    with pytest.raises(tf.errors.InvalidArgumentError, match="Unknown image file format"):
        served.signatures["encoded"](image_bytes=tf.constant([b"no picture"]))


def test_grey_model_makes_rgb_files_grey(tmp_path):
    classifier = Classifier(network(channels=1))
    signature = tf.saved_model.load(str(export_classifier(classifier, tmp_path / "1"))).signatures["encoded"]
    colour = smooth(8, 8)
    grey = colour.astype(np.float32) / 255 @ np.array([[0.2989], [0.587], [0.114]], np.float32)
    found = signature(image_bytes=tf.constant([encoded(colour, "PNG"), encoded(colour[:, :, 0], "PNG")]))
    expected = classifier(np.stack([grey, colour[:, :, :1].astype(np.float32) / 255]))
    np.testing.assert_allclose(found["probabilities"], tf.nn.softmax(expected), atol=1e-5)
    assert [name.decode() for name in found["labels"].numpy()] == [str(k) for k in np.argmax(expected, axis=1)]


def test_model_of_two_channels_has_no_signature_for_files(tmp_path):
    path = export_classifier(Classifier(network(channels=2)), tmp_path / "1")
    assert sorted(tf.saved_model.load(str(path)).signatures) == ["features", "logits", "serving_default"]


def test_functional_classifier_is_exported_too(tmp_path, images):
    encoder = network()
    model = keras.Model(encoder.input, keras.layers.Dense(2, name="logits")(encoder.output))
    model.encoder, model.num_classes = encoder, 2
    loaded = tf.saved_model.load(str(export_classifier(model, tmp_path / "1")))
    np.testing.assert_allclose(loaded(images), model(images), atol=1e-6)
    assert {row["path"] for row in read_card(tmp_path / "1", "classifier")["variables"]} == {
        "logits/kernel",
        "logits/bias",
    }


def test_classifier_with_branches_is_served_with_the_branch_and_its_own_head(tmp_path, images):
    classifier = Classifier(network(branched=True))
    path = export_classifier(classifier, tmp_path / "1", branch="adversarial")
    loaded = tf.saved_model.load(str(path))
    with norm_branch("adversarial"):
        expected = classifier.head(classifier.encoder(images)).numpy()
    np.testing.assert_allclose(loaded(images), expected, atol=1e-5)
    assert "stem_norm/gamma" in read_variables(path)
    assert not any("adversarial" in name or "clean" in name for name in read_variables(path))


@pytest.mark.slow
def test_a_branch_is_chosen_in_mixed_precision_too(tmp_path, scattered_branches):
    """The classifier rounds its images to bfloat16, which its encoder alone does not."""
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        encoder = scattered_branches()
        model = RobustClassifier(encoder, 3, attack=ProjectedGradientDescent(Linf(0.1)))
        path = export_classifier(model, tmp_path / "1")
    finally:
        keras.config.set_dtype_policy(before)
    images = tf.round(tf.random.stateless_uniform((4, 8, 8, 3), (1, 2)) * 16) / 16  # what bfloat16 holds
    np.testing.assert_allclose(tf.saved_model.load(str(path))(images), model(images), rtol=2**-6, atol=2**-6)


def test_classifier_with_branches_must_be_head_of_encoder(tmp_path):
    classifier = Classifier(network(branched=True))
    with pytest.raises(InvalidInput, match="has batch-norm branches"):
        export_classifier(classifier, tmp_path / "1")

    class Doubled(Classifier):
        def call(self, images, training=None):
            return 2 * super().call(images, training=training)

    with pytest.raises(InvalidInput, match=r"is not `head\(encoder\(images\)\)`"):
        export_classifier(Doubled(network(branched=True)), tmp_path / "1", branch="clean")
    classifier.head = None
    classifier.call = lambda images, training=None: classifier.encoder(images)[:, :3]
    with pytest.raises(InvalidInput, match="must have an attribute `head`"):
        export_classifier(classifier, tmp_path / "1", branch="clean")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("names", [["a", "b"], ["a", "b", "b"], ["a", "b", 3], "abc"])
def test_class_names_that_do_not_fit_are_refused(classifier, tmp_path, names):
    with pytest.raises(InvalidInput, match=r"`class_names` do not name the classes.*3 distinct texts"):
        export_classifier(classifier, tmp_path / "1", class_names=names)


def test_models_that_are_no_classifiers_are_refused(encoder, tmp_path):
    with pytest.raises(InvalidInput, match="a Functional without encoder and num_classes"):
        export_classifier(encoder, tmp_path / "1")
    with pytest.raises(InvalidInput, match="one logit per class"):
        wrong = Classifier(encoder)
        wrong.num_classes = 4
        export_classifier(wrong, tmp_path / "1")
    with pytest.raises(InvalidInput, match="images of one size"):
        export_classifier(Classifier(network(side=None)), tmp_path / "1")


# Folders ----------------------------------------------------------------------------------------------------


def test_earlier_export_is_replaced_and_nothing_is_left_beside_it(tmp_path, images):
    target = tmp_path / "encoder"
    export_encoder(network(), target, provenance={"number": 1})
    (target / "stray").write_text("of the first export")
    second = network(channels=1)
    export_encoder(second, target, provenance={"number": 2})
    assert read_provenance(target)["number"] == 2
    assert not (target / "stray").exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["encoder"]
    np.testing.assert_allclose(load_encoder(target)(images[..., :1]), second(images[..., :1]), atol=1e-6)


def test_failed_export_leaves_the_earlier_one_as_it_was(tmp_path, encoder, monkeypatch):
    target = export_encoder(encoder, tmp_path / "encoder")
    before = {file: file.read_bytes() for file in target.rglob("*") if file.is_file()}
    save = tf.saved_model.save

    def half(module, folder, **options):
        save(module, folder, **options)
        raise OSError("disk full")

    monkeypatch.setattr(tf.saved_model, "save", half)
    for path in (target, tmp_path / "new"):
        with pytest.raises(OSError, match="disk full"):
            export_encoder(encoder, path)
    assert {file: file.read_bytes() for file in target.rglob("*") if file.is_file()} == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["encoder"]


def test_what_is_not_an_export_is_not_overwritten(tmp_path, encoder):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("years of work")
    with pytest.raises(InvalidInput, match=r"not a SavedModel, so it is kept\."):
        export_encoder(encoder, tmp_path / "thesis")
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="There is a file where"):
        export_encoder(encoder, tmp_path / "file")
    with pytest.raises(InvalidInput, match="local folder"):
        export_encoder(encoder, "gs://bucket/encoder")
    assert (tmp_path / "thesis" / "chapter1.tex").read_text() == "years of work"


def test_cards_are_json_that_anyone_reads(served_path):
    cards = sorted((served_path / "assets.extra" / "advss").iterdir())
    assert [card.name for card in cards] == ["classifier.json", "encoder.json", "provenance.json"]
    assert all(isinstance(json.loads(card.read_text()), dict) for card in cards)
