"""The ensemble: the paper's mean of probabilities, as logits that an attack can climb, and as one model everywhere."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

from advss_tf.attacks import Linf, ProjectedGradientDescent
from advss_tf.encoders import resnet20
from advss_tf.errors import InvalidInput
from advss_tf.evaluation import evaluate, load_model_for_evaluation
from advss_tf.evaluation.models import Classifier
from advss_tf.finetune import RobustClassifier, RobustEnsemble
from advss_tf.losses import cross_entropy

ATTACK = ProjectedGradientDescent(Linf(0.1), num_steps=3)


def linear(seed, *, classes=3, side=8, name=None, **options):
    """Images -> logits by one matrix; `options` are the last layer's."""
    start = keras.initializers.HeNormal(seed=seed)
    last = keras.layers.Dense(classes, kernel_initializer=start, **options)
    return keras.Sequential([keras.Input((side, side, 3)), keras.layers.Flatten(), last], name=name)


def constant(logits):
    """A member that gives the same logits for every image of one pixel."""
    model = keras.Sequential([keras.Input((1, 1, 1)), keras.layers.Flatten(), keras.layers.Dense(len(logits))])
    model.layers[-1].kernel.assign(tf.zeros((1, len(logits))))
    model.layers[-1].bias.assign(logits)
    return model


def robust(seed, *, branches=("clean", "adversarial")):
    """A finetuned classifier's stand-in; its branches have random statistics, so that they differ."""
    keras.utils.set_random_seed(seed)
    model = RobustClassifier(resnet20((8, 8, 3), width=2, branches=branches), 3, attack=ATTACK, seed=seed)
    rng = np.random.default_rng(seed)
    for variable in model.non_trainable_variables:
        if "moving_mean" in variable.path:
            variable.assign(rng.normal(size=variable.shape))
    return model


def mean_probability(logits, weights):
    """Σ w softmax(z) in float64, from (members, batch, classes)."""
    logits = np.asarray(logits, np.float64)
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.einsum("m,mbk->bk", weights, exponentials / exponentials.sum(axis=-1, keepdims=True))


# What it computes -----------------------------------------------------------------------------------------------------

# Probabilities (1/4, 3/4) and (3/4, 1/4): the mean is (1/2, 1/2), with weights 3 : 1 it is (3/8, 5/8).
ONE, OTHER = (0.0, np.log(3.0)), (np.log(3.0), 0.0)


@pytest.mark.parametrize(("weights", "expected"), [(None, [0.5, 0.5]), ((3, 1), [0.375, 0.625])])
def test_the_mean_of_two_members_by_hand(weights, expected):
    image = np.zeros((1, 1, 1, 1), np.float32)
    members = [constant(ONE), constant(OTHER)]
    logits = RobustEnsemble(members, weights=weights)(image)
    np.testing.assert_allclose(logits, np.log([expected]), rtol=1e-6)
    chances = RobustEnsemble(members, weights=weights, combine="mean_probability")(image)
    np.testing.assert_allclose(chances, [expected], rtol=1e-6)
    assert logits.dtype == chances.dtype == tf.float32


def test_a_saturated_member_leaves_finite_logits():
    """Probabilities of e^-200 are zero in float32; their logarithm is not."""
    members = [constant((200.0, 0.0, 0.0)), constant((220.0, 0.0, 20.0))]
    logits = RobustEnsemble(members)(np.zeros((1, 1, 1, 1), np.float32)).numpy()
    expected = [[0.0, -200 + np.log(0.5), -200 + np.log(1.0)]]
    np.testing.assert_allclose(logits, expected, rtol=1e-6, atol=1e-6)


def test_any_weights_give_what_numpy_gives(tiny_images):
    members, weights = [linear(seed) for seed in range(3)], np.array([0.2, 1.0, 0.3])
    expected = mean_probability([member(tiny_images) for member in members], weights / 1.5)
    ensemble = RobustEnsemble(members, weights=list(weights))
    np.testing.assert_allclose(ensemble(tiny_images), np.log(expected), atol=1e-5)
    np.testing.assert_allclose(tf.nn.softmax(ensemble(tiny_images)), expected, atol=1e-6)
    assert ensemble.member_weights == pytest.approx((0.2 / 1.5, 1 / 1.5, 0.3 / 1.5))
    assert (ensemble.num_classes, ensemble.image_shape) == (3, (8, 8, 3))


def test_one_member_twice_is_its_own_log_softmax(tiny_images):
    member = robust(0)
    np.testing.assert_allclose(
        RobustEnsemble([member, member])(tiny_images), tf.nn.log_softmax(member(tiny_images)), atol=1e-6
    )


