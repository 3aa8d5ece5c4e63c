"""The trace: every event is on disk at once, numbered, and readable after a kill."""

from __future__ import annotations

from pathlib import Path

import pytest

from r2seg_agent.errors import RunFailedError
from r2seg_agent.trace.recorder import Recorder, read_trace


def test_events_are_numbered_and_on_disk_before_close(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "run" / "trace.jsonl")
    recorder.record("run_started", "find", {"request": "find the lesion"})
    recorder.record("referee", "locate_organs", {"taken_by": "referee", "args": {"target": 1}})
    events = read_trace(tmp_path / "run" / "trace.jsonl")
    assert [event.seq for event in events] == [1, 2]
    assert events[1].data["args"] == {"target": 1}
    assert events[0].seconds <= events[1].seconds
    recorder.close()
    recorder.close()


def test_a_line_cut_by_a_kill_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    recorder = Recorder(path)
    recorder.record("run_started", "find", {})
    recorder.record("run_finished", "find", {})
    recorder.close()
    path.write_bytes(path.read_bytes()[:-10])
    assert [event.kind for event in read_trace(path)] == ["run_started"]


def test_an_unwritable_folder_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFailedError, match="cannot write the trace"):
        Recorder(tmp_path / "file" / "trace.jsonl")
