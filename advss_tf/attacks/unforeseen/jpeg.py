"""JPEG: the perturbation is one of the coefficients that a JPEG file holds.

Synopsis:

    attack = JPEGAttack(0.125)                                   # Linf; or norm="l2", norm="l1"
    attacked = attack(climb, {"images": images}, seed)["images"]

An image becomes luma and two halved chroma planes, each plane blocks of 8x8 pixels, each block its cosine transform,
each coefficient a multiple of its step in the standard quantisation tables (quality 50). The attack adds to these
multiples and goes the way back. Neither the paper's code nor this one rounds them to whole numbers, at any point.

Reference: Kang et al. 2019 (arXiv 1908.08016); the tables are those of ITU-T T.81, annex K.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from advss_tf.attacks.arguments import number
from advss_tf.attacks.batches import shape_of
from advss_tf.attacks.unforeseen.ascent import PUBLISHED_STEPS, Ball, Fixed, UnforeseenAttack, across
from advss_tf.errors import one_of
from advss_tf.randomness import batch_normal, batch_uniform, fold

NORMS = ("l1", "l2", "linf")

_LUMA = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    np.float32,
)
_CHROMA = np.full((8, 8), 99, np.float32)
_CHROMA[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]

# JFIF's conversion; the chroma planes are kept without their offset of 128, which cancels.
_TO_PLANES = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32).T
_TO_COLOURS = np.array([[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]], np.float32).T

# Row u is the cosine of frequency u at eight pixels: the orthonormal DCT-II.
_COSINES = np.sqrt(0.25) * np.cos(np.outer(np.arange(8), 2 * np.arange(8) + 1) * np.pi / 16)
_COSINES[0] /= np.sqrt(2)
_COSINES = _COSINES.astype(np.float32)


class CoefficientBall(Ball):
    """Perturbations of the coefficients whose norm, over all planes of an image, is at most `epsilon`.

    In L1 and L2 each is also at most `largest` in size. There the projection cuts to `largest` and shortens to
    `epsilon`: a point of the ball, for L2 the one that the published code takes, not always the nearest.
    """

    def __init__(self, norm: str, epsilon: float, *, largest: float) -> None:
        super().__init__(f"jpeg_{norm}", epsilon)
        self.order, self.largest = norm, largest

    def project(self, parameters: tf.Tensor, epsilon: Any) -> tf.Tensor:
        bound = across(epsilon, parameters)
        if self.order == "linf":
            return tf.clip_by_value(parameters, -bound, bound)
        if self.order == "l2":
            shorter = parameters * tf.minimum(1.0, tf.math.divide_no_nan(bound, _l2(parameters)))
            return tf.clip_by_value(shorter, -self.largest, self.largest)
        cut = tf.clip_by_value(parameters, -self.largest, self.largest)
        return cut * tf.minimum(1.0, tf.math.divide_no_nan(bound, tf.reduce_sum(tf.abs(cut), axis=1, keepdims=True)))


@keras.saving.register_keras_serializable(package="advss_tf")
class JPEGAttack(UnforeseenAttack):
    """Ascent in the space of JPEG's coefficients: by signs (Linf), by directions (L2) or by Frank and Wolfe (L1).

    `epsilon` bounds the norm of the parameters. As in the published code, a parameter of 1 moves its coefficient by
    *half* a step of the quantisation table. An image has one parameter per luma pixel and per pixel of the halved
    chroma planes, so sizes in L1 and L2 go with the number of pixels: those published for 32 pixels do not fit 224.
    With `epsilon` 0 an image comes back after the round trip, which only halves its chroma planes: grey images, which
    have the luma plane alone, come back as they were. Sides that are no multiple of 16 (grey: 8) are continued below
    and to the right by the last pixel, and cut again; the published code refuses them.

    Two differences: the published code takes its first gradient at `epsilon` times the random start, by mistake; here
    it is taken at the start. And in L1, `largest` holds from the first step, there from the second. One oddity of L1 is
    kept, as the published accuracies were measured with it: a vertex goes as far as `largest` from where a parameter
    stands, but is then taken as if from 0. A parameter whose gradient keeps its sign settles at half of `largest`.

    Args:
        epsilon: The size.
        norm: "linf", "l2" or "l1".
        num_steps: Number of steps; 200 in the published evaluation.
        step_size: Length of a step in the norm. Default: `epsilon / sqrt(num_steps)`. L1 has none: its step number k
            goes 1/k of the way to the vertex that the gradient points at.
        random_start: Whether to begin at a point drawn uniformly from the ball, or at 0.
        largest: In L1 and L2, the most that one parameter may be.

    Raises:
        InvalidInput: if a number is out of its range or the norm is not known.
    """

    scales_with_epsilon = True

    def __init__(
        self,
        epsilon: float,
        *,
        norm: str = "linf",
        num_steps: int = PUBLISHED_STEPS,
        step_size: float | None = None,
        random_start: bool = True,
        largest: float = 2.0,
    ) -> None:
        self.norm = one_of("norm", norm, NORMS)
        self.largest = number("largest", largest)
        ball = CoefficientBall(norm, epsilon, largest=self.largest)
        super().__init__(ball, num_steps=num_steps, step_size=step_size)
        self.random_start = bool(random_start)

    def draw(self, seed: tf.Tensor, images: tf.Tensor, epsilon: tf.Tensor) -> tuple[tf.Tensor, Fixed]:
        planes = planes_of(images)
        shape = (shape_of(images)[0], sum(plane.shape[1] * plane.shape[2] for plane in planes))
        start = _DRAWS[self.norm](seed, shape) if self.random_start else tf.zeros(shape)
        return self.threat.project(start * epsilon[:, tf.newaxis], epsilon), tuple(planes)

    def render(self, images: tf.Tensor, parameters: tf.Tensor, fixed: Fixed, epsilon: tf.Tensor) -> tf.Tensor:
        del epsilon
        # The transform is linear and nothing is rounded: the coefficients' moves alone go the way back.
        sizes = [plane.shape[1] * plane.shape[2] for plane in fixed]
        moves = [
            inverse_transform(part, plane.shape[1:], table)
            for part, plane, table in zip(
                tf.split(parameters / 2, sizes, axis=1), fixed, (_LUMA, _CHROMA, _CHROMA), strict=False
            )
        ]
        return images_of([plane + move for plane, move in zip(fixed, moves, strict=True)], images.shape[1:3])

    def move(
        self, parameters: tf.Tensor, gradient: tf.Tensor, fixed: Fixed, epsilon: tf.Tensor, step: tf.Tensor
    ) -> tf.Tensor:
        if self.norm == "linf":
            return super().move(parameters, gradient, fixed, epsilon, step)
        if self.norm == "l2":
            direction = tf.math.divide_no_nan(gradient, _l2(gradient))
            moved = parameters + self.step_length(epsilon)[:, tf.newaxis] * direction
        else:
            vertex = self._vertex(parameters, gradient, epsilon)
            moved = parameters + (vertex - parameters) / tf.cast(step + 1, tf.float32)
        return self.threat.project(moved, epsilon)

    def _vertex(self, parameters: tf.Tensor, gradient: tf.Tensor, epsilon: tf.Tensor) -> tf.Tensor:
        """`epsilon` of L1 norm, spent on the largest gradients first, on each as much as it is from its bound."""
        order = tf.argsort(tf.abs(gradient), axis=1, direction="DESCENDING", stable=True)
        room = tf.gather(self.largest - tf.sign(gradient) * parameters, order, batch_dims=1)
        left = tf.maximum(epsilon[:, tf.newaxis] - tf.cumsum(room, axis=1, exclusive=True), 0.0)
        spent = tf.gather(tf.minimum(left, room), tf.argsort(order, axis=1), batch_dims=1)
        return tf.sign(gradient) * spent


def planes_of(images: tf.Tensor) -> list[tf.Tensor]:
    """Luma, and for colour images two chroma planes of half the side, as 8-bit levels; whole blocks, (B, h, w) each."""
    colour = images.shape[3] == 3
    block = 16 if colour else 8
    below, right = (-images.shape[1] % block, -images.shape[2] % block)
    levels = _continued(_continued(images * 255.0, below, axis=1), right, axis=2)
    if not colour:
        return [levels[..., 0]]
    planes = tf.einsum("bhwc,cp->bhwp", levels, _TO_PLANES)
    return [planes[..., 0], *tf.unstack(tf.nn.avg_pool2d(planes[..., 1:], 2, 2, "VALID"), axis=-1)]


def images_of(planes: list[tf.Tensor], shape: Any) -> tf.Tensor:
    """The way back from `planes_of`: images of `shape` (height, width), cut to [0, 1]."""
    height, width = shape
    if len(planes) == 1:
        levels = planes[0][..., tf.newaxis]
    else:
        chroma = tf.repeat(tf.repeat(tf.stack(planes[1:], axis=-1), 2, axis=1), 2, axis=2)
        levels = tf.einsum("bhwp,pc->bhwc", tf.concat([planes[0][..., tf.newaxis], chroma], axis=-1), _TO_COLOURS)
    return tf.clip_by_value(levels[:, :height, :width] / 255.0, 0.0, 1.0)


def inverse_transform(coefficients: tf.Tensor, shape: Any, table: np.ndarray) -> tf.Tensor:
    """Quantised coefficients `(batch, h * w)`, block by block, as a plane `(batch, h, w)` of 8-bit levels."""
    rows, columns = shape[0] // 8, shape[1] // 8
    blocks = tf.reshape(coefficients, (-1, rows, columns, 8, 8)) * table
    return tf.reshape(tf.einsum("ux,bijuv,vy->bixjy", _COSINES, blocks, _COSINES), (-1, *shape))


def _continued(levels: tf.Tensor, count: int, *, axis: int) -> tf.Tensor:
    if not count:
        return levels
    last = tf.gather(levels, [levels.shape[axis] - 1], axis=axis)
    return tf.concat([levels, tf.repeat(last, count, axis=axis)], axis=axis)


def _l2(vectors: tf.Tensor) -> tf.Tensor:
    return tf.norm(vectors, axis=1, keepdims=True)


def _in_the_cube(seed: tf.Tensor, shape: Any) -> tf.Tensor:
    return batch_uniform(seed, shape, -1.0, 1.0)


def _in_the_sphere(seed: tf.Tensor, shape: Any) -> tf.Tensor:
    normal = batch_normal(fold(seed, 0), shape)
    return normal / _l2(normal) * batch_uniform(fold(seed, 1), (shape[0], 1)) ** (1.0 / shape[1])


def _in_the_cross(seed: tf.Tensor, shape: Any) -> tf.Tensor:
    """Uniform in the L1 ball: Barthe et al. 2005 (math/0503650), theorem 1, with one exponential more than entries."""
    signed = batch_uniform(seed, (shape[0], shape[1] + 1), -1.0, 1.0)
    sizes = -tf.math.log1p(-tf.minimum(tf.abs(signed), 1 - 2.0**-24))
    return (tf.sign(signed) * sizes / tf.reduce_sum(sizes, axis=1, keepdims=True))[:, :-1]


_DRAWS = {"linf": _in_the_cube, "l2": _in_the_sphere, "l1": _in_the_cross}
