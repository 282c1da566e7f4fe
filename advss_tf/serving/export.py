"""Exports: an encoder or a classifier as one SavedModel that needs nothing but TensorFlow.

Synopsis:

    export_encoder(pretext, "encoder", provenance={"recipe": recipe, "seed": 0})
    export_classifier(classifier, "served/1", class_names=data.class_names)

    tf.saved_model.load("encoder")(images)                       # anywhere, without this library
    advss_tf.encoders.load_encoder("encoder")                    # a trainable Keras model again

The checkpoint inside the SavedModel holds every variable under its Keras path; there is no second file of weights.
`assets.extra/advss/` holds `encoder.json` (how the network is built, its variables), `provenance.json` (where it
comes from) and, of a classifier, `classifier.json`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from advss_tf.encoders.handoff import CARDS, origin_of_model, variables_by_path
from advss_tf.encoders.normalization import branches, norm_branch, single_branch
from advss_tf.errors import InvalidInput, one_of
from advss_tf.serving.cards import NamedEncoder, classifier_card, provenance_card, valid_class_names
from advss_tf.serving.folder import whole_folder
from advss_tf.serving.signatures import Network, classifier_module, encoder_module


def export_encoder(
    model_or_encoder: keras.Model,
    path: str | os.PathLike[str],
    *,
    branch: str | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Path:
    """Writes an encoder as a SavedModel, whole or not at all; an earlier export at `path` is replaced.

    Args:
        model_or_encoder: A Functional or Sequential Keras encoder, or a model with an attribute `encoder`.
        path: The folder to write.
        branch: The batch-norm branch that becomes plain batch norm, if the encoder has branches; None for the model's
            own `delivered_branch`, which a bare encoder does not have.
        provenance: Where the encoder comes from, as JSON: recipe, seed, fingerprint of the data, … What a loaded
            encoder has been told by others, `external`, goes on unless it is in there. The versions of advss_tf,
            tensorflow and keras are added under `versions`.

    Returns:
        `path`.

    Raises:
        InvalidInput: if the encoder cannot be described, a branch is needed, not there or not known, `provenance` is
            not JSON, or `path` is taken by something else.
    """
    branch = branch or getattr(model_or_encoder, "delivered_branch", None)
    own = getattr(model_or_encoder, "encoder", model_or_encoder)
    encoder = _named(getattr(model_or_encoder, "delivered_encoder", own), branch)
    cards = {"encoder": encoder.card(), "provenance": provenance_card(_carried(own, provenance))}
    module, signatures = encoder_module(network_of(encoder.model), values_of(encoder.variables), encoder.image_shape)
    return write_export(path, module, signatures, cards)


def export_classifier(
    classifier: keras.Model,
    path: str | os.PathLike[str],
    *,
    class_names: Sequence[str] | None = None,
    branch: str | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Path:
    """Writes a classifier as a SavedModel for TensorFlow Serving; `classifier_module` lists its signatures.

    TensorFlow Serving watches a folder of versions and serves the highest number: export to `served/1`, then
    `served/2`, and point `--model_base_path` at `served`. Any other path is accepted too.

    Args:
        classifier: A Keras model, images -> logits, with attributes `encoder` and `num_classes`; or a model with such
            a classifier in an attribute `supervised`, of which nothing else is written.
        path: The folder to write.
        class_names: One name per class; None for "0", "1", …
        branch: The batch-norm branch of the encoder that becomes plain batch norm, if the encoder has branches; None
            for the classifier's own `delivered_branch`. The classifier must then have an attribute `head`, a Keras
            layer, features -> logits.
        provenance: See `export_encoder`.

    Returns:
        `path`.

    Raises:
        InvalidInput: as `export_encoder`; and if the class names do not fit, the input's size is free, the classifier
            does not give one logit per class, or `head(encoder(images))` is not what the classifier computes.
    """
    classifier = getattr(classifier, "supervised", classifier)
    _refuse_without_parts(classifier)
    branch = branch or getattr(classifier, "delivered_branch", None)
    encoder = _named(classifier.encoder, branch)
    logits = network_of(classifier)
    # Called before its variables are listed: a Keras model may build its head at the first call.
    check_logits(logits, encoder.image_shape, classifier.num_classes)
    if branch is not None:
        logits = _through_one_branch(classifier, encoder.model)
    names = valid_class_names(class_names, classifier.num_classes)
    head = _head_variables(classifier, encoder)
    cards = {
        "encoder": encoder.card(),
        "classifier": classifier_card(names, head),
        "provenance": provenance_card(_carried(classifier.encoder, provenance)),
    }
    module, signatures = classifier_module(
        logits,
        network_of(encoder.model),
        values_of({**encoder.variables, **head}),
        image_shape=encoder.image_shape,
        class_names=names,
    )
    return write_export(path, module, signatures, cards)


def write_export(path: str | os.PathLike[str], module: Any, signatures: dict, cards: Mapping[str, Any]) -> Path:
    """Writes a SavedModel and its cards, `{name: JSON}`, whole or not at all."""
    with whole_folder(path) as folder:
        tf.saved_model.save(module, str(folder), signatures=signatures)
        (folder / CARDS).mkdir(parents=True)
        for name, card in cards.items():
            text = json.dumps(card, indent=2, allow_nan=False)
            (folder / CARDS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    return Path(path)


def _named(encoder: Any, branch: str | None) -> NamedEncoder:
    """The encoder, reduced to one batch-norm branch if it has several."""
    if not isinstance(encoder, keras.Model):
        raise InvalidInput("There is no encoder.", expected="a Keras model", received=f"a {type(encoder).__name__}")
    found = branches(encoder)
    if branch is None and found:
        raise InvalidInput(
            "The encoder has batch-norm branches, and an export has one network.",
            expected=f"branch= one of {sorted(found)}",
            received="branch=None",
        )
    if branch is not None:
        encoder = single_branch(encoder, one_of("branch", branch, found) if found else branch)
    return NamedEncoder.of(encoder)


def _refuse_without_parts(classifier: Any) -> None:
    missing = [name for name in ("encoder", "num_classes") if not hasattr(classifier, name)]
    if missing or not isinstance(classifier, keras.Model):
        raise InvalidInput(
            "Only a classifier can be exported to be served.",
            expected="a Keras model, images -> logits, with attributes `encoder` and `num_classes`",
            received=f"a {type(classifier).__name__}" + (f" without {' and '.join(missing)}" if missing else ""),
        )


def check_logits(logits: Network, image_shape: Sequence[Any], num_classes: int) -> None:
    """Refuses images of a free size (`image_shape` is (H, W, C)), and outputs that are not one logit per class."""
    if None in image_shape:
        raise InvalidInput(
            "A served classifier needs images of one size.",
            expected="a model whose input has a fixed height, width and number of channels",
            received=f"images of shape {tuple(image_shape)}",
        )
    found = tuple(logits(tf.fill([2, *image_shape], 0.5)).shape)
    if found != (2, num_classes):
        raise InvalidInput(
            "The classifier does not give one logit per class.",
            expected=f"logits of shape (2, {num_classes}) for 2 images",
            received=f"shape {found}",
        )


def _through_one_branch(classifier: keras.Model, encoder: keras.Model) -> Network:
    """Images -> logits through the reduced encoder and the classifier's own head."""
    head = getattr(classifier, "head", None)
    if not isinstance(head, keras.layers.Layer):
        raise InvalidInput(
            "A classifier with batch-norm branches must have an attribute `head`.",
            expected="`head`: a Keras layer, features -> logits",
            received=f"a {type(classifier).__name__} without `head`",
        )
    _check_head(classifier, head)
    return network_of(lambda images, training: head(encoder(images, training=training), training=training))


