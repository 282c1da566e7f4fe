"""The networks: sizes known from the papers' code, padding, normalisation, seeds, refusals."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from advss_tf.encoders import Blocks, BranchedBatchNormalization, build_encoder, is_synchronized, layers_through
from advss_tf.errors import InvalidInput

SMALL = [
    ("resnet20", (8, 8, 3), {"width": 4}, 16),
    ("resnet18", (9, 8, 1), {"width": 4}, 32),
    ("resnet18", (64, 70, 3), {"width": 2}, 16),
    ("resnet50v2", (8, 8, 3), {"width": 2}, 64),
    ("wide_resnet", (7, 5, 1), {"depth": 10, "width": 1}, 64),
]
small_networks = pytest.mark.parametrize(("kind", "shape", "options", "features"), SMALL)


def num_weights(layers: list) -> int:
    return sum(int(np.prod(weight.shape)) for layer in layers for weight in layer.trainable_weights)


def test_resnet50v2_has_the_parameters_of_the_papers_code():
    encoder = build_encoder("resnet50v2", (32, 32, 3))
    counts = [
        num_weights([layer for layer in encoder.layers if layer.name.startswith(part)])
        for part in ("stem_", "stage1_", "stage2_", "stage3_", "stage4_")
    ]
    assert counts == [1_856, 215_424, 1_219_072, 7_097_344, 14_962_688]
    assert num_weights(layers_through(encoder, "stage3")) == 8_533_696
    logits = keras.layers.Dense(10)(encoder.output)
    assert num_weights([keras.Model(encoder.input, logits)]) == 23_516_874


@pytest.mark.parametrize(
    ("kind", "shape", "options", "whole_network", "classes"),
    [
        ("resnet20", (32, 32, 3), {}, 272_474, 10),  # option B; the paper rounds to 0.27 million
        ("resnet18", (32, 32, 3), {}, 11_173_962, 10),  # kuangliu/pytorch-cifar
        ("resnet18", (64, 64, 3), {}, 11_689_512, 1000),  # torchvision
        ("wide_resnet", (32, 32, 3), {"depth": 16, "width": 4}, 2_748_890, 10),  # xternalz/WideResNet-pytorch
    ],
)
def test_networks_have_as_many_parameters_as_the_published_ones(kind, shape, options, whole_network, classes):
    encoder = build_encoder(kind, shape, **options)
    assert num_weights([encoder]) + (encoder.output_shape[-1] + 1) * classes == whole_network


@small_networks
def test_networks_give_float32_features_for_any_sides_and_channels(kind, shape, options, features):
    encoder = build_encoder(kind, shape, **options)
    outputs = encoder(np.random.default_rng(0).random((2, *shape), dtype=np.float32))
    assert outputs.shape == (2, features)
    assert outputs.dtype == "float32"
    assert np.all(np.isfinite(outputs))


def test_the_maps_halve_where_the_papers_say():
    encoder = build_encoder("resnet18", (64, 64, 3), width=2)
    names = ["stem_conv", "stem_pool", *(f"stage{i}_block2_add" for i in (1, 2, 3, 4))]
    assert [encoder.get_layer(name).output.shape[1] for name in names] == [32, 16, 16, 8, 4, 2]
    encoder = build_encoder("resnet50v2", (32, 32, 3), width=2)
    names = ["stage1_block3_add", "stage2_block4_add", "stage3_block6_add", "stage4_block3_add"]
    assert [encoder.get_layer(name).output.shape[1] for name in names] == [32, 16, 8, 4]


def test_features_stay_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        encoder = build_encoder("resnet20", (8, 8, 3), width=4)
    finally:
        keras.config.set_dtype_policy("float32")
    assert encoder.get_layer("stage1_block1_conv1").compute_dtype == "bfloat16"
    assert encoder.get_layer("normalization").compute_dtype == "float32"
    assert encoder(np.zeros((1, 8, 8, 3), np.float32)).dtype == "float32"


@pytest.mark.parametrize("size", [(8, 6), (7, 5)])
def test_a_strided_one_by_one_convolution_is_one_without_strides_on_fewer_pixels(size):
    """The same numbers as Keras' strided one, without the kernel that corrupts memory below 16 channels."""
    images = keras.Input((*size, 3))
    model = keras.Model(images, Blocks().convolution(images, 4, size=1, strides=2, name="conv"))
    values = np.random.default_rng(0).random((2, *size, 3), dtype=np.float32)
    strided = keras.ops.conv(values, model.get_layer("conv").kernel, strides=2, padding="same")
    np.testing.assert_allclose(model(values), strided, atol=1e-6)


@small_networks
def test_no_network_holds_a_strided_one_by_one_convolution(kind, shape, options, features):
    convolutions = [layer for layer in build_encoder(kind, shape, **options).layers if hasattr(layer, "kernel_size")]
    assert convolutions
    assert not [layer.name for layer in convolutions if layer.kernel_size == (1, 1) and layer.strides != (1, 1)]


def test_a_strided_convolution_pads_both_sides():
    images = keras.Input((4, 4, 1))
    model = keras.Model(images, Blocks().convolution(images, 1, strides=2, name="conv"))
    model.get_layer("conv").set_weights([np.ones((3, 3, 1, 1), np.float32)])
    # Sums of 3x3 windows around the pixels (0, 0), (0, 2), (2, 0), (2, 2) of 0..15, zeros outside.
    expected = [[0 + 1 + 4 + 5, 1 + 2 + 3 + 5 + 6 + 7], [4 + 5 + 8 + 9 + 12 + 13, 90]]
    np.testing.assert_allclose(model(np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1))[0, :, :, 0], expected)


