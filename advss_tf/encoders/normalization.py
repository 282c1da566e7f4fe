"""Batch norm with one branch per stream of images, and the word that chooses the branch.

Synopsis:

    encoder = resnet20((32, 32, 3), branches=("clean", "adversarial"))
    clean = encoder(images)                              # no word: the first branch
    with norm_branch("adversarial"):
        adversarial = encoder(perturbed)
    exported = single_branch(encoder, "adversarial")     # plain batch norm, the same function

Clean and adversarial images have different activation statistics, and one set of running averages fits neither
(Xie et al., "Adversarial Examples Improve Image Recognition", CVPR 2020, arXiv 1911.09665).
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from advss_tf.errors import InvalidInput

_OPTIONS = ("axis", "momentum", "epsilon", "center", "scale", "synchronized")  # that a branch's norm has of its layer
_BRANCH: contextvars.ContextVar[str | None] = contextvars.ContextVar("advss_tf_norm_branch", default=None)


@contextmanager
def norm_branch(name: str | None) -> Iterator[None]:
    """Inside the `with`, every `BranchedBatchNormalization` that is called uses the branch `name`.

    The branch is read when a layer is called, which inside a `tf.function` is when it is traced: enter the context in
    the traced function, not around a call of it. Under a distribution strategy enter it in the function that each
    replica runs (such as `train_step`), since each replica traces in a thread of its own. Contexts nest, and the
    one outside is restored when one ends, also by an error.

    Args:
        name: A branch of every branched layer that is called inside; a layer that lacks it refuses the call. None
            for the first branch of each.
    """
    token = _BRANCH.set(name)
    try:
        yield
    finally:
        _BRANCH.reset(token)


def current_branch() -> str | None:
    """The branch that the innermost `norm_branch` names, or None outside of all (each layer's first branch)."""
    return _BRANCH.get()


def in_current_branch(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The same function, called in the branch that is chosen now, wherever it is called."""
    branch = current_branch()

    # AutoGraph would rewrite whatever loops the function has in Python at each tracing, to no purpose.
    @tf.autograph.experimental.do_not_convert
    def bound(inputs: Any) -> Any:
        with norm_branch(branch):
            return function(inputs)

    return bound


@keras.saving.register_keras_serializable(package="advss_tf")
class BranchedBatchNormalization(keras.layers.Layer):
    """Batch norm with separate weights and statistics for each branch; `norm_branch` chooses the branch.

    Statistics and gradients of the branches that are not chosen stay as they are.

    Args:
        branches: The branches' names, at least one; the first is used outside of every `norm_branch`.
        axis: The axis of the channels.
        momentum: Share of the old running averages that one training step keeps.
        epsilon: What is added to the variance.
        center: Whether a `beta` is added.
        scale: Whether a `gamma` is multiplied.
        synchronized: Whether the statistics are those of all replicas' images.
        **kwargs: `name`, `dtype` and `trainable`, as for every Keras layer.

    Call arguments:
        inputs: A tensor of any rank, channels on `axis`.
        training: Whether to normalise by the batch's statistics and to move the branch's running averages.

    Raises:
        InvalidInput: if the branches are not distinct words, or if the chosen branch is not one of them.
    """

    def __init__(
        self,
        branches: Sequence[str] = ("clean", "adversarial"),
        *,
        axis: int = -1,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        center: bool = True,
        scale: bool = True,
        synchronized: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.branches = valid_branches(branches)
        self.axis, self.momentum, self.epsilon = axis, momentum, epsilon
        self.center, self.scale, self.synchronized = center, scale, synchronized

    def build(self, input_shape: Any) -> None:
        """One Keras batch norm for each branch; its variables are named `<layer>/<branch>/gamma` and so on."""
        self.norms = [self.plain_norm(name=branch) for branch in self.branches]
        for norm in self.norms:
            norm.build(input_shape)

    def plain_norm(self, *, name: str) -> keras.layers.BatchNormalization:
        """A new plain batch norm with this layer's options."""
        options = {key: getattr(self, key) for key in _OPTIONS}
        return keras.layers.BatchNormalization(name=name, dtype=self.dtype_policy, trainable=self.trainable, **options)

    def norm(self, branch: str | None = None) -> keras.layers.BatchNormalization:
        """The plain batch norm of `branch`, or of the first branch for None."""
        if branch is None:
            return self.norms[0]
        if branch not in self.branches:
            raise _unknown_branch(self, branch)
        return self.norms[self.branches.index(branch)]

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return self.norm(current_branch())(inputs, training=training)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        options = {key: getattr(self, key) for key in _OPTIONS}
        return {**super().get_config(), "branches": list(self.branches), **options}


def plain_norm(operation: Any) -> keras.layers.BatchNormalization | None:
    """The batch norm that `operation` is at this moment, inside `norm_branch` or not; None if it is none.

    A subclass of Keras' batch norm is none: it may compute something else.
    """
    if isinstance(operation, BranchedBatchNormalization):
        return operation.norm(current_branch())
    return operation if type(operation) is keras.layers.BatchNormalization else None


def valid_branches(branches: Sequence[str]) -> tuple[str, ...]:
    """`branches` as a tuple, if they are distinct words.

    Raises:
        InvalidInput: otherwise.
    """
    words = () if isinstance(branches, str) else tuple(branches)
    if not words or len(set(words)) < len(words) or not all(isinstance(w, str) and w.isidentifier() for w in words):
        raise InvalidInput(
            "`branches` must name each branch once.",
            expected='one or more distinct identifiers, such as ("clean", "adversarial")',
            received=f"branches={branches!r}",
        )
    return words


def _unknown_branch(layer: BranchedBatchNormalization, branch: str) -> InvalidInput:
    error = InvalidInput(
        f"The layer {layer.name!r} has no such batch-norm branch.",
        expected=f"one of {list(layer.branches)}",
        received=f"branch={branch!r}",
    )
    # Keras replaces what is raised inside a layer's call by a RuntimeError with more text, but for what bears this.
    vars(error)["_keras_call_info_injected"] = True
    return error


def branches(encoder: keras.Model) -> tuple[str, ...]:
    """The branches that all branched layers of `encoder` have, in order; empty if it has no such layer."""
    layers = [layer for layer in encoder._flatten_layers() if isinstance(layer, BranchedBatchNormalization)]
    if not layers:
        return ()
    return tuple(branch for branch in layers[0].branches if all(branch in layer.branches for layer in layers))


def is_synchronized(model: keras.Model) -> bool:
    """Whether replicas meet in a forward pass of `model` in training mode: in a trained batch norm that says so."""
    norms = (layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization))
    return any(norm.synchronized and norm.trainable for norm in norms)


def single_branch(encoder: keras.Model, branch: str) -> keras.Model:
    """A new model with plain batch norm that computes what `encoder` computes inside `norm_branch(branch)`.

    Layers keep their names, so that what is saved of the new model loads into an encoder built with `branches=()`.

    Args:
        encoder: A Functional or Sequential model with branched batch norm at its top level.
        branch: A branch that every branched layer has.

    Returns:
        A new model with weights of its own, equal to those of `encoder` at this moment.

    Raises:
        InvalidInput: if the model cannot be cloned layer by layer, has no branched layer, hides one inside another
            layer, or has one that lacks `branch`.
    """
    _refuse_unsplittable(encoder, branch)

    def clone_of(layer: Any) -> Any:
        if isinstance(layer, BranchedBatchNormalization):
            return layer.plain_norm(name=layer.name)
        return layer.__class__.from_config(layer.get_config())

    clone = keras.models.clone_model(encoder, clone_function=clone_of)
    for layer in encoder.layers:
        source = layer.norm(branch) if isinstance(layer, BranchedBatchNormalization) else layer
        clone.get_layer(layer.name).set_weights(source.get_weights())
    return clone


def _refuse_unsplittable(encoder: keras.Model, branch: str) -> None:
    if not isinstance(encoder, keras.Sequential | keras.Function):
        _refuse("Only a Functional or Sequential model can be reduced to one branch.", f"a {type(encoder).__name__}")
    top = [layer for layer in encoder.layers if isinstance(layer, BranchedBatchNormalization)]
    for layer in encoder.layers:
        inner = [] if layer in top else layer._flatten_layers(include_self=False)
        if any(isinstance(part, BranchedBatchNormalization) for part in inner):
            _refuse("A branched layer inside another layer cannot be reduced.", f"one inside the layer {layer.name!r}")
    if not top:
        _refuse("The encoder has no batch-norm branches to choose from.", f"branch={branch!r} for {encoder.name!r}")
    for layer in top:
        layer.norm(branch)


def _refuse(what: str, received: str) -> None:
    expected = "a Functional or Sequential model with BranchedBatchNormalization layers at its top level"
    raise InvalidInput(what, expected=expected, received=received)
