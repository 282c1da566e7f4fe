"""The process that runs cells: it fails one cell without the others, is replaced, and never outlives its parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from advss_tf import runner
from advss_tf.config import dump_recipe, make_recipe
from advss_tf.errors import InvalidInput
from advss_tf.grid import cell_process
from advss_tf.grid.cell_process import CellProcess, ProcessEnded, Said, run_cell, stages_of, words_of
from advss_tf.workdir import Workdir

SGD = {"kind": "sgd", "learning_rate": 0.1}
VALUES = {
    "name": "base",
    "seed": 0,
    "data": {"kind": "digits"},
    "encoder": {"kind": "resnet20", "width": 4},
    "finetune": {"start": "scratch", "train": "full", "how": "standard", "epochs": 1, "optimizer": SGD},
}
RECIPE = make_recipe(VALUES)


class FakeChild:
    """A process that ends when it is told to, and never starts."""

    def __init__(self, target, args, daemon):
        self.exitcode, self.killed, self.daemon = None, False, daemon

    def start(self):
        pass

    def kill(self):
        self.killed, self.exitcode = True, -9

    def join(self):
        pass


@pytest.fixture
def children(monkeypatch):
    """Children that answer with what the test says, without a process."""
    made, answers = [], []

    class Pipe:
        def send(self, cell):
            self.cell = cell

        def recv(self):
            answer = answers.pop(0)
            if isinstance(answer, BaseException):
                raise answer
            return answer

        def close(self):
            pass

    class Context:
        def Pipe(self):
            return Pipe(), Pipe()

        def Process(self, **options):
            made.append(FakeChild(**options))
            return made[-1]

    monkeypatch.setattr(cell_process.multiprocessing, "get_context", lambda method: Context())
    return made, answers


def test_the_stages_of_a_cell_are_those_of_its_recipe_without_a_page():
    assert stages_of(RECIPE) == ["finetune", "evaluate", "export"]
    assert stages_of(make_recipe(VALUES, ["export.classifier=false"])) == ["finetune", "evaluate"]


def test_a_refusal_is_kept_as_its_sentence_and_anything_else_with_its_traceback():
    refusal = InvalidInput("No.", expected="yes", received="no")
    assert words_of(refusal) == str(refusal)
    assert words_of(KeyError("x")).splitlines()[-1] == "KeyError: 'x'"


@pytest.mark.parametrize(
    ("message", "last"),
    [
        ("out of memory\n\nSee the log.", "out of memory"),
        ("\n  first\nsecond", "first"),
        ("one\nRuntimeError: one", "one"),
    ],
)
def test_a_message_of_several_lines_ends_with_its_type_and_its_first_line(message, last):
    words = words_of(RuntimeError(message))
    assert words.splitlines()[-1] == f"RuntimeError: {last}" and message.splitlines()[-1] in words


def test_an_error_without_a_message_ends_with_its_type():
    assert words_of(ValueError()).splitlines()[-1] == "ValueError"


def test_one_child_runs_several_cells_and_is_then_replaced(children, tmp_path):
    made, answers = children
    answers += [None] * 5
    with CellProcess(cells_each=2) as run:
        assert [run(RECIPE, Workdir(tmp_path)) for _ in range(5)] == [None] * 5
        assert len(made) == 3 and [child.killed for child in made] == [True, True, False]
    assert all(child.killed and child.daemon for child in made)


def test_why_a_cell_failed_is_what_the_child_says(children, tmp_path):
    children[1].append("InvalidInput: no such data")
    with CellProcess() as run:
        assert run(RECIPE, Workdir(tmp_path)) == "InvalidInput: no such data"


def test_after_a_cell_that_failed_the_next_has_a_fresh_child(children, tmp_path):
    made, answers = children
    answers += [None, "RuntimeError: the device is lost", None]
    with CellProcess() as run:
        assert [run(RECIPE, Workdir(tmp_path)) for _ in range(2)] == [None, "RuntimeError: the device is lost"]
        assert len(made) == 1 and made[0].killed
        assert run(RECIPE, Workdir(tmp_path)) is None
    assert len(made) == 2


def test_a_child_that_is_killed_fails_its_cell_and_the_next_cell_has_a_fresh_one(children, tmp_path):
    made, answers = children
    answers += [EOFError(), None]
    with CellProcess() as run:
        made_before = len(made)
        with pytest.raises(ProcessEnded, match=r"has ended, code -?[0-9None]+; -9 is a kill"):
            run(RECIPE, Workdir(tmp_path))
        assert run(RECIPE, Workdir(tmp_path)) is None
    assert len(made) == made_before + 2


def test_the_lines_of_a_cell_are_heard_as_they_come(children, tmp_path):
    heard = []
    children[1].extend([Said("finetune 1/2"), Said("finetune 2/2"), "OSError: full", Said("finetune 1/1"), None])
    with CellProcess(hear=heard.append) as run:
        assert run(RECIPE, Workdir(tmp_path)) == "OSError: full"
        assert heard == ["finetune 1/2", "finetune 2/2"]
        assert run(RECIPE, Workdir(tmp_path)) is None
    assert heard[2:] == ["finetune 1/1"]


def test_lines_that_nobody_hears_are_passed_over(children, tmp_path):
    children[1].extend([Said("finetune 1/2"), None])
    with CellProcess() as run:
        assert run(RECIPE, Workdir(tmp_path)) is None


def test_a_listener_that_fails_leaves_no_busy_child_to_the_next_cell(children, tmp_path):
    def full(line):
        raise OSError(f"no room for {line}")

    made, answers = children
    answers += [Said("finetune 1/2"), None]
    with CellProcess(hear=full) as run:
        with pytest.raises(OSError, match="no room for finetune 1/2"):
            run(RECIPE, Workdir(tmp_path))
        assert made[0].killed and run(RECIPE, Workdir(tmp_path)) is None
    assert len(made) == 2


def test_what_a_cell_says_is_in_its_log_and_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runner, "run", lambda recipe, workdir, *, stages, screen: screen.say("finetune 1/2"))
    told = []
    run_cell(RECIPE, Workdir(tmp_path), tell=told.append)
    assert told == ["finetune 1/2"] and capsys.readouterr().out == ""
    assert (tmp_path / "run.log").read_text().endswith(" finetune 1/2\n")


def test_a_child_sends_its_lines_and_one_whose_parent_has_ended_keeps_them(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "run", lambda recipe, workdir, *, stages, screen: screen.say("finetune 1/2"))
    ours, theirs = multiprocessing.Pipe()
    for _ in range(2):
        words = cell_process._attempt(
            dump_recipe(RECIPE), str(tmp_path), tell=lambda line: cell_process._tell(theirs, line)
        )
        assert words is None
        if not ours.closed:
            assert ours.recv() == Said("finetune 1/2")
            ours.close()


PARENT = """
import multiprocessing, os, threading, time
from advss_tf.grid.cell_process import _end_with_parent

def busy():
    threading.Thread(target=_end_with_parent, daemon=True).start()
    print(os.getpid(), flush=True)
    time.sleep(60)

if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=busy, daemon=True).start()
    time.sleep(60)
"""


def alive(pid):
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.slow
def test_a_child_that_is_busy_ends_with_its_parent_however_that_ends(tmp_path):
    (tmp_path / "parent.py").write_text(PARENT)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(cell_process.__file__).parents[2])])}
    parent = subprocess.Popen([sys.executable, tmp_path / "parent.py"], stdout=subprocess.PIPE, text=True, env=env)
    child = int(parent.stdout.readline())
    assert alive(child)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 30
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(child)
