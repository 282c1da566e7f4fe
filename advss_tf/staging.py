"""What the stages of a run share: what each is given, a training from its section, and what must be there first.

Synopsis:

    path = needed(here, here.workdir.encoder, "pretrain")       # or a refusal that says which stage makes it
    picked = training(here, "finetune", model, data.train, part=recipe.finetune, steps=14, monitor="val_accuracy")
    provenance = provenance_of(here, external=None)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from advss_tf import config
from advss_tf.data import ImageData
from advss_tf.encoders.handoff import CARDS, read_provenance
from advss_tf.errors import InvalidInput
from advss_tf.screen import Screen
from advss_tf.training.loop import Saving, Trained, train
from advss_tf.training.robust_model import RobustModel
from advss_tf.training.strategy import is_chief
from advss_tf.workdir import Workdir, read_object, write_json

# A rim of black is no news on images whose own edges are darker than this, as those of digits are.
_DARK = 0.02


class Run(NamedTuple):
    """What every stage is given."""

    recipe: config.Recipe
    workdir: Workdir
    data: ImageData
    strategy: tf.distribute.Strategy
    screen: Screen


def training(
    here: Run,
    stage: str,
    model: RobustModel,
    batches: Callable[..., tf.data.Dataset],
    *,
    part: config.Stage,
    steps: int,
    monitor: str | None,
    validation: tf.data.Dataset | None = None,
    probes: Sequence[keras.callbacks.Callback] = (),
) -> Trained:
    """Trains a compiled model as a section of the recipe says, and leaves the picked weights in it.

    Args:
        here: The run.
        stage: Names the folder that checkpoints, history and best weights are in, such as `"refine/linear"`.
        model: The compiled model.
        batches: `batches(batch_size, seed=…, start_step=…, num_steps=…, worker=…, num_workers=…)`.
        part: The section.
        steps: Steps of an epoch.
        monitor: The epoch's log that picks the model; None keeps the last epoch.
        validation: Held-out batches; those of the data unless given.
        probes: Callbacks that measure something more of each epoch, before it is written down.
    """
    model.micro_batches, model.micro_batch_norm = part.micro_batches, part.micro_batch_norm
    here.screen.say(
        f"{stage}: {model.name}{_guessing(model)}, {part.epochs} epochs of {steps} steps of {part.batch_size} images, "
        f"on {here.strategy.num_replicas_in_sync} replica(s)"
    )

    def make_dataset(**which: Any) -> tf.data.Dataset:
        return batches(part.batch_size, seed=here.recipe.seed, **which)

    with here.screen.bar(stage, total=part.epochs * steps) as advance:
        return train(
            model, make_dataset,
            steps_per_epoch=steps, epochs=part.epochs, batch_size=part.batch_size, folder=here.workdir.stage(stage),
            validation=here.data.held_out() if validation is None else validation,
            monitor=monitor, probes=probes,
            saving=Saving(**here.recipe.checkpoint.model_dump()), say=here.screen.say, advance=advance,
        )  # fmt: skip


def _guessing(model: RobustModel) -> str:
    """What guessing reaches, where it is known: of `accuracy`, or of what else the line has to name."""
    chances = model.chances
    if not chances:
        return ""
    name = "accuracy" if "accuracy" in chances else next(iter(chances))
    return f", chance{'' if name == 'accuracy' else f' of {name}'} {100 * chances[name]:.3g} %"


def measured(here: Run, model: keras.Model, validation: tf.data.Dataset | None = None) -> dict[str, Any]:
    """The picked model on the held-out images, `{name: number}`."""
    logs = model.evaluate(here.data.held_out() if validation is None else validation, verbose=0, return_dict=True)
    return {name: float(value) for name, value in logs.items()}


def provenance_of(here: Run, *, external: str | None, **results: Any) -> dict[str, Any]:
    """What an export says of the run that made it.

    Args:
        here: The run.
        external: In words, what outside the data set it has learned from; None if nothing was.
        **results: What else there is to say.
    """
    data = {"name": here.data.name, "fingerprint": here.data.fingerprint}
    outside = {} if external is None else {"external": external}
    return {"recipe": config.dump_recipe(here.recipe), "seed": here.recipe.seed, "data": data, **outside, **results}


def hold_to(here: Run, stage: str, taught_by: Mapping[str, str]) -> None:
    """Writes down the digests of what a training begins to learn from, and refuses to go on with other files.

    A recipe names files by their path alone: half a training from each of two clusterings would be neither.

    Raises:
        InvalidInput: if the training began with others.
    """
    path = here.workdir.taught_by(stage)
    before = json.loads(path.read_text()) if path.is_file() else None
    if before is None and taught_by and is_chief(here.strategy):
        write_json(path, dict(taught_by))
    if before is not None and before != taught_by:
        changed = sorted(name for name in {**before, **taught_by} if before.get(name) != taught_by.get(name))
        raise InvalidInput(
            f"What `{stage}` learns from has changed since this run, or its grid, began: {', '.join(changed)}.",
            expected=f"the files of then, of SHA-256 {before}; or a new --workdir",
            received=f"files of SHA-256 {dict(taught_by)}",
        )


def hold_to_images(here: Run) -> None:
    """Writes down which images a run begins with, and refuses to go on with others.

    A recipe says where images lie, not which they are: with a file more or less there, other images are held out, and
    an epoch goes on in another order than it began in. Every worker of a cluster calls this, and looks at its own.

    Raises:
        InvalidInput: if the run began with others, or what was written down cannot be read.
    """
    path, found = here.workdir.data, {"fingerprint": here.data.fingerprint, "num_records": here.data.num_records}
    if is_chief(here.strategy) and not path.is_file():
        write_json(path, {"name": here.data.name, **found})
    meet(here.strategy)
    try:
        noted = read_object(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InvalidInput(
            f"{path} does not say which images this run began with.",
            expected="a JSON object; without the file the run goes on with the images that are there now",
            received=str(error),
        ) from error
    # The name is not compared: it is that of a folder, and images may be moved as a whole.
    before = {name: noted.get(name) for name in found}
    if before != found:
        raise InvalidInput(
            f"The images of {here.data.name!r} have changed since this run, or its grid, began.",
            expected=f"those of then, {_in_words(before)}; or a new --workdir",
            received=_in_words(found),
        )


def _in_words(images: Mapping[str, Any]) -> str:
    return f"{images['num_records']} to train on and of fingerprint {images['fingerprint']}"


def needed(here: Run, path: Path, stage: str) -> Path:
    """`path`, if the stage that makes it has been run.

    Raises:
        InvalidInput: otherwise.
    """
    if here.workdir.finished(stage) is None or not path.exists():
        raise InvalidInput(
            f"A stage needs what `{stage}` makes, and {here.workdir.root} does not hold it.",
            expected=f"{path.relative_to(here.workdir.root)}; run with --stages {stage} first, or without --stages",
            received="nothing there",
        )
    return path


def pretrained(here: Run, branch: str | None = None) -> Path:
    """The pretrained encoder, reduced to a batch-norm branch that the recipe has kept; None for the one handed over.

    Raises:
        InvalidInput: if pretraining has not been run.
    """
    handed_over = needed(here, here.workdir.encoder, "pretrain")
    kept = None if branch is None else here.workdir.kept_encoder(branch)
    return kept if kept is not None and kept.exists() else handed_over


def warn_of_memory(here: Run, model: keras.Model, batch_size: int) -> None:
    """Says so before training if the loss of a step will take more memory than a device may have to spare."""
    model = model.auxiliary if getattr(model, "learns", False) else model
    if hasattr(model, "warn_of_memory"):
        model.warn_of_memory(batch_size, here.strategy.num_replicas_in_sync, say=here.screen.say)


def warn_of_rims(here: Run, stage: str, model: keras.Model, crop_padding: int) -> None:
    """Says so before training if shifted images have a rim that tells a puzzle where its patches belong.

    Where images end in black themselves, as digits do, what they are filled up with tells nothing.
    """
    puzzle = getattr(model, "auxiliary", model)
    if not crop_padding or not getattr(puzzle, "cuts_patches", False):
        return
    images = next(iter(here.data.held_out(64).map(lambda images, *_: images))).numpy()
    edges = images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]
    section = "pretrain" if stage == "pretrain" else "data"
    if np.mean([edge.mean() for edge in edges]) > _DARK:
        here.screen.say(
            f"WARNING: {stage}: training images are shifted by up to {crop_padding} pixels and filled up with black, "
            "which tells where patches at the border belong. Held-out images are not: see how far accuracy and "
            f"val_accuracy are apart. With {section}.crop_padding=0 nothing is shifted."
        )


def external_of(model: str | Path) -> str | None:
    """In words, what outside its data set a model has learned from, as its export or the run it lies in says it.

    Args:
        model: An export of this library, or the `classifier.keras` of a run. Anything else says nothing.
    """
    path = Path(model)
    if (path / CARDS / "provenance.json").is_file():
        return read_provenance(path).get("external")
    done = path.with_name("done.json")
    return json.loads(done.read_text()).get("external") if path.suffix == ".keras" and done.is_file() else None


def meet(strategy: tf.distribute.Strategy) -> None:
    """Waits until every worker of a cluster is here: what the first has written is then there for the others."""
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        strategy.reduce("SUM", strategy.run(lambda: tf.constant(1.0)), axis=None)
