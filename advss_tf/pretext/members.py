"""The tasks of an ensemble: which there are, how they are asked for, and how they come to stand on one trunk.

Synopsis:

    wanted = checked_tasks(["rotation", {"kind": "jigsaw", "num_permutations": 15}])
    puzzles = make_puzzles(encoder, wanted, boundary="stage3", own_norms=True, faithful=False, seed=0)
    puzzles["rotation"].encoder                  # its own last stage on the stages that all share
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from advss_tf.encoders import fork_after
from advss_tf.errors import InvalidInput, one_of
from advss_tf.pretext.jigsaw import Jigsaw
from advss_tf.pretext.mixed import MixedPuzzle
from advss_tf.pretext.rotation import Rotation
from advss_tf.pretext.selfie import Selfie
from advss_tf.training import Puzzle

# The tasks that an ensemble may consist of, by the name that a recipe gives them.
MEMBERS: dict[str, type[MixedPuzzle]] = {"jigsaw": Jigsaw, "rotation": Rotation, "selfie": Selfie}
# Those of Chen et al. 2020, which an ensemble has that is not told otherwise.
PAPERS_OWN = ("rotation", "jigsaw", "selfie")
# What a task is given by its ensemble.
COMMON = ("encoder", "attack", "eval_attack", "seed", "name")


def checked_tasks(tasks: Sequence[Any] | None) -> dict[str, dict[str, Any]]:
    """The options of each task by its kind, in the order given.

    Args:
        tasks: Two or more kinds, each once: a word, or a dict of `kind` and options of the task's class; None for
            rotation, jigsaw and Selfie.

    Raises:
        InvalidInput: if there are fewer than two, one comes twice, or a kind or an option is not known.
    """
    asked = [_asked(task) for task in (PAPERS_OWN if tasks is None else tasks)]
    kinds = [kind for kind, _ in asked]
    if len(kinds) < 2 or len(set(kinds)) < len(kinds):
        raise InvalidInput(
            "`tasks` make no ensemble.", expected=f"two or more of {sorted(MEMBERS)}, each once", received=f"{kinds}"
        )
    return dict(asked)


def _asked(task: Any) -> tuple[str, dict[str, Any]]:
    options = dict(task) if isinstance(task, Mapping) else {"kind": task}
    kind = one_of("kind", options.pop("kind", None), MEMBERS)
    known = options_of(kind)
    for option in options:
        one_of(f"the option of {kind}", option, known)
    return kind, options


def options_of(kind: str) -> list[str]:
    """The options that a kind of task has beside what its ensemble gives it."""
    return [name for name in inspect.signature(MEMBERS[kind]).parameters if name not in COMMON]


def make_puzzles(
    encoder: keras.Model,
    tasks: Mapping[str, dict[str, Any]],
    *,
    boundary: str | None,
    own_norms: bool,
    faithful: bool,
    seed: int,
    **attacks: Any,
) -> dict[str, MixedPuzzle]:
    """The pretext models by their kind, all on the layers of `encoder` through `boundary`.

    Args:
        encoder: The encoder that is handed over.
        tasks: What `checked_tasks` returned.
        boundary: Where the tasks part: each has layers of its own after it. None: they share all layers.
        own_norms: Whether Selfie has batch norms of its own on the layers that it shares.
        faithful: Whether every task that can be is as in the code of Chen et al., unless its options say otherwise.
        seed: The run's seed.
        attacks: `attack` and `eval_attack`.

    Raises:
        InvalidInput: as the tasks do, and if the encoder has no such boundary.
    """
    puzzles = {}
    for kind, options in tasks.items():
        given, known, own = dict(options), options_of(kind), encoder
        if "faithful" in known:
            given.setdefault("faithful", faithful)
        if boundary is not None and "boundary" in known:
            given["boundary"] = given.get("boundary") or boundary
        patches = own_norms and issubclass(MEMBERS[kind], Selfie)
        if boundary is not None or patches:
            # Selfie too, which may be told to go on behind the trunk.
            trunk = boundary or encoder.layers[-1].name
            own = fork_after(encoder, trunk, role=f"ensemble/{kind}", own_norms=patches)
        puzzles[kind] = MEMBERS[kind](own, seed=seed, name=kind, **attacks, **given)
    return puzzles


def own_inputs(kind: str, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """The inputs of one task, named as it named them."""
    return {name.removeprefix(f"{kind}_"): x for name, x in inputs.items() if name.startswith(f"{kind}_")}


def part_of(kind: str, puzzle: Puzzle) -> Puzzle:
    """The puzzle of one task, as it posed it."""
    return Puzzle(own_inputs(kind, puzzle.inputs), puzzle.targets[kind], (puzzle.fixed or {})[kind])


def mean_weights(puzzles: dict[str, MixedPuzzle], diversity_weight: float) -> dict[str, float]:
    """Each task's own weights over the number of tasks, and the diversity's if there is one."""
    weights = {
        f"{kind}_{term}": weight / len(puzzles)
        for kind, puzzle in puzzles.items()
        for term, weight in puzzle.loss_weights.items()
    }
    return {**weights, "diversity": diversity_weight} if diversity_weight else weights
