"""The private cluster of `--engine ray` without an address: on loopback, stopped by Ctrl-C, gone after any end."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.batch_workers import act, jobs_for, untimed, wait_until

from r2seg_agent.batch.journal import read_rows
from r2seg_agent.batch.ray_link import TEMP_PREFIX, remove_left_over
from r2seg_agent.batch.row import Job
from r2seg_agent.batch.run import run_batch

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None or sys.platform != "linux",
    reason="the package ray is missing (extra `ray`), or this is not Linux",
)

DRIVER = """
import json, pathlib, signal, sys, threading
from helpers.batch_workers import act
from r2seg_agent.batch.ray_cluster import ray_engine
from r2seg_agent.batch.row import Job
from r2seg_agent.batch.run import run_batch

stop = threading.Event()


def stop_here(*_):
    stop.set()
    pathlib.Path(sys.argv[1]).with_name("stopped").touch()


signal.signal(signal.SIGINT, stop_here)
before = signal.getsignal(signal.SIGTERM)
jobs = [Job.model_validate(j) for j in json.loads(pathlib.Path(sys.argv[1]).read_text())]
try:
    run_batch(jobs, pathlib.Path(sys.argv[2]), engine=ray_engine(), workers=2, stop=stop, work=act)
finally:
    print("SIGTERM as before:", signal.getsignal(signal.SIGTERM) is before)
"""


class Driver:
    """A driver in a session of its own with a folder for temporary files; ray's processes stay in the session."""

    def __init__(self, folder: Path, temp: str, jobs: tuple[Job, ...]) -> None:
        (folder / "driver.py").write_text(DRIVER)
        (folder / "jobs.json").write_text(json.dumps([job.model_dump(mode="json") for job in jobs]))
        tests = str(Path(__file__).parents[1])
        path = os.pathsep.join([tests, str(Path(tests).parent)])
        self.journal = folder / "out" / "journal.jsonl"
        self.process = subprocess.Popen(
            [sys.executable, str(folder / "driver.py"), str(folder / "jobs.json"), str(folder / "out")],
            env={**os.environ, "PYTHONPATH": path, "TMPDIR": temp, "RAY_memory_monitor_refresh_ms": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_for_rows(self, count: int) -> None:
        def there() -> bool:
            assert self.process.poll() is None, self.process.communicate()[1]
            return sum(1 for _ in read_rows(self.journal)) >= count

        wait_until(there)

    def session(self) -> dict[int, str]:
        """The living processes of the session, by their names."""
        listed = subprocess.run(["ps", "-A", "-o", "pid=,sid=,stat=,args="], capture_output=True, text=True, check=True)
        rows = [line.split(maxsplit=3) for line in listed.stdout.splitlines()]
        return {int(r[0]): r[3] for r in rows if r[1] == str(self.process.pid) and not r[2].startswith("Z")}

    def wait_until_gone(self, *, but: tuple[str, ...] = ()) -> list[int]:
        """Wait for the end of all processes of the session; those named in `but` may go on and are returned."""
        wait_until(lambda: not [name for name in self.session().values() if name.strip() not in but])
        return list(self.session())


@pytest.fixture
def temp() -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="t-", dir="/tmp")  # sockets need a short path
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _listening(pids: list[int]) -> set[str]:
    """Addresses that `pids` listen on, as the kernel writes them (hexadecimal, without the port)."""
    sockets = set()
    for pid in pids:
        for handle in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                target = os.readlink(handle)
            except OSError:
                continue
            if target.startswith("socket:["):
                sockets.add(target[8:-1])
    addresses = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in sockets:
                addresses.add(fields[1].split(":")[0])
    return addresses


LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
"""127.0.0.1, the same as IPv6, and ::1."""


@pytest.mark.slow
@needs_ray
def test_a_private_cluster_ends_by_ctrl_c_and_by_a_kill_of_its_driver(temp: str, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    requests = ["ok"] * 2 + ["wait for first"] * 2 + ["ok"] * 2 + ["wait for second"] * 6
    jobs = jobs_for(folder, *requests)

    driver = Driver(tmp_path, temp, jobs)
    driver.wait_for_rows(2)
    addresses = _listening(list(driver.session()))
    assert addresses
    assert addresses <= LOOPBACK
    os.killpg(driver.process.pid, signal.SIGINT)  # a terminal sends it to all of them
    wait_until((tmp_path / "stopped").exists)
    (folder / "first").touch()  # the cases under way are finished
    out, err = driver.process.communicate(timeout=600)
    assert "stopped by you" in err
    assert out == "SIGTERM as before: True\n", "and not a word of ray's"
    driver.wait_until_gone()
    assert not list(Path(temp).glob(f"{TEMP_PREFIX}*"))
    stopped = list(read_rows(driver.journal))
    assert {row.status for row in stopped} == {"done"}
    assert 2 <= len(stopped) <= 6

    driver = Driver(tmp_path, temp, jobs)
    driver.wait_for_rows(len(stopped) + 2)
    driver.process.kill()
    driver.process.communicate()
    # Two helpers of ray look for their cluster for another minute before they end; they hold no case and no memory.
    for helper in driver.wait_until_gone(but=("ray::DashboardAgent", "ray::RuntimeEnvAgent")):
        os.kill(helper, signal.SIGKILL)
    (folder / "second").touch()
    killed = {row.key for row in read_rows(driver.journal)}
    assert len(killed) < 12
    left = list(Path(temp).glob(f"{TEMP_PREFIX}*"))
    assert len(left) == 1, "nobody was left to remove it"
    remove_left_over((temp,))
    assert not left[0].exists()

    result = run_batch(jobs, tmp_path / "out", workers=1, work=act)
    assert result.repeated == len(killed)
    run_batch(jobs, tmp_path / "calm", workers=2, work=act)
    assert untimed(tmp_path / "out") == untimed(tmp_path / "calm")
    assert result.summary.statuses == {"done": 12}


def test_only_folders_of_drivers_that_are_gone_are_removed(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    names = {f"{TEMP_PREFIX}{gone.pid}-a": False, f"{TEMP_PREFIX}{os.getpid()}-b": True, "other-1-c": True}
    for name in names:
        (tmp_path / name).mkdir()
    remove_left_over((str(tmp_path),))
    assert {name: (tmp_path / name).exists() for name in names} == names
