"""Real searches that are killed, starved, interrupted and given rubbish: nothing is lost, nothing is done twice."""

from __future__ import annotations

import gzip
import json
import os
import resource
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.batch_workers import act, find_held, find_in_little_memory, untimed, wait_until
from helpers.small_case import GEOMETRY, ball_volume, write_case
from typer.testing import CliRunner

from r2seg_agent.batch.journal import Journal, read_rows
from r2seg_agent.batch.row import CaseRow, Job, make_jobs
from r2seg_agent.batch.run import run_batch
from r2seg_agent.cli.main import app
from r2seg_agent.datasets.case import Case
from r2seg_agent.datasets.read import read_cases
from r2seg_agent.errors import BudgetError, InputError, RunFailedError
from r2seg_agent.imaging.write import write_label_map, write_volume
from r2seg_agent.runs.options import RunOptions

TESTS = Path(__file__).parents[1]
REQUEST = "find a liver lesion"
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight small scans, every other one with a lesion."""
    folder = tmp_path_factory.mktemp("scans")
    rows = ["image,patient,anchors,modality,request"]
    for seed in range(8):
        image, organs = write_case(folder / f"case-{seed}", ball=seed % 2 == 0, seed=seed)
        rows.append(f"{image},p{seed},{organs},CT,{REQUEST}")
    (folder / "cases.csv").write_text("\n".join(rows) + "\n")
    return folder / "cases.csv"


@pytest.fixture(scope="module")
def undisturbed(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed")
    assert run_batch(_jobs(table), out, workers=1).summary.statuses == {"done": 8}
    return out


def _jobs(table: Path) -> tuple[Job, ...]:
    return make_jobs(read_cases(table), None, RunOptions(segmenter="contrast"))


def _same_results(out: Path, other: Path) -> None:
    """The tables but for times, and every file of every run, byte by byte."""
    assert untimed(out) == untimed(other)
    for row in untimed(out):
        for name in ("report.json", "report.md", "lesions.nii.gz", "plan.json"):
            theirs = other / "runs" / row["run_id"] / name
            assert (out / "runs" / row["run_id"] / name).read_bytes() == theirs.read_bytes(), name


def _driver(table: Path, out: Path, workers: int) -> subprocess.Popen[bytes]:
    script = (
        "import sys, pathlib\n"
        "from helpers.batch_workers import find_held\n"
        "from test_survives import _jobs, run_batch\n"
        "if __name__ == '__main__':\n"
        "    run_batch(_jobs(pathlib.Path(sys.argv[1])), pathlib.Path(sys.argv[2]), workers=int(sys.argv[3]), "
        "work=find_held)\n"
    )
    path = table.parent / "driver.py"
    path.write_text(script)
    paths = os.pathsep.join([str(TESTS), str(TESTS / "batch"), str(TESTS.parent)])
    command = [sys.executable, str(path), str(table), str(out), str(workers)]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths})


def _done(out: Path) -> int:
    return sum(1 for _ in read_rows(out / "journal.jsonl"))


def _workers(driver: int) -> list[int]:
    """Child processes that run a worker (the resource tracker of multiprocessing is one, too)."""
    children = [
        int(pid) for task in Path(f"/proc/{driver}/task").glob("*/children") for pid in task.read_text().split()
    ]
    return [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@LINUX
def test_killed_workers_and_a_killed_driver_lose_nothing_and_repeat_nothing(
    table: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out, hold = tmp_path / "out", table.parent / "hold"
    hold.touch()
    driver = _driver(table, out, workers=2)
    try:
        wait_until(lambda: _done(out) >= 1)
        os.kill(_workers(driver.pid)[0], signal.SIGKILL)
        wait_until(lambda: _done(out) >= 3)
        orphans = _workers(driver.pid)
        assert orphans
    finally:
        driver.kill()
        driver.wait()
        hold.unlink()
    wait_until(lambda: not any(_alive(pid) for pid in orphans))
    before = {row.key: row for row in read_rows(out / "journal.jsonl")}
    assert 3 <= len(before) < 8
    assert {row.status for row in before.values()} == {"done"}
    result = run_batch(_jobs(table), out, workers=2, work=find_held)
    assert result.repeated == len(before)
    after = list(read_rows(out / "journal.jsonl"))
    assert len(after) == len({row.key for row in after}) == 8
    _same_results(out, undisturbed)


@pytest.mark.slow
def test_a_case_run_alone_gives_the_same_bytes(undisturbed: Path, tmp_path: Path) -> None:
    row = untimed(undisturbed)[2]
    words = shlex.split(row["command"])
    assert words[:3] == ["OMP_NUM_THREADS=1", "r2seg", "find"]
    result = CliRunner().invoke(app, [*words[2:], "--workspace", str(tmp_path), "--quiet"])
    assert result.exit_code == 0, result.output
    for name in ("report.json", "report.md", "lesions.nii.gz", "overlay.png"):
        alone = tmp_path / "runs" / row["run_id"] / name
        assert alone.read_bytes() == (undisturbed / "runs" / row["run_id"] / name).read_bytes(), name


@pytest.mark.slow
def test_a_summary_and_a_page_for_people(undisturbed: Path) -> None:
    summary = (undisturbed / "summary.md").read_text()
    page = (undisturbed / "index.html").read_text()
    run_id = untimed(undisturbed)[0]["run_id"]
    assert f"](runs/{run_id}/report.md)" in summary
    assert "no scan is flagged" in summary
    assert f'src="runs/{run_id}/overlay.png"' in page
    assert "not a medical device" in summary
    assert "not a medical device" in page
    assert "http" not in page
    assert "<script" not in page


def test_parts_of_a_batch_share_a_folder(table: Path, tmp_path: Path) -> None:
    """Eight quick cases; the last call finds what the parts did."""
    quick = tuple(
        job.model_copy(update={"request": "ok", "case": job.case.model_copy(update={"image": str(tmp_path / job.key)})})
        for job in _jobs(table)
    )
    for part in ("1/2", "2/2"):
        assert run_batch(quick, tmp_path / "out", part=part, work=act).summary.cases == 4
    assert (tmp_path / "out" / "results-2-of-2.csv").exists()
    assert run_batch(quick, tmp_path / "out", work=act).repeated == 8
    assert len(untimed(tmp_path / "out")) == 8
    assert all((tmp_path / f"{job.key}.done").read_text() == "x" for job in quick)


def _bad_cases(folder: Path, good: Path, organs: Path) -> Iterator[tuple[str, dict[str, str], str]]:
    """Name, columns, and what the table must say of it."""
    volume = ball_volume()

    def put(name: str, data: bytes) -> str:
        (folder / name).write_bytes(data)
        return str(folder / name)

    packed = good.read_bytes()
    yield "missing", {"image": str(folder / "gone.nii.gz")}, "does not exist"
    yield "cut short", {"image": put("cut.nii.gz", packed[: len(packed) // 2])}, "truncated|ends|cut"
    yield "a text", {"image": put("text.nii.gz", gzip.compress(b"dear colleague, please find attached"))}, "NIfTI"
    yield "nothing", {"image": put("zero.nii.gz", b"")}, "empty"
    nan = volume.array.astype(np.float32)
    nan[:] = np.nan
    write_volume(folder / "nan.nii.gz", type(volume)(array=nan, geometry=GEOMETRY, modality="CT", unit="HU"))
    yield "not a number", {"image": str(folder / "nan.nii.gz")}, "NaN|not finite|finite"
    yield "modality", {"image": str(good), "modality": "XYZ"}, "`--modality XYZ` is unknown"
    other = GEOMETRY.model_copy(update={"origin_lps_mm": (50.0, 0.0, 0.0)})
    write_label_map(folder / "moved.nii.gz", np.ones(GEOMETRY.shape, np.uint8), other, names={1: "liver"})
    yield "anchors elsewhere", {"image": str(good), "anchors": str(folder / "moved.nii.gz")}, "another grid"
    yield "truth elsewhere", {"image": str(good), "truth": str(folder / "moved.nii.gz")}, "another grid"
    (folder / "dicom").mkdir()
    put("dicom/1.dcm", bytes(128) + b"DICM" + bytes(range(64)))
    yield "broken DICOM", {"image": str(folder / "dicom")}, "DICOM"
    header = bytearray(gzip.decompress(packed)[:352])
    header[42:48] = np.array([30000, 30000, 30000], "<i2").tobytes()
    yield "huge", {"image": put("huge.nii.gz", gzip.compress(bytes(header)))}, "30,?000|truncated|bytes"
    yield "no target", {"image": str(good), "request": "what a lovely day"}, ""
    if os.geteuid() != 0:
        put("locked.nii.gz", packed)
        (folder / "locked.nii.gz").chmod(0)
        yield "locked", {"image": str(folder / "locked.nii.gz")}, "ermission"


@pytest.mark.slow
def test_a_bad_case_of_every_kind_among_good_ones(tmp_path: Path) -> None:
    good, organs = write_case(tmp_path / "good")
    second, _ = write_case(tmp_path / "second", seed=5)
    given = {"anchors": str(organs), "modality": "CT", "request": REQUEST}
    bad = list(_bad_cases(tmp_path, good, organs))
    rows = [{"image": str(good), **given}, *({**given, **columns} for _, columns, _ in bad)]
    rows.append({"image": str(second), **given})
    path = tmp_path / "cases.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out"
    command = ["batch", str(path), "--out", str(out), "--segmenter", "contrast", "--workers", "2", "--quiet"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert f"1 of {len(rows)} scans are missing; line 2" in result.stderr
    told = untimed(out)
    assert [told[0]["outcome"], told[-1]["outcome"]] == ["lesions_found", "lesions_found"]
    for row, (name, _, says) in zip(told[1:-1], bad, strict=True):
        if name == "no target":
            assert row["outcome"] == "needs_user", row
        else:
            assert row["status"] == "failed", (name, row)
        assert row["error"], name
        assert "unexpected" not in row["error"], (name, row["error"])
        assert any(one in row["error"] for one in says.split("|")) or name == "huge", (name, row["error"])
    summary = (out / "summary.md").read_text()
    assert "Cases without an answer" in summary


@pytest.mark.slow
def test_little_memory_touches_its_own_case(tmp_path: Path) -> None:
    cases = []
    for seed, patient in enumerate(("fed", "hungry")):
        image, organs = write_case(tmp_path / str(seed), seed=seed)
        cases.append(Case(image=str(image), patient=patient, anchors=str(organs), modality="CT"))
    volume = ball_volume()
    large = GEOMETRY.model_copy(update={"shape": (240, 240, 240)})
    big = type(volume)(array=np.zeros(large.shape, np.int16), geometry=large, modality="CT", unit="HU")
    write_volume(Path(cases[1].image), big)
    jobs = make_jobs(tuple(cases), REQUEST, RunOptions(segmenter="contrast"))
    rows = run_batch(jobs, tmp_path / "out", work=find_in_little_memory).rows
    assert [row.status for row in rows] == ["done", "failed"]
    assert "memory" in rows[1].error


@pytest.mark.slow
@LINUX
def test_ctrl_c_once_finishes_what_is_under_way_and_twice_leaves(table: Path, tmp_path: Path) -> None:
    """Workers of the same terminal get the signal too, and leave it to the driver."""
    command = [sys.executable, "-m", "r2seg_agent", "batch", str(table), "--segmenter", "contrast", "--out"]
    for presses in (1, 2):
        out = tmp_path / str(presses)
        driver = subprocess.Popen(
            [*command, str(out)], start_new_session=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        wait_until(lambda out=out: _done(out) >= 1)  # type: ignore[misc]  # a lambda with a default
        for _ in range(presses):
            os.killpg(driver.pid, signal.SIGINT)
            time.sleep(0.1)
        stdout, stderr = driver.communicate(timeout=600)
        assert driver.returncode == BudgetError.exit_status, stderr + stdout
        assert "Traceback" not in stderr
        assert _done(out) < 8
        assert {row.status for row in read_rows(out / "journal.jsonl")} == {"done"}
        assert (out / "results.csv").exists()


def test_the_first_failure_can_end_the_batch(table: Path, tmp_path: Path) -> None:
    """`--fail-fast` begins no other case: with one worker nothing else is even tried."""
    (tmp_path / "cases.csv").write_text(f"image\n{tmp_path}/gone.nii.gz\n{read_cases(table)[0].image}\n")
    command = [
        "batch",
        str(tmp_path / "cases.csv"),
        "--request",
        REQUEST,
        "--out",
        str(tmp_path / "out"),
        "--fail-fast",
    ]
    result = CliRunner().invoke(app, [*command, "--fail-fast", "--segmenter", "contrast", "--quiet"])
    assert isinstance(result.exception, BudgetError) or result.exit_code == BudgetError.exit_status
    assert [row.number for row in read_rows(tmp_path / "out" / "journal.jsonl")] == [1]


def test_a_folder_that_cannot_be_written_is_told_before_any_work(table: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write to `--out"):
        run_batch(_jobs(table), tmp_path / "file" / "out")


def test_a_full_disk_leaves_whole_rows_and_says_so(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    row = CaseRow(number=1, key="k", image="i" * 2000, patient="", request="", status="done")
    journal.add(row)
    size = (tmp_path / "journal.jsonl").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, before[1]))
    try:
        with pytest.raises(RunFailedError, match=r"cannot write `journal.jsonl`.*\n.*finished cases are not repeated"):
            journal.add(row)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    journal.add(row.model_copy(update={"number": 2}))
    journal.close()
    assert [one.number for one in read_rows(tmp_path / "journal.jsonl")] == [1, 2]
