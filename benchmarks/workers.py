"""Contestants in processes of their own: what cannot share a process with the rest.

Synopsis:

    with Worker([sys.executable, "-m", "benchmarks.tensorflow_step", "small"]) as worker:
        worker.facts                     # what the process said of itself when it was ready
        worker()                         # one timed step: Seconds

A worker prints one JSON line when it is ready, and then one for each line it is sent: `{"wall": s, "cpu": s}`. Between
two lines it waits, so workers that take turns do not disturb each other. It ends when its input does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.pairs import Seconds


class Worker:
    """A process that runs one step whenever it is asked to.

    Args:
        command: The program and its arguments.
        environment: What is changed in its environment.

    Raises:
        RuntimeError: if the process ends before it answers.
    """

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            list(command),
            env={**os.environ, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._command = " ".join(command)
        self.facts = self._answer()

    def __call__(self) -> Seconds:
        print("step", file=self._process.stdin, flush=True)
        return Seconds(**self._answer())

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"This process ended before it answered: {self._command}")
        return json.loads(line)


def serve(facts: dict[str, Any], step: Callable[[], Seconds]) -> None:
    """The worker's side: says that it is ready, then runs a step for every line it gets."""
    print(json.dumps(facts), flush=True)
    for _ in sys.stdin:
        print(json.dumps(step()._asdict()), flush=True)
