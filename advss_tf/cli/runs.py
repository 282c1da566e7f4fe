"""Where a command that is given a run's folder finds its classifier, its recipe and its images.

Synopsis:

    file = classifier_file("runs/digits")        # runs/digits/finetune/classifier.keras; a file stays what it is
    run = run_of(file)                           # the layout of runs/digits; None for a file by itself
    recipe, data = images_of(run)                # the images that the run's recipe names, split by its seed
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from advss_tf.errors import InvalidInput
from advss_tf.workdir import Workdir

if TYPE_CHECKING:
    from advss_tf import config
    from advss_tf.data import ImageData


def is_run(folder: str | Path) -> bool:
    """Whether a path is the folder of a run."""
    return Workdir(folder).recipe.is_file()


def classifier_file(model: str | Path) -> Path:
    """The classifier of a run's folder; any other path as it is."""
    return Workdir(model).classifier if is_run(model) else Path(model)


def run_of(file: Path) -> Workdir | None:
    """The layout of the run that a classifier's file lies in; None for a file by itself."""
    run = Workdir(file.resolve().parent.parent)
    return run if file.resolve() == run.classifier and run.recipe.is_file() else None


def images_of(run: Workdir, **changes: Any) -> tuple[config.Recipe, ImageData]:
    """The recipe of a run and the images that it names.

    Args:
        run: The run's layout.
        changes: Fields of the recipe's `data` in the place of what it says, such as `data_dir`.

    Raises:
        InvalidInput: if the folder holds no recipe, or one that cannot be used, or as `load_data`.
    """
    from advss_tf import assembly, config

    if not run.recipe.is_file():
        raise InvalidInput(
            f"{run.root} is no run.", expected="a folder with the recipe.yaml of a run in it", received=str(run.root)
        )
    recipe = config.load_recipe(run.recipe)
    changed = recipe.model_copy(update={"data": recipe.data.model_copy(update=changes)})
    return recipe, assembly.data_of(changed)
