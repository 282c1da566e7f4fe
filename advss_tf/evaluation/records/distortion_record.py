"""What an evaluation under distortions found: accuracy by type and level, as one JSON file.

Synopsis:

    record = DistortionRecord.load("runs/digits/record.corruptions.json")
    record.kinds, record.levels                        # ("gaussian_noise", …), (1, 2, 3, 4, 5)
    record.result("fog", 3).accuracy
    record.corruptions_acc                             # the mean over types and severities, RobustBench's name
    load_record(path)                                  # a Record or a DistortionRecord, by what the file says

Types and levels are those of Hendrycks & Dietterich 2019 (arXiv 1903.12261) for corruptions, and the distortion types
and sizes of Kang et al. 2019 (arXiv 1908.08016) for unforeseen attacks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from advss_tf.data.corruptions import EXTRA_CORRUPTIONS
from advss_tf.errors import InvalidInput
from advss_tf.evaluation.records.header import Header
from advss_tf.evaluation.records.record import CLEAN, Record, Result

CORRUPTIONS, UNFORESEEN = "corruptions", "unforeseen"


class DistortionRecord(Header):
    """Accuracies of one model by type and level of distortion. Frozen.

    Attributes:
        threat: "corruptions", drawn without a look at the model, or "unforeseen", attacks over a distortion's
            parameters.
        corruptions_acc: Mean accuracy over the rows of `counted_kinds`, as RobustBench's is over the 15 types of
            CIFAR-10-C: the 4 that its authors set aside do not move it.
        mce: Mean corruption error over the same types against `baseline` (Hendrycks & Dietterich 2019, section 4), 1 =
            as bad as it; None without a baseline.
        baseline: The name of the record that `mce` is relative to.
        notes: What else one must know to repeat it, such as where frost comes from, by name.
        results: "clean" first, then one row for each type and level.
    """

    threat: Literal["corruptions", "unforeseen"]
    corruptions_acc: float = Field(ge=0, le=1)
    mce: float | None = Field(None, ge=0)
    baseline: str | None = None
    notes: dict[str, str] = Field(default_factory=dict)
    results: tuple[Result, ...]

    @model_validator(mode="after")
    def _results_agree(self) -> DistortionRecord:
        if not math.isclose(self.result(CLEAN, 0).accuracy, self.clean_acc, abs_tol=1e-9):
            raise ValueError(f"clean_acc={self.clean_acc}, its row says otherwise")
        rows = counted_rows(self.threat, self.results)
        if not rows or not math.isclose(_mean(rows), self.corruptions_acc, abs_tol=1e-9):
            raise ValueError(f"corruptions_acc={self.corruptions_acc} is not the mean of its {len(rows)} rows")
        if {len(self.class_names), len(self.class_totals), *(len(r.class_correct) for r in self.results)} != {
            self.num_classes
        }:
            raise ValueError(f"the lists of classes do not have num_classes={self.num_classes} entries")
        return self

    @property
    def kinds(self) -> tuple[str, ...]:
        """The types of distortion in the order they were run."""
        return tuple(dict.fromkeys(row.attack for row in self.results if row.attack != CLEAN))

    @property
    def counted_kinds(self) -> tuple[str, ...]:
        """The types that `corruptions_acc` and `mce` are means over; see `counted_rows`."""
        return tuple(dict.fromkeys(row.attack for row in counted_rows(self.threat, self.results)))

    @property
    def levels(self) -> tuple[int, ...]:
        """The levels, ascending."""
        return tuple(sorted({row.level for row in self.results if row.attack != CLEAN}))

    def result(self, kind: str, level: int) -> Result:
        """The row of a type at a level; "clean" has level 0.

        Raises:
            InvalidInput: if the record has no such row.
        """
        for row in self.results:
            if (row.attack, row.level) == (kind, level):
                return row
        rows = ", ".join(f"{row.attack} {row.level}" for row in self.results)
        raise InvalidInput("The record has no such result.", expected=rows, received=f"{kind} {level}")

    def mean_accuracy(self, kind: str | None = None) -> float:
        """The mean over the levels of a type, or over the rows of all `counted_kinds`."""
        if kind is None:
            return _mean(counted_rows(self.threat, self.results))
        return _mean([row for row in self.results if row.attack == kind])

    def __str__(self) -> str:
        return (
            f"{self.name}: clean {self.clean_acc:.1%}, {self.threat} {self.corruptions_acc:.1%} "
            f"(mean of {len(self.counted_kinds)} types × {len(self.levels)} levels, n={self.num_images})"
        )


def counted_rows(threat: str, results: Iterable[Result]) -> list[Result]:
    """The rows that a headline is the mean of: all but "clean" and, of corruptions, `EXTRA_CORRUPTIONS`.

    CIFAR-10-C's authors set those 4 types aside for choosing hyper-parameters (Hendrycks & Dietterich 2019). They count
    where a record holds no other type.
    """
    rows = [row for row in results if row.attack != CLEAN]
    aside = EXTRA_CORRUPTIONS if threat == CORRUPTIONS else ()
    return [row for row in rows if row.attack not in aside] or rows


def load_record(path: str | Path) -> Record | DistortionRecord:
    """The record at `path`, of the kind that its `threat` names.

    Raises:
        InvalidInput: if the file is missing, is not JSON, or is no record.
    """
    try:
        content = json.loads(Path(path).read_bytes())
    except (OSError, ValueError):
        return Record.load(path)  # which says what is wrong with it
    distorted = isinstance(content, dict) and content.get("threat") in (CORRUPTIONS, UNFORESEEN)
    return DistortionRecord.load(path) if distorted else Record.load(path)


def _mean(rows: list[Result]) -> float:
    return sum(row.accuracy for row in rows) / len(rows)
