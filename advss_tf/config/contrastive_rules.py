"""The conditions between the fields of a contrastive method, and between a method and the rest of the recipe.

Synopsis:

    class AdvclTask(Part):
        rules = (contrastive_rules.annealing_changes_something,)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .parts import Fault

if TYPE_CHECKING:
    from . import contrastive_tasks, schema

# The methods whose loss has negatives, and so needs a batch of two.
WITH_NEGATIVES = ("simclr", "rocl", "acl", "acl_air", "dynacl", "advcl", "a_infonce")


def something_is_asymmetric(asymmetry: contrastive_tasks.Asymmetric) -> Iterator[Fault]:
    """With neither there would be no asymmetry, and a weight of pairs belongs to inferior positives."""
    if asymmetry.clean_share is None and asymmetry.beta is None:
        received = "clean_share=null, beta=null"
        yield Fault("clean_share", "leaves nothing asymmetric", "a share, a beta, or asymmetry: null", received)
    elif asymmetry.clean_share is None and asymmetry.pair_weight != 1.0:
        received = f"pair_weight={asymmetry.pair_weight:g}, clean_share=null"
        yield Fault("pair_weight", "weighs inferior positives, and there are none", "1, or a clean_share", received)


def one_side_is_held_once(task: contrastive_tasks.RoclTask) -> Iterator[Fault]:
    """Both say which side of a pair is held fixed."""
    if task.one_sided and task.asymmetry is not None:
        received = "one_sided=true, asymmetry={...}"
        yield Fault("one_sided", "and asymmetry both say what is held fixed", "one of them", received)


def annealing_changes_something(task: contrastive_tasks.DualStream | contrastive_tasks.Multiview) -> Iterator[Fault]:
    """Without annealed views and without growth there is nothing that a schedule could change."""
    views = _kinds_of(task)
    if task.annealing is not None and not task.annealing.growth and "annealed" not in views:
        received = f"growth=0, views={views}"
        yield Fault("annealing", "changes nothing", "annealed views, growth above 0, or annealing: null", received)


def heads_are_trained(task: contrastive_tasks.Multiview) -> Iterator[Fault]:
    """At a weight of 0 the heads would stay as drawn, and an attack of theirs would climb nothing."""
    if task.pseudo_labels is not None and not task.pseudo_weight:
        yield Fault("pseudo_weight", "leaves the heads untrained", "above 0, or pseudo_labels: null", "pseudo_weight=0")


def averages_are_handed_over(pretrain: schema.Pretrain) -> Iterator[Fault]:
    """DynACL hands its momentum encoder over, an average already; the optimizer's would be of other weights."""
    momentum, average = getattr(pretrain.task, "momentum", None), pretrain.optimizer.ema_momentum
    if momentum is not None and average is not None:
        received = f"ema_momentum={average:g}, task.momentum={momentum:g}"
        expected = "null, or task.momentum: null"
        yield Fault("optimizer.ema_momentum", "averages weights that are not handed over", expected, received)


def attack_suits_method(pretrain: schema.Pretrain) -> Iterator[Fault]:
    """SimCLR is clean, the others are attacks on it."""
    kind, attack = pretrain.task.kind, pretrain.attack
    if kind == "simclr" and attack is not None:
        yield Fault("attack", "is nothing that SimCLR has", "null, or task: acl or rocl", "attack={...}")
    if kind == "simclr" and pretrain.eval_attack is not None:
        yield Fault("eval_attack", "is nothing that SimCLR has", "null, or task: acl or rocl", "eval_attack={...}")
    if _is_contrastive(pretrain.task) and kind != "simclr" and attack is None:
        yield Fault("attack", f"is what {kind} learns to withstand", "an attack, or task: simclr", "attack=null")


def there_are_negatives(pretrain: schema.Pretrain) -> Iterator[Fault]:
    """A batch of one has no other image to tell apart."""
    if pretrain.task.kind in WITH_NEGATIVES and pretrain.batch_size < 2:
        received = f"batch_size={pretrain.batch_size}, task.kind={pretrain.task.kind!r}"
        yield Fault("batch_size", "leaves an image no negatives", "2 or more", received)


