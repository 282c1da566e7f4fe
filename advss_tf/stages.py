"""The stages of a run, each from files to files: pretrain → cluster → refine → finetune → evaluate → export → report.

Synopsis:

    result = STAGES["pretrain"](here)            # `here`: recipe, folder, data, devices, screen; see runner.py

Training stages that were killed go on from their last checkpoint. What a stage returns is written into its `done.json`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from advss_tf import assembly
from advss_tf.encoders import load_encoder
from advss_tf.evaluation import load_model_for_evaluation, load_record, write_report
from advss_tf.measuring import measure
from advss_tf.outside import learned_outside, origin_of
from advss_tf.refining import cluster, refine
from advss_tf.serving import export_classifier, export_encoder, verify_export
from advss_tf.staging import (
    Run,
    external_of,
    hold_to,
    measured,
    needed,
    pretrained,
    provenance_of,
    training,
    warn_of_memory,
    warn_of_rims,
)
from advss_tf.training.callbacks import read_history
from advss_tf.training.strategy import is_chief, local_strategy

_TRAININGS = ("pretrain", "refine/linear", "refine/full", "finetune")


def pretrain(here: Run) -> dict[str, Any]:
    """Learns without labels, and hands the encoder over as a SavedModel."""
    recipe, data, part = here.recipe, here.data, assembly.section(here.recipe, "pretrain")
    steps, taught_by = data.steps_per_epoch(part.batch_size, "unlabelled"), assembly.taught_by(recipe, data)
    external = assembly.external_of_pretraining(recipe, data)
    hold_to(here, "pretrain", taught_by)
    with here.strategy.scope():
        model = assembly.pretext_of(recipe, assembly.encoder_of(recipe, data.image_shape), data)
        model.compile(assembly.optimizer_of(part, steps), jit_compile=recipe.jit_compile)
    warn_of_memory(here, model, part.batch_size)
    warn_of_rims(here, "pretrain", model, assembly.pretraining_data(recipe, data).crop_padding)
    picked = training(
        here, "pretrain", model, assembly.batches_of(recipe, model, data),
        part=part, steps=steps, monitor=_monitor(model), probes=assembly.probes_of(part, data),
    )  # fmt: skip
    result = {**measured(here, model), "epoch": picked.epoch}
    if is_chief(here.strategy):
        pretext = {**result, **getattr(model, "provenance", {})}
        more = {"taught_by": taught_by} if taught_by else {}
        provenance = provenance_of(here, external=external, pretext=pretext, **more)
        for branch in set(recipe.kept_branches) - {model.delivered_branch}:
            export_encoder(model, here.workdir.kept_encoder(branch), branch=branch, provenance=provenance)
        export_encoder(model, here.workdir.encoder, provenance=provenance)
    return result


def finetune(here: Run) -> dict[str, Any]:
    """Learns from labels, on top of what pretraining handed over, or from scratch."""
    recipe, data, part = here.recipe, here.data, assembly.section(here.recipe, "finetune")
    classes = assembly.num_classes_of(data)
    steps = data.steps_per_epoch(part.batch_size, "train")
    start = _start(here)
    with here.strategy.scope():
        model = assembly.classifier_of(recipe, _starting_encoder(here, start), classes)
        model.compile(assembly.optimizer_of(part, steps), jit_compile=recipe.jit_compile)
    warn_of_memory(here, model, part.batch_size)
    warn_of_rims(here, "finetune", model, data.crop_padding)
    select = part.select
    if select == "auto":
        select = "robust_accuracy" if model.eval_attack else "accuracy"
    picked = training(here, "finetune", model, data.train, part=part, steps=steps, monitor=f"val_{select}")
    external = None if start is None else learned_outside(origin_of(start), data, "the encoder that it started from")
    result = {**measured(here, model), "epoch": picked.epoch, **({} if external is None else {"external": external})}
    if is_chief(here.strategy):
        _save_model(model, here.workdir.classifier)
    return result


def evaluate_stage(here: Run) -> dict[str, Any]:
    """Measures the classifier on the test split: the only stage that reads it."""
    path = needed(here, here.workdir.classifier, "finetune")
    strategy = here.strategy
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        # One worker evaluates, on its own devices: the cluster's strategy would wait for the others.
        strategy = local_strategy(strategy)
    with strategy.scope():
        model, _ = load_model_for_evaluation(path)
    written = measure(
        model, here.recipe, here.workdir, here.data, external=external_of(path), strategy=strategy, say=here.screen.say
    )
    return {"records": [str(file.relative_to(here.workdir.root)) for file in written]}


def export(here: Run) -> dict[str, Any]:
    """Writes the classifier for TF Serving, and proves that it serves what was trained."""
    path = needed(here, here.workdir.classifier, "finetune")
    model = keras.models.load_model(path)
    finetuned = {**(here.workdir.finished("finetune") or {}), **getattr(model, "provenance", {})}
    export_classifier(
        model,
        here.workdir.served,
        class_names=here.data.class_names,
        provenance=provenance_of(here, external=external_of(path), finetuned=finetuned),
    )
    if not here.recipe.export.verify:
        return {}
    images = next(iter(here.data.held_out(16)))[0].numpy()
    return verify_export(here.workdir.served, images=images, expected=model)


def report(here: Run) -> dict[str, Any]:
    """Writes the page that shows the run."""
    needed(here, here.workdir.record, "evaluate")
    histories = {name: read_history(here.workdir.stage(name) / "history.jsonl") for name in _TRAININGS}
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
    "cluster": cluster,
    "refine": refine,
    "finetune": finetune,
    "evaluate": evaluate_stage,
    "export": export,
    "report": report,
}


def _monitor(model: keras.Model) -> str | None:
    """The held-out number that picks the epoch; None where a method keeps its last."""
    return getattr(model, "monitor", "val_robust_accuracy" if model.eval_attack else "val_accuracy")


def _start(here: Run) -> Path | None:
    """The export that finetuning starts from, refined if the recipe says so; None for fresh weights."""
    part = assembly.section(here.recipe, "finetune")
    if part.start == "scratch":
        return None
    if part.start != "pretrained":
        return Path(part.start)
    return needed(here, here.workdir.refined, "refine") if here.recipe.refine is not None else pretrained(here)


def _starting_encoder(here: Run, path: Path | None) -> keras.Model:
    if path is None:
        return assembly.encoder_of(here.recipe, here.data.image_shape)
    return assembly.as_it_starts(here.recipe, load_encoder(path))


def _save_model(model: keras.Model, path: Path) -> None:
    partial = path.with_name(f".partial.{path.name}")
    model.save(partial)
    shutil.move(partial, path)
