"""Accuracy under corruptions against a loop over `corrupt`, whatever the batches, after a kill, with any model."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.data import corrupted_catalogue
from advss_tf.data.corruptions import corrupt
from advss_tf.errors import InvalidInput
from advss_tf.evaluation import DistortionRecord, corruption_errors, evaluate_corruptions
from advss_tf.randomness import seed_for

TYPES, SEVERITIES = ("gaussian_noise", "glass_blur", "frost"), (1, 5)
SOME = {"corruptions": TYPES, "severities": SEVERITIES}


class Killed(Exception):
    """Stands for a kill."""


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((21, 8, 8, 3), dtype=np.float32)


@pytest.fixture(scope="module")
def model():
    """Three classes, logits linear in the differences of neighbouring pixels: a function that knows no library."""
    weights = np.random.default_rng(1).normal(size=(7 * 8 * 3, 3)).astype(np.float32)
    return lambda images: tf.reshape(images[:, 1:] - images[:, :-1], (-1, 7 * 8 * 3)) @ weights


@pytest.fixture(scope="module")
def labels(images, model):
    """What the model says, one in seven wrong."""
    labels = model(images).numpy().argmax(axis=1)
    labels[::7] = (labels[::7] + 1) % 3
    return labels


@pytest.fixture(scope="module")
def record(model, images, labels):
    return evaluate_corruptions(model, (images, labels), **SOME)


def counts(record):
    return {(row.attack, row.level): row.class_correct for row in record.results}


def by_hand(model, images, labels, *, seed=0, frost_images=None):
    """The counts by class, every image corrupted by itself."""
    role = seed_for(seed, 0, "evaluate corruptions")

    def right(harmed):
        predictions = np.array([model(image[np.newaxis]).numpy().argmax() for image in harmed])
        return tuple(np.bincount(labels[predictions == labels], minlength=3).tolist())

    found = {("clean", 0): right(images)}
    for kind in TYPES:
        for severity in SEVERITIES:
            options = {"frost_images": frost_images} if kind == "frost" else {}
            harmed = [
                corrupt(image[np.newaxis], kind, severity, role, first=number, **options)[0].numpy()
                for number, image in enumerate(images)
            ]
            found[kind, severity] = right(np.stack(harmed))
    return found


def test_counts_are_those_of_a_plain_loop(record, model, images, labels):
    expected = by_hand(model, images, labels)
    assert counts(record) == expected and list(counts(record)) == list(expected)
    assert len(set(expected.values())) >= 5, "the rows should differ"
    assert record.clean_acc == 18 / 21 and {row.total for row in record.results} == {21}
    mean = np.mean([sum(found) / 21 for key, found in expected.items() if key[0] != "clean"])
    assert record.corruptions_acc == pytest.approx(mean)


def test_the_size_of_the_batches_changes_nothing(record, model, images, labels):
    for size in (4, 20):
        assert counts(evaluate_corruptions(model, (images, labels), batch_size=size, **SOME)) == counts(record)
    dataset = tf.data.Dataset.from_tensor_slices((images, labels)).batch(5)
    found = evaluate_corruptions(model, dataset, batch_size=8, **SOME)
    assert counts(found) == counts(record) and found.images_fingerprint == record.images_fingerprint


def test_another_seed_draws_otherwise(record, model, images, labels):
    other = evaluate_corruptions(model, (images, labels), seed=1, **SOME)
    assert counts(other) == by_hand(model, images, labels, seed=1) != counts(record)


def test_the_record_says_how_to_repeat_it(record, model, images, labels, tmp_path):
    info = {"name": "made", "split": "test", "class_names": ["a", "b", "c"]}
    named = evaluate_corruptions(model, (images, labels), model_name="mine", data_info=info, seed=3, **SOME)
    assert (named.name, named.dataset, named.split, named.seed) == ("mine", "made", "test", 3)
    assert named.class_names == ("a", "b", "c") and named.threat == "corruptions" and named.mce is None
    assert named.notes == {"source": "made on the fly", "frost": "generated"}
    assert record.kinds == TYPES and record.levels == SEVERITIES and record.forward_passes == 7.0
    assert DistortionRecord.load(named.save(tmp_path / "record.json")) == named


def test_frost_is_cut_from_the_users_images(record, model, images, labels):
    photographs = np.random.default_rng(2).integers(0, 256, (2, 20, 20, 3), dtype=np.uint8)
    for given in (photographs, photographs / np.float32(255)):
        found = evaluate_corruptions(model, (images, labels), frost_images=given, **SOME)
        assert counts(found) == by_hand(model, images, labels, frost_images=photographs) != counts(record)
        assert found.notes["frost"] == "user's images"


def test_a_limit_takes_the_first_of_each_class_and_numbers_them_anew(model, images, labels):
    found = evaluate_corruptions(model, (images, labels), limit=9, batch_size=4, **SOME)
    chosen = np.zeros(21, bool)
    for name, count in enumerate(found.class_totals):
        chosen[np.flatnonzero(labels == name)[:count]] = True
    assert chosen.sum() == found.num_images == 9 and found.subset.startswith("9 of 21 images")
    assert counts(found) == by_hand(model, images[chosen], labels[chosen])


def test_types_that_are_set_aside_have_rows_and_do_not_move_the_headline(model, images, labels):
    found = evaluate_corruptions(model, (images, labels), corruptions=("gaussian_noise", "saturate"), severities=(1, 5))
    assert found.kinds == ("gaussian_noise", "saturate") and found.counted_kinds == ("gaussian_noise",)
    assert found.corruptions_acc == found.mean_accuracy("gaussian_noise") != found.mean_accuracy("saturate")


def test_the_data_are_read_no_more_often_for_more_corruptions_and_the_model_is_traced_once(model, images, labels):
    def passes_and_calls(types, batch_size):
        passes, calls = [], []

        def rows():
            yield from zip(images, labels, strict=True)
            passes.append(1)

        def counted(batch):
            calls.append(1)
            return model(batch)

        signature = (tf.TensorSpec((8, 8, 3), tf.float32), tf.TensorSpec((), tf.int64))
        data = tf.data.Dataset.from_generator(rows, output_signature=signature).batch(7)
        evaluate_corruptions(counted, data, corruptions=types, severities=SEVERITIES, batch_size=batch_size)
        return len(passes), len(calls)

    # A look at all data and the evaluation; a look at the model and one trace.
    assert passes_and_calls(TYPES[:1], 7) == passes_and_calls(TYPES, 7) == passes_and_calls(TYPES, 4) == (2, 2)


@pytest.mark.parametrize("moment", [1, 7, 9, 20])
def test_a_killed_evaluation_ends_with_the_record_of_one_that_was_not(record, model, images, labels, tmp_path, moment):
    told = []

    def kill(event):
        told.append(event)
        if len(told) == moment:
            raise Killed

    options = SOME | {"batch_size": 8, "partial": tmp_path / "partial"}
    with pytest.raises(Killed):
        evaluate_corruptions(model, (images, labels), progress=kill, **options)
    again = []
    found = evaluate_corruptions(model, (images, labels), progress=again.append, **options)
    assert len(again) == (3 - (moment - 1) // 7) * 7 and again[-1].seconds_left == 0.0
    assert counts(found) == counts(record) and found.images_fingerprint == record.images_fingerprint
    assert {row.forward_passes for row in found.results} == {1.0}
    assert not (tmp_path / "partial").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1}, "other seed"),
        ({"severities": (1, 4)}, "other types and severities"),
        ({"frost_images": np.zeros((1, 9, 9, 3), np.uint8)}, "other frost images"),
    ],
)
def test_what_another_evaluation_left_is_refused(model, images, labels, tmp_path, change, words):
    def kill(event):
        raise Killed

    with pytest.raises(Killed):
        evaluate_corruptions(model, (images, labels), progress=kill, partial=tmp_path, **SOME)
    with pytest.raises(InvalidInput, match=words):
        evaluate_corruptions(model, (images, labels), partial=tmp_path, **SOME | change)


def test_the_mean_corruption_error_is_against_any_record(record, model, images, labels):
    worse = evaluate_corruptions(lambda batch: model(tf.round(batch * 2) / 2), (images, labels), **SOME)
    assert worse.corruptions_acc < record.corruptions_acc
    found = evaluate_corruptions(model, (images, labels), baseline=worse, **SOME)
    ratios = [
        sum(1 - record.result(kind, severity).accuracy for severity in SEVERITIES)
        / sum(1 - worse.result(kind, severity).accuracy for severity in SEVERITIES)
        for kind in TYPES
    ]
    assert found.mce == pytest.approx(np.mean(ratios)) == corruption_errors(record, worse).mce
    assert found.baseline == worse.name and found.warnings == ()


def test_a_baseline_of_other_images_is_told_apart(record, model, images, labels):
    frost = np.zeros((1, 9, 9, 3), np.uint8)
    found = evaluate_corruptions(model, (images[:14], labels[:14]), baseline=record, frost_images=frost, **SOME)
    assert found.mce is not None
    assert "other images" in found.warnings[0] and "frost='generated', not \"user's images\"" in found.warnings[1]


def test_a_baseline_is_looked_at_before_the_model_is(record, images, labels):
    with pytest.raises(InvalidInput, match="it lacks fog 1"):
        evaluate_corruptions(None, (images, labels), corruptions=("fog",), severities=(1,), baseline=record)


def test_keras_models_and_probabilities_give_their_predictions(images, labels):
    net = keras.Sequential(
        [
            keras.layers.Flatten(),
            keras.layers.Dropout(0.9),
            keras.layers.Dense(3, activation="softmax", kernel_initializer=keras.initializers.HeNormal(seed=1)),
        ],
        name="net",
    )
    found = evaluate_corruptions(net, (images, labels), **SOME)
    assert counts(found) == by_hand(lambda batch: net(batch, training=False), images, labels)
    assert (found.name, found.architecture, found.output, found.warnings) == ("net", "net", "probabilities", ())


def test_ready_made_sets_stand_for_corruptions_made_on_the_fly(record, model, images, labels, tmp_path):
    role = seed_for(0, 0, "evaluate corruptions")
    sets = {
        (kind, severity): (corrupt(images, kind, severity, role).numpy(), labels)
        for kind in TYPES
        for severity in SEVERITIES
    }
    found = evaluate_corruptions(model, (images, labels), source=sets, batch_size=8, **SOME)
    assert counts(found) == counts(record)
    assert found.notes == {"source": "user's sets", "frost": "user's sets"}

    told = []

    def kill(event):
        told.append(event)
        if len(told) == 11:  # in the third of the sets, behind three clean batches
            raise Killed

    options = SOME | {"source": sets, "batch_size": 8, "partial": tmp_path / "partial"}
    with pytest.raises(Killed):
        evaluate_corruptions(model, (images, labels), progress=kill, **options)
    again = []
    found = evaluate_corruptions(model, (images, labels), progress=again.append, **options)
    assert counts(found) == counts(record) and found.images_fingerprint == record.images_fingerprint
    assert len(again) == 21 - 9


def test_cifar10_c_of_tfds_is_a_source(cifar10_c):
    data_dir, files, labels = cifar10_c
    weights = np.random.default_rng(0).normal(size=(32 * 32 * 3, 10)).astype(np.float32)
    clean = np.random.default_rng(9).random((12, 32, 32, 3), dtype=np.float32)
    types = tuple(files)

    def model(batch):
        return tf.reshape(batch, (-1, 32 * 32 * 3)) @ weights

    found = evaluate_corruptions(
        model,
        (clean, labels),
        corruptions=types,
        severities=(1, 3),
        source=corrupted_catalogue(data_dir, corruptions=types, severities=(1, 3)),
        batch_size=5,
    )
    for kind in types:
        for severity in (1, 3):
            right = model(files[kind][severity - 1] / np.float32(255)).numpy().argmax(axis=1) == labels
            assert found.result(kind, severity).class_correct == tuple(np.bincount(labels[right], minlength=10))
    assert found.corruptions_acc > 0 and found.notes == {"source": "tfds cifar10_corrupted"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": lambda labels: labels + 1}, r"`labels` holds a value that is no class.*in \[0, 3\)"),
        ({"images": lambda images: images[:, :3]}, "`images` cannot be corrupted"),
        ({"options": {"limit": 0}}, "`limit` is too small"),
        ({"options": {"frost_images": np.zeros((1, 4, 4, 3), np.uint8)}}, "`frost_images` has the wrong shape"),
        ({"options": {"corruptions": ("smog",)}}, "`corruptions` is not known"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(images, labels, change, words):
    images, labels = change.get("images", lambda x: x)(images), change.get("labels", lambda x: x)(labels)
    with pytest.raises(InvalidInput, match=words):
        evaluate_corruptions(
            lambda batch: tf.reduce_mean(batch, axis=(1, 2)), (images, labels), **SOME | change.get("options", {})
        )
