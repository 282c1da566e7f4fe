"""DeACL: its loss and its attack from the definition, the teacher, and what is refused."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.errors import InvalidInput
from advss_tf.pretext import DeACL, SimCLR
from advss_tf.serving import export_encoder
from advss_tf.training import Batch

SEED = tf.constant([0, 0])


@pytest.fixture
def pair(two_stages):
    """A student and a teacher with other weights, without norms."""
    student, teacher = two_stages(), two_stages()
    teacher.set_weights([weight[::-1].copy() + 0.01 for weight in teacher.get_weights()])
    return student, teacher


def test_the_student_begins_as_its_teacher_or_with_its_own_weights(pair, small_attack, tiny_images):
    own, taught = (np.asarray(model(tiny_images)) for model in pair)
    assert np.abs(own - taught).max() > 0.1
    assert DeACL(*pair, attack=small_attack(), start="own").provenance["start"] == "own"
    np.testing.assert_array_equal(pair[0](tiny_images), own)
    assert DeACL(*pair, attack=small_attack()).provenance["start"] == "teacher"
    np.testing.assert_array_equal(pair[0](tiny_images), taught)
    np.testing.assert_array_equal(pair[1](tiny_images), taught)


def test_the_loss_is_that_of_the_definition(pair, small_attack, views):
    model = DeACL(*pair, attack=small_attack(), start="own", beta=3.0)
    images = views(1)[:, 0]
    moved = images * 0.9
    puzzle = model.share(model.pose(Batch(images[:, tf.newaxis]), SEED), training=True)
    terms = model.descend({"images": moved}, puzzle, training=False)
    clean, attacked, taught = pair[0](images), pair[0](moved), pair[1](images)
    np.testing.assert_allclose(model.total(terms), -_cosine(clean, taught) - 3 * _cosine(attacked, clean), rtol=1e-4)
    climbed = model.climb({"images": moved}, puzzle, None, training=False)
    np.testing.assert_allclose(climbed, -_cosine(attacked, taught), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("training", [False, True])
def test_attacked_images_go_through_their_own_branch_by_the_statistics_of_the_mode(
    training, one_norm, small_attack, views
):
    """Clean ones through the clean branch, and the teacher's answer is that of inference in either mode."""
    (student, features), (teacher, answers) = one_norm("clean", "adversarial"), one_norm()
    model = DeACL(student, teacher, attack=small_attack(), start="own")
    images = views(1)[:, 0]
    moved = images**2
    clean, attacked = (
        features(seen, training=training, branch=branch) for seen, branch in ((images, "clean"), (moved, "adversarial"))
    )
    taught = answers(images, training=False)
    puzzle = model.share(model.pose(Batch(images[:, tf.newaxis]), SEED), training=training)
    climbed = model.climb({"images": moved}, puzzle, None, training=training)
    np.testing.assert_allclose(climbed, -_cosine(attacked, taught), rtol=1e-4)
    terms = model.descend({"images": moved}, puzzle, training=training)
    np.testing.assert_allclose(terms["cosine_to_teacher"], _cosine(clean, taught), rtol=1e-4)
    np.testing.assert_allclose(terms["cosine_under_attack"], _cosine(attacked, clean), rtol=1e-4)
    np.testing.assert_allclose(model.total(terms), -_cosine(clean, taught) - 2 * _cosine(attacked, clean), rtol=1e-4)


def test_the_student_is_trained_and_the_teacher_is_not(pair, small_attack, tiny_images):
    model = DeACL(*pair, attack=small_attack(), start="own", view="original")
    model.compile(optimizer=keras.optimizers.SGD(0.1))
    before = [model.get_weights() for model in pair]
    history = model.fit(tf.data.Dataset.from_tensor_slices(tiny_images).repeat(40).batch(8), verbose=0, epochs=2)
    assert history.history["cosine_to_teacher"][1] > history.history["cosine_to_teacher"][0]
    assert all((one != other).any() for one, other in zip(before[0], pair[0].get_weights(), strict=True))
    for one, other in zip(before[1], pair[1].get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_without_branches_clean_and_attacked_share_the_statistics(two_stages, small_attack, views):
    norm = keras.layers.BatchNormalization
    model = DeACL(two_stages(norm), two_stages(norm), attack=small_attack())
    images = views(1)[:, 0]
    clean, attacked = model._features(images, images * 0.2, training=True)
    together = model.encoder(tf.concat([images, images * 0.2], 0), training=True)
    np.testing.assert_allclose(tf.concat([clean, attacked], 0), together, atol=1e-4)


def test_what_taught_the_teacher_is_kept_in_the_file(pair, small_attack, tmp_path):
    model = DeACL(*pair, attack=small_attack(), taught_by={"task": "SimCLR"})
    model.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").provenance["teacher"] == {"task": "SimCLR"}


def test_the_teacher_is_asked_once(pair, small_attack, views, monkeypatch):
    from advss_tf.pretext import deacl

    asked = []
    encode = deacl.encode
    monkeypatch.setattr(deacl, "encode", lambda *args, **kwargs: asked.append(1) or encode(*args, **kwargs))
    model = DeACL(*pair, attack=small_attack(num_steps=5))
    model.compile(optimizer=keras.optimizers.SGD(0.1))
    tf.function(lambda: model.train_step((views(1),))).get_concrete_function()
    assert len(asked) == 1


def test_the_teacher_may_be_an_exported_encoder(two_stages, small_attack, tmp_path):
    teacher = SimCLR(two_stages(keras.layers.BatchNormalization), projection=(4,))
    path = export_encoder(teacher, tmp_path / "teacher", provenance={"pretext": teacher.provenance})
    model = DeACL(two_stages(), path, attack=small_attack(), start="own")
    images = tf.ones((2, 8, 8, 3)) * 0.3
    np.testing.assert_allclose(model.teacher(images), teacher.encoder(images), atol=1e-6)
    assert model.provenance["teacher"]["task"] == "SimCLR"


def test_impossible_options_are_refused(pair, small_attack, branched, tiny_encoder, two_stages):
    for options, words in (
        ({"attack": None}, "attacks the student"),
        ({"beta": -1.0}, "beta"),
        ({"start": "scratch"}, "`start` is not known"),
        ({"teacher": two_stages(keras.layers.BatchNormalization)}, "weights: their layers differ"),
        ({"view": "high_frequency"}, "no pixels"),
        ({"teacher": tiny_encoder}, "same shapes"),
        ({"teacher": branched("clean", "adversarial")}, "has batch-norm branches"),
        ({"teacher": pair[0]}, "share layers"),
        ({"encoder": branched("one", "other")}, "not the streams"),
    ):
        with pytest.raises(InvalidInput, match=words):
            DeACL(**{"encoder": pair[0], "teacher": pair[1], "attack": small_attack(), **options})


def _cosine(one, other):
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    return np.sum(one * other, 1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
