"""Writing that leaves nothing half-written."""

from __future__ import annotations

import json

import pytest

from advss_tf.errors import InvalidInput
from advss_tf.workdir import Workdir, replacing, replacing_folder, write_json


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    with replacing(path) as file:
        file.write(b"one")
        assert not path.exists()
    assert path.read_bytes() == b"one"
    with pytest.raises(RuntimeError), replacing(path) as file:
        file.write(b"two")
        raise RuntimeError
    assert path.read_bytes() == b"one" and len(list(path.parent.iterdir())) == 1


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "folder"
    for text in ("one", "two"):
        with replacing_folder(path) as fresh:
            (fresh / "file").write_text(text)
    with pytest.raises(RuntimeError), replacing_folder(path) as fresh:
        (fresh / "file").write_text("three")
        raise RuntimeError
    assert (path / "file").read_text() == "two" and len(list(tmp_path.iterdir())) == 1


def test_the_old_folder_comes_back_if_the_exchange_fails(tmp_path, monkeypatch):
    path = tmp_path / "folder"
    with replacing_folder(path) as fresh:
        (fresh / "file").write_text("one")
    rename = type(path).rename

    def failing(self, target):
        if self.name.endswith(".partial"):
            raise OSError("no")
        return rename(self, target)

    monkeypatch.setattr(type(path), "rename", failing)
    with pytest.raises(OSError, match="no"), replacing_folder(path) as fresh:
        (fresh / "file").write_text("two")
    assert (path / "file").read_text() == "one"


def test_json_refuses_what_json_has_not(tmp_path):
    assert json.loads(write_json(tmp_path / "a.json", {"x": 1}).read_text()) == {"x": 1}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "b.json", float("nan"))
    assert not (tmp_path / "b.json").exists()


def test_a_folder_is_released_if_it_says_no_more_than_whose_it_is(tmp_path):
    workdir = Workdir(tmp_path)
    claims = (workdir.recipe, workdir.data, workdir.taught_by("pretrain"))
    for kept in (tmp_path / "pretrain" / "history.jsonl", tmp_path / "notes.txt", None):
        for path in (*claims, workdir.log, kept):
            if path is not None:
                path.parent.mkdir(exist_ok=True)
                path.write_text("{}")
        workdir.release()
        assert [path.is_file() for path in claims] == 3 * [kept is not None]
        if kept is not None:
            kept.unlink()
    assert list(tmp_path.iterdir()) == [workdir.log]
    Workdir(tmp_path / "nowhere").release()


def test_a_stage_is_finished_when_its_result_is_there(tmp_path):
    workdir = Workdir(tmp_path)
    assert workdir.finished("pretrain") is None
    write_json(workdir.done("pretrain"), {"epoch": 3})
    assert workdir.finished("pretrain") == {"epoch": 3}


@pytest.mark.parametrize(
    ("content", "received"),
    [
        (b'{"epoch": 3', "Expecting"),
        (b"", "Expecting value"),
        (b"\xff\xfe\xfd", "decode"),
        (b"[1]", "no object, but [1]"),
        (b"null", "no object, but null"),
    ],
)
def test_a_result_that_cannot_be_read_is_refused_with_its_file(content, received, tmp_path):
    workdir = Workdir(tmp_path)
    workdir.done("finetune").parent.mkdir()
    workdir.done("finetune").write_bytes(content)
    with pytest.raises(InvalidInput) as refusal:
        workdir.finished("finetune")
    assert str(refusal.value).startswith(f"{workdir.done('finetune')} is not the result of a finished stage.")
    assert "without the file the next run brings `finetune` to its end again" in refusal.value.expected
    assert received in refusal.value.received
