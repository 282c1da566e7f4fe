"""The strict hand-off: an exported encoder becomes a trainable Keras model again, every variable or none.

Synopsis:

    encoder = load_encoder("encoder")                            # rebuilt, trainable, every variable mapped
    provenance = read_provenance("encoder")                      # recipe, seed, versions, …
    origin = origin_of_model(encoder)                            # the same, of the model that was loaded
    assign_strictly(model, arrays, skip=("head/",))              # {path: array}; the head stays as it is

An export (see `advss_tf.serving`) is one SavedModel. Its own checkpoint holds every variable under its Keras path,
and two JSON files beside it say how the network is built and where it comes from:

    encoder/saved_model.pb, variables/…, assets.extra/advss/encoder.json, assets.extra/advss/provenance.json
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from advss_tf.encoders.description import describe, rebuild
from advss_tf.errors import InvalidInput

__all__ = [
    "assign_strictly",
    "describe",
    "load_encoder",
    "origin_of",
    "origin_of_model",
    "read_card",
    "read_provenance",
    "read_variables",
]

FORMAT_VERSION = 1
CARDS = Path("assets.extra") / "advss"
VARIABLES = "variables_by_path"
_KEY = re.compile(rf"{VARIABLES}/(.+)/\.ATTRIBUTES/VARIABLE_VALUE")
_SEED_STATE = re.compile(r"seed_generator(_\d+)?/seed_generator_state$")
_ORIGIN = "_advss_origin"  # JSON, as Keras would track a dictionary among what a model saves


def load_encoder(path: str | os.PathLike[str]) -> keras.Model:
    """The exported encoder as a Keras model: the layers that were exported, all trainable, with the exported weights.

    Args:
        path: A folder that `export_encoder` or `export_classifier` wrote.

    Returns:
        A Functional or Sequential model, (B, H, W, C) float32 images in [0, 1] -> features. It remembers where it is
        from, see `origin_of_model`.

    Raises:
        InvalidInput: if the folder is missing, damaged, not an export of this library or of a newer format; if the
            description names a class that is not allowed; or if the variables of the network, of the list in
            `encoder.json` and of the checkpoint are not the same, in which case all of them are named.
    """
    card = read_card(path, "encoder")
    model = rebuild(card["config"])
    model.trainable = True
    head = _listed(read_card(path, "classifier")) if (Path(path) / CARDS / "classifier.json").exists() else {}
    arrays = {name: array for name, array in read_variables(path).items() if name not in head}
    _refuse_differences("encoder.json does not list the variables of the network", _forms(model), _listed(card))
    assign_strictly(model, arrays)
    setattr(model, _ORIGIN, json.dumps(origin_of(path)))
    return model


def origin_of(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The provenance of an export, with `labels: True` beside it if it is, or was part of, a classifier.

    Raises:
        InvalidInput: if the folder is not an export of this library.
    """
    provenance = read_provenance(path)
    taught = "finetuned" in provenance or (Path(path) / CARDS / "classifier.json").is_file()
    return {**provenance, "labels": taught}


def origin_of_model(model: keras.Model) -> dict[str, Any] | None:
    """What `origin_of` said of the export that a model was loaded from, whatever has trained it since; else None."""
    known = getattr(model, _ORIGIN, None)
    return None if known is None else json.loads(known)


def passed_on(model: keras.Model, copy: keras.Model) -> keras.Model:
    """`copy`, which has weights of `model`, and with them remembers where it is from."""
    known = getattr(model, _ORIGIN, None)
    if known is not None:
        setattr(copy, _ORIGIN, known)
    return copy


def assign_strictly(model: keras.Model, arrays: Mapping[str, np.ndarray], *, skip: Iterable[str] = ()) -> None:
    """Assigns every variable of a model from arrays, or raises and changes nothing.

    Args:
        model: A built Keras model.
        arrays: A value for every variable, by Keras path, such as `"stem_conv/kernel"`. Non-trainable variables
            (moving averages, seed generator states) are variables like the others.
        skip: Beginnings of variable paths that are left as they are; arrays for them are not read.

    Raises:
        InvalidInput: if a variable has no array, an array no variable, or one another shape or kind of number than
            the other (all are named); or if an entry of `skip` is the beginning of no path.
    """
    variables = variables_by_path(model)
    skip = (skip,) if isinstance(skip, str) else tuple(skip)
    for prefix in skip:
        if not any(path.startswith(prefix) for path in variables):
            raise InvalidInput(
                f"The prefix {prefix!r} in `skip` is the beginning of no variable path.",
                expected=f"beginnings of {sorted(variables)}",
                received=f"skip={skip!r}",
            )
    wanted = {path: variable for path, variable in variables.items() if not path.startswith(skip)}
    given = {path: np.asarray(array) for path, array in arrays.items() if not path.startswith(skip)}
    found = {path: (array.shape, array.dtype) for path, array in given.items()}
    _refuse_differences("The arrays do not match the variables of the model", _forms(model, wanted), found)
    for path, variable in wanted.items():
        variable.assign(given[path])


def variables_by_path(model: keras.Model) -> dict[str, Any]:
    """The Keras variables of a model, all of them, by path.

    Keras numbers seed generators by the session (`seed_generator_7`); here they are numbered within the model, as in
    a fresh session, so that the same network always has the same paths.

    Raises:
        InvalidInput: if two variables have the same path.
    """
    found: dict[str, Any] = {}
    seed_states = 0
    for variable in model.variables:
        path = variable.path
        if _SEED_STATE.search(path):
            number = f"_{seed_states}" if seed_states else ""
            path = _SEED_STATE.sub(f"seed_generator{number}/seed_generator_state", path)
            seed_states += 1
        if path in found:
            raise InvalidInput(
                "Two variables of the model have the same path, so neither can be named.",
                expected="layers with distinct names, also across nested models",
                received=f"path={path!r} twice",
            )
        found[path] = variable
    return found


