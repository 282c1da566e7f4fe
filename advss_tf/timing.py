"""How a time is written for people."""

from __future__ import annotations

import math


def clock(seconds: float) -> str:
    """`73.2` as `"1:13"`, 3,700 as `"1:01:40"`, NaN as `"?"`."""
    if math.isnan(seconds):
        return "?"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
