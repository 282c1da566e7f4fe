"""Times for people, and when to say something."""

from __future__ import annotations

import math

import pytest

from advss_tf.timing import Pace, clock, duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (59.6, "1:00"), (73.2, "1:13"), (3599.7, "1:00:00"), (3700, "1:01:40"), (math.nan, "?")],
)
def test_a_time_is_written_as_on_a_clock(seconds, text):
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.02, "1 s"),
        (40.2, "41 s"),
        (59.0, "59 s"),
        (59.1, "1 min"),
        (60, "1 min"),
        (61, "2 min"),
        (170, "3 min"),
        (3541, "1 h"),
        (7790, "2 h 10 min"),
        (3_600_001, "1,000 h 1 min"),
        (math.nan, "?"),
    ],
)
def test_a_duration_is_written_in_words_and_rounded_up(seconds, text):
    assert duration(seconds) == text


def test_a_pace_is_silent_at_first_and_after_each_time():
    now = [100.0]
    pace, due = Pace(60.0, clock=lambda: now[0]), []
    for seconds in (0, 59, 60, 61, 119, 121, 130, 180, 181):
        now[0] = 100.0 + seconds
        due += [seconds] * pace.due()
    # After 121 the next is due at 181, not at 180.
    assert due == [60, 121, 181]
    pace.rest()
    now[0] += 59
    assert not pace.due()
    now[0] += 1
    assert pace.due()
