"""A whole grid: every cell in a folder of its own, one after the other, and the table over all of them.

Synopsis:

    failed = run_grid(load_grid("configs/grid_digits.yaml"), "runs/grid_digits")

    runs/grid_digits/
      grid.yaml                   the grid, its base written out
      grid.log                    what the screen said
      rotation-P3-F4-seed0/ …     a run each, laid out as every run; error.txt if it failed
      grid.md grid.csv grid.json  the table: means over seeds, and every cell
      figures/ report/            the figures, and the page with every record

Finished cells are not run again, one that was killed goes on from its checkpoint, and one that failed lets the others
run. Cells that need the same pretraining share it. They run one after the other, see cell_process.py. A cell whose
folder holds the run of another recipe is refused, and what lies there is not taken for its result. One whose files
cannot be read has failed, and says what to do. While a cell runs, its lines are said now and then, a bar on a terminal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from advss_tf import config
from advss_tf.errors import InvalidInput
from advss_tf.evaluation.report.grid_pairs import plain_differences
from advss_tf.evaluation.report.grid_report import write_grid
from advss_tf.evaluation.report.grid_table import Outcome, ball_text, headline, judged_epsilons, plain_table
from advss_tf.grid.cell_process import CellProcess, ProcessEnded, stages_of, words_of
from advss_tf.grid.forecast import seconds_left
from advss_tf.grid.outcomes import error_file, finished, other_recipe, outcome_of, reason, unreadable
from advss_tf.grid.sharing import adopt, finished_elsewhere, learn_from_the_same, pretraining_key
from advss_tf.screen import Screen
from advss_tf.timing import Pace, duration
from advss_tf.training.strategy import in_cluster
from advss_tf.workdir import Workdir, replacing

RunCell = Callable[[config.Recipe, Workdir], str | None]

SECONDS_BETWEEN_LINES = 60.0
"""The least time between two lines about a cell that goes on, and before the first of them."""


def run_grid(
    grid: config.Grid,
    root: str | Path,
    *,
    cells: Sequence[config.GridCell] | None = None,
    run: RunCell | None = None,
    screen: Callable[[Path], Screen] = Screen,
) -> int:
    """Runs the cells that are not finished yet, and writes the table after each.

    Args:
        grid: The grid.
        root: The grid's folder.
        cells: Some of its cells, the others are left for another call; by default all.
        run: Runs one cell, and returns or raises why it failed; by default `CellProcess`.
        screen: Makes a screen that also writes into a log.

    Returns:
        How many cells failed in this call; `error.txt` in the folder of each says why. The next call tries them again.
        A script that calls this guards its main part with `if __name__ == "__main__"`, as cells run in child processes.

    Raises:
        InvalidInput: if the folder holds another grid, another process runs it, this is a worker of a cluster, or the
            system cannot lock a file for one process.
    """
    cells = grid.cells if cells is None else cells
    _refuse_clusters(cells)
    with _alone(Path(root)):
        _claim(Path(root), grid)
        going = _Going(grid, cells, Path(root), screen)
        with CellProcess(hear=going.hear) as process:
            for number in range(len(cells)):
                going.take(number, run or process)
        going.show()
        return len(going.failed)


class _Going:
    """A grid under way: which cells failed, and whose pretraining did."""

    def __init__(self, grid: config.Grid, cells: Sequence[config.GridCell], root: Path, screen: Any) -> None:
        self.grid, self.cells, self.root, self._screen = grid, cells, root, screen
        self._number, self._pace = 0, Pace(SECONDS_BETWEEN_LINES)
        self.failed: dict[str, str] = {}
        self.known: dict[str, Outcome] = {}
        self.broken: dict[str, str] = {}
        self.foreign = {cell.name: other_recipe(cell, self._workdir(cell)) for cell in grid.cells}

    def take(self, number: int, run: RunCell) -> None:
        """Brings one cell to its end, whatever that is."""
        cell, workdir = self.cells[number], self._workdir(self.cells[number])
        foreign = self.foreign[cell.name]
        if foreign is not None:
            self.failed[cell.name] = foreign
            return self._say(number, f"failed: {foreign}")
        damaged = unreadable(cell, workdir)
        if damaged is not None:
            self._note(cell, workdir, damaged, broken=False)
            return self._say(number, f"failed: {self.failed[cell.name]}")
        if finished(cell, workdir):
            return error_file(workdir).unlink(missing_ok=True)
        self._say(number, self._left())
        started, self._number, self._pace = time.monotonic(), number, Pace(SECONDS_BETWEEN_LINES)
        words = self._attempt(cell, workdir, run)
        found = self._write(pictures=False)
        if words is None:
            took = duration(time.monotonic() - started)
            (outcome,) = (each for each in found if each.name == cell.name)
            numbers = headline(outcome, eps=judged_epsilons(found).get(cell.name))
            self._say(number, f"done in {took}{', ' if numbers else ''}{numbers}")
        else:
            self._say(number, f"failed: {self.failed[cell.name]}")

    def hear(self, line: str) -> None:
        """Says a line of the cell that runs, seldom; a terminal has its bar instead, the cell's log all lines."""
        if "\n" in line or not self._pace.due():
            return
        if not self._screen(self.root / "grid.log").console.is_terminal:
            self._say(self._number, line)

    def show(self) -> None:
        """Writes the figures and the page as well, and shows the table.

        They are always written: a call that was interrupted here, with every cell finished, has left older ones.
        """
        found = self._write(pictures=True)
        screen = self._screen(self.root / "grid.log")
        columns, rows = _narrow(*plain_table(found, self._axes()), axes=len(self._axes()))
        ball = ball_text(found)
        screen.table(f"{self.grid.name}: mean ± 95 % t-interval over runs{ball and f', in {ball}'}", columns, rows)
        columns, rows = plain_differences(found, self._axes())
        if rows:
            title = "less the baseline of the same seed, in points: mean ± 95 % t-interval over pairs"
            screen.table(title, *_narrow(columns, rows, axes=len(self._axes())))
        for name, words in self.failed.items():
            screen.say(f"{name} failed: {words}")
        done = sum(outcome.status == "finished" for outcome in found)
        screen.say(f"{done} of {len(self.grid.cells)} cells are finished. Table: {self.root / 'grid.md'}")

    def _workdir(self, cell: config.GridCell) -> Workdir:
        return Workdir(self.root / cell.name)

    def _axes(self) -> list[str]:
        return [axis.name for axis in self.grid.axes if not axis.repeats]

    def _say(self, number: int, what: str) -> None:
        # Made anew each time: a cell's screen has closed the grid's log.
        screen = self._screen(self.root / "grid.log")
        screen.say(f"[{number + 1}/{len(self.cells)}] {self.cells[number].name}: {what}")

    def _left(self) -> str:
        """How long the chosen cells still take, judged by all of the grid."""
        runs = {cell.name: (cell.recipe, self._workdir(cell)) for cell in self.grid.cells}
        ours = [run for name, run in runs.items() if self.foreign[name] is None]
        due = [runs[cell.name] for cell in self.cells if cell.name not in self.failed]
        left = seconds_left(due, evidence=ours, stages_of=stages_of)
        return f"{'about' if left.whole else 'at least'} {duration(left.seconds)} left" if left.seconds else "under way"

    def _attempt(self, cell: config.GridCell, workdir: Workdir, run: RunCell) -> str | None:
        """Runs a cell; gives None, or notes and gives why it failed."""
        broken = True
        try:
            self._share(cell, workdir)
            words = run(cell.recipe, workdir)
            words = unreadable(cell, workdir) if words is None else words
        except Exception as error:  # whatever it is, the other cells have nothing to do with it
            # What was killed may go on from its checkpoint, so those that share its pretraining try.
            words, broken = words_of(error), not isinstance(error, ProcessEnded)
        if words is None:
            error_file(workdir).unlink(missing_ok=True)
        else:
            self._note(cell, workdir, words, broken=broken)
        return words

    def _share(self, cell: config.GridCell, workdir: Workdir) -> None:
        """Takes over the pretraining of another cell, if one has finished the same; else the files that it names."""
        key = pretraining_key(cell.recipe)
        if key is None or workdir.finished("pretrain") is not None:
            return
        if key in self.broken:
            raise InvalidInput(
                "The pretraining that this cell shares has failed.",
                expected=f"a finished pretraining in {self.broken[key]}",
                received=f"{self.broken[key]}/error.txt",
            )
        ours = (other for other in self.grid.cells if other.name != cell.name and self.foreign[other.name] is None)
        others = [(other.recipe, self._workdir(other)) for other in ours]
        for recipe, donor in others:
            if pretraining_key(recipe) == key and finished_elsewhere(donor, "pretrain"):
                return adopt(workdir, donor=donor)
        learn_from_the_same(cell.recipe, workdir, others=others)

    def _note(self, cell: config.GridCell, workdir: Workdir, words: str, *, broken: bool) -> None:
        with replacing(error_file(workdir)) as file:
            file.write(f"{words.strip()}\n".encode())
        self.failed[cell.name] = reason(workdir) or "no reason given"
        key = pretraining_key(cell.recipe)
        # What was refused before its pretraining began, such as more clusters than images, is this cell's affair.
        stage, noted = workdir.stage("pretrain"), workdir.taught_by("pretrain")
        begun = stage.is_dir() and list(stage.iterdir()) != [noted] and not workdir.done("pretrain").is_file()
        if broken and key is not None and begun:
            self.broken.setdefault(key, cell.name)

    def _write(self, *, pictures: bool) -> list[Outcome]:
        found = [self._outcome(cell) for cell in self.grid.cells]
        write_grid(found, self.root, axes=self._axes(), title=self.grid.name, pictures=pictures)
        return found

    def _outcome(self, cell: config.GridCell) -> Outcome:
        """What a cell has come to so far; what is finished is read once."""
        found = self.known.get(cell.name)
        if found is None:
            found = outcome_of(cell, self._workdir(cell), foreign=self.foreign[cell.name])
        if found.status == "finished":
            self.known[cell.name] = found
        return found


