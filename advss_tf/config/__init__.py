"""Recipes: what a run can be given, read from YAML, checked and written. TensorFlow is not imported here."""

from __future__ import annotations

from .cells import GridCell
from .evaluation import Corruptions
from .faults import GridError, RecipeError
from .grid import Grid, dump_grid, grid_difference, load_grid
from .idle import AUGMENTATION, settled
from .loading import difference, dump_recipe, json_schema, load_recipe, make_recipe, recipe_fingerprint
from .schema import Attack, Cluster, Finetune, Pretrain, Recipe, Refine, Stage
from .yaml_text import read_yaml

__all__ = [
    "AUGMENTATION",
    "Attack",
    "Cluster",
    "Corruptions",
    "Finetune",
    "Grid",
    "GridCell",
    "GridError",
    "Pretrain",
    "Recipe",
    "RecipeError",
    "Refine",
    "Stage",
    "difference",
    "dump_grid",
    "dump_recipe",
    "grid_difference",
    "json_schema",
    "load_grid",
    "load_recipe",
    "make_recipe",
    "read_yaml",
    "recipe_fingerprint",
    "settled",
]
