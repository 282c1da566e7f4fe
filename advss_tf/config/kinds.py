"""The sections of a recipe that come in several kinds: data, encoder, learning-rate schedule, optimizer.

Synopsis:

    encoder:
      kind: wide_resnet         # says which class below is meant, and so which other keys are known
      depth: 34

A new kind is a class with a `kind` of its own, and its name in the union that follows it. Pretext tasks, which come in
kinds as well, are in tasks.py.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from . import rules
from .parts import Counts, Numbers, Part, Rules, Text


# ---------------------------------------------------------------------------------------------------------------- data
class Source(Part):
    """Where the images come from and how many labels may be used: what every kind has."""

    rules: ClassVar[Rules] = (rules.one_label_budget,)
    kind: str = Field(description="Where the images come from.")
    held_out: float = Field(default=0.1, gt=0, lt=1, description="Part of train that models are selected on.")
    labels_per_class: int | None = Field(default=None, ge=1, description="Labels used of each class; null: all.")
    label_fraction: float | None = Field(default=None, gt=0, le=1, description="Part of the labels used; null: all.")
    train_limit: int | None = Field(
        default=None, ge=1, description="Train images used, of a seeded shuffle; null: all."
    )
    resize: Counts | None = Field(
        default=None, min_length=2, max_length=2, description="Height and width to resize to; null: none."
    )
    crop_padding: int | None = Field(default=None, ge=0, description="Padding before a random crop; null: size // 8.")
    flip: bool | None = Field(
        default=None, description="Mirror half of the training images left to right; null: if they have colours."
    )


class Digits(Source):
    """scikit-learn's 1797 digits of 8x8 pixels: no download, runs in minutes without a GPU."""

    rules: ClassVar[Rules] = (*Source.rules, rules.digits_hold_enough)
    kind: Literal["digits"] = Field(description="scikit-learn's 8x8 digits.")
    flip: bool = Field(default=False, description="Mirror half of the training images; a mirrored digit is no digit.")


class OnDisk(Source):
    """Images that lie on the disk and are kept in memory where they have room: what both kinds have."""

    memory_limit: int = Field(
        default=2 * 2**30,
        ge=1,
        description="Bytes of decoded pixels above which images stay on the disk. Those of tfds are then shuffled in a "
        "window, and a part of them is kept, as it lies in its files, in half of these bytes.",
    )


class Tfds(OnDisk):
    """A data set of the TensorFlow Datasets catalogue."""

    kind: Literal["tfds"] = Field(description="A data set of TensorFlow Datasets.")
    name: Text = Field(description="Its name in the catalogue, such as cifar10.")
    data_dir: Text | None = Field(default=None, description="Folder of prepared data sets; null: tfds' own.")
    train_split: Text = Field(
        default="train", description="Split that is trained on and held out from; `unlabelled` of stl10 has no labels."
    )
    test_split: Text = Field(default="test", description="Name of the split that evaluation alone reads.")


class Folder(OnDisk):
    """A folder of image files, one folder per class."""

    kind: Literal["folder"] = Field(description="A folder of image files.")
    path: Text = Field(description="The folder.")


class Arrays(Source):
    """A .npz file of images and labels."""

    kind: Literal["arrays"] = Field(description="A .npz file of arrays.")
    path: Text = Field(description="The .npz file.")


Data = Annotated[Digits | Tfds | Folder | Arrays, Field(discriminator="kind")]

# ------------------------------------------------------------------------------------------------------------- encoder


class Encoder(Part):
    """The network from images to features: what every kind has."""

    rules: ClassVar[Rules] = (rules.normalisation_is_whole,)
    kind: str = Field(description="The architecture.")
    mean: Numbers | None = Field(
        default=None, min_length=1, description="Subtracted inside, per channel; null: ImageNet's, or 0.5 for grey."
    )
    std: Numbers | None = Field(
        default=None, min_length=1, description="Divided by inside, per channel; null: ImageNet's, or 0.5 for grey."
    )
    branches: Annotated[tuple[Literal["clean", "adversarial", "pseudo"], ...], Field(strict=False)] = Field(
        default=(), max_length=3, description="Batch norms of its own for each stream of images; []: one for all."
    )
    synchronized: bool = Field(
        default=False, description="Batch norm normalises by the images of all replicas, instead of each by its own."
    )


class Resnet20(Encoder):
    """The CIFAR network of He et al. 2016 with three stages."""

    kind: Literal["resnet20"] = Field(description="Three stages of basic blocks, 20 layers.")
    width: int = Field(default=16, ge=1, description="Channels of the first stage.")


