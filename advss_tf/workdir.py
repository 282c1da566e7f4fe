"""The layout of a run's folder, and writing that leaves nothing half-written.

Synopsis:

    workdir = Workdir("runs/digits")
    with replacing(workdir.recipe) as file:            # appears whole, or not at all
        file.write(text.encode())
    with replacing_folder(workdir.encoder) as folder:  # the same for a folder
        save_into(folder)

    runs/digits/
      recipe.yaml                    the resolved recipe: this file is the run
      data.json                      which images it began with
      run.log                        what the screen said
      pretrain/ finetune/            checkpoints/, best.weights.h5, history.jsonl, done.json, tensorboard/
      pretrain/encoder/              SavedModel that is handed over
      pretrain/taught_by.json        digests of the pseudo-labels or the teacher that it learns from
      pretrain/encoder_clean/        the same of another batch-norm branch, where a later stage reads it
      cluster/pseudo_labels.npz      clusters of features, for another training
      refine/encoder/                the pretrained encoder after `refine`; linear/ and full/: its two trainings
      finetune/classifier.keras      the finetuned model
      evaluate/record.json           the measured numbers (and record.examples.npz); record.<what>.json: further ones
      export/classifier/1/           SavedModel for TF Serving
      report/index.html report.md    the report
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from advss_tf.errors import InvalidInput


@contextmanager
def replacing(path: str | Path) -> Iterator[IO[bytes]]:
    """A binary file to write, which takes the place of `path` in one move when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)  # mkstemp makes files that only their owner reads
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def replacing_folder(path: str | Path) -> Iterator[Path]:
    """A fresh folder to fill, which takes the place of `path` when the block ends without an error.

    A folder cannot be renamed onto a full one, so the old one is renamed out of the way first, and back again if the
    second rename fails. Until the block has ended, the old folder stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not `tempfile`: its folders are closed to other users, and a model server is another user.
    token = secrets.token_hex(4)
    fresh, old = (path.with_name(f".{path.name}.{token}.{end}") for end in ("partial", "old"))
    fresh.mkdir()
    try:
        yield fresh
        _exchange(fresh, path, old)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)


def _exchange(fresh: Path, path: Path, old: Path) -> None:
    if path.exists():
        path.rename(old)
    try:
        fresh.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise


def write_json(path: str | Path, value: Any) -> Path:
    """Writes `value` as indented JSON, whole or not at all."""
    with replacing(path) as file:
        file.write(json.dumps(value, indent=2, allow_nan=False).encode() + b"\n")
    return Path(path)


def read_object(content: str | bytes) -> dict[str, Any]:
    """The JSON object in a text.

    Raises:
        ValueError: for what is not JSON, or another value.
    """
    value = json.loads(content)
    if not isinstance(value, dict):
        raise ValueError(f"no object, but {json.dumps(value)[:40]}")
    return value


class Workdir:
    """Where each file of a run lies.

    Args:
        root: The run's folder; made when the first file is written.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.recipe = self.root / "recipe.yaml"
        self.data = self.root / "data.json"
        self.log = self.root / "run.log"
        self.encoder = self.root / "pretrain" / "encoder"
        self.pseudo_labels = self.root / "cluster" / "pseudo_labels.npz"
        self.refined = self.root / "refine" / "encoder"
        self.classifier = self.root / "finetune" / "classifier.keras"
        self.record = self.root / "evaluate" / "record.json"
        self.served = self.root / "export" / "classifier" / "1"
        self.report = self.root / "report"

    def kept_encoder(self, branch: str) -> Path:
        """The pretrained encoder reduced to another batch-norm branch than the one that is handed over."""
        return self.encoder.with_name(f"encoder_{branch}")

    def further_record(self, what: str) -> Path:
        """A record beside the main one, such as of `"corruptions"`."""
        return self.record.with_name(f"record.{what}.json")

    def records(self) -> list[Path]:
        """The records that are there, the main one first."""
        return [path for path in (self.record, *sorted(self.record.parent.glob("record.*.json"))) if path.is_file()]

    def stage(self, name: str) -> Path:
        """The folder of a stage, such as `"pretrain"`."""
        return self.root / name

    def taught_by(self, stage: str) -> Path:
        """Digests of the files beside the images that a training learns from, where there are any."""
        return self.root / stage / "taught_by.json"

    def release(self) -> None:
        """Takes back what says whose run this folder is, if nothing else but the log is in it."""
        claims = {self.recipe, self.data, *self.root.glob("*/taught_by.json")}
        if {path for path in self.root.rglob("*") if path.is_file()} <= claims | {self.log}:
            for path in claims:
                path.unlink(missing_ok=True)
            for folder in {path.parent for path in claims} - {self.root}:
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()

    def done(self, stage: str) -> Path:
        """The file whose presence says that a stage is finished; it holds the stage's result."""
        return self.root / stage / "done.json"

    def finished(self, stage: str) -> dict[str, Any] | None:
        """The result of a finished stage, or None.

        Raises:
            InvalidInput: if it cannot be read.
        """
        path = self.done(stage)
        try:
            return read_object(path.read_bytes()) if path.is_file() else None
        except (OSError, ValueError) as error:
            raise InvalidInput(
                f"{path} is not the result of a finished stage.",
                expected=f"a JSON object; without the file the next run brings `{stage}` to its end again",
                received=str(error),
            ) from error
