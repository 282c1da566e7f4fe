"""The step: what it climbs and descends, equal to a plain step, and the same on any number of replicas."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from cleverhans.tf2.attacks.projected_gradient_descent import projected_gradient_descent

from advss_tf.attacks import Linf, ProjectedGradientDescent
from advss_tf.errors import InvalidInput
from advss_tf.finetune import RobustClassifier
from advss_tf.losses import cross_entropy
from advss_tf.training import Puzzle, RobustModel
from advss_tf.training.strategy import get_strategy

ATTACK = ProjectedGradientDescent(Linf(0.1), num_steps=3)
PLAIN = ProjectedGradientDescent(Linf(0.1), num_steps=3, step_size=0.05, random_start=False)


def classifier(encoder, *, how="adversarial", attack=ATTACK, optimizer=None, **options):
    model = RobustClassifier(encoder, 3, how=how, attack=attack, **options)
    model.compile(optimizer=optimizer or keras.optimizers.SGD(0.1, momentum=0.9))
    return model


def network_without_batch_norm() -> keras.Model:
    images = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu", kernel_initializer=keras.initializers.HeNormal(seed=1))(images)
    return keras.Model(images, keras.layers.Flatten()(x))


def test_the_step_equals_a_plain_cleverhans_step(tiny_encoder, tiny_images, tiny_labels):
    """Madry's step written by hand on a copy, with cleverhans' attack: the same weights afterwards."""
    model = classifier(tiny_encoder, attack=PLAIN, optimizer=keras.optimizers.SGD(0.1))
    copy = keras.models.clone_model(tiny_encoder)
    copy.set_weights(tiny_encoder.get_weights())
    head = keras.layers.Dense(3)
    head.build(copy.output_shape)
    head.set_weights(model.head.get_weights())
    attacked = projected_gradient_descent(
        lambda images: head(copy(images, training=False)), tf.constant(tiny_images), 0.1, 0.05, 3, np.inf,
        clip_min=0.0, clip_max=1.0, y=tiny_labels, rand_init=False,
    )  # fmt: skip
    variables = copy.trainable_variables + head.trainable_variables
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(cross_entropy(head(copy(attacked, training=True)), tiny_labels))
    expected = [
        variable - 0.1 * gradient for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True)
    ]
    logs = model.train_on_batch(tiny_images, tiny_labels, return_dict=True)
    for ours, theirs in zip(model.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    np.testing.assert_allclose(logs["loss"], loss, rtol=1e-4)


def test_without_an_attack_the_step_is_keras_own(tiny_images, tiny_labels):
    ours = classifier(network_without_batch_norm(), how="standard", attack=None, eval_attack=None)
    keras_own = keras.Sequential([network_without_batch_norm(), keras.layers.Dense(3)])
    keras_own.build((None, 8, 8, 3))
    keras_own.layers[1].set_weights(ours.head.get_weights())
    keras_own.compile(keras.optimizers.SGD(0.1, momentum=0.9), keras.losses.SparseCategoricalCrossentropy(True))
    for model in (ours, keras_own):
        model.fit(tiny_images, tiny_labels, batch_size=4, epochs=3, shuffle=False, verbose=0)
    for one, other in zip(ours.get_weights(), keras_own.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_the_attack_raises_the_loss_that_training_sees(tiny_encoder, tiny_images, tiny_labels):
    model = classifier(tiny_encoder, eval_attack=PLAIN)
    attacked = model.evaluate(tiny_images, tiny_labels, verbose=0, return_dict=True)
    assert attacked["adversarial_loss"] > attacked["clean_loss"] + 0.01
    assert attacked["robust_accuracy"] <= attacked["accuracy"]
    assert 0 < attacked["attack_at_bound"] <= 1


def test_metrics_are_exact_with_a_last_batch_that_is_smaller(tiny_encoder, tiny_images, tiny_labels):
    model = classifier(tiny_encoder, how="standard", attack=None)
    whole = model.evaluate(tiny_images, tiny_labels, batch_size=8, verbose=0, return_dict=True)
    parts = model.evaluate(tiny_images, tiny_labels, batch_size=3, verbose=0, return_dict=True)
    predicted = model.predict(tiny_images, verbose=0).argmax(1)
    assert parts["accuracy"] == pytest.approx(np.mean(predicted == tiny_labels))
    assert parts["loss"] == pytest.approx(whole["loss"], rel=1e-5)


def test_evaluation_draws_the_same_numbers_every_time(tiny_encoder, tiny_images, tiny_labels):
    model = classifier(tiny_encoder)
    first, second = (model.evaluate(tiny_images, tiny_labels, verbose=0, return_dict=True) for _ in range(2))
    assert first == second


def test_the_training_attack_measures_a_network_in_inference_mode(tiny_encoder, tiny_images, tiny_labels):
    norm = next(layer for layer in tiny_encoder.layers if isinstance(layer, keras.layers.BatchNormalization))
    norm.moving_mean.assign_add(tf.fill(norm.moving_mean.shape, 0.5))  # as far from the batch's own as it may be
    training = ProjectedGradientDescent(Linf(0.1), num_steps=2, random_start=False, batch_norm="training")
    inference = ProjectedGradientDescent(Linf(0.1), num_steps=2, random_start=False)
    found = {}
    for name, given in (("inherited", "attack"), ("inference", inference), ("training", training)):
        model = classifier(tiny_encoder, attack=training, eval_attack=given, how="adversarial")
        found[name] = model.evaluate(tiny_images, tiny_labels, verbose=0, return_dict=True)["adversarial_loss"]
    assert found["inherited"] == found["inference"] > found["training"]


def test_a_word_that_names_no_attack_is_refused(tiny_encoder):
    with pytest.raises(InvalidInput, match=r"`eval_attack`.*'attack'.*'atack'"):
        classifier(tiny_encoder, eval_attack="atack")


def test_sample_weights_weigh(tiny_encoder, tiny_images, tiny_labels):
    weights = np.array([1.0, 0, 0, 0, 0, 0, 0, 0], np.float32)
    model = classifier(tiny_encoder, how="standard", attack=None)
    weighted = model.evaluate(tiny_images, tiny_labels, sample_weight=weights, verbose=0, return_dict=True)
    alone = model.evaluate(tiny_images[:1], tiny_labels[:1], verbose=0, return_dict=True)
    assert weighted["loss"] == pytest.approx(alone["loss"], rel=1e-5)


def test_a_model_is_saved_and_loaded_whole(tiny_encoder, tiny_images, tiny_labels, tmp_path):
    model = classifier(tiny_encoder, how="trades", train="partial", beta=3.0)
    model.fit(tiny_images, tiny_labels, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(tiny_images, verbose=0), model.predict(tiny_images, verbose=0), atol=1e-6)
    configs = [{key: value for key, value in m.get_config().items() if key != "encoder"} for m in (loaded, model)]
    assert configs[0] == configs[1]
    assert [v.path for v in loaded.trainable_variables] == [v.path for v in model.trainable_variables]
    for one in (model, loaded):
        one.fit(tiny_images, tiny_labels, shuffle=False, verbose=0)
    for ours, theirs in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("how", ["adversarial", "trades"])
def test_two_replicas_end_with_the_weights_of_one(how, tiny_images, tiny_labels):
    """Same global batches, so only the order of additions differs: after six steps 1e-5 (weights are about 0.1)."""
    data = tf.data.Dataset.from_tensor_slices((tiny_images, tiny_labels)).repeat(6).batch(8)

    def trained(strategy):
        with strategy.scope():
            model = classifier(network_without_batch_norm(), how=how)
        history = model.fit(data, epochs=1, verbose=0).history
        return model.get_weights(), history, model.evaluate(data, verbose=0, return_dict=True)

    one = trained(tf.distribute.get_strategy())
    two = trained(get_strategy("mirrored"))
    for ours, theirs in zip(one[0], two[0], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert one[1].keys() == two[1].keys()
    for name in one[1]:
        np.testing.assert_allclose(one[1][name], two[1][name], rtol=1e-3, atol=1e-5, err_msg=name)
    for name in one[2]:
        np.testing.assert_allclose(one[2][name], two[2][name], rtol=1e-3, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(("count", "size"), [(5, 4), (1, 4), (7, 3)])
def test_two_replicas_count_every_image_when_the_last_batch_is_smaller_than_they_are(
    count, size, tiny_encoder, tiny_images, tiny_labels
):
    """The last batch leaves the second replica nothing; the attack starts at the images, so one finds what two do."""
    data = tf.data.Dataset.from_tensor_slices((tiny_images[:count], tiny_labels[:count])).batch(size)
    found = []
    for strategy in (tf.distribute.get_strategy(), get_strategy("mirrored")):
        with strategy.scope():
            encoder = keras.models.clone_model(tiny_encoder)
            encoder.set_weights(tiny_encoder.get_weights())
            model = classifier(encoder, attack=PLAIN)
        found.append(model.evaluate(data, verbose=0, return_dict=True))
        counts = {tracker.name: tf.convert_to_tensor(tracker.count.value).numpy() for tracker in model.metrics}
        assert {counts[name] for name in found[-1]} == {count}
    for name in found[0].keys() | found[1].keys():
        np.testing.assert_allclose(found[0][name], found[1][name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_two_replicas_with_synchronised_batch_norm_are_one(tiny_images, tiny_labels):
    def trained(strategy):
        with strategy.scope():
            images = keras.Input((8, 8, 3))
            start = keras.initializers.HeNormal(seed=1)
            x = keras.layers.Conv2D(4, 3, kernel_initializer=start)(images)
            x = keras.layers.ReLU()(keras.layers.BatchNormalization(synchronized=True)(x))
            model = classifier(keras.Model(images, keras.layers.GlobalAveragePooling2D()(x)))
        model.fit(tiny_images, tiny_labels, batch_size=8, epochs=4, shuffle=False, verbose=0)
        return model.get_weights()

    one = trained(tf.distribute.get_strategy())
    two = trained(get_strategy("mirrored"))
    for ours, theirs in zip(one, two, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_mixed_precision_keeps_loss_and_perturbation_in_float32(tiny_images, tiny_labels):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = classifier(network_without_batch_norm())
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.train_on_batch(tiny_images, tiny_labels, return_dict=True)["loss"] > 0
    assert model.predict(tiny_images, verbose=0).dtype == np.float32


def test_compiled_by_xla_the_step_is_the_same(tiny_encoder, tiny_images, tiny_labels):
    weights = []
    for jit_compile in (False, True):
        encoder = keras.models.clone_model(tiny_encoder)
        encoder.set_weights(tiny_encoder.get_weights())
        model = RobustClassifier(encoder, 3, attack=PLAIN)
        model.compile(optimizer=keras.optimizers.SGD(0.1), jit_compile=jit_compile)
        model.train_on_batch(tiny_images, tiny_labels)
        weights.append(model.get_weights())
    for ours, theirs in zip(*weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-4)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((2, 8, 8, 1), np.float32), "`images` do not fit the encoder"),
        (np.zeros((2, 8, 8, 3), np.uint8), "Received: <dtype: 'uint8'>"),
        (np.full((2, 8, 8, 3), 1.5, np.float32), "outside [0, 1] or NaN"),
        (np.full((2, 8, 8, 3), np.nan, np.float32), "outside [0, 1] or NaN"),
    ],
    ids=["channels", "uint8", "range", "nan"],
)
def test_images_that_do_not_fit_are_refused_in_words(images, words, tiny_encoder):
    model = classifier(tiny_encoder)
    with pytest.raises((InvalidInput, tf.errors.InvalidArgumentError), match=re.escape(words)):
        model.fit(images, np.zeros(2, np.int64), verbose=0)


def test_a_method_without_verbs_says_which_it_lacks(tiny_encoder, tiny_images):
    class Nothing(RobustModel):
        def call(self, inputs):
            return inputs

    model = Nothing(tiny_encoder, loss_weights={"loss": 1.0})
    model.compile()
    with pytest.raises(TypeError, match="define `pose`"):
        model.fit(tiny_images, verbose=0)
    with pytest.raises(TypeError, match="define `descend`"):
        model.descend({}, Puzzle({}), training=True)
