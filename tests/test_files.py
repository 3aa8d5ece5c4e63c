"""A file is written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from r2seg_agent.errors import InputError, RunFailedError
from r2seg_agent.files import write_bytes_atomic, write_text_atomic


def test_folders_are_made_and_nothing_is_left_beside(tmp_path: Path):
    path = tmp_path / "a" / "b" / "report.md"
    write_text_atomic(path, "é\nline\n")
    assert path.read_bytes() == "é\nline\n".encode()
    assert [p.name for p in path.parent.iterdir()] == ["report.md"]


def test_the_users_umask_decides_who_may_read(tmp_path: Path):
    old = os.umask(0o022)
    try:
        write_bytes_atomic(tmp_path / "x", b"1")
    finally:
        os.umask(old)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o644


def test_a_failure_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "x"
    write_bytes_atomic(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunFailedError, match="No space left"):
        write_bytes_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_place_that_cannot_be_written_is_the_users_to_change(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write `report\.md`"):
        write_bytes_atomic(tmp_path / "file" / "report.md", b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="cannot write `folder`"):
        write_bytes_atomic(tmp_path / "folder", b"")
