"""How every command starts, refuses and ends; and TensorFlow's import, fast and quiet.

Synopsis:

    def report() -> None:
        start(main, flags)             # exit code 0; 2 where the input was refused; 130 where interrupted
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from absl import app, logging
from absl.flags import argparse_flags

from advss_tf.errors import InvalidInput
from advss_tf.quiet import closed_error_stream
from advss_tf.version import __version__

_INVALID, _INTERRUPTED = 2, 130


def command(name: str, description: str) -> argparse.ArgumentParser:
    """The parser of a command, which gets its own flags from the caller; absl's flags and `--version` are there."""
    parser: argparse.ArgumentParser = argparse_flags.ArgumentParser(prog=name, description=description)
    parser.add_argument("--version", action="version", version=__version__)
    return parser


def start(main: Callable[[argparse.Namespace], int], flags: Callable[[], argparse.ArgumentParser]) -> None:
    """Parses the flags and runs a command; the process ends with its exit code."""
    app.run(lambda args: refusing(main, args), flags_parser=lambda argv: flags().parse_args(argv[1:]))


def refusing(main: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Runs a command; what it refuses is one readable message on the error stream, and a code of 2."""
    logging.set_verbosity(logging.ERROR)  # TensorFlow logs through absl, and at length
    try:
        return main(args)
    except InvalidInput as refusal:
        print(refusal, file=sys.stderr)
        return _INVALID
    except OSError as error:
        print(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "), file=sys.stderr)
        return _INVALID
    except KeyboardInterrupt:
        print("\nInterrupted. The same command goes on from the last checkpoint.", file=sys.stderr)
        return _INTERRUPTED


@contextmanager
def quiet_import() -> Iterator[None]:
    """Imports TensorFlow fast and quiet; what the user has set in the environment stays.

    oneDNN's kernels, which TensorFlow leaves off on some processors, save time (benchmarks/README.md). Some start-up
    messages are written before any level is read, straight to the error stream, so that is closed while importing.
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        yield
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    with closed_error_stream():
        yield


def show_record(screen: Any, record: Any) -> None:
    """The accuracies of one record; what is the same in every row stands in the title, for a narrow terminal."""
    from advss_tf.evaluation import result_table

    columns, rows = result_table([record])
    model, data = rows[0][:2]
    images = f"{record.num_images:,} images{', a subset' if record.subset else ''}"
    title = f"Accuracy of {model} on {data}, {images}, with 95 % intervals"
    screen.table(title, columns[3:], [row[3:] for row in rows])
    if record.external is not None:
        screen.say(f"Learned from outside: {record.external}")
