"""The conditions between the fields of a recipe: each takes a section and yields a `Fault` for each thing wrong.

Synopsis:

    class Attack(Part):
        rules = (rules.step_fits_the_ball,)

A rule sees a section whose fields are right by themselves, and says only what a recipe alone can tell: what depends on
the data (more labels than images, fewer classes than two) is refused where the data are read. Paths are relative to
the section.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .auxiliary_rules import learns
from .contrastive_rules import WITH_NEGATIVES
from .parts import Fault, write_pixels

if TYPE_CHECKING:
    from . import evaluation, kinds, schema

DIGITS_IMAGES = 1797
"""Images that scikit-learn's digits hold."""
DIGITS_RAREST_CLASS = 174
"""Images of the digit that scikit-learn's digits hold the fewest of, the eight."""


def one_label_budget(data: kinds.Source) -> Iterator[Fault]:
    """The labels are limited by a count or by a fraction, not by both."""
    if data.labels_per_class is not None and data.label_fraction is not None:
        received = f"labels_per_class={data.labels_per_class}, label_fraction={data.label_fraction}"
        yield Fault("label_fraction", "cannot be given with `labels_per_class`", "one of the two", received)


def digits_hold_enough(data: kinds.Digits) -> Iterator[Fault]:
    """There are 1797 digits, and 174 of the rarest class: the one data set whose size a recipe can know."""
    images = min(data.train_limit or DIGITS_IMAGES, DIGITS_IMAGES)
    if data.train_limit is not None and data.train_limit > DIGITS_IMAGES:
        received = f"train_limit={data.train_limit}"
        yield Fault("train_limit", "is more than there are digits", f"at most {DIGITS_IMAGES}", received)
    most = min(DIGITS_RAREST_CLASS, images // 10)
    if data.labels_per_class is not None and data.labels_per_class > most:
        received = f"labels_per_class={data.labels_per_class}"
        yield Fault("labels_per_class", "is more than there are images of a digit", f"at most {most}", received)


def normalisation_is_whole(encoder: kinds.Encoder) -> Iterator[Fault]:
    """The mean and the standard deviation are given together, one of each per channel; no deviation is zero."""
    mean, std = encoder.mean, encoder.std
    if (mean is None) != (std is None):
        given, other = ("mean", "std") if std is None else ("std", "mean")
        yield Fault(other, f"is missing beside `{given}`", "both `mean` and `std`, or neither", f"{other}=null")
    elif mean is not None and std is not None and len(mean) != len(std):
        expected = f"{len(mean)} entries, as `mean` has"
        yield Fault("std", "must have one entry per entry of `mean`", expected, f"std={list(std)}")
    if std is not None and min(std, default=1.0) <= 0:
        yield Fault("std", "must be positive", "numbers > 0", f"std={list(std)}")


def depth_is_wide_resnet(encoder: kinds.WideResnet) -> Iterator[Fault]:
    """A wide residual network has 6n + 4 layers."""
    if encoder.depth % 6 != 4:
        expected = "6n + 4 layers, as 10, 16, 22, 28, 34 or 40"
        yield Fault("depth", "is not the depth of a wide residual network", expected, f"depth={encoder.depth}")


def milestones_increase(schedule: kinds.Piecewise) -> Iterator[Fault]:
    """The milestones increase, and the warm-up is over before the first."""
    milestones = list(schedule.milestones)
    if milestones != sorted(set(milestones)):
        yield Fault("milestones", "must increase", "epochs in increasing order", f"milestones={milestones}")
    elif schedule.warmup_epochs > milestones[0]:
        expected = f"at most {milestones[0]}, the first milestone"
        received = f"warmup_epochs={schedule.warmup_epochs:g}"
        yield Fault("warmup_epochs", "must be over before the first milestone", expected, received)


def rate_falls(optimizer: kinds.Optimizer) -> Iterator[Fault]:
    """A cosine schedule ends at or below the rate that it starts from."""
    final = getattr(optimizer.schedule, "final_learning_rate", 0.0)
    if final > optimizer.learning_rate:
        expected, received = f"at most learning_rate={optimizer.learning_rate:g}", f"final_learning_rate={final:g}"
        yield Fault("schedule.final_learning_rate", "must not be above `learning_rate`", expected, received)


def nesterov_has_momentum(optimizer: kinds.Sgd | kinds.Lars) -> Iterator[Fault]:
    """Without momentum Nesterov's variant would silently do nothing."""
    if optimizer.nesterov and optimizer.momentum == 0:
        yield Fault("nesterov", "needs momentum", "momentum > 0, or nesterov: false", "nesterov=true, momentum=0")


def balls(section: schema.Attack | evaluation.Evaluate) -> dict[str, float]:
    """The radii of a section by the name of their field: an attack has one ball, an evaluation several."""
    one = getattr(section, "epsilon", None)
    several = {f"epsilons[{index}]": epsilon for index, epsilon in enumerate(getattr(section, "epsilons", ()))}
    return several if one is None else {"epsilon": one}


def ball_fits_pixels(section: schema.Attack | evaluation.Evaluate) -> Iterator[Fault]:
    """Pixels lie in [0, 1]: a larger L-inf ball most likely was meant in 0 to 255."""
    for path, epsilon in balls(section).items():
        if section.norm == "linf" and epsilon > 1:
            expected = "at most 1, as pixels lie in [0, 1]; 8 grey levels are 8/255"
            yield Fault(path, "is wider than the pixels", expected, f"{path}={write_pixels(epsilon)}")


def step_fits_the_ball(section: schema.Attack | evaluation.Evaluate) -> Iterator[Fault]:
    """A step larger than the ball leaves it at once; an evaluation's ball of radius 0 is the clean images."""
    several = hasattr(section, "epsilons")
    smallest = min((epsilon for epsilon in balls(section).values() if epsilon or not several), default=0.0)
    if section.step_size is not None and section.step_size > smallest:
        expected = f"at most epsilon={write_pixels(smallest)}, or null for 2.5 * epsilon / num_steps"
        received = f"step_size={write_pixels(section.step_size)}"
        yield Fault("step_size", "must not be larger than the ball", expected, received)


def restarts_differ(attack: schema.Attack) -> Iterator[Fault]:
    """Without a random start every restart is the same attack again."""
    if attack.num_restarts > 1 and not attack.random_start:
        expected, received = "num_restarts: 1, or random_start: true", f"num_restarts={attack.num_restarts}"
        yield Fault("num_restarts", "needs a random start, else every restart is the same", expected, received)


def nothing_twice(
    section: evaluation.Evaluate | evaluation.Unseen | evaluation.Corruptions | schema.Cluster,
) -> Iterator[Fault]:
    """A column of the report appears once, and a number of clusters."""
    for name in ("epsilons", "num_steps", "severities", "unforeseen", "sizes"):
        values = list(getattr(section, name, None) or ())
        if len(set(values)) < len(values):
            yield Fault(name, "lists a value twice", "each value once", f"{name}={values}")


def unseen_norm(evaluate: evaluation.Evaluate) -> Iterator[Fault]:
    """The same norm twice would be two records of one thing: its radii are listed together."""
    if evaluate.unseen is not None and evaluate.unseen.norm == evaluate.norm:
        other = "l2" if evaluate.norm == "linf" else "linf"
        expected = f"unseen.norm: {other}; radii of the same norm go into evaluate.epsilons"
        yield Fault(
            "unseen.norm", "is the norm that is evaluated anyway", expected, f"unseen.norm={evaluate.unseen.norm}"
        )


def schedule_fits_epochs(stage: schema.Stage) -> Iterator[Fault]:
    """The milestones and the warm-up of a schedule lie before the last epoch ends."""
    schedule, path = stage.optimizer.schedule, "optimizer.schedule"
    milestones = list(getattr(schedule, "milestones", ()))
    if milestones and milestones[-1] >= stage.epochs:
        expected, received = f"epochs below epochs={stage.epochs}", f"milestones={milestones}"
        yield Fault(f"{path}.milestones", "must lie before the last epoch ends", expected, received)
    warmup = getattr(schedule, "warmup_epochs", 0)
    if warmup and warmup >= stage.epochs:
        expected, received = f"below epochs={stage.epochs}", f"warmup_epochs={warmup:g}"
        yield Fault(f"{path}.warmup_epochs", "must be shorter than the stage", expected, received)


def attack_suits_how(finetune: schema.Finetune) -> Iterator[Fault]:
    """Standard training has no attack; the other two cannot do without."""
    attacked, how = finetune.attack is not None, finetune.how
    if how == "standard" and attacked:
        expected = "null (`eval_attack` measures robustness on the way), or how: adversarial or trades"
        yield Fault("attack", "must be null when `how` is standard", expected, "attack={...}")
    if how != "standard" and not attacked:
        yield Fault("attack", f"is missing, and `how` is {how}", "an attack, or how: standard", "attack=null")


def parts_share_the_batch(stage: schema.Stage) -> Iterator[Fault]:
    """Every part of a batch has as many images."""
    if stage.batch_size % stage.micro_batches:
        received = f"micro_batches={stage.micro_batches}, batch_size={stage.batch_size}"
        yield Fault("micro_batches", "cannot share the batch evenly", "a divisor of batch_size", received)


def parts_normalise_as_said(stage: schema.Pretrain | schema.FullRefinement | schema.Finetune) -> Iterator[Fault]:
    """Every network of a recipe has batch norm, which normalises a part of a batch by itself where it is trained.

    A frozen network uses the running statistics. Of one that is loaded from elsewhere the training itself will look.
    """
    frozen = getattr(stage, "train", "full") == "linear"
    elsewhere = getattr(stage, "start", "pretrained") not in ("pretrained", "scratch")
    auxiliary = getattr(stage, "auxiliary", None)
    task = auxiliary.task if auxiliary is not None and learns(auxiliary) else getattr(stage, "task", None)
    compared = getattr(task, "kind", None) in WITH_NEGATIVES  # which has a fault of its own
    if stage.micro_batches > 1 and stage.micro_batch_norm is None and not (frozen or elsewhere or compared):
        received = f"micro_batches={stage.micro_batches}, micro_batch_norm=null"
        expected = "1, or micro_batch_norm: per_part, which accepts that; train: linear is exact"
        yield Fault("micro_batches", "would normalise each part of a batch by itself", expected, received)


def replicas_meet_in_no_loop(recipe: schema.Recipe) -> Iterator[Fault]:
    """Replicas meet in synchronised batch norm, and cannot inside a loop, of an attack or over the parts of a batch."""
    if not recipe.encoder.synchronized:
        return
    refined = None if recipe.refine is None else recipe.refine.full
    stages: dict[str, Any] = {"pretrain": recipe.pretrain, "finetune": recipe.finetune, "refine.full": refined}
    for name, stage in stages.items():
        if stage is None or getattr(stage, "train", "full") == "linear":
            continue
        for attack in ("attack", "eval_attack"):
            if getattr(getattr(stage, attack), "batch_norm", None) == "training":
                expected = "inference, or encoder.synchronized: false"
                received = "batch_norm='training', encoder.synchronized=true"
                yield Fault(f"{name}.{attack}.batch_norm", "lets replicas meet in a loop", expected, received)
        if stage.micro_batches > 1:
            received = f"micro_batches={stage.micro_batches}, encoder.synchronized=true"
            expected = "1, or encoder.synchronized: false"
            yield Fault(f"{name}.micro_batches", "lets replicas meet in a loop", expected, received)


def selection_is_possible(finetune: schema.Finetune) -> Iterator[Fault]:
    """Robust accuracy needs an attack to be measured with."""
    if finetune.select == "robust_accuracy" and finetune.attack is None and finetune.eval_attack is None:
        expected = "an `eval_attack`, or select: accuracy"
        yield Fault("select", "needs an attack to measure robust accuracy", expected, "select='robust_accuracy'")


def start_suits_train(finetune: schema.Finetune) -> Iterator[Fault]:
    """Weights that nobody trained are not frozen, unless the recipe says that this is what is to be measured."""
    start, train = finetune.start, finetune.train
    if start == "scratch" and train != "full" and not finetune.freeze_random:
        expected = "train: full, a start that has learned something, or freeze_random: true for the baseline"
        yield Fault("train", "would freeze random weights", expected, f"train={train!r}, start={start!r}")
    if train == "linear" and finetune.reset_after_boundary:
        expected = "reset_after_boundary: false, or train: partial or full"
        received = "reset_after_boundary=true, train='linear'"
        yield Fault("reset_after_boundary", "would freeze random weights", expected, received)


def start_is_no_slip(finetune: schema.Finetune) -> Iterator[Fault]:
    """Any other word is a path, so a slip such as `pretrain` would otherwise be looked for on the disk."""
    words = ("pretrained", "scratch")
    near = difflib.get_close_matches(finetune.start, words, n=1, cutoff=0.75)
    if near and finetune.start.isalpha() and finetune.start not in words:
        expected = f"one of {list(words)}, or a path ('./{finetune.start}' for a folder of that name)"
        yield Fault("start", f"is not known (did you mean {near[0]!r}?)", expected, f"start={finetune.start!r}")


def stages_connect(recipe: schema.Recipe) -> Iterator[Fault]:
    """There is something to do, and what finetuning starts from exists."""
    if recipe.pretrain is None and recipe.finetune is None and recipe.cluster is None:
        received = "pretrain=null, finetune=null"
        yield Fault("pretrain", "leaves nothing to do", "`pretrain`, `finetune` or both", received)
    if recipe.pretrain is None and recipe.finetune is not None and recipe.finetune.start == "pretrained":
        expected = "a `pretrain` section, start: scratch, or the path of an exported encoder"
        received = "start='pretrained', pretrain=null"
        yield Fault("finetune.start", "has no pretraining to start from", expected, received)
