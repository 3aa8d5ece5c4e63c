"""`--out` is tried before any work, and what goes wrong there later leaves the finished run as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.traced_runs import Case

import r2seg_agent.files
from r2seg_agent.errors import InputError, RunFailedError
from r2seg_agent.files import check_file
from r2seg_agent.runs import api
from r2seg_agent.store.runs import list_runs
from r2seg_agent.trace.run import open_run
from r2seg_agent.trace.verify import verify_run


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("case"))


def _passes(workspace: Path) -> None:
    (record,) = list_runs(workspace)
    run = open_run(workspace, record.id)
    assert record.status == "finished"
    assert [event.kind for event in run.events].count("run_finished") == 1
    assert [words for check in verify_run(run) for words in check.problems] == []


def test_a_place_that_cannot_be_written_is_told_before_any_work(case: Case, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file")
    for place in (taken, taken / "deeper"):
        with pytest.raises(InputError, match="--out"):
            case.find(tmp_path / "workspace", out=place)
    assert not (tmp_path / "workspace").exists()
    with pytest.raises(InputError, match="it is a folder"):
        check_file(tmp_path, "`--out`")


def test_a_copy_that_fails_leaves_the_run_finished(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **named: object) -> None:
        raise RunFailedError("cannot write `report.md`: No space left on device", "Check the free space.")

    with monkeypatch.context() as broken:
        broken.setattr(api, "copy_files", full)
        with pytest.raises(RunFailedError, match="No space left") as caught:
            case.find(tmp_path / "workspace", out=tmp_path / "out")
    (record,) = list_runs(tmp_path / "workspace")
    assert f"The run is finished: {tmp_path / 'workspace' / 'runs' / record.id}" in caught.value.hint
    _passes(tmp_path / "workspace")
    found = case.find(tmp_path / "workspace", out=tmp_path / "out")
    assert found.folder == tmp_path / "out"
    assert (found.folder / "report.json").read_bytes() == (
        tmp_path / "workspace" / "runs" / record.id / "report.json"
    ).read_bytes()
    _passes(tmp_path / "workspace")


def test_the_place_is_left_without_a_probe(tmp_path: Path) -> None:
    r2seg_agent.files.check_folder(tmp_path / "new", "`--out`")
    assert list((tmp_path / "new").iterdir()) == []