class Resnet18(Encoder):
    """The four-stage network with basic blocks and a 3x3 stem."""

    kind: Literal["resnet18"] = Field(description="Four stages of basic blocks, 18 layers.")
    width: int = Field(default=64, ge=1, description="Channels of the first stage.")


class Resnet50v2(Encoder):
    """The CIFAR variant of ResNet-50v2 that Chen et al. 2020 train."""

    kind: Literal["resnet50v2"] = Field(description="Four stages of pre-activated bottlenecks, 50 layers.")
    width: int = Field(default=64, ge=1, description="Bottleneck channels of the first stage.")


class WideResnet(Encoder):
    """WRN-depth-width of Zagoruyko and Komodakis 2016."""

    rules: ClassVar[Rules] = (*Encoder.rules, rules.depth_is_wide_resnet)
    kind: Literal["wide_resnet"] = Field(description="Three wide stages of pre-activated blocks.")
    depth: int = Field(default=28, ge=10, description="Layers: 6n + 4.")
    width: int = Field(default=10, ge=1, description="Multiple of the channels of the thin network.")


Network = Annotated[Resnet20 | Resnet18 | Resnet50v2 | WideResnet, Field(discriminator="kind")]


# ----------------------------------------------------------------------------------------------------------- optimizer
class Constant(Part):
    """The same rate at every step."""

    kind: Literal["constant"] = Field(description="The same learning rate at every step.")


class Cosine(Part):
    """A linear warm-up from 0, then half a cosine at every step."""

    kind: Literal["cosine"] = Field(description="Half a cosine, step by step.")
    warmup_epochs: float = Field(
        default=0.0, ge=0, description="Epochs of linear warm-up from 0; may be a part of one."
    )
    final_learning_rate: float = Field(default=0.0, ge=0, description="Learning rate that the cosine ends at.")


class Piecewise(Part):
    """A rate that is multiplied by `factor` at each milestone."""

    rules: ClassVar[Rules] = (rules.milestones_increase,)
    kind: Literal["piecewise"] = Field(description="Multiplied by a factor at milestones.")
    milestones: Counts = Field(
        min_length=1, description="Epochs after which the learning rate is multiplied by the factor."
    )
    factor: float = Field(default=0.1, gt=0, lt=1, description="What the learning rate is multiplied by.")
    warmup_epochs: float = Field(
        default=0.0, ge=0, description="Epochs of linear warm-up from 0; may be a part of one."
    )


Schedule = Annotated[Constant | Cosine | Piecewise, Field(discriminator="kind")]


class Optimizer(Part):
    """How the weights descend: what every kind has."""

    rules: ClassVar[Rules] = (rules.rate_falls,)
    kind: str = Field(description="The rule that moves the weights.")
    learning_rate: float = Field(gt=0, description="Highest learning rate, for the batch size of the stage.")
    weight_decay: float = Field(default=5e-4, ge=0, description="Strength of the weight decay.")
    decay: Literal["kernels", "all"] = Field(
        default="kernels", description="Whether biases and batch norm decay as well."
    )
    clip_norm: float | None = Field(
        default=None, gt=0, description="Largest global norm of the gradient; null: no limit."
    )
    ema_momentum: float | None = Field(
        default=None, gt=0, lt=1, description="Moving average of the weights; null: none."
    )
    schedule: Schedule = Field(default=Constant(kind="constant"), description="How the learning rate changes.")


class Sgd(Optimizer):
    """Stochastic gradient descent."""

    rules: ClassVar[Rules] = (*Optimizer.rules, rules.nesterov_has_momentum)
    kind: Literal["sgd"] = Field(description="Stochastic gradient descent.")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Momentum.")
    nesterov: bool = Field(default=False, description="Nesterov's variant of momentum.")


class AdamW(Optimizer):
    """Adam with decoupled weight decay."""

    kind: Literal["adamw"] = Field(description="Adam with decoupled weight decay.")


class Lars(Optimizer):
    """SGD whose rate is in proportion to each layer's weights: for large batches."""

    rules: ClassVar[Rules] = (*Optimizer.rules, rules.nesterov_has_momentum)
    kind: Literal["lars"] = Field(description="Layer-wise adaptive rate scaling.")
    weight_decay: float = Field(default=1e-6, ge=0, description="Strength of the weight decay.")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Momentum.")
    nesterov: bool = Field(default=False, description="Nesterov's variant of momentum.")
    trust_coefficient: float = Field(
        default=0.001, gt=0, description="Part of its own length that a layer moves, at a learning rate of 1."
    )
    adapt: Literal["kernels", "all"] = Field(
        default="kernels", description="Whether biases and batch norm have a rate of their own as well."
    )


Descent = Annotated[Sgd | AdamW | Lars, Field(discriminator="kind")]