def batch_is_whole(pretrain: schema.Pretrain) -> Iterator[Fault]:
    """NT-Xent compares the images of a batch: the gradients of its parts are not those of the whole."""
    if pretrain.task.kind in WITH_NEGATIVES and pretrain.micro_batches > 1:
        received = f"micro_batches={pretrain.micro_batches}, task.kind={pretrain.task.kind!r}"
        yield Fault("micro_batches", "would part an image from its negatives", "1; more replicas are exact", received)


def annealing_ends_in_time(pretrain: schema.Pretrain) -> Iterator[Fault]:
    """A period as long as the training leaves the views as they begin."""
    annealing = getattr(pretrain.task, "annealing", None)
    if annealing is not None and annealing.period >= pretrain.epochs:
        expected = f"below the {pretrain.epochs} epochs, or annealing: null"
        yield Fault("task.annealing.period", "is as long as the training", expected, f"period={annealing.period}")


def augmentation_reaches_a_view(pretrain: schema.Pretrain) -> Iterator[Fault]:
    """Only weak views are shifted, and original ones are not mirrored either."""
    if not _is_contrastive(pretrain.task):
        return
    views = [view for _, view in views_of(pretrain.task)]
    kinds = _kinds_of(pretrain.task)
    # A view that says its own padding is not told another, and none is mirrored that says it is not.
    if pretrain.crop_padding is not None and not any(getattr(view, "crop_padding", 0) is None for view in views):
        received = f"crop_padding={pretrain.crop_padding}, views={kinds}"
        which = "a weak view without a padding of its own"
        yield Fault("crop_padding", "is of weak views, and none asks for it", f"null, or {which}", received)
    if pretrain.flip is not None and not any(getattr(view, "flip", False) for view in views):
        received = f"flip={str(pretrain.flip).lower()}, views={kinds}"
        yield Fault("flip", "mirrors views, and none lets it", "null, or a view with flip: true", received)


def branches_are_streams(recipe: schema.Recipe) -> Iterator[Fault]:
    """An encoder with branches has one for each stream that the method forwards, and no other."""
    part, branches = recipe.pretrain, recipe.encoder.branches
    if part is None or not branches:
        return
    streams = streams_of(part.task) if _is_contrastive(part.task) else ("clean", "adversarial")
    idle = sorted(set(branches) - set(streams))
    missing = sorted(set(streams) - set(branches)) if _is_contrastive(part.task) else []
    if idle or missing:
        received = f"branches={list(branches)}, pretrain.task.kind={part.task.kind!r}"
        expected = f"[] or {list(streams)}"
        yield Fault("encoder.branches", "are not the streams of the pretraining", expected, received)


def streams_of(task: Any) -> tuple[str, ...]:
    """The batch-norm streams that a contrastive method forwards."""
    if task.kind == "simclr":
        return ("clean",)
    apart = getattr(task, "pseudo_labels", None) is not None and task.perturbation == "separate"
    return ("clean", "adversarial", "pseudo") if apart else ("clean", "adversarial")


def views_of(task: Any) -> list[tuple[str, Any]]:
    """The views that a task looks at, each after its place in the task; none for a puzzle."""
    lists = {name: getattr(task, name, ()) for name in ("views", "clean_views")}
    several = [(f"{name}[{number}]", view) for name, views in lists.items() for number, view in enumerate(views)]
    return several + [(name, getattr(task, name)) for name in ("attacked_view", "view") if hasattr(task, name)]


def _kinds_of(task: Any) -> list[str]:
    """The kinds of its views, each once, in alphabetical order."""
    return sorted({view.kind for _, view in views_of(task)})


def _is_contrastive(task: Any) -> bool:
    return task.kind in WITH_NEGATIVES or task.kind == "deacl"