def test_gradients_by_the_images_are_those_of_the_formula(tiny_images):
    """d log p_y / dx = Σ_i r_i (W_y - Σ_k softmax(z_i)_k W_k), where r_i is member i's share of p_y."""
    members, weights, label = [linear(1), linear(2)], np.array([0.3, 0.7]), 1
    with tf.GradientTape() as tape:
        tape.watch(pixels := tf.constant(tiny_images))
        value = tf.reduce_sum(RobustEnsemble(members, weights=weights)(pixels)[:, label])
    chances = [mean_probability([member(tiny_images)], [1.0]) for member in members]
    total = sum(w * chance[:, label] for w, chance in zip(weights, chances, strict=True))
    expected = np.zeros((8, 192))
    for member, weight, chance in zip(members, weights, chances, strict=True):
        kernel = member.layers[-1].kernel.numpy().astype(np.float64)
        share = weight * chance[:, label] / total
        expected += share[:, None] * (kernel[:, label] - chance @ kernel.T)
    np.testing.assert_allclose(tape.gradient(value, pixels).numpy().reshape(8, -1), expected, atol=1e-5)


def test_members_are_called_in_inference_mode_and_through_the_branch_that_they_deliver(tiny_images):
    members = [robust(0), robust(1)]
    streams = {
        stream: mean_probability([m.logits(tiny_images, training=False, stream=stream) for m in members], [0.5, 0.5])
        for stream in ("clean", "adversarial")
    }
    ensemble = RobustEnsemble(members)
    assert np.abs(streams["clean"] - streams["adversarial"]).max() > 0.01
    np.testing.assert_allclose(ensemble(tiny_images), np.log(streams["adversarial"]), atol=1e-5)
    assert np.abs(ensemble(tiny_images, training=True) - ensemble(tiny_images)).max() > 0.01


# As a Keras model -----------------------------------------------------------------------------------------------------


def test_it_tracks_its_members_variables():
    members = [linear(0), robust(1)]
    ensemble = RobustEnsemble(members)
    assert {id(v) for v in ensemble.variables} == {id(v) for member in members for v in member.variables}
    assert list(ensemble.members) == members


@pytest.mark.parametrize("combine", ["log_mean_probability", "mean_probability"])
def test_a_saved_ensemble_gives_the_same_numbers(combine, tiny_images, tmp_path):
    members = [robust(0), linear(1), robust(2, branches=())]
    members[0].compile(optimizer=keras.optimizers.SGD(0.1, momentum=0.9))
    ensemble = RobustEnsemble(members, combine=combine, weights=(1, 2, 3), name="three")
    ensemble.save(tmp_path / "three.keras")
    loaded, info = load_model_for_evaluation(tmp_path / "three.keras")
    assert isinstance(loaded, RobustEnsemble) and isinstance(loaded.members[0], RobustClassifier)
    assert (loaded.combine, loaded.name, info.architecture) == (combine, "three", "three")
    assert loaded.member_weights == pytest.approx((1 / 6, 2 / 6, 3 / 6))
    np.testing.assert_allclose(loaded(tiny_images), ensemble(tiny_images), atol=1e-6)


def test_members_that_share_variables_cannot_be_saved(tmp_path):
    member = linear(0)
    with pytest.raises(InvalidInput, match="members share variables cannot be saved"):
        RobustEnsemble([member, linear(1), member]).save(tmp_path / "ensemble.keras")


# Attacked -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("combine", ["log_mean_probability", "mean_probability"])
def test_the_form_that_attacks_loop_over_gives_the_same_logits(combine, tiny_images):
    ensemble = RobustEnsemble([robust(0), linear(1), robust(2)], combine=combine)
    classifier = Classifier(ensemble, tiny_images)
    expected = classifier(tf.constant(tiny_images))
    with classifier.prepared() as function:
        np.testing.assert_allclose(function(tf.constant(tiny_images)), expected, atol=1e-4)
        # Every encoder was hoisted: what its weights are now is not looked at.
        for member in (ensemble.members[0], ensemble.members[2]):
            for variable in member.encoder.trainable_variables:
                variable.assign(tf.zeros_like(variable))
        np.testing.assert_allclose(function(tf.constant(tiny_images)), expected, atol=1e-4)
    assert np.abs(classifier(tf.constant(tiny_images)) - expected).max() > 0.01


def line(scale):
    """Pixel x -> logits (0, scale · (x - 0.5)): sure of class 1 above a half, of class 0 below."""
    model = constant((0.0, -0.5 * scale))
    model.layers[-1].kernel.assign([[0.0, scale]])
    return model


# How far images are from where both members are undecided, in a ball of 0.1: three that can be moved across, three not.
DISTANCES = np.array([0.07, 0.08, 0.09, 0.11, 0.12, 0.15], np.float32)
MOVABLE = DISTANCES < 0.1


