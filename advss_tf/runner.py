"""A whole run: which stages there are to do, in whose folder, and each of them once.

Synopsis:

    run(load_recipe("configs/digits.yaml"), Workdir("runs/digits"))

A finished stage leaves a `done.json` and is not run again; one that was killed goes on from its last checkpoint. The
recipe is saved in the folder, and another recipe in the same folder is refused, as are other images.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import keras

from advss_tf import assembly, config
from advss_tf.errors import InvalidInput, one_of
from advss_tf.refusing import refuse_early
from advss_tf.screen import Screen
from advss_tf.stages import STAGES
from advss_tf.staging import Run, hold_to_images, meet
from advss_tf.training.strategy import get_strategy, is_chief
from advss_tf.workdir import Workdir, replacing, write_json

# Stages that every worker of a cluster takes part in; the first worker does the others alone.
_SHARED = ("pretrain", "refine", "finetune")


def run(
    recipe: config.Recipe, workdir: Workdir, *, stages: Sequence[str] | None = None, screen: Screen | None = None
) -> None:
    """Runs the stages of a recipe that are not finished yet.

    Args:
        recipe: The recipe.
        workdir: The run's folder.
        stages: Which stages to run; by default all that the recipe has.
        screen: Where to say how it goes.

    Raises:
        InvalidInput: if the folder holds a run of another recipe or of other images, the data are bad, or a stage lacks
            what it starts from.
    """
    chosen = planned(recipe, stages)
    own = _claim(workdir, recipe)
    try:
        _run(recipe, workdir, chosen, screen)
    except InvalidInput:
        if own:  # a recipe that is refused before anything was learned may be corrected, and go on here
            workdir.release()
        raise


def _run(recipe: config.Recipe, workdir: Workdir, chosen: Sequence[str], screen: Screen | None) -> None:
    strategy = get_strategy(recipe.strategy)  # before any tensor: a cluster must be joined first
    keras.config.set_dtype_policy(recipe.precision)
    screen = screen or Screen(workdir.log if is_chief(strategy) else None)
    left = _unfinished(chosen, workdir, screen)
    if left:
        here = Run(recipe, workdir, assembly.data_of(recipe), strategy, screen)
        refuse_early(here, left)
        hold_to_images(here)
        for name in left:
            _stage(here, name)
    meet(strategy)  # a worker that leaves early takes the others with it


def planned(recipe: config.Recipe, stages: Sequence[str] | None = None) -> list[str]:
    """The stages that a run has, in order.

    Raises:
        InvalidInput: if a stage is not known or not in the recipe.
    """
    has = {
        "pretrain": recipe.pretrain is not None,
        "cluster": recipe.cluster is not None,
        "refine": recipe.refine is not None,
        "finetune": recipe.finetune is not None,
        "evaluate": recipe.finetune is not None,
        "export": recipe.finetune is not None and recipe.export.classifier,
        "report": recipe.finetune is not None,
    }
    for name in stages or ():
        if not has[one_of("stages", name, STAGES)]:
            raise InvalidInput(
                f"The recipe {recipe.name!r} has nothing to {name}.",
                expected=f"stages out of {[stage for stage in has if has[stage]]}",
                received=f"stages={','.join(stages or ())}",
            )
    return [name for name in has if has[name] and (stages is None or name in stages)]


def _stage(here: Run, name: str) -> None:
    if name not in _SHARED and not is_chief(here.strategy):
        return
    started, folder = time.monotonic(), here.workdir.stage(name)
    # What was begun before goes on: the seconds are then those of its last part. A note of what it is taught by, as a
    # grid leaves it beforehand, is no beginning.
    before = set(folder.iterdir()) if folder.is_dir() else set()
    resumed = {"resumed": True} if before - {here.workdir.taught_by(name)} else {}
    result = STAGES[name](here)
    if is_chief(here.strategy):
        write_json(here.workdir.done(name), {**result, "seconds": round(time.monotonic() - started, 1), **resumed})
        here.screen.say(f"{name}: done in {time.monotonic() - started:.0f} s")
    if name in _SHARED:
        meet(here.strategy)  # the next stage of every worker reads what the first has written


def _unfinished(names: Sequence[str], workdir: Workdir, screen: Screen) -> list[str]:
    """The stages that have left no result yet; the others are said to be finished."""
    for name in names:
        if workdir.finished(name) is not None:
            screen.say(f"{name}: finished before")
    return [name for name in names if workdir.finished(name) is None]


def _claim(workdir: Workdir, recipe: config.Recipe) -> bool:
    """Makes the folder this recipe's, or refuses if it is another's. Whether it was nobody's before."""
    if not workdir.recipe.is_file():
        with replacing(workdir.recipe) as file:
            file.write(config.dump_recipe(recipe).encode())
        return True
    changes = config.difference(config.load_recipe(workdir.recipe), recipe)
    if changes:
        raise InvalidInput(
            f"{workdir.root} holds the run of another recipe.",
            expected="the same recipe, or a new --workdir",
            received="; ".join(changes),
        )
    return False
