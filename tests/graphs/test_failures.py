"""Disks, databases and people that interfere: a clear error each, nothing half-written, and a run that can go on."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.small_case import small_options, write_case

from r2seg_agent.cli import main as cli
from r2seg_agent.cli._stop import STOPPING
from r2seg_agent.errors import BudgetError, InputError, R2SegError, RunFailedError
from r2seg_agent.runs import checkpoints
from r2seg_agent.runs.api import FindResult, run_find, run_resume
from r2seg_agent.store.runs import list_runs, run_folder
from r2seg_agent.trace.recorder import read_trace

REQUEST = "find a liver lesion"


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("case")
    write_case(folder)
    return folder


def _find(case: Path, workspace: Path, **more: object) -> FindResult:
    options = small_options(case, modality="CT", workspace=workspace)
    return run_find(REQUEST, str(case / "image.nii.gz"), options, **more)  # type: ignore[arg-type]


def _report_of_child(work: Callable[[], object]) -> str:
    """What `work` raised in a forked process: the error's kind and words, "" for nothing."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        said = ""
        try:
            work()
        except R2SegError as error:
            said = f"{type(error).__name__}: {error.message} | {error.hint}"
        except BaseException as error:
            said = f"!{type(error).__name__}: {error}"
        finally:
            os.write(writer, said.encode())
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as pipe:
        return pipe.read()


def _leftovers(workspace: Path) -> list[str]:
    return [path.name for path in workspace.rglob("*") if ".part" in path.name]


@contextmanager
def _largest_file(size: int) -> Iterator[None]:
    """Every write beyond `size` bytes fails, as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    yield


@pytest.mark.parametrize("size", [600, 3_000, 20_000, 60_000, 120_000])
def test_a_full_disk_is_a_clear_error_and_the_run_goes_on_once_there_is_space(
    case: Path, tmp_path: Path, size: int
) -> None:
    def work() -> None:
        with _largest_file(size):
            _find(case, tmp_path)

    said = _report_of_child(work)
    assert said.startswith(("RunFailedError", "InputError")), said
    assert "space" in said
    assert not _leftovers(tmp_path)
    for one in list_runs(tmp_path):
        assert run_resume(one.id, tmp_path).report.outcome == "lesions_found"
    assert _find(case, tmp_path).report.outcome == "lesions_found"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user to be denied a folder")
def test_a_read_only_workspace_is_said_before_anything_is_done(case: Path, tmp_path: Path) -> None:
    workspace = tmp_path / "ws"
    workspace.mkdir()
    workspace.chmod(0o555)
    for parent in (case, *case.parents):
        if parent.stat().st_uid == 0 and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o055)

    def work() -> None:
        os.setuid(65534)
        _find(case, workspace)

    said = _report_of_child(work)
    assert said.startswith("InputError: cannot write to the workspace"), said
    assert "--workspace" in said
    assert not list(workspace.iterdir())


def test_a_workspace_that_is_a_file_is_said(case: Path, tmp_path: Path) -> None:
    (tmp_path / "ws").write_text("a file")
    with pytest.raises(R2SegError, match="workspace|cannot write"):
        _find(case, tmp_path / "ws")


def test_a_locked_database_is_waited_for_and_then_said(
    case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _find(case, tmp_path)
    monkeypatch.setattr(checkpoints, "BUSY_SECONDS", 0.1)
    holder = sqlite3.connect(tmp_path / "checkpoints.sqlite")
    holder.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(RunFailedError, match="locked"):
            _find(case, tmp_path)
    finally:
        holder.rollback()
        holder.close()
    assert (first.folder / "report.json").exists()
    assert run_resume(first.report.run_id, tmp_path).report.outcome == "lesions_found"


def test_a_damaged_database_is_said(case: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoints.sqlite").write_bytes(b"this is no database" * 100)
    with pytest.raises(RunFailedError, match="cannot be opened"):
        _find(case, tmp_path)


@pytest.mark.parametrize("kind", ["anchors", "candidates", "regions"])
def test_a_changed_artifact_is_noticed_before_it_is_used(case: Path, tmp_path: Path, kind: str) -> None:
    first = _find(case, tmp_path)
    roles = {"anchors": "anchors", "candidates": "labels", "regions": "regions"}
    events = read_trace(first.folder / "trace.jsonl")
    sha256 = next(str(e.data["sha256"]) for e in events if e.kind == "artifact" and e.data["role"] == roles[kind])
    (path,) = [
        p for p in (tmp_path / "artifacts" / sha256[:2]).glob(f"{sha256}*") if p.suffix != ".json" or "doc" in p.name
    ]
    data = bytearray(path.read_bytes())
    data[-7] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(RunFailedError, match="was changed"):
        _find(case, tmp_path)


def test_the_first_ctrl_c_finishes_the_step_and_leaves_a_resumable_run(case: Path, tmp_path: Path) -> None:
    undisturbed = _find(case, tmp_path / "other")

    def stop(name: str, done: int, total: int, note: str = "") -> None:
        if name == "segment":
            sessions[0].context.stop.set()

    sessions: list = []
    with pytest.raises(BudgetError) as stopped:
        _find(case, tmp_path / "ws", progress=stop, opened=sessions.append)
    run_id = undisturbed.report.run_id
    assert stopped.value.exit_status == 4
    assert stopped.value.hint == f"r2seg resume {run_id}"
    assert run_folder(tmp_path / "ws", run_id).record().status == "stopped"
    last = read_trace(run_folder(tmp_path / "ws", run_id).trace)[-1]
    assert last.step == "segment_lesions"
    resumed = run_resume(run_id, tmp_path / "ws")
    assert (resumed.folder / "report.json").read_bytes() == (undisturbed.folder / "report.json").read_bytes()


@pytest.mark.parametrize("signals", [1, 2])
def test_ctrl_c_at_the_command_line_exits_4(case: Path, tmp_path: Path, signals: int) -> None:
    """Once: after the current step. Twice: at once. Both leave a run that `r2seg resume` finishes."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writer, 2)
        sys.stderr = os.fdopen(writer, "w", buffering=1)
        from r2seg_agent.segment.contrast import ContrastSegmenter

        encode, write, acted = ContrastSegmenter.encode, os.write, threading.Event()

        def heard(handle: int, data: bytes) -> int:
            if STOPPING.encode() in data:
                acted.set()
            return write(handle, data)

        def interrupted(*args: object) -> object:
            os.kill(os.getpid(), signal.SIGINT)
            acted.wait(600)  # two signals at once are one
            if signals == 2:
                os.kill(os.getpid(), signal.SIGINT)
                threading.Event().wait(600)  # the end comes first
            return encode(*args)  # type: ignore[arg-type]

        os.write = heard
        ContrastSegmenter.encode = interrupted  # type: ignore[assignment, method-assign]
        given = ["--image", str(case / "image.nii.gz"), "--anchors", str(case / "organs.nii.gz"), "--modality", "CT"]
        sys.argv = [
            "r2seg",
            "find",
            REQUEST,
            *given,
            "--segmenter",
            "contrast",
            "--reject",
            "paper",
            "--workspace",
            str(tmp_path),
            "--quiet",
        ]
        try:
            cli.main()
        except SystemExit as error:
            os._exit(int(error.code or 0))
        os._exit(99)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    assert os.WEXITSTATUS(status) == 4, said
    assert "resume" in said
    assert "Traceback" not in said
    (run,) = list_runs(tmp_path)
    assert run.status == "stopped"
    assert run_resume(run.id, tmp_path).report.outcome == "lesions_found"


