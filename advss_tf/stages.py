"""The stages of a run, each from files to files: pretrain → finetune → evaluate → export → report.

Synopsis:

    result = STAGES["pretrain"](here)            # `here`: recipe, folder, data, devices, screen; see runner.py

Training stages that were killed go on from their last checkpoint. What a stage returns is written into its `done.json`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from advss_tf import assembly, config
from advss_tf.data import ImageData
from advss_tf.encoders import boundary, load_encoder, reset_after
from advss_tf.errors import InvalidInput
from advss_tf.evaluation import load_model_for_evaluation, load_record, write_report
from advss_tf.measuring import measure
from advss_tf.screen import Screen
from advss_tf.serving import export_classifier, export_encoder, verify_export
from advss_tf.training.callbacks import read_history
from advss_tf.training.loop import Saving, Trained, train
from advss_tf.training.strategy import get_strategy, is_chief
from advss_tf.workdir import Workdir


class Run(NamedTuple):
    """What every stage is given."""

    recipe: config.Recipe
    workdir: Workdir
    data: ImageData
    strategy: tf.distribute.Strategy
    screen: Screen


def pretrain(here: Run) -> dict[str, Any]:
    """Learns without labels, and hands the encoder over as a SavedModel."""
    recipe, data, part = here.recipe, here.data, assembly.section(here.recipe, "pretrain")
    steps = data.steps_per_epoch(part.batch_size, "unlabelled")
    with here.strategy.scope():
        model = assembly.pretext_of(recipe, assembly.encoder_of(recipe, data.image_shape))
        model.compile(assembly.optimizer_of(part, steps), jit_compile=recipe.jit_compile)
    monitor = "val_robust_accuracy" if model.eval_attack else "val_accuracy"
    picked = _train(here, "pretrain", model, data.unlabelled, steps, monitor, assembly.probes_of(part, data))
    result = {**_measured(here, model), "epoch": picked.epoch}
    if is_chief(here.strategy):
        pretext = {**result, **getattr(model, "provenance", {})}
        export_encoder(model, here.workdir.encoder, provenance=_provenance(here, pretext=pretext))
    return result


def finetune(here: Run) -> dict[str, Any]:
    """Learns from labels, on top of what pretraining handed over, or from scratch."""
    recipe, data, part = here.recipe, here.data, assembly.section(here.recipe, "finetune")
    if data.num_classes is None:
        raise InvalidInput("Finetuning needs labels.", expected="labelled images", received=f"data {data.name!r}")
    steps = data.steps_per_epoch(part.batch_size, "train")
    with here.strategy.scope():
        model = assembly.classifier_of(recipe, _starting_encoder(here), data.num_classes)
        model.compile(assembly.optimizer_of(part, steps), jit_compile=recipe.jit_compile)
    select = part.select
    if select == "auto":
        select = "robust_accuracy" if model.eval_attack else "accuracy"
    picked = _train(here, "finetune", model, data.train, steps, f"val_{select}")
    result = {**_measured(here, model), "epoch": picked.epoch}
    if is_chief(here.strategy):
        _save_model(model, here.workdir.classifier)
    return result


def evaluate_stage(here: Run) -> dict[str, Any]:
    """Measures the classifier on the test split: the only stage that reads it."""
    path = _needed(here, here.workdir.classifier, "finetune")
    # One worker of a cluster evaluates, and its strategy would wait for the others.
    mirrored = isinstance(here.strategy, tf.distribute.MirroredStrategy)
    strategy = here.strategy if mirrored else get_strategy("single")
    with strategy.scope():
        model, _ = load_model_for_evaluation(path)
    written = measure(model, here.recipe, here.workdir, here.data, strategy=strategy, say=here.screen.say)
    return {"records": [str(file.relative_to(here.workdir.root)) for file in written]}


def export(here: Run) -> dict[str, Any]:
    """Writes the classifier for TF Serving, and proves that it serves what was trained."""
    model = keras.models.load_model(_needed(here, here.workdir.classifier, "finetune"))
    export_classifier(
        model,
        here.workdir.served,
        class_names=here.data.class_names,
        provenance=_provenance(here, finetuned=here.workdir.finished("finetune")),
    )
    if not here.recipe.export.verify:
        return {}
    images = next(iter(here.data.held_out(16)))[0].numpy()
    expected = model.logits(tf.constant(images), training=False).numpy()
    return verify_export(here.workdir.served, images=images, expected=expected)


def report(here: Run) -> dict[str, Any]:
    """Writes the page that shows the run."""
    _needed(here, here.workdir.record, "evaluate")
    histories = {name: read_history(here.workdir.stage(name) / "history.jsonl") for name in ("pretrain", "finetune")}
    title = here.recipe.report.title or here.recipe.name
    page = write_report(
        [load_record(path) for path in here.workdir.records()],
        here.workdir.report,
        title=title,
        histories={name: lines for name, lines in histories.items() if lines},
        max_examples=here.recipe.report.examples,
    )
    return {"page": str(Path(page).relative_to(here.workdir.root))}


STAGES: dict[str, Callable[[Run], dict[str, Any]]] = {
    "pretrain": pretrain,
    "finetune": finetune,
    "evaluate": evaluate_stage,
    "export": export,
    "report": report,
}


def _train(
    here: Run,
    stage: str,
    model: keras.Model,
    batches: Callable[..., tf.data.Dataset],
    steps: int,
    monitor: str,
    probes: Sequence[keras.callbacks.Callback] = (),
) -> Trained:
    part, folder = getattr(here.recipe, stage), here.workdir.stage(stage)
    chance = f", chance {100 * model.chance:.3g} %" if hasattr(model, "chance") else ""
    here.screen.say(
        f"{stage}: {model.name}{chance}, {part.epochs} epochs of {steps} steps of {part.batch_size} images, "
        f"on {here.strategy.num_replicas_in_sync} replica(s)"
    )

    def make_dataset(**which: Any) -> tf.data.Dataset:
        return batches(part.batch_size, seed=here.recipe.seed, **which)

    with here.screen.bar(stage, total=part.epochs * steps) as advance:
        return train(
            model, make_dataset,
            steps_per_epoch=steps, epochs=part.epochs, batch_size=part.batch_size, folder=folder,
            validation=here.data.held_out(), monitor=monitor, probes=probes,
            saving=Saving(**here.recipe.checkpoint.model_dump()), say=here.screen.say, advance=advance,
        )  # fmt: skip


def _starting_encoder(here: Run) -> keras.Model:
    recipe, part = here.recipe, assembly.section(here.recipe, "finetune")
    if part.start == "scratch":
        return assembly.encoder_of(recipe, here.data.image_shape)
    path = _needed(here, here.workdir.encoder, "pretrain") if part.start == "pretrained" else Path(part.start)
    encoder = load_encoder(path)
    if part.reset_after_boundary:
        encoder = reset_after(encoder, part.boundary or boundary(encoder))
    return encoder


def _measured(here: Run, model: keras.Model) -> dict[str, Any]:
    """The picked model on the held-out images."""
    logs = model.evaluate(here.data.held_out(), verbose=0, return_dict=True)
    return {name: float(value) for name, value in logs.items()}


def _provenance(here: Run, **results: Any) -> dict[str, Any]:
    data = {"name": here.data.name, "fingerprint": here.data.fingerprint}
    return {"recipe": config.dump_recipe(here.recipe), "seed": here.recipe.seed, "data": data, **results}


def _save_model(model: keras.Model, path: Path) -> None:
    partial = path.with_name(f".partial.{path.name}")
    model.save(partial)
    shutil.move(partial, path)


def _needed(here: Run, path: Path, stage: str) -> Path:
    """`path`, if the stage that makes it has been run.

    Raises:
        InvalidInput: otherwise.
    """
    if here.workdir.finished(stage) is None or not path.exists():
        raise InvalidInput(
            f"A stage needs what `{stage}` makes, and {here.workdir.root} does not hold it.",
            expected=f"{path.relative_to(here.workdir.root)}; run with --stages {stage} first, or without --stages",
            received="nothing there",
        )
    return path
