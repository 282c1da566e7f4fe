"""What a run refuses before its first stage, not after hours of it.

Synopsis:

    refuse_early(here, ["pretrain", "finetune", "evaluate"])

Whatever the later stages will make is made here once, and thrown away: a recipe cannot know the size of most images,
nor the stages of an encoder of another run, and what does not fit them would else be found when it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from advss_tf import assembly, config
from advss_tf.clustering import checked_sizes
from advss_tf.encoders import load_encoder
from advss_tf.measuring import check_measures
from advss_tf.refining import check_source
from advss_tf.staging import Run, needed
from advss_tf.training.checks import check_images
from advss_tf.training.micro_batches import check_even
from advss_tf.training.strategy import share_of


def refuse_early(here: Run, names: Sequence[str]) -> None:
    """Refuses what the data are too few for, what does not fit them, and what is not there.

    The stage that comes first makes what it trains before it begins, and is left to it.

    Args:
        here: The run.
        names: The stages that are left to do, in their order.

    Raises:
        InvalidInput: if one of them could not be done.
    """
    recipe, data = here.recipe, here.data
    _check_order(here, names)
    _check_shares(here, names)
    if "pretrain" in names:
        assembly.check_probe(recipe, data)
        assembly.check_batch(recipe, data)
    if "finetune" in names:
        assembly.check_batch(recipe, data, "finetune")
    if "cluster" in names:
        checked_sizes(assembly.section(recipe, "cluster").sizes, data, name="cluster.sizes")
        check_source(here)
    if "refine" in names:
        checked_sizes((assembly.section(recipe, "refine").clusters,), data, name="refine.clusters")
    for name in names[1:]:
        if name in _MAKE:
            _MAKE[name](here)


def _check_shares(here: Run, names: Sequence[str]) -> None:
    """Refuses batches that the replicas, or the parts of a replica's share, cannot have evenly."""
    recipe = here.recipe
    parts: dict[str, Any] = {name: getattr(recipe, name) for name in ("pretrain", "finetune") if name in names}
    if "refine" in names:
        refine = assembly.section(recipe, "refine")
        parts |= {"refine.linear": refine.linear, "refine.full": refine.full}
    for name, part in parts.items():
        share = share_of(here.strategy, part.batch_size, name=f"{name}.batch_size")
        check_even(share, part.micro_batches, of=f"a batch of {name}")


def _check_order(here: Run, names: Sequence[str]) -> None:
    """Refuses stages whose results are needed, neither there nor about to be made."""
    workdir, recipe = here.workdir, here.recipe
    made = {
        "pretrain": workdir.encoder,
        "refine": workdir.refined,
        "finetune": workdir.classifier,
        "evaluate": workdir.record,
    }
    for name in names:
        before = _stage_before(recipe, name)
        if before is not None and before not in names:
            needed(here, made[before], before)


def _stage_before(recipe: config.Recipe, name: str) -> str | None:
    """The stage whose result another one starts from; None where it starts from nothing, or from elsewhere."""
    if name == "cluster":
        return "pretrain" if assembly.section(recipe, "cluster").encoder == "pretrained" else None
    if name == "finetune":
        learned = "refine" if recipe.refine is not None else "pretrain"
        return learned if assembly.section(recipe, "finetune").start == "pretrained" else None
    return {"refine": "pretrain", "evaluate": "finetune", "export": "finetune", "report": "evaluate"}.get(name)


def _make_refiners(here: Run) -> None:
    part = assembly.section(here.recipe, "refine")
    assembly.refiners_of(here.recipe, _handed_over(here), _handed_over(here))
    for each in (part.linear, part.full):
        assembly.optimizer_of(each, here.data.steps_per_epoch(each.batch_size, "unlabelled"))


def _make_classifier(here: Run) -> None:
    recipe, data, part = here.recipe, here.data, assembly.section(here.recipe, "finetune")
    classes = assembly.num_classes_of(data)
    assembly.optimizer_of(part, data.steps_per_epoch(part.batch_size, "train"))
    if part.start == "scratch":
        encoder = assembly.encoder_of(recipe, data.image_shape)
    else:
        learned = _handed_over(here) if part.start == "pretrained" else load_encoder(Path(part.start))
        encoder = assembly.as_it_starts(recipe, learned)
    check_images(tf.zeros((1, *data.image_shape)), encoder.input_shape[1:])
    assembly.classifier_of(recipe, encoder, classes)


def _handed_over(here: Run) -> keras.Model:
    """An encoder as pretraining will hand it over, with other weights: of its branches one is left."""
    encoder = here.recipe.encoder.model_copy(update={"branches": ()})
    return assembly.encoder_of(here.recipe.model_copy(update={"encoder": encoder}), here.data.image_shape)


def _check_measures(here: Run) -> None:
    check_measures(here.recipe, here.data)


_MAKE: dict[str, Callable[[Run], None]] = {
    "refine": _make_refiners,
    "finetune": _make_classifier,
    "evaluate": _check_measures,
}
