"""SimCLR: its loss is NT-Xent of what the projection says of two or more views."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.errors import InvalidInput
from advss_tf.pretext import SimCLR
from advss_tf.training import Batch


@pytest.mark.parametrize("count", [2, 3])
def test_the_loss_is_that_of_the_definition(count, two_stages, views, naive_nt_xent):
    model = SimCLR(two_stages(), views=("strong",) * count, projection=(5,), temperature=0.3)
    given = views(count)
    embeddings = np.stack([model(given[:, number]) for number in range(count)])
    puzzle = model.pose(Batch(given), tf.constant([0, 0]))
    terms = model.descend(puzzle.inputs, puzzle, training=True)
    np.testing.assert_allclose(terms["contrastive"], naive_nt_xent(embeddings, 0.3), rtol=1e-5)


def test_in_training_the_views_share_their_statistics(one_norm, views, naive_nt_xent):
    """The second view has less contrast, which only statistics of its own would undo."""
    encoder, features = one_norm()
    model = SimCLR(encoder, projection=(5,))
    kernel, bias = model.projector.get_weights()
    given = tf.stack([views(2)[:, 0], 0.3 * views(2)[:, 1]], 1)
    together = features(tf.concat([given[:, 0], given[:, 1]], 0), training=True) @ kernel + bias
    puzzle = model.pose(Batch(given), tf.constant([0, 0]))
    terms = model.descend(puzzle.inputs, puzzle, training=True)
    np.testing.assert_allclose(terms["contrastive"], naive_nt_xent(together.reshape(2, 8, 5)), rtol=1e-4)


def test_it_learns_to_find_the_other_view(two_stages, tiny_images):
    model = SimCLR(two_stages(), views=("weak", "weak"), projection=(16,), temperature=0.2)
    model.compile(optimizer=keras.optimizers.Adam(0.01))
    before = model.evaluate(tiny_images, verbose=0, return_dict=True)
    model.fit(tf.data.Dataset.from_tensor_slices(tiny_images).repeat(200).batch(8), verbose=0)
    after = model.evaluate(tiny_images, verbose=0, return_dict=True)
    # Guessing finds one in 15.
    assert after["loss"] < 0.7 * before["loss"] and after["retrieval"] >= 4 / 15


def test_it_attacks_nothing(two_stages, small_attack):
    for name in ("attack", "eval_attack"):
        with pytest.raises(InvalidInput, match="attacks nothing"):
            SimCLR(two_stages(), **{name: small_attack()})
