"""What a report is about: records of both kinds, sorted and named, with what is said of all of them.

Synopsis:

    found = Contents.of(records)
    found.attacked, found.attacked_names
    for kind in found.distorted:                  # "corruptions", "unforeseen", where there are such records
        found.distorted[kind], found.distorted_names[kind]
    found.lead, found.warnings, found.models
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from advss_tf.evaluation.records.distortion_record import CORRUPTIONS, UNFORESEEN, DistortionRecord
from advss_tf.evaluation.records.header import Header
from advss_tf.evaluation.records.record import Record, epsilon_text
from advss_tf.evaluation.report.distortions import extent
from advss_tf.evaluation.report.tables import distinct_names

AnyRecord = Record | DistortionRecord

_MAX_NAMED = 4
TITLES = {CORRUPTIONS: "Corruptions", UNFORESEEN: "Unforeseen attacks"}


@dataclass(frozen=True)
class Model:
    """What is known of one model: its records, matched by name.

    Attributes:
        name: As the report calls it.
        attacked: Its record under attack, or None.
        distorted: Its records of distortions, by threat.
    """

    name: str
    attacked: Record | None
    distorted: Mapping[str, DistortionRecord]

    @property
    def header(self) -> Header:
        """Any of its records."""
        return self.attacked or next(iter(self.distorted.values()))


@dataclass(frozen=True)
class Contents:
    """The records of a report.

    Attributes:
        attacked: Records under attack, as they were given.
        attacked_names: One name for each.
        distorted: Records of distortions by threat, as they were given.
        distorted_names: One name for each.
    """

    attacked: tuple[Record, ...]
    attacked_names: tuple[str, ...]
    distorted: Mapping[str, tuple[DistortionRecord, ...]]
    distorted_names: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, records: Sequence[AnyRecord]) -> Contents:
        """Sorts records by kind and names them."""
        attacked = tuple(record for record in records if isinstance(record, Record))
        others = [record for record in records if isinstance(record, DistortionRecord)]
        distorted = {kind: tuple(record for record in others if record.threat == kind) for kind in TITLES}
        distorted = {kind: some for kind, some in distorted.items() if some}
        names = {kind: tuple(distinct_names(some)) for kind, some in distorted.items()}
        return cls(attacked, tuple(distinct_names(attacked)), distorted, names)

    @property
    def models(self) -> list[Model]:
        """Records of one name, once each kind, are of one model; records that share a name and a kind stay apart."""
        attacked = dict(zip(self.attacked_names, self.attacked, strict=True))
        found = dict.fromkeys(self.attacked_names) | dict.fromkeys(
            name for names in self.distorted_names.values() for name in names
        )
        by_kind = {
            kind: dict(zip(self.distorted_names[kind], some, strict=True)) for kind, some in self.distorted.items()
        }
        return [
            Model(name, attacked.get(name), {kind: some[name] for kind, some in by_kind.items() if name in some})
            for name in found
        ]

    @property
    def lead(self) -> str:
        """What was measured, and which model has learned from other data; under the title."""
        every: list[Header] = [*self.attacked, *(record for some in self.distorted.values() for record in some)]
        data = ", ".join(dict.fromkeys(record.dataset or "unnamed data" for record in every))
        count = self._num_models()
        parts = ["under attack (" + ", ".join(dict.fromkeys(map(_ball, self.attacked))) + ")"] if self.attacked else []
        for kind, some in self.distorted.items():
            parts.append(f"under {TITLES[kind].lower()} ({', '.join(dict.fromkeys(map(extent, some)))})")
        what = ", ".join(parts[:-1]) + " and " + parts[-1] if len(parts) > 1 else parts[0]
        lead = f"{'One model' if count == 1 else f'{count} models'} on {data}: clean accuracy, and accuracy {what}."
        outside = dict.fromkeys(
            f" {each.name} has learned from outside: {each.external}." for each in every if each.external
        )
        return lead + "".join(outside)

    @property
    def warnings(self) -> Iterator[tuple[str, str]]:
        """Every warning with the name of the record that has it."""
        for record, name in zip(self.attacked, self.attacked_names, strict=True):
            yield from ((name, text) for text in record.warnings)
        for kind, some in self.distorted.items():
            for each, name in zip(some, self.distorted_names[kind], strict=True):
                yield from ((f"{name}, {TITLES[kind].lower()}", text) for text in each.warnings)

    @property
    def title(self) -> str:
        """The heading of a report that was given none."""
        names = dict.fromkeys(record.name for record in self.attacked)
        names |= dict.fromkeys(record.name for some in self.distorted.values() for record in some)
        return "Robustness of " + (", ".join(names) if len(names) <= _MAX_NAMED else f"{len(names)} models")

    def _num_models(self) -> int:
        # A model has a record for each threat; two of one threat and name are two runs.
        every = [*self.attacked, *(record for some in self.distorted.values() for record in some)]
        kinds = [Counter(r.name for r in every if r.threat == threat) for threat in {r.threat for r in every}]
        return sum(max(kind[name] for kind in kinds) for name in set().union(*kinds))


def _ball(record: Record) -> str:
    return f"{record.threat} {epsilon_text(record.eps, record.threat)}"
