"""The conditions between the fields of a recipe that has pseudo-labels made; see rules.py.

Synopsis:

    class Cluster(Part):
        rules = (pseudo_rules.branch_is_there,)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .contrastive_rules import WITH_NEGATIVES, streams_of
from .parts import Fault

if TYPE_CHECKING:
    from . import schema


def branch_is_there(cluster: schema.Cluster) -> Iterator[Fault]:
    """An exported encoder has one branch; others are kept only of this run's own pretraining."""
    if cluster.branch is not None and cluster.encoder != "pretrained":
        expected, received = "null, or encoder: pretrained", f"branch={cluster.branch!r}, encoder={cluster.encoder!r}"
        yield Fault("branch", "is no choice of an exported encoder, which has one", expected, received)


def external_is_elsewhere(cluster: schema.Cluster) -> Iterator[Fault]:
    """What this run has pretrained says by itself what it learned from."""
    if cluster.external and cluster.encoder == "pretrained":
        expected, received = "false, or the path of an exported encoder", "external=true, encoder='pretrained'"
        yield Fault("external", "is said of this run's own encoder", expected, received)


def encoder_is_no_slip(cluster: schema.Cluster) -> Iterator[Fault]:
    """Any other word is a path, so a slip such as `pretrain` would otherwise be looked for on the disk."""
    near = difflib.get_close_matches(cluster.encoder, ("pretrained",), n=1, cutoff=0.75)
    if near and cluster.encoder.isalpha() and cluster.encoder != "pretrained":
        expected = f"'pretrained', or a path ('./{cluster.encoder}' for a folder of that name)"
        yield Fault("encoder", "is not known (did you mean 'pretrained'?)", expected, f"encoder={cluster.encoder!r}")


def trades_starts_at_random(full: schema.FullRefinement) -> Iterator[Fault]:
    """The gradient of TRADES' KL is zero at the images themselves."""
    if not full.attack.random_start:
        yield Fault("attack.random_start", "would never let TRADES' attack move", "true", "random_start=false")


def branches_are_trained(recipe: schema.Recipe) -> Iterator[Fault]:
    """A batch-norm branch that no image of the pretraining goes through is as it was drawn."""
    cluster, part, branches = recipe.cluster, recipe.pretrain, recipe.encoder.branches
    if part is None:
        return
    trained = [branch for branch in _trained(part) if branch in branches]
    branch = cluster.branch if cluster is not None and cluster.encoder == "pretrained" else None
    if branch in branches and branch not in trained:
        expected, received = f"null or one of {trained}", f"branch={branch!r}"
        yield Fault("cluster.branch", "is not trained by the pretraining", expected, received)
    if recipe.refine is not None and "clean" in branches and "clean" not in trained:
        expected = "refine: null, encoder.branches: [], or a pretraining on clean images too (clean_weight above 0)"
        what = "clusters features of the branch 'clean', which the pretraining does not train"
        yield Fault("refine", what, expected, f"branches={list(branches)}, clean_weight=0")


def _trained(part: schema.Pretrain) -> tuple[str, ...]:
    """The batch-norm branches that a pretraining trains, of an encoder that has them."""
    if part.task.kind in (*WITH_NEGATIVES, "deacl"):
        return streams_of(part.task)
    if part.attack is None:
        return ("clean",)
    tasks = getattr(part.task, "tasks", None) or (part.task,)
    clean = any(getattr(task, "clean_weight", 1.0) for task in tasks)
    return ("clean", "adversarial") if clean else ("adversarial",)


def pseudo_stages_connect(recipe: schema.Recipe) -> Iterator[Fault]:
    """What is clustered or refined is pretrained, in a branch that it has, and what was refined is used."""
    cluster, branches = recipe.cluster, list(recipe.encoder.branches)
    if cluster is not None and cluster.encoder == "pretrained" and recipe.pretrain is None:
        expected, received = "a `pretrain` section, or the path of an exported encoder", "pretrain=null"
        yield Fault("cluster.encoder", "has no pretraining to take features from", expected, received)
    if cluster is not None and cluster.branch is not None and cluster.branch not in branches:
        expected, received = f"null or one of encoder.branches={branches}", f"branch={cluster.branch!r}"
        yield Fault("cluster.branch", "is not in the encoder", expected, received)
    if recipe.refine is None:
        return
    if recipe.pretrain is None:
        yield Fault("refine", "has no pretraining to refine", "a `pretrain` section, or refine: null", "pretrain=null")
    if recipe.finetune is not None and recipe.finetune.start != "pretrained":
        expected, received = "start: pretrained, or refine: null", f"start={recipe.finetune.start!r}"
        yield Fault("finetune.start", "does not take the encoder that was refined", expected, received)
