"""The axes of a grid: from what a file says to named values, each with the changes that it makes to a recipe.

Synopsis:

    axes, faults = read_axes({"pretraining": ["P1", "P3"], "seed": [0, 1], "trades": {"weak": {"finetune.beta": 1}}})
    axes[0].values[1].name                     # "P3"
    axes[2].values[0].changes(values)          # [("finetune.beta", 1)]

An axis is a list or a section. A section names its values and says what each changes, in dotted paths. A list is one of
the paper's axes, `pretraining`, `finetuning` or `task`, or else its name is the path that takes each of its entries.
P1 to P3 and F1 to F4 are those of Chen et al. (CVPR 2020, arXiv 2003.12862), SLF, ALF and AFF those of the contrastive
literature; they look at the recipe that the other axes have made, whatever the order of the file. SLF, ALF and AFF keep
the base's epochs, optimizer and attack, as F1 to F4 do; on a base with a `finetune.preset` they take that preset, and
so its values for whatever the base does not write, while F1 to F4 take the values of the base's own. What trains under
attack on a base with an `eval_attack` alone trains by that one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import nearest
from .faults import show
from .overrides import apply_overrides
from .parts import Fault
from .protocol import PRESETS, filled
from .schema import Recipe

RESERVED = frozenset(
    ("run", "runs", "group", "status", "error", "shared_from", "clean", "robust", "worst", "best_epoch",
     "best_held_out_robust_accuracy", "pretrain_seconds", "finetune_seconds")
)  # fmt: skip
"""What no axis is called: columns that the table of a grid has beside its axes."""

Change = tuple[str, Any]
Changes = Callable[[dict[str, Any]], list[Change]]


@dataclass(frozen=True)
class Value:
    """One value of an axis.

    Attributes:
        name: As the table says it.
        label: As the names of cells say it.
        changes: From the values of a recipe to the changes that this value makes there.
        last: Whether the changes depend on what the other axes have made of the recipe; later ones come later.
        paths: The paths that are changed, where they depend on nothing.
    """

    name: str
    label: str
    changes: Changes
    last: int = 0
    paths: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Axis:
    """An axis: its name and its values in order."""

    name: str
    values: tuple[Value, ...]

    @property
    def repeats(self) -> bool:
        """Whether its values are runs of the same thing: nothing but the seed changes."""
        return all(value.paths == {"seed"} for value in self.values)


def read_axes(written: Any) -> tuple[tuple[Axis, ...], list[Fault]]:
    """The axes of a grid, and what is wrong with them."""
    if not isinstance(written, Mapping) or not written:
        expected = "a section such as {pretraining: [P1, P2, P3], seed: [0, 1, 2]}"
        return (), [Fault("axes", "must be a section with an axis or more", expected, f"axes={show(written)}")]
    faults: list[Fault] = []
    axes = tuple(Axis(name, tuple(_values(name, body, faults))) for name, body in written.items())
    return axes, faults


def _values(axis: str, body: Any, faults: list[Fault]) -> Iterator[Value]:
    path = f"axes.{axis}"
    if axis.lower() in RESERVED or " at " in axis:  # "pgd-20 at 0.1" is a column as well
        faults.append(Fault(path, "is the name of another column of the table", "another name", f"axis={axis!r}"))
    if not isinstance(body, (list, Mapping)) or not body:
        expected = "a list of values, or a section of named values, at least one"
        faults.append(Fault(path, "has no values", expected, f"{axis}={show(body)}"))
    elif isinstance(body, Mapping):
        yield from (_named(path, name, changes, faults) for name, changes in body.items())
    else:
        names = [word_of(entry) for entry in body]
        if len(set(names)) < len(names):
            faults.append(Fault(path, "lists a value twice", "each value once", f"{axis}={show(body)}"))
        words = _WORDS.get(axis)
        if words is None:
            yield from _swept(path, {"task": "pretrain.task.kind"}.get(axis, axis), body, faults)
        else:
            yield from _known(path, names, words, faults)


def _named(path: str, name: str, changes: Any, faults: list[Fault]) -> Value:
    """A value whose changes are written in the file."""
    place = f"{path}.{name}"
    if not isinstance(changes, Mapping):
        expected = "a section of changes such as {finetune.beta: 1}, {} for the base as it is"
        faults.append(Fault(place, "must be a section with changes", expected, f"{name}={show(changes)}"))
        changes = {}
    pairs: list[Change] = list(changes.items())
    faults += [fault._replace(path=f"{place}.{fault.path}") for fault in apply_overrides({}, pairs, root=Recipe)]
    return Value(name, name, _always(pairs), paths=frozenset(changes))


def _swept(path: str, target: str, entries: list[Any], faults: list[Fault]) -> Iterator[Value]:
    """Values of one field of the recipe."""
    unknown = apply_overrides({}, [(target, entries[0])], root=Recipe)
    if unknown:
        expected = f"one of {sorted({*_WORDS, 'task'})}, a path such as seed or finetune.beta, or a section of changes"
        near = nearest(target, (*_WORDS, "task", "seed"))
        hint = f" (did you mean {near!r}?)" if near else ""
        faults.append(Fault(path, f"is no axis that is known{hint}", expected, f"{target}={show(entries)}"))
        return
    stem = "" if path == "axes.task" else target.rpartition(".")[2]
    for entry in entries:
        yield Value(word_of(entry), stem + word_of(entry), _always([(target, entry)]), paths=frozenset({target}))


def _known(path: str, names: list[str], words: Mapping[str, Changes], faults: list[Fault]) -> Iterator[Value]:
    """Values of the paper."""
    for name in names:
        if name in words:
            yield Value(name, name, words[name], last=1 if path.endswith("finetuning") else 2)
        else:
            received = f"{path.rpartition('.')[2]}={name!r}"
            faults.append(Fault(path, "has a value that is not known", f"one of {sorted(words)}", received))


def _always(pairs: list[Change]) -> Changes:
    """Changes that do not look at the recipe."""
    return lambda values: pairs


def word_of(value: Any) -> str:
    """How a value of a list is called; what is too long to be written out ends in a hash, so that words differ.

    >>> word_of("P1"), word_of(0.5), word_of([1, 2])
    ('P1', '0.5', '[1,2]')
    """
    if isinstance(value, str):
        return value
    word = re.sub(r"\s+", "", show(value))
    if "..." not in word:
        return word
    whole = json.dumps(value, sort_keys=True, default=str)
    return f"{word}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


# The paper's axes -----------------------------------------------------------------------------------------------------


def _section(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = values.get(name)
    return part if isinstance(part, Mapping) else {}


def _without_pretraining(values: dict[str, Any]) -> list[Change]:
    """P1: the classifier starts from fresh weights; with F1 and F2 most of them are frozen as they were drawn.

    It has no batch-norm branches: what is pretrained is handed over with one, and is to differ in nothing but that.
    """
    frozen = filled(_section(values, "finetune")).get("train") != "full"
    own = values.get("cluster") is not None and _section(values, "cluster").get("encoder", "pretrained") == "pretrained"
    found: list[Change] = [("pretrain", None), ("finetune.start", "scratch")]
    found += [("cluster", None)] * own + [("refine", None)] * (values.get("refine") is not None)
    found += [("encoder.branches", [])] * bool(_section(values, "encoder").get("branches"))
    return found + [("finetune.freeze_random", True)] * frozen


def _standard_pretraining(values: dict[str, Any]) -> list[Change]:
    """P2: the puzzle on clean images, without any attack.

    The base's `pretrain.eval_attack` goes as well: with one, the epoch whose encoder is handed over would be picked by
    robust accuracy, which a network that was never attacked loses as it learns, so that an encoder that has learned
    next to nothing might win. Without one the epoch is picked by accuracy, as those of F1 and F3 are.
    """
    measured = _section(values, "pretrain").get("eval_attack") is not None
    return [("pretrain.attack", None), ("finetune.start", "pretrained")] + [("pretrain.eval_attack", None)] * measured


def _adversarial_pretraining(values: dict[str, Any]) -> list[Change]:
    """P3: the puzzle on attacked images, by the base's attack."""
    return [("finetune.start", "pretrained")]


