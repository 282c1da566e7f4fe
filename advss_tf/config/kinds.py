"""The sections of a recipe that come in several kinds: data, encoder, learning-rate schedule, optimizer, pretext task.

Synopsis:

    encoder:
      kind: wide_resnet         # says which class below is meant, and so which other keys are known
      depth: 34

A new kind is a class with a `kind` of its own, and its name in the union that follows it.
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
    flip: bool = Field(default=True, description="Mirror half of the training images left to right.")


class Digits(Source):
    """scikit-learn's 1797 digits of 8x8 pixels: no download, runs in minutes without a GPU."""

    rules: ClassVar[Rules] = (*Source.rules, rules.digits_hold_enough)
    kind: Literal["digits"] = Field(description="scikit-learn's 8x8 digits.")
    flip: bool = Field(default=False, description="Mirror half of the training images; a mirrored digit is no digit.")


class Tfds(Source):
    """A data set of the TensorFlow Datasets catalogue."""

    kind: Literal["tfds"] = Field(description="A data set of TensorFlow Datasets.")
    name: Text = Field(description="Its name in the catalogue, such as cifar10.")
    data_dir: Text | None = Field(default=None, description="Folder of prepared data sets; null: tfds' own.")
    train_split: Text = Field(default="train", description="Name of the split that is trained on and held out from.")
    test_split: Text = Field(default="test", description="Name of the split that evaluation alone reads.")


class Folder(Source):
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
    branches: Annotated[tuple[Literal["clean", "adversarial"], ...], Field(strict=False)] = Field(
        default=(), max_length=2, description="Batch norms of its own for clean and attacked images; []: one for all."
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
    final_learning_rate: float = Field(default=0.0, ge=0, description="Learning rate of the last step.")


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


Descent = Annotated[Sgd | AdamW, Field(discriminator="kind")]


# ---------------------------------------------------------------------------------------------------------------- task
class RotationTask(Part):
    """Tell by how many quarter turns an image was rotated (Gidaris et al. 2018; Chen et al. 2020)."""

    kind: Literal["rotation"] = Field(description="Tell by how many quarter turns the image was rotated.")
    clean_weight: float = Field(
        default=0.5, ge=0, lt=1, description="Weight of the clean loss; the attacked has the rest."
    )


class JigsawTask(Part):
    """Tell in which of a few orders the patches were put together (Noroozi and Favaro 2016; Chen et al. 2020)."""

    rules: ClassVar[Rules] = (rules.permutations_exist,)
    kind: Literal["jigsaw"] = Field(description="Tell in which order the patches of the image were put together.")
    grid: int = Field(default=4, ge=2, description="Patches along each side.")
    num_permutations: int = Field(default=30, ge=1, description="Orders beside the image as it was.")
    permutation_set: Literal["auto", "max_hamming", "random"] = Field(
        default="auto", description="Far from each other, or drawn; auto: max_hamming, or random if `faithful`."
    )
    identity_share: float | None = Field(
        default=None, ge=0, lt=1, description="Extra share of images left as they were; null: 0, or 0.1 if `faithful`."
    )
    balanced: bool | None = Field(
        default=None, description="Each order equally often in a batch; null: true, or false if `faithful`."
    )
    remainder: Literal["refuse", "crop"] = Field(
        default="refuse", description="What to do with pixels that the grid leaves over: a black rim if `crop`."
    )
    faithful: bool = Field(
        default=False, description="Whether what is auto or null is as in the code of Chen et al. 2020."
    )
    clean_weight: float = Field(
        default=0.5, ge=0, lt=1, description="Weight of the clean loss; the attacked has the rest."
    )


class SelfieTask(Part):
    """Tell which masked patch belongs where (Trinh et al. 2019; Chen et al. 2020)."""

    rules: ClassVar[Rules] = (rules.patches_are_seen,)
    kind: Literal["selfie"] = Field(description="Tell which of the masked patches belongs into each masked place.")
    boundary: Text | None = Field(default=None, description="Last stage that reads patches; null: last but one.")
    grid: int = Field(default=4, ge=2, description="Patches along each side.")
    num_masked: int | None = Field(default=None, ge=2, description="Masked patches; null: a quarter, at least 2.")
    num_layers: int = Field(default=12, ge=1, description="Transformer layers of the attention pooling.")
    num_heads: int = Field(default=16, ge=1, description="Attention heads of each.")
    head_width: int | None = Field(default=None, ge=1, description="Width of a head; null: features / num_heads.")
    hidden_width: int | None = Field(default=None, ge=1, description="Width of hidden layers; null: 2 * features.")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="Share of sublayers' outputs dropped in training.")
    mask_per: Literal["image", "batch"] | None = Field(
        default=None, description="What has a mask of its own; null: image, or batch if `faithful`."
    )
    context_positions: bool | None = Field(
        default=None, description="Patches that are seen have places; null: true, or false if `faithful`."
    )
    zero_columns: bool | None = Field(
        default=None, description="Places start without their column; null: false, or true if `faithful`."
    )
    extra_layer: bool | None = Field(
        default=None, description="One layer more than `num_layers`; null: false, or true if `faithful`."
    )
    scaled_scores: bool | None = Field(
        default=None, description="Scores over the root of the width; null: true, or false if `faithful`."
    )
    double_softmax: bool | None = Field(
        default=None, description="Probabilities in the place of logits; null: false, or true if `faithful`."
    )
    summed_loss: bool | None = Field(
        default=None, description="Sum over masked patches, not mean; null: false, or true if `faithful`."
    )
    faithful: bool = Field(default=False, description="Whether what is null is as in the code of Chen et al. 2020.")
    clean_weight: float = Field(
        default=0.5, ge=0, lt=1, description="Weight of the clean loss; the attacked has the rest."
    )


Member = Annotated[RotationTask | JigsawTask | SelfieTask, Field(discriminator="kind")]


class EnsembleTask(Part):
    """Several tasks on one trunk, attacked together (Chen et al. 2020)."""

    rules: ClassVar[Rules] = (rules.tasks_differ,)
    kind: Literal["ensemble"] = Field(description="Several tasks on one trunk, attacked together.")
    tasks: Annotated[tuple[Member, ...], Field(strict=False)] | None = Field(
        default=None, min_length=2, description="The tasks, each kind once; null: rotation, jigsaw and selfie."
    )
    shared: Literal["trunk", "encoder"] = Field(
        default="trunk", description="What tasks share: the layers through the boundary, or all."
    )
    boundary: Text | None = Field(default=None, description="Last stage of the trunk; null: last but one.")
    own_norms: bool | None = Field(
        default=None, description="Selfie has batch norms of its own; null: true, or false if `faithful`."
    )
    diversity_weight: float = Field(default=0.1, ge=0, description="Weight of the diversity of gradients; 0: none.")
    faithful: bool = Field(default=False, description="Whether every task that can be is `faithful`.")


Task = Annotated[RotationTask | JigsawTask | SelfieTask | EnsembleTask, Field(discriminator="kind")]
