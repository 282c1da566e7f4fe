"""`advss-report`: turns records into a page.

Synopsis:

    advss-report runs/digits runs/digits-full --out=report
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from advss_tf.cli.starting import command, quiet_import, start
from advss_tf.errors import InvalidInput


def report() -> None:
    """Console entry point `advss-report`."""
    start(main, flags)


def flags() -> argparse.ArgumentParser:
    """The flags of the command."""
    parser = command("advss-report", "Turns records into one self-contained HTML page and a Markdown file.")
    parser.add_argument("records", nargs="+", metavar="RECORD", help="record files, or folders that hold some")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="where the report is written")
    parser.add_argument("--title", help="the heading")
    return parser


def main(args: argparse.Namespace) -> int:
    """Does what the flags ask for; returns the exit code."""
    with quiet_import():
        from advss_tf.evaluation import load_record, write_report

    records = [load_record(path) for path in _record_files(args.records)]
    print(f"Report: {write_report(records, args.out, title=args.title)}")
    return 0


def _record_files(paths: Sequence[str]) -> list[Path]:
    found: list[Path] = []
    for path in map(Path, paths):
        files = sorted(path.rglob("record*.json")) if path.is_dir() else [path]
        if not files:
            raise InvalidInput(
                f"{path} holds no record.", expected="a folder with record*.json files", received=str(path)
            )
        found += files
    # A file that is named by itself and by its folder is one record.
    return list({path.resolve(): path for path in found}.values())
