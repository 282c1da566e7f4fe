"""The fast adaptive boundary attack: the nearest image that is classified otherwise, in one `tf.while_loop`.

Synopsis:

    attack = FastAdaptiveBoundary(Linf("8/255"), num_steps=100)
    attacked = attack(differences, {"images": images}, seed)["images"]
    distances = attack.run(differences, {"images": images}, seed).distances

`differences` takes a dict of images and returns `(batch, K)`: the logit of each of K rival classes minus the logit of
the label. An image is fooled where any of them is above zero. One column, the logit of a target minus the label's, is
the targeted form (FAB-T). Epsilon does not change the path of the first start, it only decides what is returned.

Reference: Croce and Hein, "Minimally distorted Adversarial Examples with a Fast Adaptive Boundary Attack", 2020 (arXiv
1907.02044), algorithm 1 without the final search, as in the public code of AutoAttack.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import keras
import tensorflow as tf

from advss_tf.attacks.arguments import at_least_one, within
from advss_tf.attacks.attack import Attack
from advss_tf.attacks.batches import Images, choose, into_box, only_entry, shape_of
from advss_tf.attacks.projections import NORMS, nearest_hyperplane, onto_hyperplane, size
from advss_tf.attacks.threat import Threat
from advss_tf.errors import InvalidInput
from advss_tf.randomness import batch_normal, batch_uniform, fold

Differences: TypeAlias = Callable[[Images], tf.Tensor]
Fooled: TypeAlias = Callable[[Images], tf.Tensor]


class BoundaryResult(NamedTuple):
    """What a minimum-norm attack found.

    Attributes:
        inputs: The closest fooling images where they lie in the ball, else the images as they came; float32 in [0, 1].
        distances: `(batch,)` float32: distance of the closest fooling point in the threat's norm, in the ball or not:
            0 where the image itself is fooled, infinity where nothing was found.
    """

    inputs: Images
    distances: tf.Tensor


class _Problem(NamedTuple):
    """What is attacked, on flat images `(batch, n)`."""

    differences: Callable[[tf.Tensor], tf.Tensor]
    fooled: Callable[[tf.Tensor], tf.Tensor]
    centers: tf.Tensor


class _Found(NamedTuple):
    """The closest fooling points so far, `(batch, n)`, and their distances, `(batch,)`."""

    points: tf.Tensor
    distances: tf.Tensor


@keras.saving.register_keras_serializable(package="advss_tf")
class FastAdaptiveBoundary(Attack):
    """Steps onto the linearised decision boundary, drawn towards the image, and back along the line to it.

    A step costs two forward passes and one backward pass for each column of `differences`; a run one forward pass more.

    Args:
        threat: The norm whose distance is made small, and the ball in which the result has to lie.
        num_steps: Number of steps of each start.
        num_restarts: Number of starts. The first is the image, the others are random points at half of
            `min(epsilon, distance of the closest point so far)` from it. The closest point of all is kept. (AutoAttack
            starts again only for images that are not yet fooled in the ball; they take the same starts here.)
        alpha_max: Largest share of the projection of the image in a step, in [0, 1]; the rest is that of the iterate.
        overshoot: Factor of both projections (eta of the paper), at least 1: how far past the boundary a step goes.
        backward: What is left of the distance to the image after a fooling point was found (beta), in (0, 1].

    Call arguments:
        differences: `differences(inputs) -> (batch, K)`, the rivals' logits minus the label's.
        inputs: `{name: images}` with exactly one entry, `(batch, height, width, channels)` in [0, 1]. Not modified.
        seed: int32, `(2,)` or one an example `(batch, 2)`; only read where there are restarts.
        epsilon: Optional number, scalar tensor or one number per example `(batch,)`, instead of `threat.epsilon`.
        fooled: Optional `fooled(inputs) -> (batch,)` of booleans, instead of "any difference is above zero". With one
            column, AutoAttack's FAB-T also counts a point that is taken for a third class: pass "the prediction is not
            the label" for that.

    Raises:
        InvalidInput: if a number is out of its range, the norm has no projection, `inputs` holds not exactly one entry,
            or `differences` does not return `(batch, K)`.
    """

    norms = NORMS

    def __init__(
        self,
        threat: Threat,
        *,
        num_steps: int = 100,
        num_restarts: int = 1,
        alpha_max: float = 0.1,
        overshoot: float = 1.05,
        backward: float = 0.9,
    ) -> None:
        super().__init__(threat)
        self.num_steps = at_least_one("num_steps", num_steps)
        self.num_restarts = at_least_one("num_restarts", num_restarts)
        self.alpha_max = within("alpha_max", alpha_max, 0 <= alpha_max <= 1, "a number in [0, 1]")
        self.overshoot = within("overshoot", overshoot, 1 <= overshoot < float("inf"), "a finite number >= 1")
        self.backward = within("backward", backward, 0 < backward <= 1, "a number in (0, 1]")

    def run(
        self,
        differences: Differences,
        inputs: Images,
        seed: tf.Tensor,
        *,
        epsilon: Any = None,
        fooled: Fooled | None = None,
    ) -> BoundaryResult:
        """The same as a call, together with the distances."""
        name, images = only_entry(inputs, "A distance to the boundary is measured in one input.")
        problem = _flat_problem(differences, fooled, name, images)
        centers = problem.centers
        radius = tf.broadcast_to(tf.reshape(self._radius(epsilon), (-1,)), tf.shape(centers)[:1])
        with keras.StatelessScope():  # a forward pass may not move running statistics or any other variable
            found = self._restarts(problem, radius, seed)
        points = choose(found.distances <= radius, found.points, centers)
        attacked = tf.ensure_shape(tf.reshape(points, tf.shape(images)), images.shape)
        return BoundaryResult({name: tf.stop_gradient(attacked)}, tf.stop_gradient(found.distances))

    def passes(self) -> tuple[int, int]:
        """`2 num_steps + 1` forward passes, the look at the image included, and `num_steps` backward passes.

        The backward passes are those of one column of `differences`; with K columns there are K times as many.
        """
        return 2 * self.num_steps + 1, self.num_steps

    def _restarts(self, problem: _Problem, radius: tf.Tensor, seed: tf.Tensor) -> _Found:
        centers = problem.centers
        found = _Found(centers, tf.where(problem.fooled(centers), 0.0, tf.fill(tf.shape(radius), float("inf"))))
        found = self._one_start(problem, centers, found)
        if self.num_restarts == 1:
            return found

        def again(restart: tf.Tensor, found: _Found) -> tuple[tf.Tensor, _Found]:
            start = self._start(centers, tf.minimum(found.distances, radius), fold(seed, restart))
            return restart + 1, self._one_start(problem, start, found)

        return tf.while_loop(
            lambda restart, _: restart < self.num_restarts, again, (tf.constant(1), found), parallel_iterations=1
        )[1]

    def _start(self, centers: tf.Tensor, radius: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        shape = shape_of(centers)
        noise = batch_uniform(seed, shape, -1.0, 1.0) if self.threat.norm == "linf" else batch_normal(seed, shape)
        noise = tf.math.divide_no_nan(noise, size(noise, norm=self.threat.norm)[:, None])
        return into_box(centers + 0.5 * radius[:, None] * noise)

    def _one_start(self, problem: _Problem, start: tf.Tensor, found: _Found) -> _Found:
        def step(number: tf.Tensor, points: tf.Tensor, found: _Found) -> tuple[tf.Tensor, tf.Tensor, _Found]:
            points = self._cross(problem, points)
            # This verdict's pass cannot serve the next step: that starts elsewhere where one image of the batch is
            # fooled, and needs a gradient, but no tape outlives its step of the loop.
            fooled = problem.fooled(points)
            found = self._closer(problem, points, fooled, found)
            back = problem.centers + self.backward * (points - problem.centers)
            return number + 1, choose(fooled, back, points), found

        return tf.while_loop(
            lambda number, *_: number < self.num_steps, step, (tf.constant(0), start, found), parallel_iterations=1
        )[2]

    def _cross(self, problem: _Problem, points: tf.Tensor) -> tf.Tensor:
        """One step over the linearised boundary: from where it stands, with a share of the way from the image."""
        norm, centers = self.threat.norm, problem.centers
        values, gradients = nearest_hyperplane(problem.differences, points, norm=norm)
        at_centers = values + tf.reduce_sum(gradients * (centers - points), axis=1)
        move = onto_hyperplane(points, gradients, values, norm=norm)
        from_centers = onto_hyperplane(centers, gradients, at_centers, norm=norm)
        near, far = (tf.maximum(size(each, norm=norm), 1e-8) for each in (move, from_centers))
        alpha = tf.minimum(near / (near + far), self.alpha_max)[:, None]
        crossed, drawn = points + self.overshoot * move, centers + self.overshoot * from_centers
        return into_box((1 - alpha) * crossed + alpha * drawn)

    def _closer(self, problem: _Problem, points: tf.Tensor, fooled: tf.Tensor, found: _Found) -> _Found:
        distances = size(points - problem.centers, norm=self.threat.norm)
        return choose(fooled & (distances < found.distances), _Found(points, distances), found)


def _flat_problem(differences: Differences, fooled: Fooled | None, name: str, images: tf.Tensor) -> _Problem:
    shape = tf.shape(images)

    def as_images(flat: tf.Tensor) -> Images:
        return {name: tf.ensure_shape(tf.reshape(flat, shape), images.shape)}

    def columns(flat: tf.Tensor) -> tf.Tensor:
        return _checked(tf.cast(differences(as_images(flat)), tf.float32))

    def any_above_zero(flat: tf.Tensor) -> tf.Tensor:
        return tf.reduce_any(columns(flat) > 0, axis=1)

    verdict = any_above_zero if fooled is None else lambda flat: tf.cast(fooled(as_images(flat)), tf.bool)
    return _Problem(columns, verdict, tf.reshape(images, (-1, images.shape[1:].num_elements())))


def _checked(values: tf.Tensor) -> tf.Tensor:
    if values.shape.rank != 2 or values.shape[1] == 0:
        raise InvalidInput(
            "`differences` does not return one column a rival class.",
            expected="shape (batch, K), K >= 1",
            received=f"shape={tuple(values.shape)}",
        )
    return values
