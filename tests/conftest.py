"""Fixtures that every room's tests share: two logical devices, a handful of images, a network that trains at once."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np
import pytest
import tensorflow as tf

# Two logical devices on the one CPU, so that a step can be shared by two replicas. Set before the first tensor.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


@pytest.fixture
def tiny_images() -> np.ndarray:
    """Eight random images, (8, 8, 8, 3) float32 in [0, 1]."""
    return np.random.default_rng(0).random((8, 8, 8, 3), dtype=np.float32)


@pytest.fixture
def tiny_labels() -> np.ndarray:
    """Eight labels of three classes, (8,) int64."""
    return np.array([0, 1, 2, 0, 1, 2, 0, 1], dtype=np.int64)


@pytest.fixture
def tiny_encoder():
    """A small Functional network with batch norm: (B, 8, 8, 3) -> (B, 6); named stages, seeded weights."""
    import keras

    def start(seed: int) -> keras.initializers.Initializer:
        return keras.initializers.HeNormal(seed=seed)

    images = keras.Input((8, 8, 3), name="images")
    x = keras.layers.Conv2D(4, 3, padding="same", use_bias=False, kernel_initializer=start(1), name="stem_conv")(images)
    x = keras.layers.BatchNormalization(name="stem_norm")(x)
    x = keras.layers.ReLU(name="stem_relu")(x)
    x = keras.layers.Conv2D(6, 3, strides=2, padding="same", kernel_initializer=start(2), name="stage1_conv")(x)
    x = keras.layers.BatchNormalization(name="stage1_norm")(x)
    x = keras.layers.ReLU(name="stage1_relu")(x)
    x = keras.layers.Conv2D(6, 3, padding="same", kernel_initializer=start(3), name="stage2_conv")(x)
    features = keras.layers.GlobalAveragePooling2D(name="stage2_pool")(x)
    return keras.Model(images, features, name="tiny")


@pytest.fixture
def two_stages():
    """A maker of small networks with two stages, (B, 8, 8, 3) -> (B, 96): `two_stages(norm)`, norm None for none."""
    import keras

    def make(norm=None):
        x = images = keras.Input((8, 8, 3), name="images")
        for stage, (width, strides) in enumerate(((4, 1), (6, 2)), start=1):
            options = {"kernel_initializer": keras.initializers.HeNormal(seed=stage), "name": f"stage{stage}_conv"}
            x = keras.layers.Conv2D(width, 3, strides, padding="same", **options)(x)
            x = x if norm is None else norm(name=f"stage{stage}_norm")(x)
            x = keras.layers.ReLU(name=f"stage{stage}_relu")(x)
        return keras.Model(images, keras.layers.Flatten(name="features", dtype="float32")(x), name="small")

    return make


@pytest.fixture
def scattered_branches():
    """A maker of residual networks of 8 x 8 images, whose two batch-norm branches say different things."""
    from advss_tf.encoders import resnet20

    def make():
        encoder = resnet20((8, 8, 3), width=2, branches=("clean", "adversarial"))
        rng = np.random.default_rng(0)
        for variable in encoder.non_trainable_variables:
            if "moving_mean" in variable.path:
                variable.assign(rng.normal(size=variable.shape))
        return encoder

    return make


CIFAR10_C_TYPES = {"fog": "fog", "glass_blur": "frosted_glass_blur", "elastic_transform": "elastic"}


@pytest.fixture(scope="session")
def cifar10_c(tmp_path_factory):
    """A tfds data_dir with a `cifar10_corrupted` of twelve images, and the images, `files[type][severity - 1]`, labels.

    tfds's own builder has prepared it from files that are laid out like those of the authors: three types, severities
    1 and 3.
    """
    import tensorflow_datasets as tfds

    folder, data_dir = tmp_path_factory.mktemp("downloaded"), tmp_path_factory.mktemp("tfds")
    (folder / "CIFAR-10-C").mkdir()
    labels = np.arange(12) % 10
    np.save(folder / "CIFAR-10-C" / "labels.npy", np.tile(labels, 5))
    files = {}
    for number, name in enumerate(CIFAR10_C_TYPES):
        images = np.random.default_rng(number).integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)
        np.save(folder / "CIFAR-10-C" / f"{name}.npy", images)
        files[name] = images.reshape(5, 12, 32, 32, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tfds.download.DownloadManager, "download_and_extract", lambda self, url: str(folder))
        for name in CIFAR10_C_TYPES.values():
            for severity in (1, 3):
                tfds.builder(f"cifar10_corrupted/{name}_{severity}", data_dir=data_dir).download_and_prepare()
    return data_dir, files, labels