def test_two_processes_cannot_hold_one_run(case: Path, tmp_path: Path) -> None:
    first = _find(case, tmp_path)
    with run_folder(tmp_path, first.report.run_id).lock(), pytest.raises(InputError, match="open in another process"):
        run_resume(first.report.run_id, tmp_path)


def test_another_scan_is_refused_on_resume(case: Path, tmp_path: Path) -> None:
    first = _find(case, tmp_path)
    other, _ = write_case(tmp_path / "other", ball=False)
    with pytest.raises(InputError, match="not the one"):
        run_resume(first.report.run_id, tmp_path, image=str(other))
    moved = tmp_path / "moved.nii.gz"
    moved.write_bytes((case / "image.nii.gz").read_bytes())
    assert run_resume(first.report.run_id, tmp_path, image=str(moved)).report.outcome == "lesions_found"


def test_a_message_that_is_a_book_is_refused(case: Path, tmp_path: Path) -> None:
    options = small_options(case, modality="CT", workspace=tmp_path)
    with pytest.raises(InputError, match="at most 20000"):
        run_find("find a liver lesion " * 2000, str(case / "image.nii.gz"), options)


def test_find_does_not_ask_for_ever(case: Path, tmp_path: Path) -> None:
    asked: list[str] = []

    def mumble(question: str, choices: tuple[str, ...]) -> str:
        asked.append(question)
        return "the glorp"

    options = small_options(case, modality="CT", workspace=tmp_path)
    with pytest.raises(BudgetError, match="choices"):
        run_find("find the blorp", str(case / "image.nii.gz"), options, ask=mumble)
    assert len(asked) == 5
