"""Recipes and the registry know the same tasks, with the same options and defaults."""

from __future__ import annotations

import inspect

import pytest

from advss_tf import assembly
from advss_tf.config import make_recipe, tasks
from advss_tf.config.parts import kind_of, sections_in
from advss_tf.pretext import TASKS

EACH_TASK = pytest.mark.parametrize("task", sorted(TASKS))


def section_of(task):
    return next(section for section in sections_in(tasks.Task) if kind_of(section) == task)


@EACH_TASK
def test_a_recipe_has_the_options_of_the_class_with_its_defaults(task):
    fields = {name: field for name, field in section_of(task).model_fields.items() if name != "kind"}
    options = inspect.signature(TASKS[task]).parameters
    assert {name: options[name].default for name in fields} == {name: field.default for name, field in fields.items()}


@EACH_TASK
def test_a_recipe_makes_the_task(task):
    recipe = make_recipe(
        {
            "name": "tiny",
            "seed": 5,
            "data": {"kind": "digits"},
            "encoder": {"kind": "resnet20", "width": 2},
            "pretrain": {
                "task": {"kind": task},
                "attack": None,
                "epochs": 1,
                "optimizer": {"kind": "sgd", "learning_rate": 0.1},
            },
        }
    )
    model = assembly.pretext_of(recipe, assembly.encoder_of(recipe, (8, 8, 1)), assembly.data_of(recipe))
    assert type(model) is TASKS[task] and (model.seed, model.attack) == (5, None)


def test_recipes_and_the_registry_know_the_same_tasks():
    assert {kind_of(section) for section in sections_in(tasks.Task)} == set(TASKS)
