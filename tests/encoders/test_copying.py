"""Copying weights between networks of the same layers, with and without batch-norm branches."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest

from advss_tf.encoders import BranchedBatchNormalization, copy_weights, norm_branch
from advss_tf.errors import InvalidInput

BRANCHED = functools.partial(BranchedBatchNormalization, ("clean", "adversarial"), epsilon=1e-3)


@pytest.fixture
def source(two_stages):
    """A network with batch norm, no two numbers of which are the same."""
    model = two_stages(keras.layers.BatchNormalization)
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in model.get_weights()])
    return model


def test_a_network_of_the_same_layers_becomes_the_same_function(source, two_stages, tiny_images):
    target = two_stages(keras.layers.BatchNormalization)
    copy_weights(source, target)
    np.testing.assert_array_equal(target(tiny_images), source(tiny_images))
    target.trainable_variables[0].assign_add(target.trainable_variables[0])
    assert np.abs(target(tiny_images) - source(tiny_images)).max() > 0.1, "each has weights of its own"


@pytest.mark.parametrize("branch", ["clean", "adversarial"])
def test_every_branch_begins_as_the_plain_norm(branch, source, two_stages, tiny_images):
    target = two_stages(BRANCHED)
    copy_weights(source, target)
    with norm_branch(branch):
        np.testing.assert_allclose(target(tiny_images), source(tiny_images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "norm", [None, functools.partial(BRANCHED, center=False)], ids=["fewer layers", "fewer variables"]
)
def test_what_has_no_counterpart_is_refused_and_nothing_copied(norm, source, two_stages):
    target = two_stages(norm)
    before = target.get_weights()
    with pytest.raises(InvalidInput, match="unused: stage1_norm/beta, "):
        copy_weights(source, target)
    with pytest.raises(InvalidInput, match="missing: stage1_norm/"):
        copy_weights(two_stages(), two_stages(keras.layers.BatchNormalization if norm is None else norm))
    for one, other in zip(before, target.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
