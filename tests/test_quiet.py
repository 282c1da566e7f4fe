"""The error stream is closed for native code too, and open again afterwards."""

from __future__ import annotations

import os

import pytest

from advss_tf.quiet import closed_error_stream


def test_what_is_written_inside_the_block_is_not_seen_and_what_comes_after_is(capfd):
    with closed_error_stream():
        os.write(2, b"native\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_an_error_inside_opens_the_stream_again(capfd):
    with pytest.raises(ValueError, match="inside"), closed_error_stream():
        raise ValueError("inside")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"
