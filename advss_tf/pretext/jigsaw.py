"""Jigsaw: in which of a few fixed orders were the patches of the image put together?

Synopsis:

    pretext = Jigsaw(encoder, attack=ProjectedGradientDescent(Linf("8/255")))
    pretext.compile(optimizer="sgd")
    pretext.fit(images)                      # no labels
    pretext.permutations                     # (30, 16): what the labels 1 … 30 mean; 0 is the image as it was

References:
    Noroozi, Favaro, "Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles", ECCV 2016
    (arXiv 1603.09246): the puzzle, and a set of permutations that are far from each other.
    Carlucci et al., "Domain Generalization by Solving Jigsaw Puzzles", CVPR 2019 (arXiv 1903.06864): the patches are
    glued to one image again, which an ordinary network reads; label 0 is the image as it was.
    Chen et al., "Adversarial Robustness: From Self-Supervised Pre-Training to Fine-Tuning", CVPR 2020
    (arXiv 2003.12862), and its code: 4 x 4 patches, 30 permutations; the attack moves the puzzle, not the image.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from advss_tf.errors import InvalidInput, one_of
from advss_tf.pretext.labelled import LabelledPuzzle
from advss_tf.pretext.permutations import KINDS, checked_permutations, make_permutations
from advss_tf.randomness import batch_balanced, batch_uniform, fold
from advss_tf.training import Puzzle


class _Defaults(NamedTuple):
    """What options are that are not given."""

    permutation_set: str
    identity_share: float
    balanced: bool


_FAITHFUL = _Defaults("random", 0.1, False)
_CORRECTED = _Defaults("max_hamming", 0.0, True)


@keras.saving.register_keras_serializable(package="advss_tf")
class Jigsaw(LabelledPuzzle):
    """Predicts which permutation the patches of an image were put together in; label 0 is the image as it was.

    `faithful=True` is the puzzle of the public code of Chen et al.; without it three things are put right. An option
    that is given wins over both.

    | option | faithful | corrected | why |
    | --- | --- | --- | --- |
    | `permutation_set` | `"random"` | `"max_hamming"` | random ones may differ in few places |
    | `identity_share` | 0.1 | 0 | at 0.1, "as it was" is the answer four times as often as any other |
    | `balanced` | False | True | the answers of a batch are drawn one by one, so some are missing by chance |

    The rest of that code's puzzle needs no option. Its logits go into the loss as they are (the double softmax is its
    Selfie's), and images are mirrored and cropped before they are cut, which is the data's business. That gives puzzles
    away: what was shifted is filled up with black, and where a black rim is, is the border. Trained on such images the
    network knows nearly every order in training, and few on images that were not shifted; `crop_padding=0` avoids it,
    in a recipe `pretrain.crop_padding`. That code's validation images are shifted as well, and do not show it. It draws
    permutations that may repeat, which at 16 patches does not happen; here they never do. Its attack runs with batch
    norm in training mode: `ProjectedGradientDescent(…, batch_norm="training")`.

    Args:
        encoder: Functional Keras model, images -> features.
        grid: Patches along each side, 2 or more.
        num_permutations: Permutations beside the identity, at most (grid²)! - 1, and at most 10,000 that are not given.
        permutation_set: `"max_hamming"` or `"random"`, see `make_permutations`; `"auto"` as `faithful` says. With
            `permutations` it is only their name, by default `"given"`.
        identity_share: Share of images, in [0, 1), that are left as they were beside those whose drawn label is 0;
            None as `faithful` says.
        balanced: Whether each label occurs equally often in the global batch, up to one, before `identity_share`;
            else labels are drawn independently. None as `faithful` says.
        remainder: What happens to images whose sides the grid does not divide: `"refuse"`, or `"crop"`. Cropped, the
            largest centred part that it divides is shuffled, and a black rim of less than a patch keeps the image's
            size: the rim could not stay as it was, since what it continues would give the answer away.
        faithful: See the table.
        permutations: The set itself, `(num_permutations, grid²)` integers: patch `permutations[label - 1][j]` comes to
            place j, row by row. None makes it from `permutation_set` and `seed`. A saved model holds it.
        clean_weight: Weight of the cross-entropy on the unattacked puzzle, in [0, 1); the attacked one has the rest.
            The paper's formula is 0 (adversarial only), its code 0.5. Without an attack the clean puzzle is the loss.
        attack: The attack of training (P3); None is standard pretraining (P2).
        eval_attack: The attack of evaluation; by default the training attack.
        seed: The run's seed.
        name: The model's name.

    Call arguments:
        inputs: `(batch, height, width, channels)` in [0, 1].

    Returns:
        Logits of the labels, `(batch, num_permutations + 1)`.

    Raises:
        InvalidInput: if an option is out of range, `permutations` are no set, or the grid does not divide the images.
    """

    cuts_patches = True

    def __init__(
        self,
        encoder: keras.Model,
        *,
        grid: int = 4,
        num_permutations: int = 30,
        permutation_set: str = "auto",
        identity_share: float | None = None,
        balanced: bool | None = None,
        remainder: str = "refuse",
        faithful: bool = False,
        permutations: Any = None,
        clean_weight: float = 0.5,
        attack: Any = None,
        eval_attack: Any = "attack",
        seed: int = 0,
        name: str | None = "jigsaw",
    ) -> None:
        defaults = _FAITHFUL if faithful else _CORRECTED
        if permutation_set == "auto":
            permutation_set = defaults.permutation_set if permutations is None else "given"
        if identity_share is None:
            identity_share = defaults.identity_share
        _check_options(grid, identity_share, remainder)
        made = _made(permutation_set, permutations, (num_permutations, grid**2), seed)
        super().__init__(
            encoder,
            task="jigsaw",
            num_answers=num_permutations + 1,
            clean_weight=clean_weight,
            attack=attack,
            eval_attack=eval_attack,
            seed=seed,
            name=name,
        )
        if None not in encoder.input_shape[1:3]:
            _check_sides(encoder.input_shape[1:3], grid, remainder)
        self.grid, self.num_permutations = grid, num_permutations
        self.permutation_set, self.permutations = permutation_set, made
        self.identity_share, self.balanced = identity_share, defaults.balanced if balanced is None else balanced
        self.remainder, self.faithful = remainder, faithful

    @property
    def chance(self) -> float:
        """The expected accuracy of answering "as it was" every time, the best constant answer, in [0, 1]."""
        return self.identity_share + (1.0 - self.identity_share) / self.num_answers

    @property
    def provenance(self) -> dict[str, Any]:
        """What an exported encoder should say of the puzzle that it learned, its permutations included, as JSON."""
        return {**super().provenance, **self._options()}

    def draw(self, size: Any, seed: tf.Tensor) -> Puzzle:
        return Puzzle({}, self._labels(size, seed))

    def render(self, images: tf.Tensor, puzzle: Puzzle) -> tf.Tensor:
        orders = np.vstack([np.arange(self.grid**2, dtype=np.int32), self.permutations])
        return self._shuffled(images, tf.gather(orders, puzzle.targets))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._options(), "faithful": self.faithful}

    def _options(self) -> dict[str, Any]:
        names = ("grid", "num_permutations", "permutation_set", "identity_share", "balanced", "remainder")
        return {**{name: getattr(self, name) for name in names}, "permutations": self.permutations.tolist()}

    def _labels(self, size: Any, seed: tf.Tensor) -> tf.Tensor:
        """The labels of a batch, `(size,)` int64."""
        if self.balanced:
            # Which labels a batch has one more of, or one at all if it is smaller than the set, is drawn as well.
            shift = tf.random.stateless_uniform((), fold(seed, 0), 0, self.num_answers, tf.int64, alg="philox")
            labels = (batch_balanced(fold(seed, 1), size, self.num_answers) + shift) % self.num_answers
        else:
            labels = tf.cast(batch_uniform(fold(seed, 1), (size,), 0.0, float(self.num_answers)), tf.int64)
        if not self.identity_share:
            return labels
        return tf.where(batch_uniform(fold(seed, 2), (size,)) < self.identity_share, tf.zeros_like(labels), labels)

    def _shuffled(self, images: tf.Tensor, permutations: tf.Tensor) -> tf.Tensor:
        """The puzzles of images, inside a black rim where the grid leaves pixels over."""
        height, width = sides = images.shape[1:3]
        if None in sides:
            raise InvalidInput(
                "The size of the images is not known when the step is traced.",
                expected="images with a height and a width",
                received=f"shape {images.shape}",
            )
        _check_sides(sides, self.grid, self.remainder)
        if height % self.grid == width % self.grid == 0:
            return shuffle_patches(images, permutations, grid=self.grid)
        (top, bottom), (left, right) = rims = [_halves(side % self.grid) for side in sides]
        inner = images[:, top : height - bottom, left : width - right]
        return tf.pad(shuffle_patches(inner, permutations, grid=self.grid), [(0, 0), *rims, (0, 0)])


def shuffle_patches(images: tf.Tensor, permutations: tf.Tensor, *, grid: int) -> tf.Tensor:
    """Each image cut into `grid` x `grid` patches, and put together again in an order of its own.

    Args:
        images: `(batch, height, width, channels)`; the grid divides height and width, which are known when traced.
        permutations: `(batch, grid²)` integers: patch `permutations[i][j]` of image i comes to place j; patches and
            places are counted row by row.
        grid: Patches along each side.

    Returns:
        Images of the same shape; no pixel value changes, so an epsilon-ball is the same before and after.
    """
    _, height, width, channels = images.shape
    rows, columns = height // grid, width // grid
    patches = tf.reshape(images, (-1, grid, rows, grid, columns, channels))
    patches = tf.reshape(tf.transpose(patches, (0, 1, 3, 2, 4, 5)), (-1, grid**2, rows * columns * channels))
    placed = tf.gather(patches, permutations, batch_dims=1)
    placed = tf.transpose(tf.reshape(placed, (-1, grid, grid, rows, columns, channels)), (0, 1, 3, 2, 4, 5))
    return tf.reshape(placed, (-1, height, width, channels))


def _made(kind: str, permutations: Any, shape: tuple[int, int], seed: int) -> np.ndarray:
    """The set of a puzzle, `shape` `(num_permutations, patches)`: checked where it is given, else made."""
    one_of("permutation_set", kind, ("auto", *KINDS, *(() if permutations is None else ("given",))))
    if permutations is None:
        return make_permutations(kind, shape[1], shape[0], seed=seed)
    return checked_permutations(permutations, num_permutations=shape[0], num_patches=shape[1])


def _check_options(grid: int, identity_share: float, remainder: str) -> None:
    if not isinstance(grid, int) or grid < 2:
        raise InvalidInput("`grid` makes no puzzle.", expected="a whole number >= 2", received=f"grid={grid!r}")
    if not 0 <= identity_share < 1:
        raise InvalidInput(
            "`identity_share` is no share, or leaves no puzzle.",
            expected="0 <= identity_share < 1",
            received=f"identity_share={identity_share}",
        )
    one_of("remainder", remainder, ("refuse", "crop"))


def _check_sides(sides: Any, grid: int, remainder: str) -> None:
    """Refuses a height and width that cannot be cut."""
    if min(sides) < grid:
        raise InvalidInput(
            "The images are too small for the grid.",
            expected=f"at least {grid} pixels along each side",
            received=f"height, width = {tuple(sides)}",
        )
    if remainder == "refuse" and any(side % grid for side in sides):
        raise InvalidInput(
            "The grid does not divide the images.",
            expected=f"sides that are multiples of grid={grid}, or remainder='crop'",
            received=f"height, width = {tuple(sides)}",
        )


def _halves(pixels: int) -> tuple[int, int]:
    """The pixels before and after the centre; the larger half comes after."""
    return pixels // 2, pixels - pixels // 2
