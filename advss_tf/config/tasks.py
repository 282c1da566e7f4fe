"""The puzzles of a recipe that need no labels, alone or several together, and a puzzle beside the classes.

Synopsis:

    recipe.pretrain.task                      # a `Task`: RotationTask, … EnsembleTask, or one of contrastive_tasks.py
    recipe.finetune.auxiliary.task            # the same: a puzzle, an ensemble or simclr; see auxiliary_rules.py

The conditions between their fields are in task_rules.py, what they ask of images and networks in fitting_rules.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from . import auxiliary_rules, task_rules
from .contrastive_tasks import Contrast
from .parts import Part, Rules, Text


class RotationTask(Part):
    """Tell by how many quarter turns an image was rotated (Gidaris et al. 2018; Chen et al. 2020)."""

    kind: Literal["rotation"] = Field(description="Tell by how many quarter turns the image was rotated.")
    clean_weight: float = Field(
        default=0.5, ge=0, lt=1, description="Weight of the clean loss; the attacked has the rest."
    )


class JigsawTask(Part):
    """Tell in which of a few orders the patches were put together (Noroozi and Favaro 2016; Chen et al. 2020)."""

    rules: ClassVar[Rules] = (task_rules.permutations_exist,)
    kind: Literal["jigsaw"] = Field(description="Tell in which order the patches of the image were put together.")
    grid: int = Field(default=4, ge=2, description="Patches along each side.")
    num_permutations: int = Field(default=30, ge=1, description="Orders beside the image as it was, at most 10000.")
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

    rules: ClassVar[Rules] = (task_rules.patches_are_seen,)
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

    rules: ClassVar[Rules] = (task_rules.tasks_differ, task_rules.boundary_ends_a_trunk)
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
    faithful: bool = Field(
        default=False, description="Whether every task that can be is `faithful`, unless the task says otherwise."
    )

    @model_validator(mode="before")
    @classmethod
    def _tell_tasks(cls, written: Any) -> Any:
        return _faithful_throughout(written)

    @property
    def members(self) -> tuple[Member, ...]:
        """The tasks, those that null stands for as well."""
        paper = (RotationTask(kind="rotation"), JigsawTask(kind="jigsaw"), SelfieTask(kind="selfie"))
        return paper if self.tasks is None else self.tasks


def _faithful_throughout(written: Any) -> Any:
    """An ensemble that is `faithful` with tasks that say so too, each unless it says something itself.

    It is written down for each, as a resolved recipe has every default: there a `false` is what somebody wrote.
    """
    tasks = written.get("tasks") if isinstance(written, Mapping) and written.get("faithful") is True else None
    if not isinstance(tasks, list | tuple):
        return written
    return {**written, "tasks": [_faithful(task) for task in tasks]}


def _faithful(task: Any) -> Any:
    able = isinstance(task, Mapping) and task.get("kind") in ("jigsaw", "selfie")
    return {"faithful": True, **task} if able else task


def unmirrored(written: Any) -> Any:
    """A section `pretrain` with a faithful Selfie mirrors no image unless it says so: that is written down in it.

    An ensemble's tasks share their images, which the code of Chen et al. mirrors for the other two: there the data say.
    """
    task = written.get("task") if isinstance(written, Mapping) and written.get("flip") is None else None
    alone = isinstance(task, Mapping) and task.get("kind") == "selfie" and task.get("faithful") is True
    return {**written, "flip": False} if alone else written


Task = Annotated[RotationTask | JigsawTask | SelfieTask | EnsembleTask | Contrast, Field(discriminator="kind")]


class Auxiliary(Part):
    """A pretext task beside the classes in adversarial training (Hendrycks et al. 2019; Kucer et al. 2021)."""

    rules: ClassVar[Rules] = (
        auxiliary_rules.task_is_not_attacked_by_itself,
        auxiliary_rules.attacked_views_are_pixels,
        task_rules.attack_weighs_a_sum,
        task_rules.attack_climbs_what_is_trained,
        task_rules.attack_climbs_something,
        task_rules.stack_suits_mode,
        task_rules.stack_has_each_puzzle_once,
        auxiliary_rules.task_is_weighed_once,
    )
    task: Task = Field(description="What the encoder learns beside the classes: a puzzle, several, or simclr.")
    mode: Literal["plain", "clean", "attacked", "own", "sum", "stronger"] = Field(
        default="sum", description="Where the task's loss is taken and what the attack climbs: T0 to T5, in this order."
    )
    weight: float = Field(default=0.5, ge=0, description="Weight of the task's loss in training.")
    class_weight: float = Field(default=1.0, gt=0, description="Weight of the classes' cross-entropy in training.")
    attack_weight: float | None = Field(
        default=None, ge=0, description="Weight of the task's loss in the attack; null: `weight`."
    )
    attack_class_weight: float | None = Field(
        default=None, ge=0, description="Weight of the classes' cross-entropy in the attack; null: 1."
    )
    auxiliary_at: Literal["clean", "attacked"] | None = Field(
        default=None, description="Where modes sum and stronger learn the task, whatever is climbed; null: attacked."
    )
    copies: Literal["drawn", "stack"] = Field(
        default="drawn", description="One puzzle of each image, or all of them, each in a ball of its own."
    )
