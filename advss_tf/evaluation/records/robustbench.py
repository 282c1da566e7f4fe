"""A record in the field names of RobustBench's `model_info` files.

Synopsis:

    model_info(record, venue="…", additional_data=False)
    # {"name": …, "dataset": "cifar10", "eps": "8/255", "clean_acc": "93.68", "autoattack_acc": "73.71", …}

Names and formats are those of `model_info/*/*/*.json` and of `ModelInfo` in `robustbench/utils.py` of
github.com/RobustBench/robustbench: accuracies are percentages with at most two decimals, written as strings.
"""

from __future__ import annotations

from advss_tf.errors import InvalidInput, one_of
from advss_tf.evaluation.autoattack import AUTOATTACK
from advss_tf.evaluation.records.distortion_record import CORRUPTIONS, DistortionRecord
from advss_tf.evaluation.records.record import Record, epsilon_text

# What a record cannot know: it is about the paper, the training data, or the network's inference.
OF_THE_PAPER = ("link", "authors", "venue", "additional_data", "number_forward_passes", "reported", "footnote")
# RobustBench's mean corruption errors are all relative to this model.
_BASELINE = "AlexNet"

Info = dict[str, str | bool | int | None]


def model_info(record: Record | DistortionRecord, **known: str | bool | int) -> Info:
    """The fields that a record knows, and those that are given; a field that nobody knows is left out.

    `name` is the record's; on the leaderboard it is the title of the paper. `autoattack_acc` is there only if the
    standard version of AutoAttack was run, and `corruptions_mce` only if it is relative to AlexNet, because RobustBench
    means nothing else by them. A record of a subset says so in `footnote`.

    Args:
        record: A record under attack, or one of corruptions.
        **known: Of `link`, `authors`, `venue`, `additional_data`, `number_forward_passes`, `reported`, `footnote`.

    Raises:
        InvalidInput: if a given field is not one of these, or RobustBench has no leaderboard for the record's threat.
    """
    for field in known:
        one_of("field", field, OF_THE_PAPER)
    if isinstance(record, DistortionRecord) and record.threat != CORRUPTIONS:
        raise InvalidInput(
            "RobustBench has no leaderboard for this threat.",
            expected="Linf, L2 or corruptions",
            received=f"threat={record.threat!r}",
        )
    found: Info = {"name": record.name, "dataset": record.dataset, "architecture": record.architecture}
    found = {field: value for field, value in found.items() if value is not None}
    # Corruptions have no radius, and RobustBench writes that as null.
    found["eps"] = epsilon_text(record.eps, record.threat) if isinstance(record, Record) else None
    found["clean_acc"] = percentage(record.clean_acc)
    found |= _attacked(record) if isinstance(record, Record) else _corrupted(record)
    if record.subset is not None:
        found["footnote"] = f"Measured on {record.subset}."
    return found | known


def percentage(share: float) -> str:
    """`73.71` for 0.7371, `0.0` for 0: as RobustBench rounds and writes."""
    return str(round(100 * share, 2))


def _attacked(record: Record) -> Info:
    if record.autoattack_acc is None or record.result(AUTOATTACK).parameters.get("version") != "standard":
        return {}
    return {"autoattack_acc": percentage(record.autoattack_acc)}


def _corrupted(record: DistortionRecord) -> Info:
    found: Info = {"corruptions_acc": percentage(record.corruptions_acc)}
    if record.mce is not None and record.baseline == _BASELINE:
        found["corruptions_mce"] = percentage(record.mce)
    return found
