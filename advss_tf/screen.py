"""What a run says: lines to the log file and the screen, a bar on a terminal, and a table at the end.

Synopsis:

    screen = Screen(log=workdir.log)
    screen.say("pretrain 1/15: loss 1.386")
    with screen.bar("pretrain", total=300) as advance:
        advance(1, {"loss": 1.386}, 73.0)

On a terminal there is a bar with loss, accuracies and time left. Elsewhere only the lines remain, and `Progress` says
one a minute inside an epoch.
"""

from __future__ import annotations

import logging as standard_logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from advss_tf.timing import clock

Advance = Callable[[int, dict[str, Any], float], None]


class Screen:
    """Lines, bars and tables of a run.

    Args:
        log: A file that every line is appended to, with its time; None for none.
        console: Where to write; by default the standard output.
        quiet: Whether lines go to the log alone, as those of one run among many do; a terminal still has its bar.
        tell: Is given every line as well, such as to say some of them elsewhere; None for nobody.
    """

    def __init__(
        self,
        log: Path | None = None,
        *,
        console: Console | None = None,
        quiet: bool = False,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self.console, self.quiet = console or Console(highlight=False, soft_wrap=True), quiet
        self.tell = tell
        if log is not None:
            _log_to(log)

    def say(self, line: str) -> None:
        """One line, to the screen and to the log."""
        if not self.quiet:
            self.console.print(line, markup=False)
        _LOG.info(line)
        if self.tell is not None:
            self.tell(line)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table, to the screen; its rows also to the log. Where there is no terminal, none of its cells is broken."""
        table = Table(title=title, title_justify="left")
        for number, column in enumerate(columns):
            table.add_column(column, justify="right" if number else "left", overflow="fold")
        for row in rows:
            table.add_row(*row)
            _LOG.info(" | ".join(row))
        if not self.console.is_terminal:  # a file has no edge
            table.width = self.console.measure(table, options=self.console.options.update(max_width=_WIDEST)).maximum
        self.console.print(table, crop=False)

    @contextmanager
    def bar(self, name: str, *, total: int) -> Iterator[Advance | None]:
        """A bar of `total` steps while the block runs; gives None where there is no terminal."""
        if not self.console.is_terminal:
            yield None
            return
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[news]}"))
        with Progress(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task(name, total=total, news="compiling")

            def advance(done: int, logs: dict[str, Any], seconds_left: float) -> None:
                progress.update(task, completed=done, news=_news(done, total, logs, seconds_left))

            yield advance


_LOG = standard_logging.getLogger("advss_tf.run")
_WIDEST = 10_000


def _log_to(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    for handler in list(_LOG.handlers):
        _LOG.removeHandler(handler)
        handler.close()
    handler = standard_logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(standard_logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    _LOG.addHandler(handler)
    _LOG.setLevel(standard_logging.INFO)
    _LOG.propagate = False


def _news(done: int, total: int, logs: dict[str, Any], seconds_left: float) -> str:
    names = ("loss", "accuracy", "robust_accuracy")
    shown = [f"{name} {float(logs[name]):.3f}" for name in names if name in logs] if done % 5 == 0 or done < 20 else []
    return f"{done}/{total}  {'  '.join(shown)}  {clock(seconds_left)} left"
