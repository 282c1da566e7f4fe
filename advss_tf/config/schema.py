"""The recipe: its sections, every field with its type, its range, its default and one sentence.

Synopsis:

    recipe = load_recipe("configs/digits.yaml")          # see loading.py
    recipe.pretrain.attack.epsilon                        # everything is frozen, checked and typed

A class is a section of the YAML file. The sections with several kinds are in kinds.py and tasks.py, the section
`evaluate` is in evaluation.py, the conditions between fields in rules.py.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, model_validator

from . import auxiliary_rules, contrastive_rules, fitting_rules, pseudo_rules, rules, task_rules
from .evaluation import Evaluate
from .kinds import Data, Descent, Network, Sgd
from .parts import Part, Radius, Rules, Step, Text
from .protocol import REFINEMENT, filled, preset_is_kept, presets_stand_in, refilled
from .tasks import Auxiliary, Task, unmirrored


class Attack(Part):
    """Projected gradient descent inside a ball. Where an attack may stand, null means training on clean images."""

    rules: ClassVar[Rules] = (rules.ball_fits_pixels, rules.step_fits_the_ball, rules.restarts_differ)
    norm: Literal["linf", "l2"] = Field(default="linf", description="The norm of the ball.")
    epsilon: Radius = Field(description="Radius of the ball, in pixels of [0, 1].")
    num_steps: int = Field(default=10, ge=1, description="Steps of the attack.")
    step_size: Step | None = Field(default=None, description="Step; null: 2.5 * epsilon / num_steps.")
    random_start: bool = Field(default=True, description="Start at a random point of the ball.")
    num_restarts: int = Field(default=1, ge=1, description="Times that the attack is run, from other random points.")
    keep: Literal["last", "best"] = Field(default="last", description="The last point, or the highest one.")
    batch_norm: Literal["inference", "training"] = Field(
        default="inference", description="Statistics used while attacking: the running ones, or those of the batch."
    )


class Stage(Part):
    """A training: what pretraining and finetuning share."""

    rules: ClassVar[Rules] = (rules.schedule_fits_epochs, rules.parts_share_the_batch)
    epochs: int = Field(ge=1, description="Passes over the training images.")
    batch_size: int = Field(default=128, ge=1, description="Images a step, over all replicas.")
    micro_batches: int = Field(
        default=1, ge=1, description="Parts of a batch, one after the other, whose gradients are added up."
    )
    micro_batch_norm: Literal["per_part"] | None = Field(
        default=None, description="Let trained batch norm normalise each part by itself; null: refuse that."
    )
    optimizer: Descent = Field(description="How the weights descend.")
    eval_attack: Attack | None = Field(default=None, description="Attack on held-out images; null: `attack`.")


class Probe(Part):
    """Accuracy of nearest neighbours among the labelled images, on held-out ones, while pretraining goes on."""

    k: int = Field(default=200, ge=1, description="Neighbours that vote; at most as many as there are labelled images.")
    temperature: float = Field(default=0.1, gt=0, description="A vote weighs exp(cosine / temperature).")
    every_epochs: int = Field(
        default=10, ge=1, description="Epochs from one probe to the next; the last is probed too."
    )
    max_images: int | None = Field(
        default=50_000,
        ge=1,
        description="Labelled images that neighbours are looked for in, a seeded choice; null: all.",
    )


class Pretrain(Stage):
    """Learning without labels: P2 with `attack: null`, P3 with an attack."""

    rules: ClassVar[Rules] = (
        *Stage.rules,
        contrastive_rules.attack_suits_method,
        contrastive_rules.there_are_negatives,
        contrastive_rules.batch_is_whole,
        rules.parts_normalise_as_said,
        contrastive_rules.annealing_ends_in_time,
        contrastive_rules.averages_are_handed_over,
        contrastive_rules.augmentation_reaches_a_view,
    )
    task: Task = Field(description="What the encoder learns: a puzzle, or how views of an image belong together.")
    attack: Attack | None = Field(description="Attack on the training images; null: clean training.")
    flip: bool | None = Field(
        default=None,
        description="Mirror half of the images in pretraining alone; null: as `data` says, no for a faithful Selfie.",
    )
    crop_padding: int | None = Field(
        default=None, ge=0, description="Padding before a random crop in pretraining alone; null: as `data` says."
    )
    probe: Probe | None = Field(
        default=None, description="How well features tell classes, in the history alone, {} for defaults; null: none."
    )

    @model_validator(mode="before")
    @classmethod
    def _tell_data(cls, written: Any) -> Any:
        return unmirrored(written)


Sizes = Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(strict=False)]


class Cluster(Part):
    """Pseudo-labels for another training: clusters of an encoder's features, a head for each number of clusters."""

    rules: ClassVar[Rules] = (
        rules.nothing_twice,
        pseudo_rules.branch_is_there,
        pseudo_rules.external_is_elsewhere,
        pseudo_rules.encoder_is_no_slip,
    )
    sizes: Sizes = Field(default=(2, 10, 50, 100, 500), min_length=1, description="Numbers of clusters, a head each.")
    encoder: Text = Field(default="pretrained", description="pretrained, or the path of an exported encoder.")
    branch: Literal["clean", "adversarial", "pseudo"] | None = Field(
        default=None, description="Batch-norm branch of pretrained that is used; null: the one that is handed over."
    )
    normalise: bool = Field(default=True, description="Divide features by their length, to cluster directions.")
    external: bool = Field(
        default=False, description="The encoder has learned from other images or labels, which every record will say."
    )


