"""A folder is there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from advss_tf.serving.folder import whole_folder


def saved_model(folder: Path, content: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "saved_model.pb").write_text(content)


def test_the_folder_appears_when_the_block_ends(tmp_path):
    target = tmp_path / "a" / "b"
    with whole_folder(target) as partial:
        saved_model(partial, "new")
        assert not target.exists()
    assert (target / "saved_model.pb").read_text() == "new"
    assert list(target.parent.iterdir()) == [target]


def test_the_old_folder_stays_until_the_block_ends_well(tmp_path):
    target = tmp_path / "export"
    saved_model(target, "old")
    with pytest.raises(RuntimeError, match="stop"), whole_folder(target) as partial:
        saved_model(partial, "new")
        raise RuntimeError("stop")
    assert (target / "saved_model.pb").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_the_old_folder_comes_back_if_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    target = tmp_path / "export"
    saved_model(target, "old")
    rename = Path.rename

    def refuse_partial(self, other):
        if self.name.endswith(".partial"):
            raise OSError("no")
        return rename(self, other)

    monkeypatch.setattr(Path, "rename", refuse_partial)
    with pytest.raises(OSError, match="no"), whole_folder(target) as partial:
        saved_model(partial, "new")
    assert (target / "saved_model.pb").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_other_users_may_read_the_folder(tmp_path):
    (tmp_path / "ordinary").mkdir()
    with whole_folder(tmp_path / "export") as partial:
        saved_model(partial, "new")
    assert (tmp_path / "export").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "export").mkdir()
    with whole_folder(tmp_path / "export") as partial:
        saved_model(partial, "new")
    assert (tmp_path / "export" / "saved_model.pb").exists()
    assert list(tmp_path.iterdir()) == [tmp_path / "export"]
