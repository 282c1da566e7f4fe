"""From the sections of a recipe to the objects they describe: the one place that knows both.

Synopsis:

    data = data_of(recipe)
    encoder = encoder_of(recipe, data.image_shape)
    optimizer = optimizer_of(recipe.pretrain, steps_per_epoch=14)
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from advss_tf import config
from advss_tf.attacks import ProjectedGradientDescent, get_threat
from advss_tf.config.auxiliary_rules import learns
from advss_tf.config.contrastive_rules import WITH_NEGATIVES
from advss_tf.data import ImageData, PseudoLabels, load_data
from advss_tf.encoders import boundary, branches, build_encoder, reset_after
from advss_tf.errors import InvalidInput
from advss_tf.finetune import JointClassifier, RobustClassifier
from advss_tf.outside import digest_of, learned_outside, origin_of
from advss_tf.pretext import CONTRASTIVE, TASKS
from advss_tf.training import LARS, SGD, AdamW, KNNProbe, Piecewise, RobustModel, cosine


def data_of(recipe: config.Recipe) -> ImageData:
    """The images that a recipe names, split and budgeted by its seed."""
    return load_data(seed=recipe.seed, **recipe.data.model_dump())


def encoder_of(recipe: config.Recipe, image_shape: tuple[int, int, int]) -> keras.Model:
    """The network that a recipe names, with fresh weights from its seed."""
    options = {name: value for name, value in recipe.encoder.model_dump().items() if value is not None}
    return build_encoder(options.pop("kind"), image_shape, seed=recipe.seed, **options)


def attack_of(part: config.Attack | None) -> ProjectedGradientDescent | None:
    """The attack of a section; None where the recipe says null."""
    if part is None:
        return None
    options = part.model_dump()
    return ProjectedGradientDescent(get_threat(options.pop("norm"), options.pop("epsilon")), **options)


def pretraining_data(recipe: config.Recipe, data: ImageData) -> ImageData:
    """The images as pretraining augments them: mirrored and shifted as `pretrain` says, else as `data` says."""
    part = section(recipe, "pretrain")
    said = {name: getattr(part, name) for name in config.AUGMENTATION if getattr(part, name) is not None}
    return dataclasses.replace(data, **said)


def pretext_of(recipe: config.Recipe, encoder: keras.Model, data: ImageData) -> RobustModel:
    """The pretext model of a recipe's `pretrain` section, on an encoder, for these images.

    Raises:
        InvalidInput: if the teacher or the pseudo-labels that the recipe names are missing or of other images.
    """
    part, data = section(recipe, "pretrain"), pretraining_data(recipe, data)
    options = part.task.model_dump()
    kind = options.pop("kind")
    if kind in CONTRASTIVE:
        options |= {"crop_padding": data.crop_padding, "flip": data.flip}
    if options.get("annealing") is not None:
        steps = data.steps_per_epoch(part.batch_size, "unlabelled")
        options["annealing"] |= {"epochs": part.epochs, "steps_per_epoch": steps}
    if "pseudo_labels" in options:
        del options["pseudo_labels"]
        pseudo = pseudo_labels_of(recipe, data)
        options["pseudo_sizes"] = () if pseudo is None else pseudo.sizes
    return TASKS[kind](encoder, seed=recipe.seed, **_attacks(part), **options)


def pseudo_labels_of(recipe: config.Recipe, data: ImageData) -> PseudoLabels | None:
    """The pseudo-labels that a recipe's pretraining learns from; None if it names none.

    Raises:
        InvalidInput: if there is no such file, it is damaged, or its labels are of other images.
    """
    path = getattr(section(recipe, "pretrain").task, "pseudo_labels", None)
    if path is None:
        return None
    pseudo = PseudoLabels.load(path)
    pseudo.of(data)
    return pseudo


def batches_of(recipe: config.Recipe, model: RobustModel, data: ImageData) -> Callable[..., tf.data.Dataset]:
    """`data.unlabelled` as a pretext model wants it: images, or views of them, and pseudo-labels if it has heads."""
    pseudo = pseudo_labels_of(recipe, data)
    options: dict[str, Any] = {} if pseudo is None else {"pseudo_labels": pseudo.of(data)}
    if hasattr(model, "views"):
        options |= {"views": model.views, "strength": model.strength}
    return functools.partial(pretraining_data(recipe, data).unlabelled, **options)


def external_of_pretraining(recipe: config.Recipe, data: ImageData) -> str | None:
    """In words, what outside its images a pretraining learned from, by its pseudo-labels or its teacher; or None."""
    pseudo, teacher = pseudo_labels_of(recipe, data), getattr(section(recipe, "pretrain").task, "teacher", None)
    if teacher is not None:
        return learned_outside(origin_of(teacher), data, "its teacher")
    return None if pseudo is None else pseudo.external


def taught_by(recipe: config.Recipe, data: ImageData) -> dict[str, str]:
    """Digests of the files that a pretraining learns from beside its images, by the key of the recipe that names them.

    Raises:
        InvalidInput: if one is missing, damaged or of other images.
    """
    pseudo, teacher = pseudo_labels_of(recipe, data), getattr(section(recipe, "pretrain").task, "teacher", None)
    found = {} if pseudo is None else {"pseudo_labels": pseudo.digest}
    return found if teacher is None else {**found, "teacher": digest_of(teacher)}


def probes_of(part: config.Pretrain, data: ImageData) -> tuple[KNNProbe, ...]:
    """The probe of a section `pretrain`, on the label budget and the held-out images; none where it says null."""
    if part.probe is None:
        return ()
    options = part.probe.model_dump(include={"k", "temperature"})
    bank = data.labelled(limit=part.probe.max_images)
    return (KNNProbe(bank, data.held_out(), every=part.probe.every_epochs, epochs=part.epochs, **options),)


def check_batch(recipe: config.Recipe, data: ImageData, name: str = "pretrain") -> None:
    """Refuses a contrastive training whose every batch holds an image twice, which would be its own negative.

    A batch across the border of two epochs, with r images of one and B - r of the other, still holds r (B - r) / n of n
    images twice in the mean: at most 1.3 of 49,000 images in batches of 512.

    Args:
        recipe: The recipe.
        data: Its images.
        name: The training: `"pretrain"`, or `"finetune"`, whose images are those with labels.

    Raises:
        InvalidInput: if the batch is larger than the images to train on.
    """
    part = section(recipe, name)
    images, asked = data.num_train, getattr(part, "task", None)
    if name == "finetune":
        images, asked = data.num_labelled, part.auxiliary.task if learns(part.auxiliary) else None
    if asked is not None and asked.kind in WITH_NEGATIVES and part.batch_size > images:
        raise InvalidInput(
            "A batch would hold an image twice, and the loss take it for another one.",
            expected=f"{name}.batch_size of at most {images}, the images to train on",
            received=f"batch_size={part.batch_size}",
        )


def check_probe(recipe: config.Recipe, data: ImageData) -> None:
    """Refuses a probe of more neighbours than there are labelled images that it looks at.

    Raises:
        InvalidInput: if there are fewer.
    """
    probe = section(recipe, "pretrain").probe
    if probe is None:
        return
    found = min(data.num_labelled, probe.max_images or data.num_labelled)
    if probe.k > found:
        raise InvalidInput(
            "The probe looks for more neighbours than there are labelled images.",
            expected=f"pretrain.probe.k of at most {found}, or probe: null",
            received=f"k={probe.k}",
        )


def num_classes_of(data: ImageData) -> int:
    """The number of classes that finetuning learns.

    Raises:
        InvalidInput: if the images have no labels.
    """
    if data.num_classes is None:
        raise InvalidInput("Finetuning needs labels.", expected="labelled images", received=f"data {data.name!r}")
    return data.num_classes


def as_it_starts(recipe: config.Recipe, encoder: keras.Model) -> keras.Model:
    """An encoder that has learned something, as the `finetune` section starts from it: reset in part if it says so.

    Raises:
        InvalidInput: if the encoder has no such boundary.
    """
    part = section(recipe, "finetune")
    return reset_after(encoder, part.boundary or boundary(encoder)) if part.reset_after_boundary else encoder


def classifier_of(recipe: config.Recipe, encoder: keras.Model, num_classes: int) -> RobustModel:
    """The classifier of a recipe's `finetune` section, on an encoder."""
    part = section(recipe, "finetune")
    if part.auxiliary is not None:
        return _joint_of(recipe, encoder, num_classes)
    options = part.model_dump(include={"train", "how", "beta", "boundary"})
    return RobustClassifier(encoder, num_classes, seed=recipe.seed, **_attacks(part), **options)


