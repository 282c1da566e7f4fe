"""The Square Attack: random search for a point of the ball that fools a model, without any gradient.

Synopsis:

    attack = SquareAttack(Linf("8/255"), num_queries=5000)
    attacked = attack(margin, {"images": images}, seed)["images"]

    first = attack(margin, {"images": images}, seed, num_queries=1000)       # the same run in two calls
    attacked = attack(margin, {"images": images}, seed, start=first, first_query=1000)

`margin` takes the dict and returns one number per example, `(batch,)`: the largest other logit minus the label's. An
example whose margin is above 0 is fooled, and moves no more.

Reference: Andriushchenko et al., "Square Attack: a query-efficient black-box adversarial attack via random search",
2020 (arXiv 1912.00049), algorithm 1, as AutoAttack runs it (arXiv 2003.01690): margin loss, schedule not rescaled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import keras
import tensorflow as tf

from advss_tf.attacks.arguments import at_least_one, within
from advss_tf.attacks.attack import Attack, AttackResult
from advss_tf.attacks.batches import Images, choose, only_entry, shape_of
from advss_tf.attacks.pgd import Climb
from advss_tf.attacks.square_moves import SQUARES, Squares, get_squares, query_numbers
from advss_tf.attacks.threat import Threat
from advss_tf.errors import InvalidInput
from advss_tf.randomness import fold

Found: TypeAlias = tuple[tf.Tensor, tf.Tensor]  # points and their margins


class _Search(NamedTuple):
    """What does not change while the queries run."""

    squares: Squares
    centers: tf.Tensor
    radius: tf.Tensor
    margin: Callable[[tf.Tensor], tf.Tensor]
    first: Any  # number of the first query, and of the one after the last
    last: Any


@keras.saving.register_keras_serializable(package="advss_tf")
class SquareAttack(Attack):
    """Random search with square windows; a query that raises the margin is kept, example by example.

    Args:
        threat: The ball, `Linf` or `L2`.
        num_queries: Number of queries of each start; a query costs one forward pass. A start costs one more, and so
            does the look at the images themselves: those that are fooled as they are stay as they are.
        p_init: Share of the pixels that the first windows cover, in (0, 1]. It is halved after queries 10, 50, 200,
            500, 1000, 2000, 4000, 6000 and 8000, whatever `num_queries` is.
        num_restarts: Number of independent starts. An example that is fooled stays so; of the others, the point with
            the highest margin is kept.

    Call arguments:
        climb: `climb(inputs) -> (batch,)`, the margin that is to be raised; above 0 means fooled.
        inputs: `{name: images}` with one entry, `(batch, height, width, channels)` in [0, 1]; the sizes of an image are
            known when the graph is built, the batch need not be.
        seed: int32, `(2,)` or `(batch, 2)`, one seed an example, as `advss_tf.randomness.seed_each` makes them. The
            window and the signs of a query are the same for all examples, and come from the number of the query and
            from the part that the seeds of all examples share, their first number. The start is drawn example by
            example from the whole seed.
        epsilon: Optional number, scalar tensor or one number per example `(batch,)`, instead of `threat.epsilon`.
        start: Optional points, same name and shape as `inputs` and inside the ball, from which a run goes on. Their
            margin costs one forward pass.
        first_query: Number of the first query of this call, an integer or a scalar integer tensor. Queries 0 … a - 1
            in one call and a … b - 1 in another find the points of one call with queries 0 … b - 1, also for a part
            of the examples, as long as the model gives an example the same margin in both.
        num_queries: Optional number of queries of this call, an integer >= 0 or a scalar integer tensor. Defaults to
            the rest, `num_queries - first_query`.

    Raises:
        InvalidInput: if a number is out of its range, the threat has another norm, `inputs` is not one batch of
            images, or `start` does not fit it.
    """

    norms = tuple(SQUARES)

    def __init__(self, threat: Threat, *, num_queries: int = 5000, p_init: float = 0.8, num_restarts: int = 1) -> None:
        super().__init__(threat)
        self.num_queries = at_least_one("num_queries", num_queries)
        self.p_init = within("p_init", p_init, 0 < p_init <= 1, "a number in (0, 1]")
        self.num_restarts = at_least_one("num_restarts", num_restarts)

    def run(
        self,
        climb: Climb,
        inputs: Images,
        seed: tf.Tensor,
        *,
        epsilon: Any = None,
        start: Images | None = None,
        first_query: Any = 0,
        num_queries: Any = None,
    ) -> AttackResult:
        """The same as a call, together with the margins, `climb`, and how much of the ball is used."""
        name, centers = _one_batch(inputs)
        radius = self._radius(epsilon)
        squares = get_squares(self.threat.norm, p_init=self.p_init, shape=tuple(centers.shape[1:]))
        margin = lambda points: tf.cast(climb({name: points}), tf.float32)  # noqa: E731
        search = _Search(squares, centers, radius, margin, *self._queries(first_query, num_queries, start))
        with keras.StatelessScope():  # a forward pass may not move running statistics or any other variable
            found = self._search(search, tf.cast(seed, tf.int32), _begin(start, name, centers))
        return self._result({name: found[0]}, found[1], {name: centers}, radius)

    def passes(self) -> tuple[int, int]:
        """A forward pass for each query, one for the start and one for the images; a run that goes on starts once more.

        There is no backward pass.
        """
        return self.num_queries + 2, 0

    def _queries(self, first_query: Any, num_queries: Any, start: Images | None) -> tuple[Any, Any]:
        """Number of the first query, and of the first that is not asked."""
        first = _count("first_query", first_query)
        last = self.num_queries if num_queries is None else first + _count("num_queries", num_queries)
        if start is None and (tf.is_tensor(first) or first > 0):
            raise InvalidInput(
                "A run goes on from its points.", expected="`start` or first_query=0", received=f"first_query={first}"
            )
        if start is not None and self.num_restarts > 1:
            raise InvalidInput(
                "A run that goes on has one start.",
                expected="num_restarts=1, or no `start`",
                received=f"num_restarts={self.num_restarts}",
            )
        return first, last

    def _search(self, search: _Search, seed: tf.Tensor, start: tf.Tensor | None) -> Found:
        common = _common(seed)
        if start is not None:
            return _ask(search, (start, search.margin(start)), fold(common, 0))
        clean = (search.centers, search.margin(search.centers))
        best = _one_start(search, clean, fold(seed, 0), fold(common, 0))
        if self.num_restarts == 1:
            return best

        def again(restart: tf.Tensor, *best: tf.Tensor) -> tuple[tf.Tensor, ...]:
            found = _one_start(search, best, fold(seed, restart), fold(common, restart))
            return (restart + 1, *choose(found[1] > best[1], found, best))

        return tf.while_loop(
            lambda restart, _, margins: (restart < self.num_restarts) & _any_left(margins),
            again,
            (tf.constant(1), *best),
            parallel_iterations=1,
        )[1:]


def _one_start(search: _Search, fooled: Found, seed: tf.Tensor, common: tf.Tensor) -> Found:
    """One run from a new start; what is fooled in `fooled` stays as it is there."""
    centers = search.centers
    numbers = search.squares.start_numbers(seed, shape_of(centers)[0])
    points = search.squares.start(centers, search.radius, numbers)
    return _ask(search, choose(fooled[1] > 0, fooled, (points, search.margin(points))), common)


def _ask(search: _Search, found: Found, common: tf.Tensor) -> Found:
    """The queries of one run, until none is left or every example is fooled."""

    def ask(query: tf.Tensor, points: tf.Tensor, margins: tf.Tensor) -> tuple[tf.Tensor, ...]:
        numbers = query_numbers(common, query, search.centers.shape[3])
        tried = search.squares.move(points, search.centers, search.radius, query, numbers)
        reached = search.margin(tried)
        better = (reached > margins) & ~(margins > 0)
        return (query + 1, *choose(better, (tried, reached), (points, margins)))

    return tf.while_loop(
        lambda query, _, margins: (query < search.last) & _any_left(margins),
        ask,
        (tf.cast(search.first, tf.int32), *found),
        parallel_iterations=1,
    )[1:]


def _any_left(margins: tf.Tensor) -> tf.Tensor:
    return tf.reduce_any(~(margins > 0))


def _common(seed: tf.Tensor) -> tf.Tensor:
    """The seed `(2,)` of what all examples share: the seed, or what the examples' seeds have in common."""
    # The first number is the same in every row; the largest is also defined for an empty batch.
    return seed if len(seed.shape) == 1 else tf.stack([tf.reduce_max(seed[:, 0]), 0])


