"""Where encoders are cut."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from advss_tf.encoders import boundary, build_encoder, fork_after, layers_through, reset_after, stages
from advss_tf.errors import InvalidInput


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("resnet20", {"width": 1}, ("stage1", "stage2", "stage3")),
        ("resnet18", {"width": 1}, ("stage1", "stage2", "stage3", "stage4")),
        ("resnet50v2", {"width": 1}, ("stage1", "stage2", "stage3", "stage4")),
        ("wide_resnet", {"depth": 10, "width": 1}, ("stage1", "stage2", "stage3")),
    ],
)
def test_stages_are_in_order_and_the_boundary_is_the_last_but_one(kind, options, expected):
    encoder = build_encoder(kind, (8, 8, 3), **options)
    assert stages(encoder) == expected
    assert boundary(encoder) == expected[-2]


@pytest.mark.parametrize("kind", ["resnet20", "resnet18"])
def test_the_layers_through_a_stage_are_all_that_it_needs_and_nothing_after(kind):
    encoder = build_encoder(kind, (8, 8, 3), width=2)
    layers = layers_through(encoder, "stage2")
    names = [layer.name for layer in layers]
    assert names[0] == "images"
    assert not any(name.startswith(("stage3", "stage4", "features")) for name in names)
    assert {name for name in (layer.name for layer in encoder.layers) if name.startswith("stage2_")} <= set(names)
    trunk = keras.Model(encoder.input, layers[-1].output)
    assert [layer.name for layer in trunk.layers] == names


def test_layers_come_after_those_whose_outputs_they_read():
    layers = layers_through(build_encoder("wide_resnet", (8, 8, 3), depth=16, width=1), "stage3")
    seen: set[int] = set()
    for layer in layers:
        inputs = [] if isinstance(layer, keras.layers.InputLayer) else keras.tree.flatten(layer.input)
        assert {id(tensor) for tensor in inputs} <= seen
        seen.add(id(layer.output))


def test_any_layer_of_any_model_is_a_mark():
    encoder = build_encoder("resnet20", (8, 8, 3), width=1)
    assert layers_through(encoder, "stage1_block2_norm1")[-1].name == "stage1_block2_norm1"
    assert layers_through(encoder, "stage1_block2")[-1].name == "stage1_block2_relu2"
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="a1"), keras.layers.Dense(2, name="a10")])
    assert [layer.name for layer in layers_through(model, "a1")] == ["a1"]
    assert np.shape(layers_through(model, "a10")) == (2,)


def test_an_unknown_mark_is_refused_with_the_nearest_name():
    encoder = build_encoder("resnet20", (8, 8, 3), width=1)
    with pytest.raises(
        InvalidInput,
        match=r"did you mean 'stage1_block1_norm1'\?.*'stage1', 'stage2', 'stage3'.*mark='stage1_blok1_norm1'",
    ):
        layers_through(encoder, "stage1_blok1_norm1")


def test_a_model_without_stages_or_order_is_refused(tiny_encoder):
    one = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="stage1_dense")])
    with pytest.raises(InvalidInput, match=r"needs two stages or more.*stages=\['stage1'\]"):
        boundary(one)
    assert stages(tiny_encoder) == ("stage1", "stage2")

    class Subclassed(keras.Model):
        pass

    with pytest.raises(InvalidInput, match="no known order"):
        layers_through(Subclassed(), "stage1")


def test_what_comes_after_the_mark_starts_anew_and_the_rest_stays(tiny_encoder):
    start = {variable.path: variable.numpy() for variable in tiny_encoder.variables}
    for variable in tiny_encoder.variables:
        variable.assign(variable + 1.0)
    fresh = reset_after(tiny_encoder, "stage1")
    assert [variable.path for variable in fresh.variables] == list(start)
    for variable in fresh.variables:
        moved = 0.0 if variable.path.startswith("stage2") else 1.0
        np.testing.assert_allclose(variable, start[variable.path] + moved, err_msg=variable.path)


def test_a_fork_shares_the_trunk_and_has_layers_of_its_own_after_it(tiny_encoder, tiny_images):
    before = tiny_encoder(tiny_images, training=False).numpy()
    fork = fork_after(tiny_encoder, "stage1", role="rotation")
    for layer in tiny_encoder.layers[1:]:
        assert (fork.get_layer(layer.name) is layer) == (not layer.name.startswith("stage2")), layer.name
    assert fork(tiny_images).shape == (8, 6)
    fork.get_layer("stage2_conv").kernel.assign(np.zeros((3, 3, 6, 6)))
    np.testing.assert_array_equal(tiny_encoder(tiny_images, training=False), before)
    tiny_encoder.get_layer("stem_conv").kernel.assign(np.zeros((3, 3, 3, 4)))
    assert fork.get_layer("stem_conv").kernel.numpy().max() == 0


def test_forks_of_different_roles_start_differently_and_those_of_one_alike(tiny_encoder):
    starts = [
        fork_after(tiny_encoder, "stage1", role=role).get_layer("stage2_conv").kernel.numpy()
        for role in ("rotation", "rotation", "jigsaw")
    ]
    np.testing.assert_array_equal(starts[0], starts[1])
    own = tiny_encoder.get_layer("stage2_conv").kernel.numpy()
    assert np.abs(starts[0] - starts[2]).max() > 0.1 and np.abs(starts[0] - own).max() > 0.1
    assert starts[0].std() == pytest.approx(own.std(), rel=0.2)


def test_a_fork_may_have_norms_of_its_own_that_start_as_those_of_the_encoder(tiny_encoder):
    norm = tiny_encoder.get_layer("stage1_norm")
    norm.gamma.assign(np.full(6, 2.0))
    fork = fork_after(tiny_encoder, "stage1", role="patches", own_norms=True)
    own = fork.get_layer("stage1_norm")
    assert own is not norm and fork.get_layer("stage1_conv") is tiny_encoder.get_layer("stage1_conv")
    np.testing.assert_array_equal(own.gamma, np.full(6, 2.0))


def test_a_fork_with_an_unknown_mark_is_refused(tiny_encoder):
    with pytest.raises(InvalidInput, match="No layer of 'tiny' bears this mark"):
        fork_after(tiny_encoder, "stage7", role="rotation")
