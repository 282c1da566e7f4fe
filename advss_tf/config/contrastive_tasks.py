"""The contrastive methods of a recipe: what `pretrain.task` may say beside the puzzles of tasks.py.

Synopsis:

    recipe.pretrain.task                      # such as an `AdvclTask`
    recipe.pretrain.task.annealing            # an `Annealed`, or None

The conditions between their fields are in contrastive_rules.py. What each field does is said where it is used, in the
classes of `advss_tf.pretext`.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from . import contrastive_rules
from .parts import Counts, Part, Rules, Text
from .views import ANNEALED, HIGH_FREQUENCY, STRONG, WEAK, Image, Images, Views

Norms = Literal["hidden", "all", "none"]


class Annealed(Part):
    """DynACL's schedules: weaker augmentation, heavier attacked views (Luo et al. 2023)."""

    period: int = Field(default=50, ge=1, description="Epochs between two changes.")
    growth: float = Field(default=2 / 3, ge=0, le=1, description="How much the attacked views' weight gains; 0: none.")


class Asymmetric(Part):
    """A-InfoNCE: attacked views as inferior positives, hard negatives, or both (Yu et al. 2022)."""

    rules: ClassVar[Rules] = (contrastive_rules.something_is_asymmetric,)
    clean_share: float | None = Field(
        default=0.2, ge=0, le=1, description="The clean side's part of a clean-attacked pair; null: pairs are alike."
    )
    pair_weight: float = Field(default=1.0, ge=0, description="What such pairs are multiplied by.")
    beta: float | None = Field(
        default=1.0, ge=0, description="How much hard negatives weigh; null: all negatives are alike."
    )
    tau_plus: float = Field(default=0.1, ge=0, lt=1, description="Probability that a negative is of the same class.")


class ContrastiveTask(Part):
    """What the methods that compare views share."""

    kind: str = Field(description="The method.")
    temperature: float = Field(default=0.5, gt=0, description="Temperature of the contrastive loss.")
    projection: Counts = Field(
        default=(512, 128), min_length=1, description="Sizes of the projection's layers, the embedding's last."
    )
    projection_norms: Norms = Field(default="hidden", description="Which of them have a batch norm behind them.")


class SimclrTask(ContrastiveTask):
    """Find the other view of an image, on clean images (Chen et al. 2020, SimCLR)."""

    kind: Literal["simclr"] = Field(description="Find the other view of an image in the batch, nothing is attacked.")
    views: Views = Field(default=(STRONG, STRONG), min_length=2, description="Views that find each other.")


class RoclTask(ContrastiveTask):
    """Find the other views while one is attacked (Kim et al. 2020)."""

    rules: ClassVar[Rules] = (contrastive_rules.one_side_is_held_once,)
    kind: Literal["rocl"] = Field(description="Find the other view, with an attacked one as a third.")
    views: Images = Field(
        default=(STRONG, STRONG), min_length=2, max_length=2, description="The attacked view, and the other."
    )
    projection: Counts = Field(
        default=(2048, 128), min_length=1, description="Sizes of the projection's layers, the embedding's last."
    )
    projection_norms: Norms = Field(default="none", description="Which of them have a batch norm behind them.")
    adversarial_weight: float = Field(
        default=1 / 256, ge=0, description="Weight of the pair of attacked and other view by itself."
    )
    one_sided: bool = Field(default=False, description="Whether gradients reach a pair's anchor alone, as in its code.")
    asymmetry: Asymmetric | None = Field(default=None, description="A-InfoNCE's asymmetry; null: none.")


class DualStream(ContrastiveTask):
    """What ACL and the methods that it is the base of share."""

    rules: ClassVar[Rules] = (contrastive_rules.annealing_changes_something,)
    views: Images = Field(default=(ANNEALED, ANNEALED), min_length=2, max_length=2, description="The two views.")
    projection: Counts = Field(
        default=(512, 512, 512), min_length=1, description="Sizes of the projection's layers, the embedding's last."
    )
    projection_norms: Norms = Field(default="all", description="Which of them have a batch norm behind them.")
    sir_weight: float = Field(default=0.0, ge=0, description="Weight of the standard invariance.")
    air_weight: float = Field(default=0.0, ge=0, description="Weight of the adversarial invariance.")
    invariance: Literal["equation", "code"] = Field(
        default="equation", description="The invariances as in the paper, or as in its code."
    )
    annealing: Annealed | None = Field(default=None, description="DynACL's schedules; null: none.")


