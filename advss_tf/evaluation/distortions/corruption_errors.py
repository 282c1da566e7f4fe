"""Corruption errors: a model's errors under each type of corruption in units of a baseline's.

Synopsis:

    errors = corruption_errors(record, baseline)         # two DistortionRecords
    errors.by_kind["fog"], errors.mce                    # 1.0: as bad as the baseline; below: better
    errors.relative_mce                                  # the same for what is lost from clean to corrupted

Hendrycks & Dietterich 2019 (arXiv:1903.12261), section 4: CE_c = Σ_s E_s,c / Σ_s E_s,c of the baseline, and relative
CE_c = Σ_s (E_s,c - E_clean) / Σ_s (E_s,c - E_clean) of the baseline, with E the share of images that are wrong; mCE and
relative mCE are their means over types. Fractions, where the paper has per cent. The paper's baseline is AlexNet.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from advss_tf.errors import InvalidInput
from advss_tf.evaluation.records.distortion_record import DistortionRecord
from advss_tf.evaluation.records.record import CLEAN, Result

_LISTED = 6  # rows that a refusal names before it counts


@dataclass(frozen=True)
class CorruptionErrors:
    """A record's errors in units of a baseline's.

    Attributes:
        by_kind: CE of every type, in the record's order.
        mce: Their mean over the record's `counted_kinds`.
        relative_by_kind: Relative CE of every type; None where the baseline loses nothing from clean to corrupted.
            Negative where the model gains.
        relative_mce: Their mean over the same types; None if one of them is.
    """

    by_kind: dict[str, float]
    mce: float
    relative_by_kind: dict[str, float | None]
    relative_mce: float | None


def corruption_errors(record: DistortionRecord, baseline: DistortionRecord) -> CorruptionErrors:
    """The corruption errors of a record against a baseline with the same types and severities.

    Raises:
        InvalidInput: if the baseline is not a record of the same threat, types and severities, or is never wrong under
            one of the types.
    """
    check_baseline(baseline, record.threat, _keys(record))
    by_kind = {kind: _errors(record, kind) / _errors(baseline, kind) for kind in record.kinds}
    relative = {kind: _ratio(_lost(record, kind), _lost(baseline, kind)) for kind in record.kinds}
    counted = [relative[kind] for kind in record.counted_kinds]
    whole = [ratio for ratio in counted if ratio is not None]
    return CorruptionErrors(
        by_kind=by_kind,
        mce=_mean([by_kind[kind] for kind in record.counted_kinds]),
        relative_by_kind=relative,
        relative_mce=_mean(whole) if len(whole) == len(counted) else None,
    )


def check_baseline(baseline: DistortionRecord, threat: str, keys: Iterable[tuple[str, int]]) -> None:
    """Refuses a baseline that corruption errors cannot be worked out with.

    Args:
        baseline: The record.
        threat: The threat it must have.
        keys: The types and levels it must have, all of them and no other.
    """
    if not isinstance(baseline, DistortionRecord) or baseline.threat != threat:
        received = baseline.threat if isinstance(baseline, DistortionRecord) else type(baseline).__name__
        raise InvalidInput(
            "`baseline` is not a record to compare with.",
            expected=f"a DistortionRecord with threat={threat!r}",
            received=f"baseline={received}",
        )
    wanted, found = list(keys), _keys(baseline)
    lacks, besides = [key for key in wanted if key not in found], [key for key in found if key not in wanted]
    if lacks or besides:
        differs = [f"it lacks {_listed(lacks)}"] * bool(lacks) + [f"it also has {_listed(besides)}"] * bool(besides)
        raise InvalidInput(
            "The baseline has other types and severities.", expected="the same", received=" and ".join(differs)
        )
    perfect = [kind for kind in baseline.kinds if not _errors(baseline, kind)]
    if perfect:
        raise InvalidInput(
            "The baseline is never wrong under a type of corruption, so no error is a multiple of its errors.",
            expected="one wrong image or more under every type",
            received=f"no wrong image under {', '.join(perfect)}",
        )


def _keys(record: DistortionRecord) -> list[tuple[str, int]]:
    return [(row.attack, row.level) for row in record.results if row.attack != CLEAN]


def _listed(keys: list[tuple[str, int]]) -> str:
    more = f" and {len(keys) - _LISTED} more" if len(keys) > _LISTED else ""
    return ", ".join(f"{kind} {level}" for kind, level in keys[:_LISTED]) + more


def _error(row: Result) -> float:
    return (row.total - row.correct) / row.total


def _errors(record: DistortionRecord, kind: str) -> float:
    return sum(_error(row) for row in record.results if row.attack == kind)


def _lost(record: DistortionRecord, kind: str) -> float:
    clean = _error(record.result(CLEAN, 0))
    return sum(_error(row) - clean for row in record.results if row.attack == kind)


def _ratio(ours: float, theirs: float) -> float | None:
    return ours / theirs if theirs > 0 else None


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
