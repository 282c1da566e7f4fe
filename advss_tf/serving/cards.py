"""What an export writes beside its SavedModel: the JSON files that say what it is.

Synopsis:

    named = NamedEncoder.of(encoder)                   # its description, and its variables by path
    cards = {"encoder": named.card(), "provenance": provenance_card({"seed": 0})}
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from advss_tf.encoders.description import describe, rebuild
from advss_tf.encoders.handoff import FORMAT_VERSION, variables_by_path
from advss_tf.errors import InvalidInput
from advss_tf.version import __version__


@dataclasses.dataclass(frozen=True)
class NamedEncoder:
    """An encoder that has been described, with its variables under the paths that `load_encoder` will ask for.

    Attributes:
        model: The encoder.
        description: What `describe` says of it.
        variables: Its Keras variables by path.
    """

    model: keras.Model
    description: dict[str, Any]
    variables: dict[str, Any]

    @classmethod
    def of(cls, model: keras.Model) -> NamedEncoder:
        """Describes an encoder and names its variables.

        An encoder that was built inside another model has paths that begin with that model's name. Rebuilding it
        from its description gives the paths without it, and proves that the export can be loaded again.

        Raises:
            InvalidInput: if the encoder cannot be described and rebuilt.
        """
        description = describe(model)
        paths, own = list(variables_by_path(rebuild(description))), variables_by_path(model)
        if len(paths) != len(own) or not all(long.endswith(path) for long, path in zip(own, paths, strict=True)):
            raise InvalidInput(
                "The encoder and its rebuilt twin do not have the same variables.",
                expected=f"paths that end with {paths}",
                received=f"{list(own)}",
            )
        return cls(model, description, dict(zip(paths, own.values(), strict=True)))

    @property
    def image_shape(self) -> tuple[Any, ...]:
        """(H, W, C); None where free."""
        return tuple(self.model.inputs[0].shape[1:])

    def card(self) -> dict[str, Any]:
        """What `encoder.json` holds."""
        return {
            "format_version": FORMAT_VERSION,
            "input_shape": list(self.image_shape),
            "features_shape": list(self.model.outputs[0].shape[1:]),
            "variables": _rows(self.variables),
            "config": self.description,
        }


def classifier_card(class_names: Sequence[str], head: Mapping[str, Any]) -> dict[str, Any]:
    """What `classifier.json` holds: the classes, and the variables that are not the encoder's."""
    return {
        "format_version": FORMAT_VERSION,
        "num_classes": len(class_names),
        "class_names": list(class_names),
        "variables": _rows(head),
    }


def ensemble_card(
    image_shape: Sequence[int], members: Sequence[str], weights: Sequence[float], *, combine: str
) -> dict[str, Any]:
    """What `ensemble.json` holds: what it takes, its members' names and weights in the order of the variables, and
    what the ensemble itself gives.
    """
    return {
        "format_version": FORMAT_VERSION,
        "input_shape": list(image_shape),
        "members": list(members),
        "weights": list(weights),
        "combine": combine,
    }


def provenance_card(provenance: Mapping[str, Any] | None) -> dict[str, Any]:
    """What `provenance.json` holds: what was given, and under `versions` the versions that write the export.

    Raises:
        InvalidInput: if it is not a dict of JSON values.
    """
    versions = {"advss_tf": __version__, "tensorflow": tf.__version__, "keras": keras.__version__}
    try:
        return json.loads(json.dumps({**(provenance or {}), "versions": versions}, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            "`provenance` is not JSON.",
            expected="a dict of texts, finite numbers, lists and dicts",
            received=str(error),
        ) from error


def valid_class_names(class_names: Sequence[str] | None, num_classes: int) -> list[str]:
    """`class_names` as a list, or "0", "1", … for None.

    Raises:
        InvalidInput: unless they are as many distinct texts as there are classes.
    """
    names = [str(number) for number in range(num_classes)] if class_names is None else list(class_names)
    texts = all(isinstance(name, str) for name in names)
    if isinstance(class_names, str) or not texts or len(names) != num_classes or len(set(names)) != len(names):
        raise InvalidInput(
            "`class_names` do not name the classes.",
            expected=f"{num_classes} distinct texts",
            received=f"class_names={class_names!r}",
        )
    return names


def _rows(variables: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"path": path, "shape": list(v.shape), "dtype": str(v.dtype)} for path, v in variables.items()]