def _finetuning(*, train: str, attacked: bool) -> Changes:
    """Which part is trained, and whether on attacked images, then by the base's `how` and attack."""

    def changes(values: dict[str, Any]) -> list[Change]:
        part = _section(values, "finetune")
        found: list[Change] = [("finetune.train", train)]
        attack, measured = part.get("attack"), part.get("eval_attack")
        if attacked:
            found += [("finetune.attack", measured)] * (attack is None and measured is not None)
            return found + [("finetune.how", "adversarial")] * (part.get("how") == "standard")
        # Without an attack in training, held-out images are attacked as they would be with it.
        found += [("finetune.eval_attack", attack)] * (attack is not None and measured is None)
        found += [("finetune.attack", None), ("finetune.how", "standard")]
        # What was never trained to be robust would be picked by the noise in its robust accuracy.
        return found + [("finetune.select", "accuracy")] * (part.get("select", "auto") == "auto")

    return changes


def _of_paper(*, train: str, attacked: bool) -> Changes:
    """F1 to F4 on any base: a preset's values are written out before, as its name means another `train` and `how`."""
    as_grid = _finetuning(train=train, attacked=attacked)

    def changes(values: dict[str, Any]) -> list[Change]:
        part = _section(values, "finetune")
        if part.get("preset") is None:
            return as_grid(values)
        whole = {**filled(part), "preset": None}
        if "select" not in part:
            whole.pop("select", None)  # SLF's goes with SLF
        return [("finetune", whole), *as_grid({**values, "finetune": whole})]

    return changes


def _preset(word: str) -> Changes:
    """SLF, ALF and AFF: what is trained and how; the values beside these are the base's, or those of its preset."""
    train, how = PRESETS[word]["train"], PRESETS[word]["how"]
    as_grid = _finetuning(train=train, attacked=how != "standard")

    def changes(values: dict[str, Any]) -> list[Change]:
        follows = _section(values, "finetune").get("preset") is not None
        return [*as_grid(values), ("finetune.how", how)] + [("finetune.preset", word)] * follows

    return changes


_WORDS: dict[str, dict[str, Changes]] = {
    "pretraining": {"P1": _without_pretraining, "P2": _standard_pretraining, "P3": _adversarial_pretraining},
    "finetuning": {
        "F1": _of_paper(train="partial", attacked=False),
        "F2": _of_paper(train="partial", attacked=True),
        "F3": _of_paper(train="full", attacked=False),
        "F4": _of_paper(train="full", attacked=True),
        **{word.upper(): _preset(word) for word in PRESETS},
    },
}