def found_as_logits(scale, label, **options):
    """Which images an attack finds that takes what the ensemble gives for logits."""
    ensemble = RobustEnsemble([line(scale), line(1.2 * scale)], **options)
    images = (0.5 + (2 * label - 1) * DISTANCES).reshape(-1, 1, 1, 1)
    labels = np.full(len(images), label)
    attack = ProjectedGradientDescent(Linf(0.1), num_steps=10, random_start=False)
    moved = attack(lambda inputs: cross_entropy(ensemble(inputs["images"]), labels), {"images": images}, [0, 1])
    assert (np.argmax(ensemble(images), axis=1) == labels).all()
    return np.argmax(ensemble(moved["images"]), axis=1) != labels


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("scale", [10.0, 400.0])
def test_an_attack_on_the_logarithm_finds_what_can_be_found_however_sure_members_are(scale, label):
    np.testing.assert_array_equal(found_as_logits(scale, label), MOVABLE)


@pytest.mark.parametrize(("scale", "missed"), [(10.0, 0), (200.0, 1), (400.0, 3)])
def test_an_attack_that_takes_probabilities_for_logits_misses_the_more_the_surer_members_are(scale, missed):
    """The right class's logit alone depends on the pixel; of 1 - p_y, from a margin of about 17 on, float32 keeps 0.

    Margins of the image at 0.09 are 0.9 and 1.08, then 18 and 21.6, then 36 and 43.2.
    """
    found = found_as_logits(scale, 1, faithful=True)
    assert not found[~MOVABLE].any() and found.sum() == 3 - missed
    # Where it is the other class's logit, which is not lost, nothing is missed.
    np.testing.assert_array_equal(found_as_logits(scale, 0, faithful=True), MOVABLE)


def test_faithful_is_the_mean_of_probabilities_and_what_is_given_wins(tiny_images, tmp_path):
    members = [linear(0), linear(1)]
    faithful = RobustEnsemble(members, faithful=True)
    assert (RobustEnsemble(members).combine, faithful.combine) == ("log_mean_probability", "mean_probability")
    expected = mean_probability([member(tiny_images) for member in members], [0.5, 0.5])
    np.testing.assert_allclose(faithful(tiny_images), expected, atol=1e-6)
    given = RobustEnsemble(members, faithful=True, combine="log_mean_probability")
    np.testing.assert_allclose(given(tiny_images), np.log(expected), atol=1e-5)
    for ensemble in (faithful, given):
        ensemble.save(tmp_path / "ensemble.keras")
        loaded = keras.models.load_model(tmp_path / "ensemble.keras")
        assert (loaded.faithful, loaded.combine) == (True, ensemble.combine)


def test_what_was_saved_before_there_was_a_word_for_the_papers_form_is_loaded(tiny_images):
    ensemble = RobustEnsemble([linear(0), linear(1)], combine="mean_probability")
    config = {name: value for name, value in ensemble.get_config().items() if name != "faithful"}
    loaded = RobustEnsemble.from_config(config)
    assert (loaded.faithful, loaded.combine) == (False, "mean_probability")


@pytest.fixture(scope="module")
def overconfident():
    """Two networks that were trained on digits far beyond the last error, and digits that neither has seen."""
    digits = load_digits()
    images, labels = (digits.images[..., None] / 16).astype(np.float32), digits.target.astype(np.int64)
    return [trained(seed, images[:1500], labels[:1500]) for seed in range(2)], images[1500:], labels[1500:]


