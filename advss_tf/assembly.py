"""From the sections of a recipe to the objects they describe: the one place that knows both.

Synopsis:

    data = data_of(recipe)
    encoder = encoder_of(recipe, data.image_shape)
    optimizer = optimizer_of(recipe.pretrain, steps_per_epoch=14)
"""

from __future__ import annotations

from typing import Any

import keras

from advss_tf import config
from advss_tf.attacks import ProjectedGradientDescent, get_threat
from advss_tf.data import ImageData, load_data
from advss_tf.encoders import build_encoder
from advss_tf.errors import InvalidInput
from advss_tf.finetune import JointClassifier, RobustClassifier
from advss_tf.pretext import TASKS
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


def pretext_of(recipe: config.Recipe, encoder: keras.Model) -> RobustModel:
    """The pretext model of a recipe's `pretrain` section, on an encoder."""
    part = section(recipe, "pretrain")
    options = part.task.model_dump()
    return TASKS[options.pop("kind")](encoder, seed=recipe.seed, **_attacks(part), **options)


def probes_of(part: config.Pretrain, data: ImageData) -> tuple[KNNProbe, ...]:
    """The probe of a section `pretrain`, on the label budget and the held-out images; none where it says null."""
    if part.probe is None:
        return ()
    options = part.probe.model_dump(include={"k", "temperature"})
    bank = data.labelled(limit=part.probe.max_images)
    return (KNNProbe(bank, data.held_out(), every=part.probe.every_epochs, epochs=part.epochs, **options),)


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
    auxiliary = TASKS[task.pop("kind")](encoder, seed=recipe.seed, **task)
    options |= part.model_dump(include={"train", "boundary"})
    return JointClassifier(encoder, num_classes, auxiliary=auxiliary, seed=recipe.seed, **_attacks(part), **options)


def optimizer_of(part: config.Stage, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """The optimizer of a training section, its schedule counted in steps."""
    options = part.optimizer.model_dump(exclude={"schedule"})
    kind, momentum = options.pop("kind"), options.pop("ema_momentum")
    options["learning_rate"] = _schedule(part, steps_per_epoch)
    if momentum is not None:
        options |= {"use_ema": True, "ema_momentum": momentum}
    return {"sgd": SGD, "adamw": AdamW, "lars": LARS}[kind](**options)


def section(recipe: config.Recipe, name: str) -> Any:
    """The recipe's section `pretrain` or `finetune`.

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
