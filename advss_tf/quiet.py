"""Silence while TensorFlow is imported.

Synopsis:

    with closed_error_stream():
        import tensorflow

Some of its start-up messages are written before any level of logging is read, straight to the error stream of the
process, where Python's own streams have no say.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def closed_error_stream() -> Iterator[None]:
    """Leads what is written to the error stream nowhere, for native code as well, until the block ends."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
