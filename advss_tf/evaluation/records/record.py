"""What an evaluation found, as a flat JSON file that says how each number came about.

Synopsis:

    record = evaluate(model, data)
    record.save("runs/digits/record.json")          # and record.examples.npz beside it
    record = Record.load("runs/digits/record.json")
    record.clean_acc, record.robust_acc, record.result("pgd-20", eps=8 / 255).correct

The names are those of RobustBench's `model_info` where it has one (`name`, `architecture`, `dataset`, `threat`, `eps`,
`clean_acc`, `autoattack_acc`). Accuracies are fractions in [0, 1], never percentages.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from advss_tf.errors import InvalidInput
from advss_tf.evaluation.records.header import Header
from advss_tf.evaluation.records.statistics import wilson_interval
from advss_tf.workdir import replacing

CLEAN = "clean"
WORST = "worst"


class Result(BaseModel):
    """One accuracy: what was attempted, the exact counts and the Wilson 95 % interval.

    `level` is the severity of a corruption, or the number of a distortion's size, from 1; 0 where there is none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    attack: str
    threat: str | None = None
    eps: float = Field(0.0, ge=0)
    level: int = Field(0, ge=0)
    num_restarts: int = Field(0, ge=0)
    parameters: dict[str, object] = {}
    correct: int = Field(ge=0)
    total: int = Field(ge=1)
    accuracy: float
    low: float
    high: float
    class_correct: tuple[int, ...]
    seconds: float = Field(0.0, ge=0)
    forward_passes: float = Field(0.0, ge=0)
    backward_passes: float = Field(0.0, ge=0)

    @classmethod
    def from_counts(cls, attack: str, correct: int, total: int, **more: Any) -> Result:
        """A result whose accuracy and interval are worked out from the counts."""
        low, high = wilson_interval(correct, total)
        return cls(attack=attack, correct=correct, total=total, accuracy=correct / total, low=low, high=high, **more)

    @model_validator(mode="after")
    def _numbers_agree(self) -> Result:
        if self.correct > self.total or not math.isclose(self.accuracy, self.correct / self.total, abs_tol=1e-9):
            raise ValueError(f"accuracy={self.accuracy} is not correct/total={self.correct}/{self.total}")
        if not 0 <= self.low <= self.accuracy <= self.high <= 1:
            raise ValueError(f"accuracy={self.accuracy} lies outside its interval [{self.low}, {self.high}]")
        if sum(self.class_correct) != self.correct:
            raise ValueError(f"class_correct sums to {sum(self.class_correct)}, correct={self.correct}")
        return self


@dataclass(frozen=True, eq=False)
class Examples:
    """Arrays stored beside a record: a few images to draw, and what became of every image.

    Attributes:
        images: (k, H, W, C) float32, clean images; the first of each class that was met.
        attacked: (k, H, W, C) float32, the same after the attack at the record's `eps`.
        labels: (k,) int64.
        clean_predictions: (k,) int64.
        clean_confidences: (k,) float32, the probability of the predicted class.
        attacked_predictions: (k,) int64.
        attacked_confidences: (k,) float32.
        outcome_labels: (n,) int64, of all images in order.
        outcome_predictions: (n,) int64, clean.
        outcome_confidences: (n,) float32, clean.
        outcome_robust: (n,) bool, right cleanly and under every attack at the record's `eps`.
        outcome_attacked_predictions: (n,) int64, under the attack that fooled the model first, or the last that was run
            on the image if none did.
        outcome_attacked_confidences: (n,) float32, the probability of that prediction.
    """

    images: np.ndarray
    attacked: np.ndarray
    labels: np.ndarray
    clean_predictions: np.ndarray
    clean_confidences: np.ndarray
    attacked_predictions: np.ndarray
    attacked_confidences: np.ndarray
    outcome_labels: np.ndarray
    outcome_predictions: np.ndarray
    outcome_confidences: np.ndarray
    outcome_robust: np.ndarray
    outcome_attacked_predictions: np.ndarray
    outcome_attacked_confidences: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Examples):
            return NotImplemented
        theirs = other.arrays()
        return all(np.array_equal(value, theirs[name]) for name, value in self.arrays().items())

    __hash__ = None  # type: ignore[assignment]


