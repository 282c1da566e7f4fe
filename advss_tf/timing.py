"""How a time is written for people: as on a clock, and in words; and when to say what is said now and then."""

from __future__ import annotations

import math
import time
from collections.abc import Callable


class Pace:
    """When to say something that is said now and then.

    Args:
        seconds: How long to be silent after each time, and at first.
        clock: Gives the time in seconds.
    """

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self.clock, self._said = seconds, clock, clock()

    def due(self) -> bool:
        """Whether to say it now; if so, silence begins anew."""
        now = self.clock()
        if now - self._said < self.seconds:
            return False
        self._said = now
        return True

    def rest(self) -> None:
        """Begins the silence anew, such as when something else has been said."""
        self._said = self.clock()


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