def _refuse_clusters(cells: Sequence[config.GridCell]) -> None:
    for cell in cells:
        if in_cluster(cell.recipe.strategy):
            raise InvalidInput(
                "A grid runs its cells in one process, one after the other.",
                expected="strategy: single or mirrored; cells run alone on a cluster with --config",
                received=f"strategy={cell.recipe.strategy!r}, in a cluster",
            )


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Holds the folder for this process, until the block or the process ends, however it ends."""
    try:
        import fcntl
    except ModuleNotFoundError:  # native Windows
        raise InvalidInput(
            "A grid's folder cannot be held for one process on this system.",
            expected="a system with fcntl: Linux, macOS, Windows' Subsystem for Linux; cells run alone with --config",
            received="no module fcntl",
        ) from None
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InvalidInput(
                f"{root} is being run.", expected="one process for a grid", received="another process that holds it"
            ) from None
        yield


def _claim(root: Path, grid: config.Grid) -> None:
    """Makes the folder this grid's, or refuses if it is another's."""
    path = root / "grid.yaml"
    if not path.is_file():
        if (root / "recipe.yaml").is_file():
            raise InvalidInput(f"{root} holds a single run.", expected="a new --workdir", received="recipe.yaml there")
        with replacing(path) as file:
            file.write(config.dump_grid(grid).encode())
        return
    changes = config.grid_difference(config.load_grid(path), grid)
    if changes:
        expected, received = "the same grid, or a new --workdir", "; ".join(changes)
        raise InvalidInput(f"{root} holds another grid.", expected=expected, received=received)


def _narrow(columns: Sequence[str], rows: Sequence[Sequence[str]], *, axes: int) -> tuple[list[str], list[list[str]]]:
    """The table for a terminal: what the axes say, one column each, in one."""
    cells = [" ".join(text for text in row[:axes] if text != "–") or "base" for row in rows]
    return ["Cell", *columns[axes:]], [[cell, *row[axes:]] for cell, row in zip(cells, rows, strict=True)]
