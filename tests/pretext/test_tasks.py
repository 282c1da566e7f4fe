"""Recipes and the registry know the same tasks, with the same options and defaults."""

from __future__ import annotations

import inspect

import pytest
from pydantic import TypeAdapter

from advss_tf import assembly
from advss_tf.config import make_recipe, tasks, views
from advss_tf.config.parts import kind_of, sections_in
from advss_tf.pretext import CONTRASTIVE, MEMBERS, TASKS, Annealing, SimCLR
from advss_tf.pretext.selfie_options import FAITHFUL
from advss_tf.serving import export_encoder

EACH_TASK = pytest.mark.parametrize("task", sorted(TASKS))


def section_of(task):
    return next(section for section in sections_in(tasks.Task) if kind_of(section) == task)


def signature_of(task):
    """The options of a class and, where it passes options on, of those that it stands on."""
    options = {}
    for parent in TASKS[task].__mro__:
        own = inspect.signature(parent.__init__).parameters
        options = {**own, **options}
        if not any(option.kind is inspect.Parameter.VAR_KEYWORD for option in own.values()):
            return options
    raise AssertionError(task)


def plain(value):
    """A section or an object of options as its arguments, anything else as it is."""
    if isinstance(value, tuple):
        return tuple(map(plain, value))
    if isinstance(value, sections_in(views.View)):
        return TypeAdapter(views.View).dump_python(value)
    if hasattr(value, "as_dict"):
        return value.as_dict()
    return value.model_dump() if hasattr(value, "model_dump") else value


@EACH_TASK
def test_a_recipe_has_the_options_of_the_class_with_its_defaults(task):
    fields = {name: field for name, field in section_of(task).model_fields.items() if name != "kind"}
    # A recipe names a file of pseudo-labels, and the class is told of how many clusters they are.
    fields.pop("pseudo_labels", None)
    if task == "dynacl":
        # The class has to be told how long an epoch is, which a recipe knows.
        assert plain(fields.pop("annealing").default) == {"period": 50, "growth": 2 / 3}
    options, missing = signature_of(task), inspect.Parameter.empty
    for name, field in fields.items():
        default = missing if field.is_required() else plain(field.default)
        assert default == plain(options[name].default), name


@EACH_TASK
def test_a_recipe_makes_the_task(task, tmp_path):
    attack = None if task in (*MEMBERS, "ensemble", "simclr") else {"epsilon": 0.1, "num_steps": 2}
    own = {"dynacl": {"annealing": {"period": 1}}, "deacl": {"teacher": str(tmp_path / "teacher")}}
    recipe = make_recipe(
        {
            "name": "tiny",
            "seed": 5,
            "data": {"kind": "digits"},
            "encoder": {"kind": "resnet20", "width": 2},
            "pretrain": {
                "task": {"kind": task, **own.get(task, {})},
                "attack": attack,
                "epochs": 3,
                "optimizer": {"kind": "sgd", "learning_rate": 0.1},
            },
        }
    )
    encoder = assembly.encoder_of(recipe, (8, 8, 1))
    if task == "deacl":
        export_encoder(SimCLR(assembly.encoder_of(recipe, (8, 8, 1))), tmp_path / "teacher")
    model = assembly.pretext_of(recipe, encoder, assembly.data_of(recipe))
    assert type(model) is TASKS[task] and model.seed == 5 and (model.attack is None) == (attack is None)
    if task in CONTRASTIVE:
        # Digits are not mirrored, and the views of a step follow the data.
        assert model.flip is False and model.crop_padding == 1
    if task == "dynacl":
        assert model.annealing == Annealing(epochs=3, steps_per_epoch=11, period=1)


def test_a_faithful_selfie_comes_from_the_recipe_to_the_model_and_the_data():
    part = {"attack": None, "epochs": 1, "optimizer": {"kind": "sgd", "learning_rate": 0.1}}
    task = {"kind": "selfie", "faithful": True, "num_layers": 1, "num_heads": 2, "scaled_scores": True}
    values = {
        "name": "tiny", "seed": 5, "data": {"kind": "digits", "flip": True},
        "encoder": {"kind": "resnet20", "width": 2}, "pretrain": {**part, "task": task},
    }  # fmt: skip
    recipe = make_recipe(values)
    data, encoder = assembly.data_of(recipe), assembly.encoder_of(recipe, (8, 8, 1))
    model = assembly.pretext_of(recipe, encoder, data)
    assert {name: getattr(model, name) for name in FAITHFUL} == {**FAITHFUL, "scaled_scores": True}
    assert model.faithful is True and len(model.pooling.blocks) == 2
    batches = assembly.batches_of(recipe, model, data)
    assert data.flip is True and batches.func.__self__.flip is False
    for changed in ({**values["pretrain"], "flip": True}, {**part, "task": {**task, "faithful": False}}):
        assert assembly.pretraining_data(make_recipe({**values, "pretrain": changed}), data).flip is True


def test_recipes_and_the_registry_know_the_same_tasks():
    assert {kind_of(section) for section in sections_in(tasks.Task)} == set(TASKS)
