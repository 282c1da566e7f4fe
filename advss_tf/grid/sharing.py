"""Pretraining that several runs have in common: done once, and taken over by the others.

Synopsis:

    if pretraining_key(recipe) == pretraining_key(other):
        adopt(workdir, donor=other_workdir)
    else:
        learn_from_the_same(recipe, workdir, others=[(other, other_workdir)])

What is taken over is the finished stage's whole folder, as hard links where the file system has them. Its `done.json`
says where it came from. Pretrainings that name the same pseudo-labels or the same teacher learn from the very same
files, so that no table has some seeds of one clustering and some of another.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from typing import Any

from advss_tf import config
from advss_tf.errors import InvalidInput
from advss_tf.workdir import Workdir, replacing, replacing_folder, write_json

SHARED_FROM = "shared_from"
# What decides the weights that pretraining ends with, and its history. The label budget does not, as no cut of the data
# depends on it, unless a probe looks for neighbours among the labels that it leaves.
_DECIDES = ("seed", "strategy", "precision", "jit_compile", "data", "encoder", "pretrain")
_LABELS = ("labels_per_class", "label_fraction")


def pretraining_key(recipe: config.Recipe) -> str | None:
    """Text that is equal for recipes whose pretraining ends with the same weights and history; None without one."""
    if recipe.pretrain is None:
        return None
    values = config.settled(recipe).model_dump(mode="json", include=set(_DECIDES))
    values["kept_branches"] = recipe.kept_branches  # more encoders are handed over where a later stage reads them
    if recipe.pretrain.probe is None:
        values["data"] = {name: value for name, value in values["data"].items() if name not in _LABELS}
    for name in config.AUGMENTATION:  # as pretraining does it, wherever that is said
        own = values["pretrain"].pop(name)
        values["data"][name] = values["data"][name] if own is None else own
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def finished_elsewhere(workdir: Workdir, stage: str) -> dict[str, Any] | None:
    """The result of another cell's finished stage; None where there is none, or none that can be read.

    What cannot be read fails its own cell, and says there what to do.
    """
    try:
        return workdir.finished(stage)
    except InvalidInput:
        return None


def adopt(workdir: Workdir, *, donor: Workdir) -> None:
    """Makes the donor's finished pretraining this run's, whole or not at all; a half-run one is replaced.

    A run that has not begun is held to the donor's images as well: in a split of others, some that were learned from
    would be measured on.

    The files of a finished stage are only ever replaced, never written into, so the links cannot change each other.
    """
    result = donor.finished("pretrain") or {}
    origin = result.get(SHARED_FROM, os.path.relpath(donor.root, workdir.root))
    if donor.data.is_file() and not workdir.data.is_file():
        with replacing(workdir.data) as file:
            file.write(donor.data.read_bytes())
    with replacing_folder(workdir.stage("pretrain")) as folder:
        shutil.copytree(donor.stage("pretrain"), folder, dirs_exist_ok=True, copy_function=_link)
        write_json(folder / "done.json", {**result, SHARED_FROM: origin})


def learn_from_the_same(
    recipe: config.Recipe, workdir: Workdir, *, others: Iterable[tuple[config.Recipe, Workdir]]
) -> None:
    """Holds a pretraining that has not begun to the files that another learned from, where both name the same ones.

    Recipes name files by their path, which may hold other clusters by now. What is noted here is the digests that the
    other began with; the run compares them with what it finds, and refuses to train on anything else.
    """
    path, named = workdir.taught_by("pretrain"), _files_of(recipe)
    if path.is_file() or not named:
        return
    for other, donor in others:
        noted = donor.taught_by("pretrain")
        if _files_of(other) == named and noted.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, json.loads(noted.read_text(encoding="utf-8")))
            return


def _files_of(recipe: config.Recipe) -> dict[str, str]:
    """What a pretraining learns from beside its images, by the key that names it: paths, as the recipe has them."""
    task = None if recipe.pretrain is None else recipe.pretrain.task
    named = {key: getattr(task, key, None) for key in ("pseudo_labels", "teacher")}
    return {key: str(path) for key, path in named.items() if path is not None}


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
