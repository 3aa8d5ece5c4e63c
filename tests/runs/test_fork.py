"""A fork never writes to its parent, whatever fails, and keeps the anchors that its parent settled on."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.small_case import small_options, write_case, write_chest

from r2seg_agent.errors import InputError, MissingDependencyError
from r2seg_agent.reason.anchors.choose import AutoSource, anchor_source
from r2seg_agent.reason.anchors.hounsfield import HounsfieldSource
from r2seg_agent.runs.api import FindResult, open_chat, reopen, run_find, run_fork, run_resume
from r2seg_agent.runs.options import RunOptions
from r2seg_agent.store.runs import run_folder
from r2seg_agent.trace.recorder import read_trace
from r2seg_agent.trace.run import open_run
from r2seg_agent.trace.verify import verify_run


@pytest.fixture(autouse=True)
def _no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOTALSEG_HOME_DIR", str(tmp_path / "none"))
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path / "none"))


def _chest(folder: Path, **more: object) -> FindResult:
    options = small_options(folder, **{"anchors": "auto", "reject": "paper", "overlays": False, **more})
    return run_find("find the lung nodule", str(write_chest(folder)), options)


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_fork_from_every_checkpoint_keeps_the_anchors_that_auto_settled_on(tmp_path: Path) -> None:
    parent = _chest(tmp_path)
    assert parent.report.outcome == "lesions_found"
    before = _bytes(parent.folder)
    steps = [e.seq for e in read_trace(parent.folder / "trace.jsonl") if e.kind in ("model_call", "tool_result")]
    for step in (2, *steps[1:3]):
        fork = run_fork(parent.report.run_id, step, tmp_path / "ws")
        assert [f.volume_ml for f in fork.report.findings] == [f.volume_ml for f in parent.report.findings], step
        assert _bytes(parent.folder) == before, step


def test_a_run_that_is_resumed_keeps_the_anchors_that_auto_settled_on(tmp_path: Path) -> None:
    chest = str(write_chest(tmp_path))
    options = small_options(tmp_path, anchors="auto", reject="paper", overlays=False, seconds=0.001)
    ended = run_find("find the lung nodule", chest, options)
    assert ended.report.outcome == "budget_exhausted"
    resumed = run_resume(ended.report.run_id, tmp_path / "ws", changes={"seconds": 100.0})
    assert resumed.report.outcome == "lesions_found"
    with reopen(resumed.report.run_id, tmp_path / "ws", look=True) as again:
        assert again.search.anchor_source == "hounsfield"
        assert isinstance(again.prepared.source, AutoSource)
        assert again.prepared.source.info == HounsfieldSource().info  # without any `check`: as settled


def test_auto_settles_on_nothing_where_nothing_fits(tmp_path: Path) -> None:
    auto = anchor_source("auto")
    with pytest.raises(MissingDependencyError, match="weights"):
        auto.check("CT", ("liver",))
    auto.check("CT", ("lung_left",))
    assert isinstance(auto, AutoSource)
    assert auto.settled == "hounsfield"


def test_a_fork_that_fails_leaves_its_parent_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = _chest(tmp_path)
    before, id_ = _bytes(parent.folder), parent.report.run_id
    plan = parent.report.targets[0].plan
    with pytest.raises(InputError, match="no checkpoint at step 1"):
        run_fork(id_, 1, tmp_path / "ws")
    with pytest.raises(InputError, match=r"[Ll]iver|density"):
        run_fork(id_, 6, tmp_path / "ws", plans=(plan.model_copy(update={"anchors": ("liver",)}),))

    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(HounsfieldSource, "locate", broken)
    monkeypatch.setattr("r2seg_agent.segment.contrast.ContrastSegmenter.segment", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        run_fork(id_, 6, tmp_path / "ws", plans=(plan.model_copy(update={"padding_mm": 31.0}),))
    assert _bytes(parent.folder) == before
    assert all(not check.problems for check in verify_run(open_run(tmp_path / "ws", id_)))
    assert run_folder(tmp_path / "ws", id_).record().status == "finished"


def test_a_fork_of_a_killed_run_leaves_its_trace_as_long_as_it_was(tmp_path: Path) -> None:
    parent = _chest(tmp_path)
    trace = parent.folder / "trace.jsonl"
    lines = trace.read_bytes().splitlines(keepends=True)
    trace.write_bytes(b"".join([*lines[:-1], lines[-1][:20]]))  # killed while it wrote an event
    before = _bytes(parent.folder)
    run_fork(parent.report.run_id, 6, tmp_path / "ws")
    assert _bytes(parent.folder) == before


def test_a_fork_writes_nothing_into_the_folder_of_its_parents_results(tmp_path: Path) -> None:
    parent = _chest(tmp_path, out=tmp_path / "results")
    before = _bytes(tmp_path / "results")
    plan = parent.report.targets[0].plan.model_copy(update={"padding_mm": 31.0})
    fork = run_fork(parent.report.run_id, 6, tmp_path / "ws", plans=(plan,))
    assert fork.folder == tmp_path / "ws" / "runs" / fork.report.run_id
    assert _bytes(tmp_path / "results") == before


def test_resume_of_a_conversation_leaves_the_conversation_as_it_was(tmp_path: Path) -> None:
    image, _ = write_case(tmp_path)
    options: RunOptions = small_options(tmp_path, modality="CT", reject="paper")
    with open_chat(str(image), options) as chat:
        list(chat.say("find a liver lesion"))
    before = _bytes(chat.folder.path)
    with pytest.raises(InputError, match="is a conversation"):
        run_resume(chat.id, tmp_path / "ws")
    assert _bytes(chat.folder.path) == before
