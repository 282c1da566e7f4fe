"""The stages that make and use pseudo-labels: `cluster`, whose labels are for another training, and `refine`.

Synopsis:

    cluster(here)        # cluster/pseudo_labels.npz: clusters of an encoder's features
    refine(here)         # refine/encoder: the pretrained encoder, after it has learned its own clusters under attack

`refine` is LP-AFT, the "++" of DynACL++ (Luo et al. 2023, arXiv 2303.01289): k-means on the features of clean images,
the head alone on these labels, then everything by TRADES. It does so on what was pretrained, without a label. Of its
two trainings, each a `RobustClassifier`, the second begins with the head of the first. Where the method's authors keep
the last epoch, here held-out pseudo-labels pick one, as everywhere.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from advss_tf import assembly
from advss_tf.clustering import cluster_features, encoder_facts
from advss_tf.data import PseudoLabels
from advss_tf.encoders import load_encoder
from advss_tf.finetune import RobustClassifier
from advss_tf.outside import learned_outside, origin_of, outside_of_clusters
from advss_tf.serving import export_encoder
from advss_tf.staging import Run, measured, meet, pretrained, provenance_of, training
from advss_tf.training.strategy import is_chief


def cluster(here: Run) -> dict[str, Any]:
    """Writes the clusters of an encoder's features, for the pretraining of another run."""
    part = assembly.section(here.recipe, "cluster")
    own = part.encoder == "pretrained"
    path = pretrained(here, part.branch) if own else Path(part.encoder)
    pseudo = _clusters(here, path, part.sizes, normalise=part.normalise, declared=part.external)
    pseudo.save(here.workdir.pseudo_labels)
    _say_sizes(here, "cluster", pseudo)
    return {"counts": pseudo.source["counts"], **_outside(pseudo.external)}


def check_source(here: Run) -> None:
    """Refuses an encoder of another run whose features `cluster` could not take.

    Raises:
        InvalidInput: if it is no export of this library, or has learned from outside without the recipe saying so.
    """
    part = assembly.section(here.recipe, "cluster")
    if part.encoder != "pretrained":
        outside_of_clusters(origin_of(part.encoder), here.data, declared=part.external)


def refine(here: Run) -> dict[str, Any]:
    """Teaches the pretrained encoder its own clusters, robustly, and hands it over in place of the pretrained one."""
    part, start = assembly.section(here.recipe, "refine"), pretrained(here)
    pseudo = _own_clusters(here)
    labels = pseudo.of(here.data)
    batches, validation = partial(here.data.unlabelled, pseudo_labels=labels), here.data.held_out(pseudo_labels=labels)
    linear, full = _models(here, start)
    teach = partial(_taught, here, batches=batches, validation=validation)
    probed = teach(linear, "linear", part.linear, monitor="val_accuracy")
    full.head.set_weights(linear.head.get_weights())
    # Without an attack on held-out images there would be no robust accuracy; `full` always has one.
    taught = teach(full, "full", part.full, monitor="val_robust_accuracy")
    result = {"linear": probed, "full": taught, "counts": pseudo.source["counts"]}
    external = learned_outside(origin_of(start), here.data, "what was pretrained")
    if is_chief(here.strategy):
        provenance = provenance_of(here, external=external, refined=result, pretext=here.workdir.finished("pretrain"))
        export_encoder(full, here.workdir.refined, provenance=provenance)
    return {**result, **_outside(external)}


def _clusters(here: Run, path: Path, sizes: tuple[int, ...], *, normalise: bool, declared: bool) -> PseudoLabels:
    """The clusters of the features of an exported encoder."""
    shown = path.relative_to(here.workdir.root) if here.workdir.root in path.parents else path
    origin = origin_of(path)
    external = outside_of_clusters(origin, here.data, declared=declared)
    here.screen.say(f"k-means of the features of {shown}")
    return cluster_features(
        load_encoder(path),
        here.data,
        sizes,
        seed=here.recipe.seed,
        normalise=normalise,
        encoder_info=encoder_facts(origin, shown),
        external=external,
    )


def _own_clusters(here: Run) -> PseudoLabels:
    """The labels that `refine` learns; made once, so that what is gone on with goes on with the same."""
    path, part = here.workdir.stage("refine") / "pseudo_labels.npz", assembly.section(here.recipe, "refine")
    if is_chief(here.strategy) and not path.is_file():
        clean = pretrained(here, "clean")
        pseudo = _clusters(here, clean, (part.clusters,), normalise=part.normalise, declared=False)
        pseudo.save(path)
        _say_sizes(here, "refine", pseudo)
    meet(here.strategy)
    return PseudoLabels.load(path)


def _models(here: Run, start: Path) -> tuple[RobustClassifier, RobustClassifier]:
    """The two classifiers of pseudo-labels, each on an encoder of its own, as the first freezes the one it has."""
    section = assembly.section(here.recipe, "refine")
    with here.strategy.scope():
        linear, full = assembly.refiners_of(here.recipe, load_encoder(start), load_encoder(start))
        for model, part in ((linear, section.linear), (full, section.full)):
            steps = here.data.steps_per_epoch(part.batch_size, "unlabelled")
            model.compile(assembly.optimizer_of(part, steps), jit_compile=here.recipe.jit_compile)
    return linear, full


def _taught(
    here: Run, model: keras.Model, name: str, part: Any, *, batches: Any, validation: tf.data.Dataset, monitor: str
) -> dict[str, Any]:
    steps = here.data.steps_per_epoch(part.batch_size, "unlabelled")
    picked = training(
        here, f"refine/{name}", model, batches, part=part, steps=steps, monitor=monitor, validation=validation
    )
    return {**measured(here, model, validation), "epoch": picked.epoch}


def _say_sizes(here: Run, stage: str, pseudo: PseudoLabels) -> None:
    for size, (smallest, largest) in pseudo.counts().items():
        here.screen.say(f"{stage}: {size} clusters of {smallest:,} to {largest:,} images")


def _outside(external: str | None) -> dict[str, str]:
    return {} if external is None else {"external": external}
