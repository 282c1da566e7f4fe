"""A process that runs cells of a grid one after the other, and is replaced by a fresh one before it has grown large.

Synopsis:

    with CellProcess(hear=print) as run:       # `hear` is given the lines of the cell while it goes on
        reason = run(recipe, workdir)          # None, or why the cell failed; raises `ProcessEnded` where it was killed

TensorFlow takes seconds to start, so a process runs several cells; it keeps tens of MiB of each, whatever is cleared,
so it does not run many, and none after one that failed, as some errors of a GPU stay until the process ends. What kills
it, such as a lack of memory, fails one cell and leaves the grid alive. It never
outlives the process that started it: two would write into one folder. TensorFlow is imported by the functions that need
it, so that the child can close its error stream first.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple, Self

from absl import logging

from advss_tf import config
from advss_tf.errors import InvalidInput
from advss_tf.quiet import closed_error_stream
from advss_tf.screen import Screen
from advss_tf.workdir import Workdir

CELLS_EACH = 8
"""Cells that a process runs."""


def stages_of(recipe: config.Recipe) -> list[str]:
    """The stages of a cell: those of the recipe, without a page of its own."""
    from advss_tf import runner

    return [stage for stage in runner.planned(recipe) if stage != "report"]


def run_cell(recipe: config.Recipe, workdir: Workdir, *, tell: Callable[[str], None] | None = None) -> None:
    """Runs one cell in this process, its lines in its own log, and clears afterwards what Keras keeps of it.

    Args:
        recipe: The cell's recipe.
        workdir: Its folder.
        tell: Is given its lines as well.
    """
    import keras

    from advss_tf import runner

    try:
        runner.run(recipe, workdir, stages=stages_of(recipe), screen=Screen(workdir.log, quiet=True, tell=tell))
    finally:
        keras.backend.clear_session()
        gc.collect()


def words_of(error: BaseException) -> str:
    """What is kept of an error: a refusal's sentence, and the whole traceback of anything else.

    The last line always says what it was: where a message has several lines, its type and the first of them again.
    """
    if isinstance(error, (InvalidInput, ProcessEnded)):
        return str(error)
    text = "".join(traceback.format_exception(error)).strip()
    message = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    last = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return text if text.endswith(last) else f"{text}\n{last}"


class ProcessEnded(RuntimeError):
    """The process that ran a cell ended before it could say how the cell went; its stages can be gone on with.

    Args:
        code: Its exit code, negative for a signal.
    """

    def __init__(self, code: int | None) -> None:
        super().__init__(
            f"The process that ran the cell has ended, code {code}; -9 is a kill, often for lack of memory."
        )


class Said(NamedTuple):
    """What the child sends of a cell that goes on: a line of its screen."""

    line: str


class CellProcess:
    """Runs cells in a child of this process, which is started with the first.

    Args:
        cells_each: Cells that a child runs before a fresh one takes its place.
        hear: Is given the lines of the cell that runs, as they come: the standard output that the child inherits need
            not be where this process speaks, such as in a notebook.
    """

    def __init__(self, *, cells_each: int = CELLS_EACH, hear: Callable[[str], None] | None = None) -> None:
        self.cells_each, self.hear, self._served = cells_each, hear, 0
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __call__(self, recipe: config.Recipe, workdir: Workdir) -> str | None:
        """Runs a cell; gives None, or the text that says why it failed.

        Raises:
            ProcessEnded: if the child was killed, or ended by itself.
        """
        if self._process is None or self._served >= self.cells_each:
            self._start()
        self._served += 1
        answer = self._answer((config.dump_recipe(recipe), str(workdir.root)))
        while isinstance(answer, Said):
            self._pass_on(answer.line)
            answer = self._answer()
        if answer is not None:
            self.close()
        return answer

    def close(self) -> None:
        """Ends the child, whatever it is doing."""
        if self._process is not None:
            self._process.kill()
            self._ended()

    def _start(self) -> None:
        self.close()
        context = multiprocessing.get_context("spawn")  # a fork would inherit TensorFlow's threads half-way
        self._pipe, theirs = context.Pipe()
        self._process, self._served = context.Process(target=_serve, args=(theirs,), daemon=True), 0
        self._process.start()
        theirs.close()  # else this end would not hear that the child has ended

    def _answer(self, cell: tuple[str, str] | None = None) -> str | Said | None:
        """What the child says next, after it has been sent a cell if there is one."""
        try:
            if self._pipe is None:
                raise EOFError
            if cell is not None:
                self._pipe.send(cell)
            return self._pipe.recv()
        except (EOFError, OSError):
            raise ProcessEnded(self._ended()) from None

    def _pass_on(self, line: str) -> None:
        try:
            if self.hear is not None:
                self.hear(line)
        except BaseException:
            self.close()  # else the next cell would be sent to a child that is still busy with this one
            raise

    def _ended(self) -> int | None:
        """Waits for the child, forgets it, and gives its exit code."""
        process, pipe = self._process, self._pipe
        self._process = self._pipe = None
        if pipe is not None:
            pipe.close()
        if process is None:
            return None
        process.join()
        return process.exitcode


def _serve(pipe: Connection) -> None:
    """The child: runs what it is sent until nothing more comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted as well, and ends this
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.set_verbosity(logging.ERROR)  # as in the parent: TensorFlow logs through absl, and at length
    with closed_error_stream():
        from advss_tf import runner  # noqa: F401 - TensorFlow comes with it
    while True:
        try:
            written, root = pipe.recv()
        except EOFError:
            return
        pipe.send(_attempt(written, root, tell=lambda line: _tell(pipe, line)))


def _tell(pipe: Connection, line: str) -> None:
    with suppress(OSError):  # the parent has ended, and this is about to
        pipe.send(Said(line))


def _attempt(written: str, root: str, *, tell: Callable[[str], None]) -> str | None:
    try:
        run_cell(config.make_recipe(config.read_yaml(written)), Workdir(Path(root)), tell=tell)
    except Exception as error:
        return words_of(error)
    return None


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