def trained(seed, images, labels):
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Flatten(), keras.layers.Dense(64, activation="relu"), keras.layers.Dense(10)]
    model = keras.Sequential([keras.Input((8, 8, 1)), *layers])
    model.compile(keras.optimizers.Adam(0.02), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(images, labels, batch_size=128, epochs=100, verbose=0)
    return model


@pytest.mark.slow
def test_evaluation_takes_the_ensemble_as_one_model_and_notices_probabilities(overconfident):
    members, images, labels = overconfident
    records = {
        combine: evaluate(
            RobustEnsemble(members, combine=combine), (images, labels), num_steps=10, epsilons=(0.05,), batch_size=100
        )
        for combine in ("log_mean_probability", "mean_probability")
    }
    logits, chances = records["log_mean_probability"], records["mean_probability"]
    assert (logits.output, chances.output) == ("logits", "probabilities")
    warned = [any("gives probabilities, not logits" in text for text in found.warnings) for found in (logits, chances)]
    assert warned == [False, True]
    assert logits.results[0].correct == chances.results[0].correct > logits.results[-1].correct
    predicted = np.argmax(sum(tf.nn.softmax(member(images)).numpy() for member in members), axis=1)
    assert logits.results[0].correct == int(np.sum(predicted == labels))


# Refusals -------------------------------------------------------------------------------------------------------------


class Bare(keras.Model):
    """A model that says nothing of its outputs."""

    def call(self, images):
        return images[:, 0, 0]


@pytest.mark.parametrize(
    ("members", "options", "words"),
    [
        (lambda: [linear(0)], {}, "needs several members. Expected: a list of at least 2"),
        (lambda: linear(0), {}, "needs several members"),
        (lambda: [linear(0), linear(1, classes=4)], {}, "same number of classes. Expected: one number of classes. "),
        (lambda: [linear(0), linear(1, side=9)], {}, "do not take the same images"),
        (lambda: [linear(0), robust(1), linear(2, side=9)], {}, "(8, 8, 3), (9, 9, 3)]"),
        (lambda: [linear(0), linear(1)], {"combine": "mean_probabilities"}, "did you mean 'mean_probability'?"),
        (lambda: [linear(0), linear(1)], {"weights": (1.0,)}, "`weights` do not weigh the members. Expected: 2 pos"),
        (lambda: [linear(0), linear(1)], {"weights": (1.0, 0.0)}, "`weights` do not weigh"),
        (lambda: [linear(0), linear(1)], {"weights": (1.0, np.nan)}, "`weights` do not weigh"),
        (lambda: [linear(0), linear(1)], {"weights": "equal"}, "Received: weights='equal'"),
        (lambda: [linear(0), "model"], {}, "Member 1 is not a classifier that can be combined"),
        (lambda: [linear(0), Bare(name="bare")], {}, "Received: 'bare', which is not built"),
        (lambda: [linear(0, activation="softmax", name="soft"), linear(1)], {}, "'soft', which ends in a softmax"),
        (
            lambda: [linear(0), RobustEnsemble([linear(1), linear(2)], combine="mean_probability")],
            {},
            "which ends in a softmax",
        ),
    ],
)
def test_what_cannot_be_combined_is_refused(members, options, words):
    with pytest.raises(InvalidInput, match=re.escape(words)):
        RobustEnsemble(members(), **options)


def softmax_of(kind):
    """A model of logits with a softmax behind it, in one of the ways of Keras."""
    images = keras.Input((8, 8, 3))
    logits = linear(1)(images)
    last = {
        "layer": lambda: keras.layers.Softmax()(logits),
        "activation": lambda: keras.layers.Activation("softmax")(logits),
        "operation": lambda: keras.ops.softmax(logits),
    }
    return keras.Model(images, last[kind]())


@pytest.mark.parametrize("kind", ["layer", "activation", "operation"])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_softmax_is_found_inside_of_other_models(kind, depth):
    model = softmax_of(kind)
    for number in range(depth):
        images = keras.Input((8, 8, 3))
        model = keras.Model(images, model(images)) if number else keras.Sequential([images, model])
    with pytest.raises(InvalidInput, match="which ends in a softmax"):
        RobustEnsemble([model, linear(0)])


def test_a_softmax_that_is_not_the_end_is_none(tiny_images):
    images = keras.Input((8, 8, 3))
    attended = keras.layers.Softmax()(keras.layers.Flatten()(images))
    inner = keras.Model(images, keras.layers.Dense(3)(attended))
    assert RobustEnsemble([keras.Sequential([keras.Input((8, 8, 3)), inner]), linear(0)])(tiny_images).shape == (8, 3)
    # The layer that was made last is not the one that gives the output.
    logits = keras.layers.Dense(3)(keras.layers.Flatten()(images))
    both = keras.Model(images, [logits, keras.layers.Softmax()(logits)])
    assert RobustEnsemble([keras.Model(images, both(images)[0]), linear(0)])(tiny_images).shape == (8, 3)
    with pytest.raises(InvalidInput, match="which ends in a softmax"):
        RobustEnsemble([keras.Model(images, both(images)[1]), linear(0)])


def test_a_model_whose_classes_nobody_says_is_refused(tiny_images):
    bare = Bare(name="bare")
    bare(tiny_images)
    with pytest.raises(InvalidInput, match="outputs are not known to be"):
        RobustEnsemble([linear(0), bare])
    bare.num_classes = 3
    assert RobustEnsemble([linear(0), bare]).image_shape == (8, 8, 3)


def test_an_ensemble_may_be_a_member_and_a_free_size_is_fixed_by_another(tiny_images):
    free = keras.Sequential([keras.Input((None, None, 3)), keras.layers.GlobalAveragePooling2D()])
    inner = RobustEnsemble([linear(0), linear(1)])
    ensemble = RobustEnsemble([free, inner], weights=(1, 2))
    assert ensemble.image_shape == (8, 8, 3)
    members = [free, *inner.members]
    expected = mean_probability([member(tiny_images) for member in members], [1 / 3] * 3)
    np.testing.assert_allclose(ensemble(tiny_images), np.log(expected), atol=1e-5)
