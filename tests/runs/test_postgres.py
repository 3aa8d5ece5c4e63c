"""`--store postgresql://…` against a real server: the same bytes as SQLite, a kill and a resume, no server at all."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.postgres_server import find_postgres, postgres_server
from helpers.small_case import small_options, write_case

from r2seg_agent.errors import InputError, RunFailedError
from r2seg_agent.runs.api import FindResult, run_find, run_resume
from r2seg_agent.trace.recorder import Recorder

REQUEST = "find a liver lesion"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
    binaries = find_postgres()
    if binaries is None:
        pytest.skip("no PostgreSQL server on this machine (Debian: apt-get install postgresql)")
    with postgres_server(binaries) as address:
        yield address


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("case")
    write_case(folder)
    return folder


def _find(case: Path, workspace: Path, store: str | None) -> FindResult:
    options = small_options(case, modality="CT", workspace=workspace, store=store)
    return run_find(REQUEST, str(case / "image.nii.gz"), options)


def test_both_stores_give_the_same_bytes_and_the_url_is_written_nowhere(case: Path, tmp_path: Path, url: str) -> None:
    secret = url.replace("r2seg@", "r2seg:very-secret@")
    one, other = _find(case, tmp_path / "sqlite", None), _find(case, tmp_path / "postgres", secret)
    for name in one.files:
        if name != "trace.jsonl":
            assert (one.folder / name).read_bytes() == (other.folder / name).read_bytes(), name
    assert not (tmp_path / "postgres" / "checkpoints.sqlite").exists()
    for path in (tmp_path / "postgres").rglob("*"):
        assert path.is_dir() or b"very-secret" not in path.read_bytes(), path


def test_a_killed_run_resumes_from_the_server(case: Path, tmp_path: Path, url: str) -> None:
    undisturbed = _find(case, tmp_path / "other", None)
    child = os.fork()
    if child == 0:
        record = Recorder.record

        def deadly(self: Recorder, *args: object) -> object:
            event = record(self, *args)  # type: ignore[arg-type]
            if event.step == "reject_candidates":
                os.kill(os.getpid(), signal.SIGKILL)
            return event

        Recorder.record = deadly  # type: ignore[assignment, method-assign]
        _find(case, tmp_path / "ws", url)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    resumed = run_resume(undisturbed.report.run_id, tmp_path / "ws", changes={"store": url})
    assert (resumed.folder / "report.json").read_bytes() == (undisturbed.folder / "report.json").read_bytes()


def test_a_server_that_is_not_there_is_a_clear_error_without_its_password(case: Path, tmp_path: Path) -> None:
    pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
    with pytest.raises(RunFailedError, match="PostgreSQL server") as error:
        _find(case, tmp_path, "postgresql://r2seg:very-secret@127.0.0.1:9/postgres?connect_timeout=2")
    assert "very-secret" not in str(error.value)


def test_a_database_that_returns_bytes_is_refused(case: Path, tmp_path: Path, url: str) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE ascii ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    with pytest.raises(InputError, match="UTF8"):
        _find(case, tmp_path, url.replace("/postgres", "/ascii"))


def test_other_urls_are_refused(case: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="postgresql://"):
        _find(case, tmp_path, "mysql://host/db")