class Record(Header):
    """Everything that one evaluation under attack found and what is needed to repeat it. Frozen.

    Attributes:
        eps: The epsilon of the headline, in the unit of pixels in [0, 1].
        robust_acc: Fraction right cleanly and under every attack and restart at `eps`.
        autoattack_acc: The same under AutoAttack; None where it was not run.
        suite: The attacks' suite, or "attacks" where they were given one by one.
        source: The name of the model that the attacks saw, where the examples were transferred; None where it was the
            one that is evaluated.
        results: One `Result` per attack and epsilon: "clean", each attack, and "worst" over them.
        examples: Pictures and per-image outcomes, stored beside the JSON file; None where there are none.
    """

    threat: Literal["Linf", "L2"]
    eps: float = Field(gt=0)
    robust_acc: float = Field(ge=0, le=1)
    autoattack_acc: float | None = Field(None, ge=0, le=1)
    suite: str
    source: str | None = None
    results: tuple[Result, ...]
    examples: Examples | None = Field(None, exclude=True, repr=False)

    @model_validator(mode="after")
    def _results_agree(self) -> Record:
        for attack, eps, accuracy in ((CLEAN, 0.0, self.clean_acc), (WORST, self.eps, self.robust_acc)):
            if not math.isclose(self.result(attack, eps=eps).accuracy, accuracy, abs_tol=1e-9):
                raise ValueError(f"the headline of {attack!r} is {accuracy}, its row says otherwise")
        lengths = {len(self.class_names), len(self.class_totals), *(len(row.class_correct) for row in self.results)}
        if lengths != {self.num_classes}:
            raise ValueError(f"num_classes={self.num_classes}, but the lists of classes have lengths {sorted(lengths)}")
        return self

    @property
    def attacks(self) -> tuple[str, ...]:
        """The names of the attacks in the order they ran, without "clean" and "worst"."""
        return tuple(dict.fromkeys(row.attack for row in self.results if row.attack not in (CLEAN, WORST)))

    @property
    def epsilons(self) -> tuple[float, ...]:
        """The epsilons that were attacked, ascending."""
        return tuple(sorted({row.eps for row in self.results if row.attack == WORST}))

    def result(self, attack: str, *, eps: float | None = None) -> Result:
        """The row of an attack at an epsilon (the record's `eps` unless given; "clean" has none).

        Raises:
            InvalidInput: if the record has no such row.
        """
        wanted = 0.0 if attack == CLEAN else self.eps if eps is None else eps
        for row in self.results:
            if row.attack == attack and math.isclose(row.eps, wanted, abs_tol=1e-9):
                return row
        rows = ", ".join(f"{row.attack} at {row.eps:g}" for row in self.results)
        raise InvalidInput("The record has no such result.", expected=rows, received=f"{attack} at {wanted:g}")

    def save(self, path: str | Path) -> Path:
        """Writes the record as JSON and its examples beside it, each whole or not at all.

        Args:
            path: The JSON file; `record.json` puts the examples in `record.examples.npz`.

        Returns:
            `path`.
        """
        if self.examples is not None:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            with replacing(examples_path(path)) as file:
                np.savez_compressed(file, allow_pickle=False, **self.examples.arrays())
        return super().save(path)

    @classmethod
    def load(cls, path: str | Path) -> Record:
        """Reads what `save` wrote, with the examples where they are there.

        Raises:
            InvalidInput: if the file is missing, is not JSON, or is not a record of this version.
        """
        return super().load(path).model_copy(update={"examples": _load_examples(examples_path(path))})

    def __str__(self) -> str:
        clean, robust = self.result(CLEAN), self.result(WORST)
        return (
            f"{self.name}: clean {percent(clean)}, {self.threat} {epsilon_text(self.eps, self.threat)} "
            f"{percent(robust)} (n={self.num_images})"
        )


def percent(result: Result) -> str:
    """`45.0 % [35.6, 54.8]`: an accuracy and its interval as a person reads them."""
    return f"{100 * result.accuracy:.1f} % [{100 * result.low:.1f}, {100 * result.high:.1f}]"


def epsilon_text(eps: float, threat: str | None) -> str:
    """`8/255` where an Linf epsilon is a number of grey levels, otherwise the plain number."""
    levels = eps * 255
    if threat == "Linf" and eps > 0 and math.isclose(levels, round(levels), abs_tol=1e-4):
        return f"{round(levels)}/255"
    return f"{eps:.4g}"


def examples_path(path: str | Path) -> Path:
    """Where the examples of the record at `path` lie."""
    return Path(path).with_suffix(".examples.npz")


def _load_examples(path: Path) -> Examples | None:
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Examples(**{field.name: arrays[field.name] for field in fields(Examples)})
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        expected = ", ".join(field.name for field in fields(Examples))
        raise InvalidInput(
            f"{path.name} does not hold the examples of a record.", expected=expected, received=str(error)
        ) from error
