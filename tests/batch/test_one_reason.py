"""A batch in which every case fails for one reason stops early, names the cure and does not exit with 0."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator, Iterable
from pathlib import Path
from threading import Event

import pytest
from helpers.batch_workers import act, jobs_for, marks
from helpers.small_case import write_case

from r2seg_agent.batch.engine import Work
from r2seg_agent.batch.journal import read_rows
from r2seg_agent.batch.one_reason import CASES, SET_UP_CASES
from r2seg_agent.batch.row import CaseRow, Job
from r2seg_agent.batch.run import run_batch
from r2seg_agent.batch.run_case import failed_row
from r2seg_agent.errors import InputError, MissingDependencyError


def act_or_fail(job: Job) -> CaseRow:
    """As `act`; "missing" fails as missing weights do, "input" as a file that cannot be used."""
    if job.request not in ("missing", "input"):
        return act(job)
    status = (MissingDependencyError if job.request == "missing" else InputError).exit_status
    row = failed_row(job, "failed", f"`{job.case.image}` needs weights of 39 MB", 0.0)
    return row.model_copy(update={"hint": "Get them.", "error_status": status})


def inline(
    jobs: Iterable[Job], *, workers: int, gpus_per_worker: float, timeout_s: float | None, stop: Event, work: Work
) -> Generator[CaseRow, None, None]:
    """An engine without processes: one job after the other, here."""
    for job in jobs:
        if stop.is_set():
            return
        yield work(job)


def test_missing_weights_end_a_batch_after_a_few_cases(tmp_path: Path) -> None:
    jobs = jobs_for(tmp_path / "in", *["missing"] * 40)
    with pytest.raises(
        MissingDependencyError, match=r"first 3 cases, so the other 37 were not tried.*weights"
    ) as found:
        run_batch(jobs, tmp_path / "out", engine=inline, work=act_or_fail)
    assert found.value.hint.startswith("Get them. Then give the same command again")
    rows = list(read_rows(tmp_path / "out" / "journal.jsonl"))
    assert [row.hint for row in rows] == ["Get them."] * SET_UP_CASES
    assert "Get them." in (tmp_path / "out" / "results.csv").read_text()


def test_so_do_ten_inputs_that_cannot_be_used_in_the_same_way(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"first {CASES} cases, so the other 10 were not tried"):
        run_batch(jobs_for(tmp_path / "in", *["input"] * 20), tmp_path / "out", engine=inline, work=act_or_fail)
    again = run_batch(jobs_for(tmp_path / "few", *["input"] * 4), tmp_path / "out2", engine=inline, work=act_or_fail)
    assert again.summary.statuses == {"failed": 4}  # four bad scans may be four bad scans


@pytest.mark.parametrize("requests", [["ok"] + ["missing"] * 5, ["missing", "fail"] * 6, ["missing", "input"] * 12])
def test_different_reasons_or_one_success_keep_it_going(tmp_path: Path, requests: list[str]) -> None:
    result = run_batch(jobs_for(tmp_path / "in", *requests), tmp_path / "out", engine=inline, work=act_or_fail)
    assert len(result.rows) == len(requests)


def test_max_failures_says_how_many_are_tried_all_the_same(tmp_path: Path) -> None:
    jobs = jobs_for(tmp_path / "in", *["missing"] * 5, "ok")
    result = run_batch(jobs, tmp_path / "out", max_failures=100, engine=inline, work=act_or_fail)
    assert result.summary.statuses == {"done": 1, "failed": 5}
    assert sum(marks(tmp_path / "in")) == 1


def test_the_command_says_it_and_its_exit_status(tmp_path: Path) -> None:
    image, _ = write_case(tmp_path)
    kinds = ("lesion", "cyst", "metastasis", "tumour", "cancer", "adenoma")
    (tmp_path / "cases.csv").write_text("image,request\n" + "".join(f"{image},find a liver {kind}\n" for kind in kinds))
    command = [sys.executable, "-m", "r2seg_agent", "batch", str(tmp_path / "cases.csv"), "-o", str(tmp_path / "out")]
    command += ["--anchors", "totalsegmentator", "--segmenter", "contrast", "--modality", "CT"]
    none = str(tmp_path / "none")
    environment = {**os.environ, "TOTALSEG_HOME_DIR": none, "TOTALSEG_WEIGHTS_PATH": none}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ended.returncode == MissingDependencyError.exit_status
    assert "first 3 cases" in ended.stderr
    assert "totalseg_download_weights" in ended.stderr
