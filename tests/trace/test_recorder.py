"""The trace: every event is on disk at once, numbered, readable after a kill, and goes on after a resume."""

from __future__ import annotations

import subprocess
import sys
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
    assert recorder.count == 2
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


def test_a_new_run_starts_an_empty_trace(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    _record(path, 3)
    _record(path, 1)
    assert [event.seq for event in read_trace(path)] == [1]


@pytest.mark.parametrize("cut", [0, 7])
def test_a_resumed_run_keeps_what_belongs_to_its_checkpoint_and_goes_on(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "trace.jsonl"
    _record(path, 5)
    text = path.read_text().replace('"seconds":0.0', '"seconds":12.5')
    path.write_text(text[: len(text) - cut])
    recorder = Recorder(path, keep=3)
    assert recorder.count == 3
    event = recorder.record("run_finished", "find", {})
    recorder.close()
    assert event.seq == 4
    assert event.seconds >= 12.5
    assert [(e.seq, e.kind) for e in read_trace(path)] == [
        (1, "tool_result"), (2, "tool_result"), (3, "tool_result"), (4, "run_finished"),
    ]  # fmt: skip


def test_a_trace_that_lost_events_cannot_be_resumed(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    _record(path, 3)
    before = path.read_bytes()
    with pytest.raises(RunFailedError, match="holds 3 whole events, the run's checkpoint belongs to 4"):
        Recorder(path, keep=4)
    assert path.read_bytes() == before
    path.write_bytes(b"".join(before.splitlines(keepends=True)[1:]))
    with pytest.raises(RunFailedError, match="event 2 of the trace is numbered 3"):
        Recorder(path, keep=2)


def test_a_trace_of_version_1_can_be_read_and_of_an_unknown_one_not(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    _record(path, 1)
    text = path.read_text()
    path.write_text(text.replace('"schema_version":"3"', '"schema_version":"1"'))
    assert read_trace(path)[0].schema_version == "1"
    path.write_text(text.replace('"schema_version":"3"', '"schema_version":"9"'))
    with pytest.raises(RunFailedError, match="schema version '9'"):
        read_trace(path)


def test_a_line_that_is_no_event_is_named(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    _record(path, 2)
    path.write_bytes(path.read_bytes() + b"not json\n")
    with pytest.raises(RunFailedError, match="line 3 of the trace is no event"):
        read_trace(path)


def test_an_unwritable_folder_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFailedError, match="cannot write the trace"):
        Recorder(tmp_path / "file" / "trace.jsonl")


def _record(path: Path, n: int) -> None:
    recorder = Recorder(path)
    for index in range(n):
        recorder.record("tool_result", "locate_organs", {"index": index})
    recorder.close()


def test_a_full_disk_is_a_clear_error_and_leaves_whole_lines(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from r2seg_agent.trace.recorder import Recorder\n"
        "from r2seg_agent.errors import RunFailedError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "recorder = Recorder(Path(sys.argv[1]))\n"
        "try:\n"
        "    [recorder.record('warning', 'find', {'text': 'x' * 300}) for _ in range(9)]\n"
        "except RunFailedError as error:\n"
        "    print(error.message)\n"
        "recorder.close()\n"
    )
    path = tmp_path / "trace.jsonl"
    run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert run.stdout.startswith("cannot write the trace: ")
    assert path.read_bytes().endswith(b"\n")
    assert [event.seq for event in read_trace(path)] == [1, 2]
