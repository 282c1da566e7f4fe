"""A folder that is there whole or not at all.

Synopsis:

    with whole_folder("served/1") as partial:
        tf.saved_model.save(module, str(partial))
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from advss_tf.errors import InvalidInput
from advss_tf.workdir import replacing_folder


@contextmanager
def whole_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A fresh hidden folder beside `path`, renamed to `path` if the block ends well and removed if it does not.

    A SavedModel that is already at `path` is replaced. Until the very end it stays as it was; a folder cannot be
    renamed onto a full one, so it is then renamed out of the way first, and back again if the second rename fails.

    Args:
        path: Where the folder is to be. Missing parents are made.

    Raises:
        InvalidInput: if something other than a SavedModel or an empty folder is at `path`.
    """
    with replacing_folder(_free_or_saved_model(path)) as partial:
        yield partial


def _free_or_saved_model(path: str | os.PathLike[str]) -> Path:
    target = Path(path).expanduser().resolve()
    if "://" in os.fspath(path):
        _refuse("An export is written to a local folder; copy it to remote storage afterwards.", path)
    if target.exists() and not target.is_dir():
        _refuse("There is a file where the export is to be.", path)
    if target.is_dir() and any(target.iterdir()) and not (target / "saved_model.pb").is_file():
        _refuse("There is a folder where the export is to be, and it is not a SavedModel, so it is kept.", path)
    return target


def _refuse(what: str, path: str | os.PathLike[str]) -> NoReturn:
    raise InvalidInput(what, expected="a new path, or the folder of an earlier export", received=f"path={str(path)!r}")
