"""Heads: float32, seeded, sized as asked."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from advss_tf.encoders import branches, linear_head, projection_head
from advss_tf.errors import InvalidInput


def kernel_of(**options) -> np.ndarray:
    head = linear_head(3, **options)
    head.build((None, 4))
    return keras.ops.convert_to_numpy(head.kernel)


def test_what_heads_end_in_is_float32_and_starts_from_its_seed_and_name():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        assert linear_head(3)(np.ones((2, 4), np.float32)).dtype == "float32"
        for options in ({}, {"branches": ("a", "b")}):
            head = projection_head(4, outputs=3, hidden=(5,), norms="all", **options)
            assert head(np.ones((2, 4), np.float32)).dtype == "float32"
            assert head.layers[1].compute_dtype == "bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")
    np.testing.assert_array_equal(kernel_of(seed=1), kernel_of(seed=1))
    assert np.abs(kernel_of(seed=1) - kernel_of(seed=2)).max() > 0.01
    assert np.abs(kernel_of(name="a") - kernel_of(name="b")).max() > 0.01


def test_a_projection_head_has_the_sizes_and_branches_asked_for():
    head = projection_head(6, outputs=3, hidden=(5, 4), branches=("a", "b"))
    shapes = [
        weight.shape for layer in head.layers if isinstance(layer, keras.layers.Dense) for weight in layer.weights
    ]
    assert shapes == [(6, 5), (5, 4), (4, 3), (3,)]
    assert branches(head) == ("a", "b")
    assert head(np.ones((2, 6), np.float32)).shape == (2, 3)
    assert [layer.name for layer in projection_head(6, hidden=()).layers] == ["features", "projection_outputs"]


def test_sizes_that_are_no_counts_are_refused():
    with pytest.raises(InvalidInput, match=r"`num_outputs` is invalid.*num_outputs=0"):
        linear_head(0)
    with pytest.raises(InvalidInput, match=r"`hidden` is invalid.*hidden=-1"):
        projection_head(4, hidden=(-1,))