def _joint_of(recipe: config.Recipe, encoder: keras.Model, num_classes: int) -> JointClassifier:
    part = section(recipe, "finetune")
    task, options = part.auxiliary.task.model_dump(), part.auxiliary.model_dump(exclude={"task"})
    kind = task.pop("kind")
    if kind in CONTRASTIVE:
        # Views of the images as training brings them; beside the classes the streams are all that the encoder has.
        augmentation = {name: getattr(recipe.data, name) for name in config.AUGMENTATION}
        task |= {**augmentation, "streams": branches(encoder) or ("clean",)}
    auxiliary = TASKS[kind](encoder, seed=recipe.seed, **task)
    options |= part.model_dump(include={"train", "boundary"})
    return JointClassifier(encoder, num_classes, auxiliary=auxiliary, seed=recipe.seed, **_attacks(part), **options)


def refiners_of(
    recipe: config.Recipe, frozen: keras.Model, trained: keras.Model
) -> tuple[RobustClassifier, RobustClassifier]:
    """The two classifiers of a recipe's `refine` section: the head alone on one encoder, everything on another."""
    part = section(recipe, "refine")
    # The head learns on clean images, and is picked by clean accuracy.
    linear = RobustClassifier(
        frozen, part.clusters, train="linear", how="standard", seed=recipe.seed, name="linear",
        eval_attack=attack_of(part.linear.eval_attack),
    )  # fmt: skip
    full = RobustClassifier(
        trained, part.clusters, train="full", how="trades", beta=part.full.beta, seed=recipe.seed, name="full",
        **_attacks(part.full),
    )  # fmt: skip
    return linear, full