@pytest.mark.parametrize(
    ("channels", "options", "pixel", "expected"),
    [
        (3, {}, (0.485, 0.456 + 0.224, 0.406 - 0.225), (0, 1, -1)),
        (1, {}, (1.0,), (1,)),
        (3, {"mean": (0, 0, 0), "std": (0.5, 1, 2)}, (1, 1, 1), (2, 1, 0.5)),
        (2, {"mean": (0, 0.5), "std": (1, 1)}, (1, 1), (1, 0.5)),
    ],
)
def test_pixels_are_normalised_per_channel_inside(channels, options, pixel, expected):
    encoder = build_encoder("resnet20", (4, 4, channels), width=2, **options)
    normalized = encoder.get_layer("normalization")(np.broadcast_to(np.float32(pixel), (1, 4, 4, channels)))
    np.testing.assert_allclose(normalized[0, 0, 0], expected, atol=1e-6)


def test_weights_depend_on_the_seed_and_the_layers_name_alone():
    keras.utils.set_random_seed(1)
    first = build_encoder("resnet20", (8, 8, 3), width=4, seed=5)
    keras.utils.set_random_seed(2)
    second = build_encoder("resnet20", (8, 8, 3), width=4, seed=5, branches=("clean",), name="other")
    third = build_encoder("resnet20", (8, 8, 3), width=4, seed=6)
    kernels = [
        {
            layer.name: keras.ops.convert_to_numpy(layer.kernel)
            for layer in model.layers
            if isinstance(layer, keras.layers.Conv2D)
        }
        for model in (first, second, third)
    ]
    for name, kernel in kernels[0].items():
        np.testing.assert_array_equal(kernel, kernels[1][name])
        assert np.abs(kernel - kernels[2][name]).max() > 0.01
    same_shape = [kernel for name, kernel in kernels[0].items() if name.startswith("stage1_block") and "conv" in name]
    assert len({kernel.tobytes() for kernel in same_shape}) == 6


def test_kernels_start_with_hes_variance_by_fan_out():
    kernel = keras.ops.convert_to_numpy(
        build_encoder("resnet20", (4, 4, 3), width=32).get_layer("stage3_block2_conv1").kernel
    )
    assert kernel.std() == pytest.approx(np.sqrt(2 / (3 * 3 * 128)), rel=0.02)
    assert abs(kernel).max() > 3 * kernel.std()  # not truncated


def test_batch_norm_follows_torch_and_is_branched_only_when_asked():
    plain = build_encoder("wide_resnet", (4, 4, 3), depth=10, width=1)
    norms = [layer for layer in plain.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(norms) == 7
    assert {(norm.momentum, norm.epsilon) for norm in norms} == {(0.9, 1e-5)}
    branched = build_encoder("wide_resnet", (4, 4, 3), depth=10, width=1, branches=("clean", "adversarial"))
    assert [layer.name for layer in branched.layers] == [layer.name for layer in plain.layers]
    assert sum(isinstance(layer, BranchedBatchNormalization) for layer in branched.layers) == 7


@pytest.mark.parametrize("kind", ["resnet20", "resnet18", "resnet50v2", "wide_resnet"])
def test_every_norm_is_synchronised_where_that_is_asked_for(kind):
    for options in ({}, {"branches": ("clean", "adversarial")}):
        encoder = build_encoder(kind, (8, 8, 3), width=1, synchronized=True, **options)
        norms = [part for part in encoder._flatten_layers() if isinstance(part, keras.layers.BatchNormalization)]
        assert len(norms) > 6 and all(norm.synchronized for norm in norms) and is_synchronized(encoder)
        encoder.trainable = False
        assert not is_synchronized(encoder), "frozen norms use running statistics, which all replicas have"
    assert not is_synchronized(build_encoder(kind, (8, 8, 3), width=1))


def test_networks_are_rebuilt_from_their_config():
    encoder = build_encoder("wide_resnet", (8, 8, 3), depth=10, width=1, branches=("a", "b"))
    rebuilt = keras.Model.from_config(encoder.get_config())
    images = np.random.default_rng(0).random((2, 8, 8, 3), dtype=np.float32)
    np.testing.assert_array_equal(encoder(images), rebuilt(images))


@pytest.mark.parametrize(
    ("kind", "shape", "options", "sentence"),
    [
        ("resnet21", (8, 8, 3), {}, "`kind` is not known .did you mean 'resnet20'"),
        ("resnet20", (8, 8, 3), {"widht": 4}, "`option of resnet20` is not known .did you mean 'width'"),
        ("resnet20", (3, 8, 3), {}, "too small for this network.*height and width >= 4"),
        ("resnet18", (8, 7, 3), {}, "too small for this network.*height and width >= 8"),
        ("resnet50v2", (4, 4, 3), {}, "too small for this network.*input_shape=.4, 4, 3"),
        ("resnet20", (None, 8, 3), {}, "`input_shape` must be the shape of one image"),
        ("resnet20", (8, 8), {}, "`input_shape` must be the shape of one image"),
        ("resnet20", (8, 8, 4), {}, "neither grey nor RGB"),
        ("resnet20", (8, 8, 3), {"mean": (0.5,)}, "does not fit the images.*3 numbers each"),
        ("resnet20", (8, 8, 3), {"std": (1, 0, 1)}, "`std` above 0"),
        ("resnet20", (8, 8, 3), {"width": 0}, "a positive integer.*width=0"),
        ("resnet20", (8, 8, 3), {"branches": ("a", "a")}, "`branches` must name each branch once"),
        ("wide_resnet", (8, 8, 3), {"depth": 18}, "10, 16, 22, 28, 34.*depth=18"),
        ("wide_resnet", (8, 8, 3), {"depth": 4}, "`depth` does not divide"),
    ],
)
def test_what_cannot_be_built_is_refused_in_words(kind, shape, options, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        build_encoder(kind, shape, **options)
