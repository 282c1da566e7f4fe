"""What a recipe wants to have measured of a classifier, one record file after the other.

Synopsis:

    files = measure(model, recipe, workdir, data, strategy=strategy, say=print)

    evaluate/record.json                 clean, and attacked in the balls of the recipe
    evaluate/record.l2.json              attacked in balls of the other norm
    evaluate/record.corruptions.json     under corruptions
    evaluate/record.unforeseen.json      under attacks over a distortion's parameters

Killed, it goes on behind the last finished batch of the record that was being made.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

from advss_tf import config
from advss_tf.data import ImageData
from advss_tf.data.corruptions import CORRUPTIONS, EXTRA_CORRUPTIONS, frost_photographs
from advss_tf.evaluation import DistortionRecord, evaluate, evaluate_corruptions, evaluate_unforeseen
from advss_tf.timing import Pace
from advss_tf.workdir import Workdir


def measure(
    model: Callable[..., Any],
    recipe: config.Recipe,
    workdir: Workdir,
    data: ImageData,
    *,
    strategy: tf.distribute.Strategy,
    say: Callable[[str], None],
    external: str | None = None,
) -> list[Path]:
    """Makes the records that `recipe.evaluate` asks for and are not there yet; only here the test split is read.

    `external` says in words what outside the data set the model has learned from, for every record to repeat.

    Returns:
        The record files, the main one first.
    """
    files = []
    for path, make in _wanted(recipe, workdir, strategy=strategy, say=say):
        if not path.is_file():
            partial = workdir.stage("evaluate") / f"partial.{path.stem}"
            record = make(
                model,
                data.test(recipe.evaluate.batch_size),
                batch_size=recipe.evaluate.batch_size,
                limit=recipe.evaluate.limit,
                seed=recipe.seed,
                model_name=recipe.name,
                data_info={**data_info(recipe, data), "external": external},
                partial=partial,
                progress=_paced(say, path.stem),
            )
            record.save(path)
            say(f"evaluate: {record}")
        files.append(path)
    return files


def check_measures(recipe: config.Recipe, data: ImageData) -> None:
    """Refuses an evaluation that lacks its images, or the files that it names.

    Raises:
        InvalidInput: if there is no test split, or a baseline or photographs of frost are not there or are damaged.
    """
    data.test(recipe.evaluate.batch_size)
    wanted = recipe.evaluate.corruptions
    if wanted is not None:
        _files_of(wanted, side=min(data.image_shape[:2]))


def _wanted(
    recipe: config.Recipe, workdir: Workdir, *, strategy: tf.distribute.Strategy, say: Callable[[str], None]
) -> Iterator[tuple[Path, Callable[..., Any]]]:
    """Each record's file, and the function that makes it from a model and data."""
    part = recipe.evaluate

    def attacked(norm: str, epsilons: Any) -> Callable[..., Any]:
        def make(*args: Any, **options: Any) -> Any:
            return evaluate(
                *args,
                suite="full" if part.autoattack else "standard",
                autoattack_version=part.autoattack or "standard",
                norm=norm,
                epsilons=epsilons,
                num_steps=part.num_steps,
                # Its unit is that of one norm.
                step_size=part.step_size if norm == part.norm else None,
                num_restarts=part.num_restarts,
                strategy=strategy,
                announce=lambda estimate: say(f"evaluate, at most:\n{estimate}"),
                **options,
            )

        return make

    yield workdir.record, attacked(part.norm, part.epsilons)
    if part.unseen is not None:
        yield workdir.further_record(part.unseen.norm), attacked(part.unseen.norm, part.unseen.epsilons)
    if part.corruptions is not None:
        yield workdir.further_record("corruptions"), functools.partial(_corrupted, part.corruptions)
    if part.unforeseen is not None:
        unforeseen = functools.partial(evaluate_unforeseen, attacks=part.unforeseen, strategy=strategy)
        yield workdir.further_record("unforeseen"), unforeseen


def _corrupted(
    wanted: config.Corruptions, model: Callable[..., Any], data: tf.data.Dataset, **options: Any
) -> DistortionRecord:
    return evaluate_corruptions(
        model,
        data,
        corruptions=CORRUPTIONS + EXTRA_CORRUPTIONS * wanted.extra,
        severities=wanted.severities,
        **_files_of(wanted, side=min(data.element_spec[0].shape[1:3])),
        **options,
    )


def _files_of(wanted: config.Corruptions, *, side: int) -> dict[str, Any]:
    """What the files say that an evaluation under corruptions names."""
    return {
        "frost_images": None if wanted.frost is None else frost_photographs(wanted.frost, side=side),
        "baseline": None if wanted.baseline is None else DistortionRecord.load(wanted.baseline),
    }


def data_info(recipe: config.Recipe | None, data: ImageData, *, split: str = "test") -> dict[str, Any]:
    """What the record says of the data, and of the ball that the model was trained for, where its recipe is known."""
    attack = recipe.finetune.attack if recipe is not None and recipe.finetune else None
    trained = {"training_epsilon": attack.epsilon, "training_norm": attack.norm} if attack else {}
    names = {"name": data.name, "split": split, "fingerprint": data.fingerprint, "class_names": data.class_names}
    return {**names, **trained}


def _paced(say: Callable[[str], None], what: str, seconds: float = 10.0) -> Callable[[Any], None]:
    """Says where an evaluation stands, at most every so many seconds."""
    pace = Pace(seconds)

    def progress(event: Any) -> None:
        if pace.due():
            say(f"evaluate {what.removeprefix('record').lstrip('.')}".rstrip() + f": {event}")

    return progress