def read_variables(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """All variables of an export, by Keras path, from the SavedModel's own checkpoint.

    Raises:
        InvalidInput: if the folder is not an export of this library, or its checkpoint is missing or damaged.
    """
    folder = _export(path)
    try:
        reader = tf.train.load_checkpoint(str(folder / "variables" / "variables"))
        keys = {_unescaped(match[1]): key for key in reader.get_variable_to_shape_map() if (match := _KEY.match(key))}
        return {name: np.asarray(reader.get_tensor(key)) for name, key in sorted(keys.items())}
    except (tf.errors.OpError, LookupError, OSError, RuntimeError, ValueError) as error:
        raise InvalidInput(
            "The variables of the export cannot be read: the files are missing or damaged.",
            expected=f"a whole checkpoint in {folder / 'variables'}",
            received=f"{type(error).__name__}: {str(error)[:300]}",
        ) from error


def read_provenance(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Where an export comes from: what was given to the export as `provenance`, and the versions that wrote it.

    Raises:
        InvalidInput: if the folder is not an export of this library.
    """
    return read_card(path, "provenance")


def read_card(path: str | os.PathLike[str], name: str) -> dict[str, Any]:
    """One of the JSON files of an export: `encoder`, `provenance`, `classifier` (where there are classes), `ensemble`.

    Raises:
        InvalidInput: if the folder is not an export, the file is missing or damaged, or its format is newer; if the
            one encoder of an ensemble is asked for.
    """
    if name == "encoder" and is_ensemble(path):
        raise InvalidInput(
            "An exported ensemble has several encoders, so none can be taken from it.",
            expected="an export of one encoder or one classifier, such as a member's own",
            received=f"path={str(path)!r}",
        )
    file = _export(path) / CARDS / f"{name}.json"
    try:
        card = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(
            f"The export has no readable {name}.json.", expected=f"JSON in {file}", received=str(error)
        ) from error
    if not isinstance(card, dict) or (name == "encoder" and not {"format_version", "config", "variables"} <= set(card)):
        raise InvalidInput(
            f"{name}.json is not complete.", expected="what the export wrote", received=f"{str(card)[:100]!r}"
        )
    version = card.get("format_version", FORMAT_VERSION) if name != "provenance" else FORMAT_VERSION
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise InvalidInput(
            "The export was written in a newer format; a newer advss_tf reads it.",
            expected=f"format_version <= {FORMAT_VERSION}",
            received=f"format_version={version!r}",
        )
    return card


def is_ensemble(path: str | os.PathLike[str]) -> bool:
    """Whether a folder is an export of an ensemble."""
    return (Path(path) / CARDS / "ensemble.json").is_file()


def _export(path: str | os.PathLike[str]) -> Path:
    folder = Path(path)
    if not folder.is_dir():
        lack = "a file" if folder.exists() else "nothing there"
    else:
        card = "ensemble.json" if is_ensemble(folder) else "encoder.json"
        needed = ("saved_model.pb", str(CARDS / card))
        lack = ", ".join(f"no {name}" for name in needed if not (folder / name).is_file())
    if lack:
        raise InvalidInput(
            "The path is not an encoder or classifier exported by advss_tf.",
            expected="a folder that export_encoder or export_classifier wrote",
            received=f"path={str(path)!r} ({lack})",
        )
    return folder


def _unescaped(name: str) -> str:
    # TensorFlow writes "." as ".." in the keys of a checkpoint.
    return name.replace("..", ".")


def _forms(model: keras.Model, variables: Mapping[str, Any] | None = None) -> dict[str, tuple[tuple, np.dtype]]:
    chosen = variables_by_path(model) if variables is None else variables
    return {path: (tuple(v.shape), tf.as_dtype(v.dtype).as_numpy_dtype) for path, v in chosen.items()}


def _listed(card: Mapping[str, Any]) -> dict[str, tuple[tuple, Any]]:
    try:
        return {
            row["path"]: (tuple(row["shape"]), tf.as_dtype(row["dtype"]).as_numpy_dtype) for row in card["variables"]
        }
    except (KeyError, TypeError) as error:
        raise InvalidInput(
            "The list of variables in the export is damaged.",
            expected="`path`, `shape` and `dtype` of each variable",
            received=f"{type(error).__name__}: {error}",
        ) from error


def _refuse_differences(what: str, wanted: Mapping[str, tuple], found: Mapping[str, tuple]) -> None:
    shapes = {path: (form, found[path]) for path, form in wanted.items() if path in found}
    differences = {
        "missing": sorted(set(wanted) - set(found)),
        "unused": sorted(set(found) - set(wanted)),
        "mis-shaped": [
            f"{path} {has[0]} for {wants[0]}" for path, (wants, has) in shapes.items() if wants[0] != has[0]
        ],
        "of another type": [
            f"{path} {np.dtype(has[1])} for {np.dtype(wants[1])}"
            for path, (wants, has) in shapes.items()
            if not np.can_cast(has[1], wants[1], "same_kind")
        ],
    }
    if any(differences.values()):
        received = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in differences.items() if names)
        raise InvalidInput(f"{what}.", expected="every variable exactly once, in its shape", received=received)
