"""Times for people."""

from __future__ import annotations

import math

import pytest

from advss_tf.timing import clock


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (59.6, "1:00"), (73.2, "1:13"), (3599.7, "1:00:00"), (3700, "1:01:40"), (math.nan, "?")],
)
def test_a_time_is_written_as_on_a_clock(seconds, text):
    assert clock(seconds) == text
