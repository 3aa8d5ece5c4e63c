"""Killed runs: at every event and inside every tool, a resumed run ends as if nothing had happened."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.small_case import small_options, write_case

from r2seg_agent.reason.anchors.masks import MaskSource
from r2seg_agent.reason.plan_file import load_plan
from r2seg_agent.runs.api import FindResult, run_find, run_fork, run_resume
from r2seg_agent.runs.options import RunOptions
from r2seg_agent.segment.contrast import ContrastSegmenter
from r2seg_agent.store.runs import run_folder
from r2seg_agent.trace.events import Event
from r2seg_agent.trace.recorder import Recorder, read_trace

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills processes with SIGKILL")

REQUEST = "find a liver lesion"


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("case")
    write_case(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(case: Path, tmp_path_factory: pytest.TempPathFactory) -> FindResult:
    return _find(case, tmp_path_factory.mktemp("undisturbed"))


def _options(case: Path, workspace: Path, **more: Any) -> RunOptions:
    return small_options(case, modality="CT", **{"reject": "paper", "workspace": workspace, **more})


def _find(case: Path, workspace: Path, **more: Any) -> FindResult:
    return run_find(REQUEST, str(case / "image.nii.gz"), _options(case, workspace, **more))


def _in_child(work: Callable[[], object]) -> int:
    """Run `work` in a forked process and return the signal that ended it (0: none did)."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _killed_at_event(case: Path, workspace: Path, number: int) -> int:
    """A run that dies right after it wrote trace event `number`."""

    def work() -> None:
        record = Recorder.record

        def deadly(self: Recorder, *args: Any) -> Event:
            event = record(self, *args)
            if event.seq == number:
                _die()
            return event

        Recorder.record = deadly  # type: ignore[method-assign]
        _find(case, workspace)

    return _in_child(work)


def _same(one: FindResult, other: FindResult) -> None:
    assert one.files == other.files
    for name in one.files:
        if name != "trace.jsonl":
            assert (one.folder / name).read_bytes() == (other.folder / name).read_bytes(), name
    plain = [
        [event.model_dump(exclude={"seconds"}) for event in read_trace(r.folder / "trace.jsonl")] for r in (one, other)
    ]
    assert plain[0] == plain[1]


class Counted:
    """Counts the heavy work that a resumed run does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.located = self.encoded = 0
        locate, encode = MaskSource.locate, ContrastSegmenter.encode

        def count_locate(*args: Any, **kwargs: Any) -> Any:
            self.located += 1
            return locate(*args, **kwargs)

        def count_encode(*args: Any, **kwargs: Any) -> Any:
            self.encoded += 1
            return encode(*args, **kwargs)

        monkeypatch.setattr(MaskSource, "locate", count_locate)
        monkeypatch.setattr(ContrastSegmenter, "encode", count_encode)


@pytest.mark.slow
def test_a_kill_after_any_event_leaves_a_run_that_resumes_to_the_same_bytes(
    case: Path, undisturbed: FindResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every event: before, between and after all nodes, and within each tool between its work and its checkpoint."""
    events = read_trace(undisturbed.folder / "trace.jsonl")
    run_id = undisturbed.report.run_id
    for event in events:
        workspace = tmp_path / str(event.seq)
        assert _killed_at_event(case, workspace, event.seq) == signal.SIGKILL
        assert len(read_trace(run_folder(workspace, run_id).trace)) == event.seq
        with monkeypatch.context() as patch:
            counted = Counted(patch)
            resumed = run_resume(run_id, workspace)
        _same(resumed, undisturbed)
        finished = {e.step for e in events[: event.seq] if e.kind == "tool_result"}
        assert counted.located == int("locate_organs" not in finished), event.seq
        assert (counted.encoded == 0) == ("segment_lesions" in finished), event.seq
        assert run_folder(workspace, run_id).record().resumed == 1


@pytest.mark.parametrize("stage", ["segment", "candidates", "reject", "measure", "report"])
def test_a_kill_inside_a_tool_leaves_a_run_that_resumes_to_the_same_bytes(
    case: Path, undisturbed: FindResult, tmp_path: Path, stage: str
) -> None:
    def deadly(name: str, done: int, total: int, note: str = "") -> None:
        if name == stage:
            _die()

    killed = _in_child(lambda: run_find(REQUEST, str(case / "image.nii.gz"), _options(case, tmp_path), deadly))
    assert killed == signal.SIGKILL
    _same(run_resume(undisturbed.report.run_id, tmp_path), undisturbed)


def test_a_run_killed_twice_still_resumes(case: Path, undisturbed: FindResult, tmp_path: Path) -> None:
    assert _killed_at_event(case, tmp_path, 9) == signal.SIGKILL

    def again() -> None:
        record = Recorder.record

        def deadly(self: Recorder, *args: Any) -> Event:
            event = record(self, *args)
            if event.seq == 15:
                _die()
            return event

        Recorder.record = deadly  # type: ignore[method-assign]
        run_resume(undisturbed.report.run_id, tmp_path)

    assert _in_child(again) == signal.SIGKILL
    _same(run_resume(undisturbed.report.run_id, tmp_path), undisturbed)
    assert run_folder(tmp_path, undisturbed.report.run_id).record().resumed == 2


def test_a_finished_run_can_be_resumed_and_stays_what_it_is(
    case: Path, undisturbed: FindResult, tmp_path: Path
) -> None:
    first = _find(case, tmp_path)
    _same(run_resume(first.report.run_id[:5], tmp_path), undisturbed)


def test_a_run_out_of_time_goes_on_with_more(case: Path, undisturbed: FindResult, tmp_path: Path) -> None:
    first = _find(case, tmp_path, seconds=0.0)
    assert first.report.outcome == "budget_exhausted"
    resumed = run_resume(first.report.run_id, tmp_path, changes={"seconds": 600.0})
    assert resumed.report.outcome == "lesions_found"
    assert [f.candidate for f in resumed.report.findings] == [f.candidate for f in undisturbed.report.findings]


def test_a_fork_searches_by_its_own_plan_and_leaves_the_old_run(
    case: Path, undisturbed: FindResult, tmp_path: Path
) -> None:
    first = _find(case, tmp_path)
    before = (first.folder / "report.json").read_bytes()
    plans = load_plan(first.folder / "plan.json").plans
    wider = tuple(plan.model_copy(update={"padding_mm": 25.0}) for plan in plans)
    step = next(e.seq for e in read_trace(first.folder / "trace.jsonl") if e.step == "locate_organs")
    fork = run_fork(first.report.run_id, step, tmp_path, plans=wider)
    assert fork.report.run_id != first.report.run_id
    assert fork.report.targets[0].plan.padding_mm == 25.0
    assert run_folder(tmp_path, fork.report.run_id).record().parent == first.report.run_id
    assert (first.folder / "report.json").read_bytes() == before
    _same(first, undisturbed)