def _check_head(classifier: keras.Model, head: keras.layers.Layer) -> None:
    # Which branch the classifier itself uses is its own affair, so the head may fit in any of them.
    images = tf.random.stateless_uniform([2, *classifier.encoder.inputs[0].shape[1:]], seed=(0, 0))
    wanted = classifier(images, training=False)
    differences = []
    for branch in branches(classifier.encoder):
        with norm_branch(branch):
            logits = head(classifier.encoder(images, training=False), training=False)
        differences.append(float(tf.reduce_max(tf.abs(tf.cast(logits - wanted, tf.float32)))))
    limit = 1e-3 * max(1.0, float(tf.reduce_max(tf.abs(wanted))))
    if not min(differences) <= limit:
        raise InvalidInput(
            "The classifier is not `head(encoder(images))`, so its branch cannot be chosen.",
            expected="equal logits in one of the branches",
            received=f"differences of {differences}",
        )


def _head_variables(classifier: keras.Model, encoder: NamedEncoder) -> dict[str, Any]:
    """All variables of the classifier that are not its encoder's, by path."""
    own = {id(variable) for variable in classifier.encoder.variables}
    head = {path: v for path, v in variables_by_path(classifier).items() if id(v) not in own}
    if clash := sorted(set(head) & set(encoder.variables)):
        raise InvalidInput(
            "Variables of the head have the paths of variables of the encoder.",
            expected="layers with distinct names",
            received=", ".join(clash),
        )
    return head


def network_of(model: Callable[..., Any]) -> Network:
    """The model in inference mode, images -> float32."""
    return lambda images: tf.cast(model(images, training=False), tf.float32)


def values_of(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The TensorFlow variables of Keras variables, by the same paths."""
    return {path: variable.value for path, variable in variables.items()}


def _carried(encoder: keras.Model, provenance: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The provenance with what the encoder, if it was loaded from an export, has been told by others."""
    told = (origin_of_model(encoder) or {}).get("external")
    if not told:
        return provenance
    said = (provenance or {}).get("external")
    words = told if not said else said if str(told) in str(said) else f"{said}; {told}"
    return {**(provenance or {}), "external": words}
