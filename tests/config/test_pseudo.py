"""Recipes with pseudo-labels: the defaults are the papers', and what does not connect is refused, a line a fault."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from advss_tf.config import RecipeError, dump_recipe, make_recipe, read_yaml

ATTACK = {"epsilon": "8/255", "num_steps": 5}
SGD = {"kind": "sgd", "learning_rate": 0.1}
VALUES: dict[str, Any] = {
    "name": "tiny",
    "seed": 3,
    "data": {"kind": "digits"},
    "encoder": {"kind": "resnet20", "branches": ["clean", "adversarial"]},
    "pretrain": {"task": {"kind": "rotation"}, "attack": ATTACK, "epochs": 10, "optimizer": SGD},
    "cluster": {},
    "refine": {"full": {"attack": ATTACK}},
}


def _recipe(**changes: Any):
    """The recipe above with values at paths written `refine__full__beta`."""
    values = copy.deepcopy(VALUES)
    for path, value in changes.items():
        *sections, last = path.split("__")
        section = values
        for name in sections:
            section = section[name]
        section[last] = value
    return make_recipe(values)


def test_defaults_are_those_of_the_papers():
    recipe = _recipe()
    assert recipe.cluster.sizes == (2, 10, 50, 100, 500)
    assert (recipe.cluster.encoder, recipe.cluster.branch, recipe.cluster.external) == ("pretrained", None, False)
    assert recipe.refine.clusters == 10 and recipe.refine.full.beta == 6.0
    linear, full = recipe.refine.linear, recipe.refine.full
    assert (linear.epochs, linear.optimizer.learning_rate, linear.optimizer.schedule.kind) == (10, 0.01, "constant")
    assert (full.epochs, full.optimizer.learning_rate, full.optimizer.schedule.milestones) == (25, 0.1, (10, 20))
    assert full.optimizer.schedule.factor == 0.1
    assert make_recipe(read_yaml(dump_recipe(recipe))) == recipe


def test_neither_is_there_unless_it_is_asked_for():
    recipe = _recipe(cluster=None, refine=None)
    assert recipe.cluster is None and recipe.refine is None and recipe.kept_branches == ()


def test_clusters_of_an_encoder_on_the_disk_are_a_recipe_by_themselves():
    recipe = _recipe(cluster={"encoder": "runs/simclr/pretrain/encoder", "external": True}, pretrain=None, refine=None)
    assert recipe.cluster.external and recipe.kept_branches == ()


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({}, ("clean",)),
        ({"refine": None}, ()),
        ({"refine": None, "cluster": {"branch": "adversarial"}}, ("adversarial",)),
        ({"cluster": {"branch": "adversarial"}}, ("clean", "adversarial")),
        ({"encoder__branches": []}, ()),
    ],
)
def test_the_branches_that_later_stages_read_are_kept(changes, kept):
    assert _recipe(**changes).kept_branches == kept


@pytest.mark.parametrize(
    "changes",
    [
        {"cluster": {"branch": "adversarial"}},
        {"pretrain__task": {"kind": "rotation", "clean_weight": 0.0}, "refine": None, "cluster": {}},
        {"pretrain__task": {"kind": "rotation", "clean_weight": 0.0}, "cluster": None, "encoder__branches": []},
        {"pretrain__attack": None, "cluster": {"branch": "clean"}},
        {"pretrain__attack": None, "pretrain__task": {"kind": "rotation", "clean_weight": 0.0}},
        {"pretrain__attack": None, "cluster": {"encoder": "runs/a", "external": True}},
        {"pretrain__task": {"kind": "acl"}, "cluster": {"branch": "adversarial"}},
    ],
)
def test_branches_that_are_trained_may_be_clustered(changes):
    assert _recipe(**changes)


def test_what_a_refinement_does_not_say_of_its_optimizer_is_the_papers():
    plain = _recipe().refine
    full = {"attack": ATTACK, "optimizer": {"learning_rate": 0.05}}
    recipe = _recipe(refine={"linear": {"optimizer": {"kind": "sgd", "learning_rate": 0.2}}, "full": full})
    linear, full = recipe.refine.linear.optimizer, recipe.refine.full.optimizer
    assert linear == plain.linear.optimizer.model_copy(update={"learning_rate": 0.2}) and linear.weight_decay == 1e-4
    assert full == plain.full.optimizer.model_copy(update={"learning_rate": 0.05})
    assert plain.linear.batch_size == plain.full.batch_size == recipe.refine.full.batch_size == 512
    assert linear.decay == full.decay == "all" and not plain.normalise
    assert (full.weight_decay, full.schedule.milestones) == (1e-4, (10, 20))
    assert make_recipe(VALUES, ["refine.full.optimizer.learning_rate=0.05"]).refine.full.optimizer == full
    assert make_recipe(read_yaml(dump_recipe(recipe))) == recipe


def test_an_optimizer_or_a_schedule_of_another_kind_is_the_recipes_own():
    refine = _recipe(
        refine={
            "linear": {"optimizer": {"kind": "adamw", "learning_rate": 0.001}},
            "full": {"attack": ATTACK, "optimizer": {"schedule": {"kind": "constant"}}, "epochs": 2},
        }
    ).refine
    assert (refine.linear.optimizer.kind, refine.linear.optimizer.weight_decay) == ("adamw", 5e-4)
    assert (refine.full.optimizer.schedule.kind, refine.full.optimizer.weight_decay) == ("constant", 1e-4)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"cluster": {"external": True}}, "cluster.external: is said of this run's own encoder"),
        (
            {"pretrain__attack": None, "cluster": {"branch": "adversarial"}},
            "cluster.branch: is not trained by the pretraining. Expected: null or one of ['clean']",
        ),
        (
            {"pretrain__task": {"kind": "rotation", "clean_weight": 0.0}},
            "refine: clusters features of the branch 'clean', which the pretraining does not train",
        ),
        (
            {
                "pretrain__task": {"kind": "rotation", "clean_weight": 0.0},
                "cluster": {"branch": "clean"},
                "refine": None,
            },
            "cluster.branch: is not trained by the pretraining. Expected: null or one of ['adversarial']",
        ),
        ({"cluster": {"sizes": [2, 2]}}, "cluster.sizes: lists a value twice"),
        ({"cluster": {"sizes": [1, 2]}}, "cluster.sizes[0]: must be"),
        ({"cluster": {"sizes": []}}, "cluster.sizes: must"),
        ({"cluster": {"encoder": "pretrain"}}, "cluster.encoder: is not known (did you mean 'pretrained'?)"),
        ({"cluster": {"encoder": "runs/a", "branch": "clean"}}, "cluster.branch: is no choice of an exported encoder"),
        ({"cluster": {"branch": "pseudo"}}, "cluster.branch: is not in the encoder"),
        ({"pretrain": None, "refine": None}, "cluster.encoder: has no pretraining to take features from"),
        ({"pretrain": None, "cluster": {"encoder": "./a"}}, "refine: has no pretraining to refine"),
        ({"refine": {}}, "refine.full: is missing"),
        ({"refine__clusters": 1}, "refine.clusters: must be"),
        (
            {"refine__full__epochs": 20},
            "refine.full.optimizer.schedule.milestones: must lie before the last epoch ends",
        ),
        (
            {"refine__full__attack": {**ATTACK, "random_start": False}},
            "refine.full.attack.random_start: would never let",
        ),
        (
            {"finetune": {"start": "scratch", "train": "full", "how": "standard", "epochs": 1, "optimizer": SGD}},
            "finetune.start: does not take the encoder that was refined",
        ),
    ],
)
def test_what_does_not_connect_is_refused(changes, fault):
    with pytest.raises(RecipeError) as caught:
        _recipe(**changes)
    assert [text.startswith(fault) for text in caught.value.faults] == [True], caught.value.faults