def _one_batch(inputs: Images) -> tuple[str, tf.Tensor]:
    name, images = only_entry(inputs, "The Square Attack moves one batch of images.")
    if images.shape.rank != 4 or None in images.shape[1:]:
        raise InvalidInput(
            f"`inputs[{name!r}]` is not a batch of images of a known size.",
            expected="the shape (batch, height, width, channels), of which only the batch may be unknown",
            received=f"shape={images.shape}",
        )
    return name, images


def _begin(start: Images | None, name: str, centers: tf.Tensor) -> tf.Tensor | None:
    shapes = {key: tf.convert_to_tensor(points).shape for key, points in (start or {}).items()}
    if start is not None and (set(shapes) != {name} or not shapes[name].is_compatible_with(centers.shape)):
        raise InvalidInput(
            "`start` does not fit `inputs`.",
            expected=f"one entry {name!r} of shape {centers.shape}",
            received=f"start={ {key: str(shape) for key, shape in shapes.items()} }",
        )
    return None if start is None else tf.cast(start[name], tf.float32)


def _count(name: str, number: Any) -> Any:
    if tf.is_tensor(number):
        return tf.cast(number, tf.int32)
    if isinstance(number, bool) or int(number) != number or number < 0:
        raise InvalidInput(f"`{name}` is no count.", expected="an integer >= 0", received=f"{name}={number!r}")
    return int(number)
