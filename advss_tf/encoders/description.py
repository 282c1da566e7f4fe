"""A network's description: plain JSON that says how it is built, and that runs no code when it is read.

Synopsis:

    description = describe(encoder)              # a dict for json.dump
    twin = rebuild(description)                  # the same layers, fresh weights

A Keras config names classes by module, and some classes (`Lambda`, `TFSMLayer`) carry code or read files. So every
name in a description is looked up and judged before Keras sees it: built-in Keras objects and those that this
library registered under `advss_tf` pass, everything else is refused.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import keras

from advss_tf.errors import InvalidInput

OWN_PACKAGE = "advss_tf>"
# The modules in which Keras' own serialisation places what a network is made of.
_MODULES = {
    "keras",
    "keras.constraints",
    "keras.dtype_policies",
    "keras.initializers",
    "keras.layers",
    "keras.quantizers",
    "keras.regularizers",
    "keras.src.models.functional",
}
_OPERATIONS = "keras.src.ops."  # `x + y` between two symbolic tensors is an object of such a module
_KINDS = (
    keras.Operation,
    keras.Initializer,
    keras.Regularizer,
    keras.constraints.Constraint,
    keras.DTypePolicy,
    keras.Quantizer,
)
# Layers that hold code, load another file, or need another framework.
_REFUSED = {
    "FlaxLayer",
    "IntegerLookup",
    "JaxLayer",
    "Lambda",
    "StringLookup",
    "TFSMLayer",
    "TextVectorization",
    "TorchModuleWrapper",
}
_VALUES = {"__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__"}


def describe(encoder: keras.Model) -> dict[str, Any]:
    """The JSON-able Keras config of an encoder, without its weights and without what it was compiled with.

    Args:
        encoder: A Functional or Sequential Keras model, (B, H, W, C) -> one tensor.

    Raises:
        InvalidInput: if it is another kind of model, or if `rebuild` would refuse the description.
    """
    if not isinstance(encoder, keras.Sequential | keras.Function) or not encoder.built:
        raise InvalidInput(
            "Only a network that Keras can write down layer by layer has a description.",
            expected="a built Functional or Sequential Keras model",
            received=f"encoder of type {type(encoder).__name__}",
        )
    if len(encoder.inputs) != 1 or len(encoder.outputs) != 1 or len(encoder.inputs[0].shape) != 4:
        raise InvalidInput(
            "An encoder maps one batch of images to one tensor.",
            expected="one input of shape (B, H, W, C) and one output",
            received=f"inputs {[tuple(x.shape) for x in encoder.inputs]}, {len(encoder.outputs)} output(s)",
        )
    config = json.loads(json.dumps(_without_compilation(keras.saving.serialize_keras_object(encoder))))
    check_description(config)
    return config


def rebuild(description: Mapping[str, Any]) -> keras.Model:
    """The network of a description, with fresh weights.

    Raises:
        InvalidInput: if the description names what is not allowed (see `check_description`), or Keras cannot build it.
    """
    check_description(description)
    try:
        model = keras.saving.deserialize_keras_object(copy.deepcopy(dict(description)), safe_mode=True)
    except Exception as error:  # Keras raises whatever a layer's constructor happens to raise.
        raise InvalidInput(
            "Keras cannot rebuild the network from its description.",
            expected="the config of a Functional or Sequential model",
            received=f"{type(error).__name__}: {str(error)[:300]}",
        ) from error
    if not isinstance(model, keras.Sequential | keras.Function):
        _refuse("The description is not that of a network.", f"a {type(model).__name__}")
    return model


def check_description(description: Any) -> None:
    """Judges every name in a description; no module is imported and no object is made.

    Raises:
        InvalidInput: if an object is neither built into Keras nor registered by this library, if it is one of the
            layers that carry code or read files, or if a name would reach what another program has registered.
    """
    if not isinstance(description, Mapping) or "class_name" not in description:
        _refuse("The description is not that of a network.", f"a {type(description).__name__} without `class_name`")
    for part in _parts(description):
        if isinstance(part, str):
            _check_text(part)
        else:
            _check_object(part)


def _parts(value: Any) -> Iterator[str | Mapping[str, Any]]:
    """Every object and every text of a config, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        # A layer without `module` would go through Keras' older reader, which has no such rules.
        if {"class_name", "module", "registered_name", "inbound_nodes", "compile_config"} & value.keys():
            yield value
        for inner in value.values():
            yield from _parts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _parts(inner)


def _check_text(text: str) -> None:
    # Keras replaces a bare text that is a registered name by the registered object.
    if keras.saving.get_registered_object(text) is not None and not text.startswith(OWN_PACKAGE):
        _refuse("The description uses a name that this library did not register.", repr(text))


def _check_object(entry: Mapping[str, Any]) -> None:
    class_name, module = entry.get("class_name"), entry.get("module")
    if class_name in _VALUES:
        return
    shown = f"class_name={class_name!r}, module={module!r}"
    if not isinstance(class_name, str) or "config" not in entry or "compile_config" in entry:
        _refuse("An object of the description has not the form that Keras writes.", shown)
    # Keras looks here first, so this is judged first.
    function = class_name == "function"
    name = entry["config"] if function else entry.get("registered_name", class_name)
    registered = keras.saving.get_registered_object(name) if isinstance(name, str) else None
    if registered is not None and str(name).startswith(OWN_PACKAGE):
        return
    allowed = _is_activation(name, module) if function else _is_built_in(class_name, module)
    if registered is not None or not allowed:
        _refuse(f"The description names an object that is not allowed: {name or class_name!r}.", shown)


def _is_activation(name: Any, module: Any) -> bool:
    return module in {"builtins", "keras.activations"} and str(name) in vars(keras.activations)


def _is_built_in(class_name: str, module: Any) -> bool:
    if not isinstance(module, str) or not class_name.isidentifier() or class_name in _REFUSED:
        return False
    if module not in _MODULES and not module.startswith(_OPERATIONS):
        return False
    found = getattr(sys.modules.get(module), class_name, None)
    return isinstance(found, type) and issubclass(found, _KINDS)


def _without_compilation(config: Any) -> Any:
    """The same config without optimizers and losses: they are no part of what the network computes."""
    if isinstance(config, Mapping):
        return {key: _without_compilation(value) for key, value in config.items() if key != "compile_config"}
    if isinstance(config, list | tuple):
        return [_without_compilation(value) for value in config]
    return config


def _refuse(what: str, received: str) -> NoReturn:
    expected = "layers that are built into Keras or registered by advss_tf, and no code"
    raise InvalidInput(what, expected=expected, received=received)