def optimizer_of(part: config.Stage, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """The optimizer of a training section, its schedule counted in steps."""
    options = part.optimizer.model_dump(exclude={"schedule"})
    kind, momentum = options.pop("kind"), options.pop("ema_momentum")
    options["learning_rate"] = _schedule(part, steps_per_epoch)
    if momentum is not None:
        options |= {"use_ema": True, "ema_momentum": momentum}
    return {"sgd": SGD, "adamw": AdamW, "lars": LARS}[kind](**options)


def section(recipe: config.Recipe, name: str) -> Any:
    """A section of the recipe that may be null, such as `pretrain` or `finetune`.

    Raises:
        InvalidInput: if the recipe says null.
    """
    part = getattr(recipe, name)
    if part is None:
        raise InvalidInput(f"The recipe has no `{name}`.", expected=f"a section `{name}`", received=f"{name}: null")
    return part


def _attacks(part: Any) -> dict[str, Any]:
    return {
        "attack": attack_of(part.attack),
        "eval_attack": "attack" if part.eval_attack is None else attack_of(part.eval_attack),
    }


def _schedule(part: config.Stage, steps_per_epoch: int) -> Any:
    schedule, rate = part.optimizer.schedule, part.optimizer.learning_rate
    if schedule.kind == "constant":
        return rate
    warmup = round(schedule.warmup_epochs * steps_per_epoch)
    if schedule.kind == "cosine":
        num_steps = part.epochs * steps_per_epoch
        return cosine(rate, num_steps=num_steps, warmup_steps=warmup, final_learning_rate=schedule.final_learning_rate)
    boundaries = [epoch * steps_per_epoch for epoch in schedule.milestones]
    return Piecewise(rate, boundaries=boundaries, factor=schedule.factor, warmup_steps=warmup)
