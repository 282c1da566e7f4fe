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
run. Cells that need the same pretraining share it. They run one after the other, see cell_process.py.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from advss_tf import config
from advss_tf.errors import InvalidInput
from advss_tf.evaluation import Record
from advss_tf.evaluation.report.grid_report import write_grid
from advss_tf.evaluation.report.grid_table import Outcome, plain_table
from advss_tf.grid.cell_process import CellProcess, stages_of, words_of
from advss_tf.grid.forecast import seconds_left
from advss_tf.grid.sharing import SHARED_FROM, adopt, pretraining_key
from advss_tf.screen import Screen
from advss_tf.timing import duration
from advss_tf.training.callbacks import read_history
from advss_tf.training.strategy import in_cluster
from advss_tf.workdir import Workdir, replacing

RunCell = Callable[[config.Recipe, Workdir], str | None]


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
        InvalidInput: if the folder holds another grid, another process runs it, or this is a worker of a cluster.
    """
    cells = grid.cells if cells is None else cells
    _refuse_clusters(cells)
    with _alone(Path(root)), CellProcess() as process:
        _claim(Path(root), grid)
        going = _Going(grid, cells, Path(root), run or process, screen)
        for number in range(len(cells)):
            going.take(number)
        going.show()
        return len(going.failed)


class _Going:
    """A grid under way: which cells failed, and whose pretraining did."""

    def __init__(
        self, grid: config.Grid, cells: Sequence[config.GridCell], root: Path, run: RunCell, screen: Any
    ) -> None:
        self.grid, self.cells, self.root, self.run, self._screen = grid, cells, root, run, screen
        self.failed: dict[str, str] = {}
        self.known: dict[str, Outcome] = {}
        self.broken: dict[str, str] = {}
        self.ran = False

    def take(self, number: int) -> None:
        """Brings one cell to its end, whatever that is."""
        cell, workdir = self.cells[number], self._workdir(self.cells[number])
        if finished(cell, workdir):
            return
        self.ran, left = True, duration(self._seconds_left())
        self._say(number, f"about {left} left" if left != "?" else "under way")
        started = time.monotonic()
        try:
            self._share(cell, workdir)
            words = self.run(cell.recipe, workdir)
        except Exception as error:  # whatever it is, the other cells have nothing to do with it
            words = words_of(error)
        if words is None:
            _error(workdir).unlink(missing_ok=True)
            self._say(number, f"done in {duration(time.monotonic() - started)}{_headline(workdir)}")
        else:
            self._note(cell, workdir, words)
            self._say(number, f"failed: {self.failed[cell.name]}")
        self._write(pictures=False)

    def show(self) -> None:
        """Writes the figures and the page as well, if something is new, and shows the table."""
        missing = not (self.root / "report" / "index.html").is_file()
        screen = self._screen(self.root / "grid.log")
        found = self._write(pictures=True) if self.ran or missing else [self._outcome(cell) for cell in self.grid.cells]
        columns, rows = plain_table(found, self._axes())
        screen.table(f"{self.grid.name}: mean ± 95 % t-interval over runs", columns, rows)
        for name, reason in self.failed.items():
            screen.say(f"{name} failed: {reason}")
        done = sum(finished(cell, self._workdir(cell)) for cell in self.grid.cells)
        screen.say(f"{done} of {len(self.grid.cells)} cells are finished. Table: {self.root / 'grid.md'}")

    def _workdir(self, cell: config.GridCell) -> Workdir:
        return Workdir(self.root / cell.name)

    def _axes(self) -> list[str]:
        return [axis.name for axis in self.grid.axes if not axis.repeats]

    def _say(self, number: int, what: str) -> None:
        # Made anew each time: a cell's screen has closed the grid's log.
        screen = self._screen(self.root / "grid.log")
        screen.say(f"[{number + 1}/{len(self.cells)}] {self.cells[number].name}: {what}")

    def _seconds_left(self) -> float:
        waiting = [(cell.recipe, self._workdir(cell)) for cell in self.cells if cell.name not in self.failed]
        return seconds_left(waiting, stages_of=stages_of)

    def _share(self, cell: config.GridCell, workdir: Workdir) -> None:
        """Takes over the pretraining of another cell, if one has finished the same."""
        key = pretraining_key(cell.recipe)
        if key is None or workdir.finished("pretrain") is not None:
            return
        if key in self.broken:
            raise InvalidInput(
                "The pretraining that this cell shares has failed.",
                expected=f"a finished pretraining in {self.broken[key]}",
                received=f"{self.broken[key]}/error.txt",
            )
        for other in self.grid.cells:
            donor = self._workdir(other)
            if other.name != cell.name and pretraining_key(other.recipe) == key and donor.finished("pretrain"):
                return adopt(workdir, donor=donor)

    def _note(self, cell: config.GridCell, workdir: Workdir, words: str) -> None:
        with replacing(_error(workdir)) as file:
            file.write(f"{words.strip()}\n".encode())
        self.failed[cell.name] = _reason(workdir) or "no reason given"
        key = pretraining_key(cell.recipe)
        if key is not None and workdir.finished("pretrain") is None:
            self.broken.setdefault(key, cell.name)

    def _write(self, *, pictures: bool) -> list[Outcome]:
        found = [self._outcome(cell) for cell in self.grid.cells]
        write_grid(found, self.root, axes=self._axes(), title=self.grid.name, pictures=pictures)
        return found

    def _outcome(self, cell: config.GridCell) -> Outcome:
        """What a cell has come to so far; what is finished is read once."""
        found = self.known.get(cell.name) or _outcome(cell, self._workdir(cell))
        if found.status == "finished":
            self.known[cell.name] = found
        return found


def finished(cell: config.GridCell, workdir: Workdir) -> bool:
    """Whether every stage of a cell has left its result."""
    return all(workdir.finished(stage) is not None for stage in stages_of(cell.recipe))


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


def _outcome(cell: config.GridCell, workdir: Workdir) -> Outcome:
    """What a cell has come to so far."""
    pretrained, finetuned = workdir.finished("pretrain"), workdir.finished("finetune")
    evaluated = workdir.finished("evaluate") is not None
    return Outcome(
        name=cell.name,
        place=cell.place,
        group=cell.group,
        record=Record.load(workdir.record) if evaluated else None,
        history=tuple(read_history(workdir.stage("finetune") / "history.jsonl")) if finetuned else (),
        pretrain_seconds=_seconds(workdir, "pretrain") if pretrained else None,
        finetune_seconds=_seconds(workdir, "finetune") if finetuned else None,
        shared_from=(pretrained or {}).get(SHARED_FROM),
        error=_reason(workdir),
    )


def _seconds(workdir: Workdir, stage: str) -> float:
    """Seconds of a stage. A stage that went on after a kill knows those of its last part, its history those of all."""
    result = workdir.finished(stage) or {}
    epochs = sum(line.get("seconds", 0.0) for line in read_history(workdir.stage(stage) / "history.jsonl"))
    return max(float(result.get("seconds", 0.0)), epochs)


def _headline(workdir: Workdir) -> str:
    if not workdir.record.is_file():
        return ""
    record = Record.load(workdir.record)
    return f", clean {100 * record.clean_acc:.1f} %, worst case {100 * record.robust_acc:.1f} %"


def _error(workdir: Workdir) -> Path:
    return workdir.root / "error.txt"


def _reason(workdir: Workdir) -> str | None:
    """The last line of a cell's error, which is where Python says what it was."""
    path = _error(workdir)
    lines = path.read_text().strip().splitlines() if path.is_file() else []
    return lines[-1] if lines else None