class Refinement(Stage):
    """What both trainings of `refine` share: the batch of DynACL++'s code."""

    batch_size: int = Field(default=512, ge=1, description="Images a step, over all replicas.")


class LinearRefinement(Refinement):
    """The head alone on pseudo-labels, on clean images."""

    epochs: int = Field(default=10, ge=1, description="Passes over the training images.")
    optimizer: Descent = Field(default=Sgd(**REFINEMENT["linear"]["optimizer"]), description="How the weights descend.")


class FullRefinement(Refinement):
    """Everything on pseudo-labels, by TRADES."""

    rules: ClassVar[Rules] = (
        *Stage.rules,
        rules.parts_normalise_as_said,
        pseudo_rules.trades_starts_at_random,
    )
    attack: Attack = Field(description="Attack on the training images.")
    beta: float = Field(default=6.0, gt=0, description="Weight of TRADES' robust term.")
    epochs: int = Field(default=25, ge=1, description="Passes over the training images.")
    optimizer: Descent = Field(default=Sgd(**REFINEMENT["full"]["optimizer"]), description="How the weights descend.")


class Refine(Part):
    """LP-AFT, the "++" of DynACL++ (Luo et al. 2023): the pretrained encoder learns its own clusters, robustly."""

    clusters: int = Field(default=10, ge=2, description="Clusters of the features of pretrained's clean branch.")
    normalise: bool = Field(
        default=False, description="Divide features by their length, to cluster directions; its code does not."
    )
    linear: Annotated[LinearRefinement, refilled("linear")] = Field(
        default=LinearRefinement(), description="First the head alone."
    )
    full: Annotated[FullRefinement, refilled("full")] = Field(description="Then everything, under attack.")


class Finetune(Stage):
    """Learning with labels: F1 to F4 of Chen et al. 2020 are `train` times `how`; SLF, ALF and AFF are presets."""

    model_config = ConfigDict(json_schema_extra=presets_stand_in)
    rules: ClassVar[Rules] = (
        *Stage.rules,
        rules.parts_normalise_as_said,
        preset_is_kept,
        rules.attack_suits_how,
        rules.selection_is_possible,
        rules.start_suits_train,
        rules.start_is_no_slip,
        task_rules.auxiliary_suits_training,
        auxiliary_rules.batch_shows_negatives,
    )
    preset: Literal["slf", "alf", "aff"] | None = Field(
        default=None, description="Gives every value that is not written here: SLF, ALF or AFF; null: none."
    )
    start: Text = Field(description="pretrained, scratch, or the path of an exported encoder.")
    train: Literal["linear", "partial", "full"] = Field(description="What is trained: head, last stages, everything.")
    how: Literal["standard", "adversarial", "trades"] = Field(description="On clean images, attacked ones, or both.")
    attack: Attack | None = Field(default=None, description="Attack on training images; null if standard.")
    beta: float = Field(default=6.0, gt=0, description="Weight of the robust term, for how: trades.")
    auxiliary: Auxiliary | None = Field(default=None, description="A pretext task beside the classes; null: none.")
    boundary: Text | None = Field(default=None, description="Last stage that `partial` freezes; null: last but one.")
    reset_after_boundary: bool = Field(default=False, description="Start with fresh weights after the boundary.")
    freeze_random: bool = Field(
        default=False, description="Let `scratch` be frozen in part: P1 with F1 or F2, a baseline of random features."
    )
    select: Literal["auto", "robust_accuracy", "accuracy"] = Field(
        default="auto", description="Held-out number that picks the model; auto: robust where an attack is given."
    )

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, written: Any) -> Any:
        return filled(written)


