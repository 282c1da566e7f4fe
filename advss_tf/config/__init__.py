"""Recipes: what a run can be given, read from YAML, checked and written. TensorFlow is not imported here."""

from __future__ import annotations

from .faults import RecipeError
from .loading import difference, dump_recipe, json_schema, load_recipe, make_recipe, recipe_fingerprint
from .schema import Attack, Corruptions, Finetune, Pretrain, Recipe, Stage

__all__ = [
    "Attack",
    "Corruptions",
    "Finetune",
    "Pretrain",
    "Recipe",
    "RecipeError",
    "Stage",
    "difference",
    "dump_recipe",
    "json_schema",
    "load_recipe",
    "make_recipe",
    "recipe_fingerprint",
]
