"""The report of one or several records: a page to read and Markdown to keep in a repository.

Synopsis:

    write_report(record, "report")
    write_report([record, baseline, corruptions], "report", title="Digits", histories={"finetune": lines})

    report/
      index.html      the whole report in one file
      report.md       the same in Markdown
      figures/        the curves (SVG) and images (PNG) that report.md shows
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from advss_tf.errors import InvalidInput
from advss_tf.evaluation.records.distortion_record import DistortionRecord
from advss_tf.evaluation.records.record import Record
from advss_tf.evaluation.report.contents import AnyRecord, Contents
from advss_tf.evaluation.report.figures import History
from advss_tf.evaluation.report.markdown import markdown
from advss_tf.evaluation.report.page import html_page
from advss_tf.evaluation.report.sections import sections
from advss_tf.workdir import replacing

_OURS = re.compile(
    r"epsilon-[\w-]+\.svg|(training|confusion|reliability)-\d+-\w+\.svg|classes-\d+\.svg|example-\d+-\d+-\w+\.png"
)


def write_report(
    records: AnyRecord | Sequence[AnyRecord],
    folder: str | Path,
    *,
    title: str | None = None,
    histories: Mapping[str, History] | None = None,
    max_examples: int = 8,
) -> Path:
    """Writes `index.html`, `report.md` and `figures/` into a folder.

    Args:
        records: One record or several, under attack or of distortions; several are compared, and those that share a
            name are read as of the same model.
        folder: Where to write; made if it is not there. Files of an older report are replaced.
        title: The heading; default: "Robustness of" and the models.
        histories: Training histories by name, each a list with one dict per epoch as in `history.jsonl`. Drawn are
            `loss`, `val_loss`, `accuracy`, `val_accuracy`, `robust_accuracy`, `val_robust_accuracy`, where present.
        max_examples: How many images of each record are shown beside their attacked versions; 0 for none.

    Returns:
        The path of `index.html`.

    Raises:
        InvalidInput: if there is no record, or something else than records.
    """
    records = [records] if isinstance(records, Record | DistortionRecord) else list(records)
    if not records or not all(isinstance(record, Record | DistortionRecord) for record in records):
        raise InvalidInput(
            "There is nothing to report.",
            expected="one `Record` or `DistortionRecord`, or several; `load_record` reads them from disk",
            received=f"records={[type(record).__name__ for record in records]}",
        )
    folder, contents = Path(folder), Contents.of(records)
    title = title or contents.title
    written = list(sections(contents, histories=histories or {}, max_examples=max_examples))
    files: dict[str, bytes] = {}
    text = "\n".join(markdown(contents, written, title=title, files=files))
    page = html_page(contents, written, title=title)
    _write_figures(folder / "figures", files)
    for name, content in (("report.md", text), ("index.html", page)):
        with replacing(folder / name) as file:
            file.write(content.encode())
    return folder / "index.html"


def _write_figures(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        with replacing(folder / name) as file:
            file.write(content)
    for old in folder.glob("*"):
        # Only what a report has written: somebody may keep figures of their own here.
        if old.name not in files and _OURS.fullmatch(old.name):
            old.unlink()
