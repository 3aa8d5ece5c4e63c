"""Data sets: every case isolated, nothing finished repeated, the table whole after any kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.batch_workers import Clock, act, hung, jobs_for, marks, untimed, wait_until
from helpers.small_case import write_case

from r2seg_agent.batch import crew
from r2seg_agent.batch.journal import Journal, read_rows
from r2seg_agent.batch.row import CaseRow, make_jobs
from r2seg_agent.batch.run import run_batch, shard
from r2seg_agent.batch.summary import summarise
from r2seg_agent.batch.table import case_q_values, write_table
from r2seg_agent.datasets.case import Case
from r2seg_agent.errors import BudgetError, InputError
from r2seg_agent.runs.options import RunOptions


def test_a_bad_case_of_every_kind_touches_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "time", Clock(hung(tmp_path / "in", tmp_path / "out", others=6)))
    jobs = jobs_for(tmp_path / "in", "ok", "die", "ok", "hang", "raise", "fail", "ok")
    result = run_batch(jobs, tmp_path / "out", workers=2, timeout_s=3600.0, work=act)
    rows = {row.number: row for row in result.rows}
    assert [rows[n].status for n in range(1, 8)] == [
        "done",
        "crashed",
        "done",
        "timed_out",
        "failed",
        "failed",
        "done",
    ]
    assert rows[2].attempts == 2
    assert "exit code 9" in rows[2].error
    assert "3600 s" in rows[4].error
    assert "a bug in the worker" in rows[5].error
    assert rows[6].error == "cannot be read"
    assert result.summary.statuses == {"crashed": 1, "done": 3, "failed": 2, "timed_out": 1}
    assert [row["status"] for row in untimed(tmp_path / "out")] == [rows[n].status for n in range(1, 8)]
    again = run_batch(jobs[:3], tmp_path / "out", work=act, timeout_s=3600.0)
    assert again.repeated == 2
    assert marks(tmp_path / "in") == [1, 1, 1]


def test_a_stopped_batch_goes_on_and_repeats_nothing(tmp_path: Path) -> None:
    jobs = jobs_for(tmp_path / "in", "ok", "fail", "ok", "ok", "ok")
    with pytest.raises(BudgetError, match="--max-failures 0"):
        run_batch(jobs, tmp_path / "out", max_failures=0, work=act)
    done = sum(row.status == "done" for row in read_rows(tmp_path / "out" / "journal.jsonl"))
    assert 1 <= done < 4
    assert (tmp_path / "out" / "results.csv").exists()
    result = run_batch(jobs, tmp_path / "out", work=act)
    assert result.repeated == done
    assert marks(tmp_path / "in") == [1, 1, 1, 1]
    assert result.summary.statuses == {"done": 4, "failed": 1}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kills processes with SIGKILL")
def test_a_killed_driver_loses_nothing_that_was_reported(tmp_path: Path) -> None:
    """The driver is killed in mid-run; the workers end by themselves; the same command finishes the rest."""
    jobs = jobs_for(tmp_path / "in", *["ok"] * 3, *["wait for go"] * 5)
    listed = tmp_path / "jobs.json"
    listed.write_text(json.dumps([job.model_dump(mode="json") for job in jobs]))
    script = (
        "import json, sys, pathlib\n"
        "from helpers.batch_workers import act\n"
        "from r2seg_agent.batch.row import Job\n"
        "from r2seg_agent.batch.run import run_batch\n"
        "if __name__ == '__main__':\n"
        "    jobs = [Job.model_validate(j) for j in json.loads(pathlib.Path(sys.argv[1]).read_text())]\n"
        "    run_batch(jobs, pathlib.Path(sys.argv[2]), workers=2, work=act)\n"
    )
    (tmp_path / "driver.py").write_text(script)
    tests = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([tests, str(Path(tests).parent)])}
    driver = subprocess.Popen(
        [sys.executable, str(tmp_path / "driver.py"), str(listed), str(tmp_path / "out")], env=environment
    )
    journal = tmp_path / "out" / "journal.jsonl"
    wait_until(lambda: sum(1 for _ in read_rows(journal)) >= 2)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    before = {row.key for row in read_rows(journal)}
    assert 2 <= len(before) < 8
    (tmp_path / "in" / "go").touch()
    result = run_batch(jobs, tmp_path / "out", workers=2, work=act)
    assert result.repeated == len(before)
    undisturbed = run_batch(jobs, tmp_path / "other", workers=1, work=act)
    assert untimed(tmp_path / "out") == untimed(tmp_path / "other")
    assert undisturbed.summary.statuses == {"done": 8}


def test_a_line_that_a_kill_cut_is_taken_off(tmp_path: Path) -> None:
    jobs = jobs_for(tmp_path / "in", "ok", "ok")
    run_batch(jobs[:1], tmp_path / "out", work=act)
    with (tmp_path / "out" / "journal.jsonl").open("a") as file:
        file.write('{"number": 2, "ke')
    assert run_batch(jobs, tmp_path / "out", work=act).summary.statuses == {"done": 2}
    assert len((tmp_path / "out" / "journal.jsonl").read_text().splitlines()) == 2


def test_another_option_is_another_job(tmp_path: Path) -> None:
    case = Case(image="a.nii", patient="a", request="find it")
    (one,) = make_jobs((case,), None, RunOptions())
    (same,) = make_jobs((case,), "ignored", RunOptions(workspace=tmp_path))
    (other,) = make_jobs((case,), None, RunOptions(seed=1))
    assert one.key == same.key != other.key


def test_shards_part_the_cases(tmp_path: Path) -> None:
    jobs = jobs_for(tmp_path / "in", *["ok"] * 7)
    parts = [shard(jobs, f"{i}/3") for i in (1, 2, 3)]
    assert sorted(job.number for part in parts for job in part) == list(range(1, 8))
    for bad in ("0/3", "4/3", "x", "1", "1/0"):
        with pytest.raises(InputError, match="shard"):
            shard(jobs, bad)


def test_scans_are_flagged_by_bh_over_case_level_p(tmp_path: Path) -> None:
    rows = [
        CaseRow(number=n, key=f"k{n}", image="", patient="", request="", status="done", p=p)
        for n, p in enumerate((0.01, 0.02, 0.5, None), start=1)
    ]
    assert case_q_values(rows) == {"k1": pytest.approx(0.03), "k2": pytest.approx(0.03), "k3": 0.5}
    q = case_q_values(rows)
    assert summarise(rows, q, 0.05, listed=4).flagged == 2
    assert "results.csv" in write_table(tmp_path, rows, q)


def test_a_text_that_a_spreadsheet_would_run_is_quoted(tmp_path: Path) -> None:
    row = CaseRow(number=1, key="k", image="=cmd()", patient="", request="", status="failed")
    write_table(tmp_path, [row], {})
    assert "'=cmd()" in (tmp_path / "results.csv").read_text()


def test_one_process_holds_a_batch(tmp_path: Path) -> None:
    from r2seg_agent.store.runs import RunFolder

    with RunFolder(tmp_path, "batch").lock(), pytest.raises(InputError, match="another process"):
        run_batch((), tmp_path, work=act)


def test_a_full_journal_says_so(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.add(CaseRow(number=1, key="k", image="", patient="", request="", status="done"))
    journal.close()
    assert [row.key for row in read_rows(tmp_path / "journal.jsonl")] == ["k"]


@pytest.mark.slow
def test_the_command_searches_real_scans_and_replays_one_alone(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from r2seg_agent.cli.main import app
    from r2seg_agent.runs.replay import replay_run
    from r2seg_agent.trace.run import open_run

    rows = []
    for name, ball in (("with", True), ("without", False)):
        image, organs = write_case(tmp_path / name, ball=ball)
        rows.append(f"{image},{organs},CT")
    rows.append(f"{tmp_path / 'with' / 'organs.nii.gz'},{tmp_path / 'missing.nii.gz'},CT")
    (tmp_path / "cases.csv").write_text("\n".join(["image,anchors,modality", *rows]) + "\n")
    given = ["batch", str(tmp_path / "cases.csv"), "--request", "find a liver lesion", "--segmenter", "contrast"]
    out = tmp_path / "out"
    result = CliRunner().invoke(app, [*given, "--out", str(out), "--workers", "2", "--quiet"])
    assert result.exit_code == 0, result.output
    assert "2 done, 1 failed" in result.output
    table = untimed(out)
    assert [row["status"] for row in table] == ["done", "done", "failed"]
    assert table[0]["outcome"] == "lesions_found"
    assert "missing.nii.gz" in table[2]["error"]
    replayed = replay_run(open_run(out, table[0]["run_id"]))
    assert replayed.same, replayed.differences
    again = CliRunner().invoke(app, [*given, "--out", str(out), "--quiet"])
    assert "2 were done before and not repeated" in again.output


def test_every_option_of_a_case_can_be_said_to_find() -> None:
    """The command in a row says all that is not the default, so each option needs a flag of its name."""
    from typer import Context
    from typer.main import get_command

    from r2seg_agent.batch.command import NOT_REPEATED
    from r2seg_agent.cli.main import app
    from r2seg_agent.runs.options import OPTIONS, PROCESS_OPTIONS

    find = get_command(app).commands["find"]  # type: ignore[attr-defined]  # a group, says the type only of instances
    flags = {
        flag for parameter in find.get_params(Context(find)) for flag in (*parameter.opts, *parameter.secondary_opts)
    }
    assert {"score", "gates", "segmenter"} == NOT_REPEATED - PROCESS_OPTIONS, "these cannot differ where `find` runs"
    for name in set(RunOptions.model_fields) - NOT_REPEATED:
        option = OPTIONS[name]
        assert option.flag in flags
        assert option.default is not True or option.cli.negation in flags, f"`{name}` cannot be switched off"
    assert {"--segmenter", "--channel", "--image"} <= flags


def test_the_command_of_a_case_is_quoted_for_the_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    from r2seg_agent.batch.command import find_command

    case = Case(image="scan of O'Neill.nii.gz", patient="a", channels={"T2": "t 2.nii"}, truth="seg.nii.gz::2")
    options = RunOptions(segmenter="contrast", alpha=0.1, orientations=3, synthetic=True, workspace=tmp_path)
    (job,) = make_jobs((case,), "find the lesion; quickly", options)
    assert find_command(job) == (
        "OMP_NUM_THREADS=1 r2seg find 'find the lesion; quickly' --image 'scan of O'\"'\"'Neill.nii.gz' "
        "--segmenter contrast --orientations 3 --alpha 0.1 --truth seg.nii.gz::2 --synthetic "
        "--channel 'T2=t 2.nii'"
    )
    (scoring,) = make_jobs((case,), "liver lesion", options.model_copy(update={"reject": "score"}))
    assert find_command(scoring) == ""
