"""The scripts of docs/guide/slurm, run as Slurm would run them: with its variables, a `srun` that starts every node
here, and a network that has nothing but loopback."""

from __future__ import annotations

import csv
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.batch_workers import act, wait_until
from helpers.small_case import write_case

from r2seg_agent.batch.row import make_jobs
from r2seg_agent.batch.run import run_batch
from r2seg_agent.datasets.case import Case
from r2seg_agent.runs.options import RunOptions

SCRIPTS = Path(__file__).parents[2] / "docs" / "guide" / "slurm"
pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is missing")

SRUN = """#!{python}
import os, signal, subprocess, sys
command = sys.argv[1:]
while command[0].startswith("-"):
    command = command[1:]
count = int(os.environ["SLURM_JOB_NUM_NODES"])
given = [{{**os.environ, "SLURM_NODEID": str(number)}} for number in range(count)]
nodes = [subprocess.Popen(command, env=one, start_new_session=True) for one in given]
signal.signal(signal.SIGTERM, lambda *_: [os.killpg(node.pid, signal.SIGTERM) for node in nodes])
sys.exit(max([node.wait() for node in nodes]))
"""

TELLS = """#!{python}
import os, signal, sys, time
if "--slow" in sys.argv:
    def stopped(*_):
        print("finishing"); time.sleep(0.5); os._exit(4)
    signal.signal(signal.SIGINT, stopped)
    print("begun", flush=True)
    time.sleep(600)
print(" ".join(sys.argv[1:]))
"""


def _program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text.format(python=sys.executable))
    (folder / name).chmod(0o755)


def _slurm(programs: Path, **variables: str) -> dict[str, str]:
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "RAY_"))}
    return {**keep, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", **variables}


def _array(first: int, last: int, task: int) -> dict[str, str]:
    count = last - first + 1
    names = {"MIN": first, "MAX": last, "COUNT": count, "ID": task}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in names.items()}


@pytest.mark.parametrize("script", ["array.sbatch", "ray.sbatch"])
def test_scripts_are_bash_and_say_how_they_are_called(script: str, tmp_path: Path) -> None:
    subprocess.run(["bash", "-n", str(SCRIPTS / script)], check=True)
    said = subprocess.run(["bash", str(SCRIPTS / script)], capture_output=True, text=True, check=False)
    assert said.returncode == 2
    assert said.stderr.startswith("usage: sbatch")


def test_a_task_of_an_array_does_its_part(tmp_path: Path) -> None:
    from typer.main import get_command

    from r2seg_agent.cli.main import app

    _program(tmp_path / "bin", "r2seg", TELLS)
    script = str(SCRIPTS / "array.sbatch")
    for gpus, workers in ((None, "4"), ("1", "1")):
        given = {**_array(1, 16, 3), "SLURM_CPUS_PER_TASK": "4", **({"SLURM_GPUS_ON_NODE": gpus} if gpus else {})}
        said = subprocess.run(
            ["bash", script, "cases.csv", "my results", "--request", "find it"],
            env=_slurm(tmp_path / "bin", **given),
            capture_output=True,
            text=True,
            check=True,
        )
        expected = f"batch cases.csv --out my results --workers {workers} --shard 3/16 --quiet --request find it\n"
        assert said.stdout == expected
    known = {name for parameter in get_command(app).commands["batch"].params for name in parameter.opts}  # type: ignore[attr-defined]
    used = {"--out", "--workers", "--shard", "--quiet", "--request", "--engine", "--address", "--gpus-per-worker"}
    assert used <= known


def test_a_part_of_an_array_is_refused(tmp_path: Path) -> None:
    _program(tmp_path / "bin", "r2seg", TELLS)
    said = subprocess.run(
        ["bash", str(SCRIPTS / "array.sbatch"), "cases.csv", "out"],
        env=_slurm(tmp_path / "bin", **{**_array(3, 7, 7), "SLURM_ARRAY_TASK_COUNT": "2"}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 2
    assert "submit the whole array" in said.stderr


def _asleep(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=True).stdout
    return state.startswith("S")


def test_slurms_warning_before_the_time_limit_stops_the_batch_in_peace(tmp_path: Path) -> None:
    _program(tmp_path / "bin", "r2seg", TELLS)
    job = subprocess.Popen(
        ["bash", str(SCRIPTS / "array.sbatch"), "cases.csv", "out", "--slow"],
        env=_slurm(tmp_path / "bin", **_array(1, 2, 1)),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert job.stdout is not None
    assert job.stdout.readline() == "begun\n"
    wait_until(lambda: _asleep(job.pid))  # the shell is back at waiting
    job.send_signal(signal.SIGINT)
    out, _ = job.communicate(timeout=600)
    assert (job.returncode, out) == (4, "finishing\n")


def test_parts_on_disks_of_their_own_come_together(tmp_path: Path) -> None:
    """As scale.md has it: journals and runs are copied into one folder, and the whole is called for it."""
    cases = []
    for number in range(5):
        (tmp_path / f"{number}.nii").touch()
        cases.append(Case(image=str(tmp_path / f"{number}.nii"), patient=str(number), request="ok"))
    jobs = make_jobs(tuple(cases), None, RunOptions())
    for part in (1, 2):
        run_batch(jobs, tmp_path / f"disk{part}", part=f"{part}/2", work=act)
        shutil.copytree(tmp_path / f"disk{part}", tmp_path / "all", dirs_exist_ok=True)
    result = run_batch(jobs, tmp_path / "all", work=act)
    assert result.repeated == 5
    assert [row.number for row in result.rows] == [1, 2, 3, 4, 5]
    assert [len(path.read_text()) for path in sorted(tmp_path.glob("*.done"))] == [1] * 5


def _alone_on_loopback() -> list[str]:
    """A command that runs another one in a network of its own; [] where that is not allowed."""
    command = ["unshare", "--map-root-user", "--net", "bash", "-c", 'ip link set lo up && exec "$@"', "-"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*command, "true"], capture_output=True, check=False).returncode
    ):
        return []
    return command


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the package ray is missing (extra `ray`)")
def test_a_job_of_two_nodes_by_ray(tmp_path: Path) -> None:
    alone = _alone_on_loopback()
    if not alone:
        pytest.skip("no network of one's own here (unshare --net)")
    _program(tmp_path / "bin", "srun", SRUN)
    _program(tmp_path / "bin", "r2seg", '#!/bin/sh\nexec {python} -m r2seg_agent "$@"\n')
    _program(tmp_path / "bin", "ray", '#!/bin/sh\nexec {python} -m ray.scripts.scripts "$@"\n')
    rows = []
    for number in range(3):
        image, organs = write_case(tmp_path / f"case{number}", ball=number > 0, seed=number)
        rows.append(f"{image},{organs},CT")
    (tmp_path / "cases.csv").write_text("\n".join(["image,anchors,modality", *rows]) + "\n")
    given = {
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_PER_TASK": "1",
        "R2SEG_HEAD_IP": "127.0.0.1",
        "RAY_memory_monitor_refresh_ms": "0",
    }
    said = subprocess.run(
        [*alone, "bash", str(SCRIPTS / "ray.sbatch"), "cases.csv", "out", "--request", "find a liver lesion"]
        + ["--segmenter", "contrast"],
        env=_slurm(tmp_path / "bin", **given),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert said.returncode == 0, said.stderr
    with (tmp_path / "out" / "results.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["status"] for row in table] == ["done"] * 3
    assert all(row["node"] for row in table)
    assert not list(Path("/tmp").glob(f"r2seg-ray-{os.getpid()}-*"))
