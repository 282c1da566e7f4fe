"""How a time is written for people: as on a clock, and in words."""

from __future__ import annotations

import math


def clock(seconds: float) -> str:
    """`73.2` as `"1:13"`, 3,700 as `"1:01:40"`, NaN as `"?"`."""
    if math.isnan(seconds):
        return "?"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def duration(seconds: float) -> str:
    """`40.2` as `"41 s"`, 170 as `"3 min"`, 7,790 as `"2 h 10 min"`, NaN as `"?"`; rounded up, as one waits for it."""
    if math.isnan(seconds):
        return "?"
    if seconds <= 59:
        return f"{math.ceil(seconds)} s"
    hours, minutes = divmod(math.ceil(seconds / 60), 60)
    if not hours:
        return f"{minutes} min"
    return f"{hours:,} h {minutes} min" if minutes else f"{hours:,} h"