class Export(Part):
    """What is handed over at the end."""

    classifier: bool = Field(default=True, description="Write the classifier for TensorFlow Serving.")
    verify: bool = Field(default=True, description="Load what was written and compare its logits.")


class Report(Part):
    """The page that shows the run."""

    title: Text | None = Field(default=None, description="Heading; null: the recipe's name.")
    examples: int = Field(default=8, ge=0, description="Images shown beside their attacked versions.")


class Checkpoint(Part):
    """How often a run is saved, so that it can be killed at any step."""

    every_seconds: float = Field(default=60.0, gt=0, description="Seconds between checkpoints.")
    every_steps: int | None = Field(default=None, ge=1, description="Steps between checkpoints as well; null: any.")
    keep: int = Field(default=2, ge=1, description="Checkpoints kept.")


class Recipe(Part):
    """A run: one YAML file. Saved with every default written, it is what a workdir was made from."""

    rules: ClassVar[Rules] = (
        rules.stages_connect,
        rules.replicas_meet_in_no_loop,
        pseudo_rules.pseudo_stages_connect,
        pseudo_rules.branches_are_trained,
        fitting_rules.boundaries_exist,
        fitting_rules.puzzles_fit,
        fitting_rules.padding_fits,
        fitting_rules.auxiliary_reads_what_is_trained,
        task_rules.input_gradients_do_not_underflow,
        task_rules.average_is_kept,
        contrastive_rules.branches_are_streams,
    )
    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]*$",
        max_length=64,
        description="Names the run: a-z, 0-9, _ and -.",
        examples=["digits"],
    )
    seed: int = Field(ge=0, le=2**31 - 1, description="Everything random follows from it.")
    strategy: Literal["auto", "single", "mirrored", "multi_worker"] = Field(default="auto", description="Devices used.")
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = Field(
        default="float32", description="Keras dtype policy."
    )
    jit_compile: bool = Field(default=False, description="Compile the training step with XLA.")
    data: Data = Field(description="Images and labels.")
    encoder: Network = Field(description="The network that is handed over.")
    pretrain: Pretrain | None = Field(default=None, description="Learning without labels; null: none (P1).")
    cluster: Cluster | None = Field(default=None, description="Pseudo-labels for another training; null: none.")
    refine: Refine | None = Field(default=None, description="Pretrained learns its own clusters; null: no.")
    finetune: Finetune | None = Field(default=None, description="Learning with labels; null: none.")
    evaluate: Evaluate = Field(default=Evaluate(), description="What is measured on the test split.")
    export: Export = Field(default=Export(), description="What is handed over at the end.")
    report: Report = Field(default=Report(), description="The page that shows the run.")
    checkpoint: Checkpoint = Field(default=Checkpoint(), description="How often the run is saved.")

    @property
    def kept_branches(self) -> tuple[str, ...]:
        """The batch-norm branches that later stages read of the pretrained encoder, beside the one handed over."""
        wanted = [self.cluster.branch] if self.cluster is not None and self.cluster.encoder == "pretrained" else []
        wanted += ["clean"] if self.refine is not None else []
        return tuple(branch for branch in self.encoder.branches if branch in wanted)
