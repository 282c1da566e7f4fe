"""An ensemble of classifiers as one SavedModel that needs nothing but TensorFlow.

Synopsis:

    export_ensemble(ensemble, "served/1", class_names=data.class_names)

    tf.saved_model.load("served/1")(images)                      # logits, anywhere, without this library
    verify_export("served/1", images=images, expected=ensemble.logits(images).numpy())

Its checkpoint holds every variable under `member0/`, `member1/`, … and its Keras path. `assets.extra/advss/` holds
`classifier.json` (the classes, the variables), `ensemble.json` (the members' names and weights, `combine`) and
`provenance.json`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from advss_tf.encoders.handoff import variables_by_path
from advss_tf.errors import InvalidInput
from advss_tf.serving.cards import classifier_card, ensemble_card, provenance_card, valid_class_names
from advss_tf.serving.export import check_logits, network_of, values_of, write_export
from advss_tf.serving.signatures import classifier_module

_PARTS = ("members", "member_weights", "combine", "image_shape", "num_classes", "logits")


def export_ensemble(
    ensemble: keras.Model,
    path: str | os.PathLike[str],
    *,
    class_names: Sequence[str] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Path:
    """Writes an ensemble as one SavedModel for TensorFlow Serving, whole or not at all; an earlier export is replaced.

    The signatures are those of `export_classifier` but `features`, since there are several encoders. Whatever the
    ensemble's `combine` is, `probabilities` are the mean of the members' and `logits` their logarithm. A member with
    batch-norm branches is served through the branch that it delivers; the other branch is in the files as well.

    Args:
        ensemble: A `RobustEnsemble`.
        path: The folder to write, such as `served/1`.
        class_names: One name per class; None for "0", "1", …
        provenance: See `export_encoder`.

    Returns:
        `path`.

    Raises:
        InvalidInput: if it is no ensemble, the class names do not fit, the images' size is free, two variables of one
            member have the same path, `provenance` is not JSON, or `path` is taken by something else.
    """
    _refuse_without_members(ensemble)
    logits, shape = network_of(ensemble.logits), ensemble.image_shape
    check_logits(logits, shape, ensemble.num_classes)
    names = valid_class_names(class_names, ensemble.num_classes)
    variables = _variables(ensemble.members)
    cards = {
        "classifier": classifier_card(names, variables),
        "ensemble": ensemble_card(
            shape, [member.name for member in ensemble.members], ensemble.member_weights, combine=ensemble.combine
        ),
        "provenance": provenance_card(provenance),
    }
    module, signatures = classifier_module(logits, None, values_of(variables), image_shape=shape, class_names=names)
    return write_export(path, module, signatures, cards)


def _refuse_without_members(ensemble: Any) -> None:
    missing = [name for name in _PARTS if not hasattr(ensemble, name)]
    if missing or not isinstance(ensemble, keras.Model):
        raise InvalidInput(
            "Only an ensemble can be exported as one.",
            expected="a RobustEnsemble; a single classifier goes through `export_classifier`",
            received=f"a {type(ensemble).__name__}" + (f" without {', '.join(missing)}" if missing else ""),
        )


def _variables(members: Sequence[keras.Model]) -> dict[str, Any]:
    """The variables of all members by path; what members share has the path of the first that has it."""
    found: dict[str, Any] = {}
    seen: set[int] = set()
    for number, member in enumerate(members):
        own = {path: v for path, v in variables_by_path(member).items() if id(v) not in seen}
        found |= {f"member{number}/{path}": variable for path, variable in own.items()}
        seen |= {id(variable) for variable in own.values()}
    return found