class AclTask(DualStream):
    """Clean views find each other, and attacked ones each other (Jiang et al. 2020)."""

    kind: Literal["acl"] = Field(description="A clean pair and an attacked pair of views.")


class AclAirTask(DualStream):
    """ACL with adversarial invariant regularisation (Xu et al. 2023)."""

    kind: Literal["acl_air"] = Field(description="ACL with standard and adversarial invariance.")
    sir_weight: float = Field(default=0.25, ge=0, description="Weight of the standard invariance.")
    air_weight: float = Field(default=0.25, ge=0, description="Weight of the adversarial invariance.")


class DynaclTask(DualStream):
    """ACL whose augmentation weakens while attacked views gain weight (Luo et al. 2023)."""

    kind: Literal["dynacl"] = Field(description="ACL with schedules of augmentation and weight.")
    annealing: Annealed = Field(default=Annealed(), description="The schedules.")
    momentum: float | None = Field(
        default=0.99, ge=0, lt=1, description="What the momentum encoder keeps of itself at each step; null: none."
    )


class Multiview(ContrastiveTask):
    """What AdvCL and A-InfoNCE share."""

    rules: ClassVar[Rules] = (contrastive_rules.annealing_changes_something, contrastive_rules.heads_are_trained)
    clean_views: Views = Field(
        default=(STRONG, STRONG, HIGH_FREQUENCY), min_length=1, description="Views that are not attacked."
    )
    attacked_view: Image = Field(default=WEAK, description="The view that is attacked.")
    pseudo_labels: Text | None = Field(
        default=None, description="The .npz of a stage `cluster`; null: no pseudo-supervision."
    )
    pseudo_weight: float = Field(default=0.2, ge=0, description="Weight of the pseudo-labels' cross-entropy.")
    perturbation: Literal["separate", "shared"] = Field(
        default="separate", description="A perturbation for each loss as in its code, or one as in the paper."
    )
    base_temperature: float | None = Field(
        default=0.07, gt=0, description="Multiplies the contrastive loss by temperature over this; null: by 1."
    )
    asymmetry: Asymmetric | None = Field(default=None, description="A-InfoNCE's asymmetry; null: none.")
    annealing: Annealed | None = Field(default=None, description="DynACL's schedules; null: none.")
    cache: bool = Field(default=True, description="Forward the clean views once a step; the gradient is the same.")


class AdvclTask(Multiview):
    """Clean, high-frequency and attacked views, and clusters that attacked images name (Fan et al. 2021)."""

    kind: Literal["advcl"] = Field(description="Several views of which one is attacked, and pseudo-labels.")


class AInfonceTask(Multiview):
    """AdvCL with an asymmetric loss (Yu et al. 2022)."""

    kind: Literal["a_infonce"] = Field(description="AdvCL with inferior positives and hard negatives.")
    asymmetry: Asymmetric = Field(default=Asymmetric(), description="What is asymmetric.")


class DeaclTask(Part):
    """Learn a clean teacher's angles, and keep them under attack (Zhang et al. 2022)."""

    kind: Literal["deacl"] = Field(description="A robust student of a clean self-supervised teacher.")
    teacher: Text = Field(description="Path of the teacher, an exported encoder.")
    start: Literal["teacher", "own"] = Field(
        default="teacher", description="What the student begins with: the teacher's weights, or fresh ones."
    )
    view: Image = Field(default=WEAK, description="The view of each image.")
    beta: float = Field(default=2.0, ge=0, description="Weight of the student's agreement with itself under attack.")


Contrast = SimclrTask | RoclTask | AclTask | AclAirTask | DynaclTask | AdvclTask | AInfonceTask | DeaclTask
