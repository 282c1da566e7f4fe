"""What contrastive methods share: streams, embeddings, memory, refusals."""

from __future__ import annotations

import json
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.errors import InvalidInput
from advss_tf.pretext import ACL, AdvCL, RoCL, SimCLR, contrastive
from advss_tf.pretext.asymmetry import Asymmetry
from advss_tf.pretext.contrastive import retrieval
from advss_tf.training import Batch

SEED = tf.constant([3, 4])


def test_together_views_share_statistics_and_apart_they_do_not(two_stages, views):
    model = SimCLR(two_stages(keras.layers.BatchNormalization), projection=(6, 4))
    given = tf.unstack(views(2), axis=1)
    given[1] = given[1] * 0.2
    together = model.embed_together(given, training=True, stream="clean")
    apart = model.embed_apart(given, training=True, stream="clean")
    assert together.shape == apart.shape == (2, 8, 4)
    assert np.abs(together - apart).max() > 1e-2
    np.testing.assert_allclose(
        model.embed_together(given, training=False, stream="clean"),
        model.embed_apart(given, training=False, stream="clean"),
        atol=1e-5,
    )


def test_the_projection_has_the_branches_or_one_norm_for_all(branched, small_attack):
    two = ACL(branched("clean", "adversarial"), attack=small_attack(), projection=(6, 4))
    one = AdvCL(branched("clean", "adversarial"), attack=small_attack(), projection=(6, 4))
    count = [sum("moving_mean" in v.path for v in model.projector.variables) for model in (two, one)]
    assert count == [4, 1]


def test_branches_that_are_not_the_streams_are_refused(branched, small_attack):
    with pytest.raises(InvalidInput, match=r"branches.*streams"):
        ACL(branched("clean", "adversarial", "pseudo"), attack=small_attack())
    with pytest.raises(InvalidInput, match=r"branches.*streams"):
        SimCLR(branched("clean", "adversarial"))
    with pytest.raises(InvalidInput, match=r"branches.*streams"):
        AdvCL(branched("clean", "adversarial"), attack=small_attack(), pseudo_sizes=(2,))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"projection": ()}, "projection"),
        ({"projection": (0,)}, r"hidden|outputs|positive"),
        ({"views": ("strong",)}, "no positives"),
        ({"views": ("strong", "storng")}, "did you mean 'strong'"),
    ],
)
def test_what_makes_no_loss_is_refused(options, words, two_stages):
    with pytest.raises(InvalidInput, match=words):
        SimCLR(two_stages(), **options)


def test_a_batch_of_one_is_refused(two_stages, views):
    model = SimCLR(two_stages(), projection=(4,))
    with pytest.raises(InvalidInput, match="no negatives"):
        model.descend(model.pose(Batch(views(2)[:1]), SEED).inputs, None, training=True)


def test_memory_grows_with_the_square_of_views_times_images(two_stages, small_attack):
    model = AdvCL(two_stages(), attack=small_attack())
    assert model.loss_bytes(512) == 64 * 2**20
    assert model.loss_bytes(8192) == 16 * 2**30
    assert model.loss_bytes(8192, replicas=8) == 2 * 2**30
    assert ACL(two_stages(), attack=small_attack(), sir_weight=1.0).loss_bytes(512) == 2 * 16 * 2**20


@pytest.mark.parametrize(
    ("asymmetry", "matrices"),
    [({}, 8), ({"beta": None}, 6), ({"clean_share": None}, 6), (None, 4)],
)
def test_asymmetries_need_more_matrices(asymmetry, matrices, two_stages, small_attack):
    """Measured at the peak of a step: 3.6 of the plain loss, 5.3 held in part, 4.8 hard negatives, 8.1 both."""
    model = AdvCL(two_stages(), attack=small_attack(), asymmetry=asymmetry)
    assert model.loss_bytes(512) == matrices * 16 * 2**20
    # Of RoCL's two losses that of three views is asymmetric, and that of the attacked pair is not.
    pair = RoCL(two_stages(), attack=small_attack(), asymmetry=asymmetry)
    assert pair.loss_bytes(512) == (matrices * 9 + 4 * 4) * 2**20


def test_fit_warns_once_of_a_loss_that_memory_may_not_hold(two_stages, tiny_images, monkeypatch):
    """Two views of 8 images: 16 · (2 · 8)² = 4096 bytes."""
    model = SimCLR(two_stages(), projection=(4,))
    model.compile(optimizer="sgd")
    dataset = tf.data.Dataset.from_tensors(tiny_images)
    monkeypatch.setattr(contrastive, "spare_bytes", lambda: 4096)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model.fit(dataset, verbose=0)
        monkeypatch.setattr(contrastive, "spare_bytes", lambda: 4095)
        with pytest.raises(UserWarning, match="The contrastive loss of 8 images needs about"):
            model.fit(tiny_images, verbose=0)
        model.fit(dataset, verbose=0)


@pytest.mark.parametrize("kind", [AdvCL, RoCL])
def test_provenance_tells_variants_apart(kind, two_stages, small_attack):
    variants = [
        {}, {"temperature": 0.2}, {"asymmetry": {"beta": None}}, {"asymmetry": {"beta": 2.0}},
        *([{"annealing": {"epochs": 4, "steps_per_epoch": 1, "period": 1}}, {"base_temperature": None}]
          if kind is AdvCL else [{"one_sided": True}, {"adversarial_weight": 0.5}]),
    ]  # fmt: skip
    said = [json.dumps(kind(two_stages(), attack=small_attack(), **options).provenance) for options in variants]
    assert len(set(said)) == len(variants)
    assert json.loads(said[2])["asymmetry"] == Asymmetry(beta=None).as_dict()


def test_retrieval_counts_both_directions():
    """Three images on the circle: the first two find each other's partner, the third's views lie apart."""
    angles = np.radians([[0, 90, 180], [5, 95, 300]])
    found = retrieval(tf.constant(np.stack([np.cos(angles), np.sin(angles)], -1)))
    # 180° is nearest to 95°, and 300° to 0°.
    np.testing.assert_array_equal(found, [1, 1, 0])


def test_retrieval_of_no_images_is_empty():
    assert retrieval(tf.zeros((2, 0, 4))).shape == (0,)


def test_retrieval_never_finds_itself():
    same = tf.ones((2, 4, 3)) * tf.reshape(tf.range(1.0, 5.0), (1, 4, 1))
    assert retrieval(same).numpy().max() <= 1
    np.testing.assert_array_equal(retrieval(tf.stack([tf.eye(4), tf.eye(4)])), np.ones(4))
