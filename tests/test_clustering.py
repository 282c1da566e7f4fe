"""Clusters of features: whose nearest centre is whose, which images make them, and what cannot be clustered."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

from advss_tf import clustering
from advss_tf.clustering import cluster_features, encoder_facts, train_records
from advss_tf.data import PseudoLabels, load_data
from advss_tf.encoders import load_encoder
from advss_tf.errors import InvalidInput
from advss_tf.randomness import derived_seed
from advss_tf.serving import export_encoder

SHAPE = (4, 4, 1)


def flat(shape=SHAPE):
    """An encoder whose features are the pixels."""
    images = keras.Input(shape)
    return keras.Model(images, keras.layers.Flatten()(images), name="flat")


def blobs(count=150, clusters=3, seed=0):
    """Images around `clusters` points that lie far apart, and which point each is from."""
    rng = np.random.default_rng(seed)
    centres, truth = rng.uniform(0.2, 0.8, (clusters, *SHAPE)), rng.integers(0, clusters, count)
    noise = rng.normal(0, 0.01, (count, *SHAPE))
    return np.clip(centres[truth] + noise, 0, 1).astype(np.float32), truth


@pytest.fixture(scope="module")
def clustered():
    """Blobs as data with a held-out part and a limit, their truth, and the clusters of their pixels."""
    images, truth = blobs()
    data = load_data((images, truth % 2), held_out=0.2, train_limit=70)
    return images, truth, data, cluster_features(flat(), data, (3, 5), normalise=False)


def test_a_cluster_is_a_blob(clustered):
    _, truth, data, found = clustered
    pairs = set(zip(truth[train_records(data)], found.labels[train_records(data), 0], strict=True))
    assert len(pairs) == 3 and len({label for _, label in pairs}) == 3


def test_every_image_has_the_label_of_its_nearest_centre_and_the_centres_are_means_of_what_is_trained_on(clustered):
    images, _, data, found = clustered
    pixels = images.reshape(len(images), -1).astype(np.float64)
    for column, size in enumerate(found.sizes):
        own = found.labels[data.train_part.numbers, column]
        fitted = pixels[data.train_part.numbers]
        centres = np.array([fitted[own == label].mean(axis=0) for label in range(size)])
        distances = ((pixels[:, None] - centres) ** 2).sum(axis=-1)
        nearest = distances.argmin(axis=1)
        np.testing.assert_array_equal(found.labels[train_records(data), column], nearest[train_records(data)])
        inertia = distances[data.train_part.numbers].min(axis=1).sum()
        assert found.source["inertia"][str(size)] == pytest.approx(inertia, rel=1e-3)
    assert found.source["fitted"] == 70 == data.num_train


def test_held_out_images_and_those_beyond_a_limit_have_labels_and_test_images_have_none(clustered):
    images, _, data, found = clustered
    assert found.labels.shape == (150, 2) and found.labels.dtype == np.int64
    assert len(data.test_part) == 30, "the test split was cut from the same records"
    assert (found.labels[data.test_part.numbers] == -1).all()
    assert (np.delete(found.labels, data.test_part.numbers, axis=0) >= 0).all()
    np.testing.assert_array_equal(found.of(data), found.labels)
    other = load_data((images, blobs()[1] % 2), held_out=0.5, seed=9)  # the same images, cut otherwise
    np.testing.assert_array_equal(found.of(other), found.labels)


def test_a_test_split_of_its_own_takes_no_row():
    images, truth = blobs(60)
    data = load_data((images[:40], truth[:40] % 2), held_out=0.25)
    assert len(train_records(data)) == 32
    unlabelled = load_data(images, held_out=0.25)
    np.testing.assert_array_equal(train_records(unlabelled), np.arange(60))


def test_the_seed_decides(clustered):
    _, _, data, found = clustered
    again = cluster_features(flat(), data, (3, 5), normalise=False)
    np.testing.assert_array_equal(found.labels, again.labels)
    assert found.source == again.source
    noise = load_data(np.random.default_rng(0).random((200, *SHAPE), dtype=np.float32))
    one, same, other = (cluster_features(flat(), noise, (10,), seed=seed).labels for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_normalised_features_are_clustered_by_direction():
    rng = np.random.default_rng(0)
    directions = np.eye(16)[:2]
    truth, length = rng.integers(0, 2, 80), rng.choice([0.05, 0.9], 80)
    images = (directions[truth] * length[:, None] + rng.uniform(0, 1e-3, (80, 16))).reshape(-1, *SHAPE)
    data = load_data(images.astype(np.float32))
    for normalise, agrees in ((True, True), (False, False)):
        labels = cluster_features(flat(), data, (2,), normalise=normalise).labels[:, 0]
        assert bool((labels == truth).all() or (labels != truth).all()) is agrees


def test_large_sets_are_clustered_by_a_part_of_the_images_at_a_time(clustered, monkeypatch):
    _, truth, data, found = clustered
    assert found.source["algorithm"] == {"3": "KMeans", "5": "KMeans"}
    monkeypatch.setattr(clustering, "WHOLE_LIMIT", 70 * 4)
    partly = cluster_features(flat(), data, (3, 5), normalise=False)
    assert partly.source["algorithm"] == {"3": "KMeans", "5": "MiniBatchKMeans"}
    forced = cluster_features(flat(), data, (3,), normalise=False, minibatch=True)
    assert forced.source["algorithm"] == {"3": "MiniBatchKMeans"}
    assert len(set(zip(truth[train_records(data)], forced.labels[train_records(data), 0], strict=True))) == 3


def test_the_branch_is_the_one_that_was_asked_for(scattered_branches):
    images = np.random.default_rng(0).random((60, 8, 8, 3), dtype=np.float32)
    data, encoder = load_data(images), scattered_branches()
    clean, adversarial = (cluster_features(encoder, data, (4,), branch=b).source for b in ("clean", "adversarial"))
    assert (clean["branch"], adversarial["branch"]) == ("clean", "adversarial")
    assert clean["inertia"] != adversarial["inertia"]
    with pytest.raises(InvalidInput, match="`branch` is not known"):
        cluster_features(encoder, data, (4,), branch="pseudo")


def test_what_is_said_of_them_is_json_and_survives_the_disk(clustered, tmp_path):
    _, _, data, found = clustered
    read = PseudoLabels.load(found.save(tmp_path / "labels.npz"))
    assert read.source == json.loads(json.dumps(found.source))
    assert read.source["data"] == {"name": data.name, "fingerprint": data.fingerprint}
    assert read.source["encoder"] == {"name": "flat"} and read.source["external"] is None
    assert read.source["counts"] == {str(size): list(pair) for size, pair in found.counts().items()}
    assert (read.source["seed"], read.source["sizes"], read.source["normalise"]) == (0, [3, 5], False)
    assert derived_seed(0, "cluster/3") != derived_seed(0, "cluster/5"), "heads begin at different places"


@pytest.mark.parametrize("sizes", [(), (1,), (3, 3), (2.0,), (True,), (0, 4)])
def test_sizes_that_are_none_are_refused(sizes, clustered):
    with pytest.raises(InvalidInput, match="`sizes` are no numbers of clusters"):
        cluster_features(flat(), clustered[2], sizes)


def test_more_clusters_than_images_are_refused(clustered):
    with pytest.raises(InvalidInput, match=r"more clusters than images.*at most 70.*sizes=\(2, 71\)"):
        cluster_features(flat(), clustered[2], (2, 71))


def test_an_encoder_of_other_images_is_refused(clustered):
    with pytest.raises(InvalidInput, match=r"takes other images.*\(4, 4, 1\).*one of images \(8, 4, 1\)"):
        cluster_features(flat((8, 4, 1)), clustered[2], (2,))


def test_features_that_are_all_alike_are_refused():
    data = load_data(np.full((30, *SHAPE), 0.5, np.float32))
    with pytest.raises(InvalidInput, match=r"may have collapsed.*1 clusters with images"):
        cluster_features(flat(), data, (2,))


def test_features_that_are_not_finite_are_refused(clustered):
    images = keras.Input(SHAPE)
    broken = keras.Model(images, keras.ops.log(keras.layers.Flatten()(images) - 2.0))
    with pytest.raises(InvalidInput, match="features are not finite"):
        cluster_features(broken, clustered[2], (2,))


def test_what_a_loaded_encoder_has_learned_elsewhere_is_refused_or_said(clustered, tmp_path):
    _, _, data, _ = clustered
    own = {"data": {"name": data.name, "fingerprint": data.fingerprint}}
    foreign = {"data": {"name": "photographs", "fingerprint": "1"}, "external": "labels of ImageNet"}
    named = {"own": own, "told": {**own, "external": "labels of ImageNet"}, "foreign": foreign, "silent": None}
    for name, provenance in named.items():
        export_encoder(flat(), tmp_path / name, provenance=provenance)
    found = {
        name: cluster_features(load_encoder(tmp_path / name), data, (2,)).save(tmp_path / f"{name}.npz")
        for name in ("own", "told", "silent")
    }
    assert {name: PseudoLabels.load(path).source["external"] for name, path in found.items()} == {
        "own": None, "told": "labels of ImageNet", "silent": "it was trained on unknown data",
    }  # fmt: skip
    encoder = load_encoder(tmp_path / "foreign")
    with pytest.raises(InvalidInput, match=r"not trained on the images of .* alone.*trained on photographs; labels of"):
        cluster_features(encoder, data, (2,))
    declared = cluster_features(encoder, data, (2,), external="photographs").source["external"]
    assert declared == "photographs; it was trained on photographs; labels of ImageNet"


def test_no_absolute_path_is_kept_of_an_encoder():
    provenance = {
        "data": {"name": "x", "fingerprint": "1"},
        "seed": 4,
        "recipe": "data: {path: /home/me}",
        "pretext": {},
    }
    facts = encoder_facts(provenance, "/home/me/runs/simclr")
    assert facts["name"] == "simclr" and facts["data"]["name"] == "x" and facts["seed"] == 4
    assert "/home" not in json.dumps(facts) and len(facts["recipe"]) == 64
    assert encoder_facts({}, "runs/simclr/pretrain/encoder") == {"name": "runs/simclr/pretrain/encoder", "recipe": None}
