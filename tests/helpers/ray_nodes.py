"""A ray cluster of several node processes on loopback, in a process of its own that ends when its input closes.

Run as a script: `python ray_nodes.py FOLDER CPUS…`, one node for each of CPUS. Prints one line of JSON
({"address": …, "raylets": [pid, …]}), then reads commands: `add CPUS` answers {"raylet": pid}; the end of its input
ends all nodes.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from helpers.batch_workers import act
from r2seg_agent.batch.row import CaseRow, Job
from r2seg_agent.batch.run_case import failed_row

SETTINGS = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # loopback only
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "60000",  # a slow node is no lost one: that refuses at once
    "RAY_memory_monitor_refresh_ms": "0",  # other programs of a test machine may fill its memory
}


class Nodes:
    """The running cluster: `address`, the processes of its nodes, and what a driver must have in its environment."""

    def __init__(self, process: subprocess.Popen[str], environment: dict[str, str]) -> None:
        self._process = process
        self.environment = environment
        said = self._said()
        self.address = str(said["address"])
        self.raylets = list(map(int, said["raylets"]))

    def add(self, cpus: int) -> int:
        """Another node; the pid of its raylet."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"add {cpus}\n")
        self._process.stdin.flush()
        return int(self._said()["raylet"])

    def kill(self, raylet: int) -> None:
        """What a power cut does to a node: `kill -9` of its own process and of every worker that it began."""
        lost = [raylet, *children(raylet)]
        for pid in lost:
            os.kill(pid, signal.SIGKILL)

    def _said(self) -> dict[str, object]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return dict(json.loads(line))
        raise RuntimeError(f"the cluster's process ended with status {self._process.wait()}")


def act_more(job: Job) -> CaseRow:
    """`act`, and cases of its own: `want memory`, and `gpus`, whose error is what the worker may see.

    `hold` says which node it is on (its parent is the node's process) and waits for the file `go`.
    """
    folder = Path(job.case.image).parent
    if job.request == "want memory":
        raise MemoryError("8 GB")
    if job.request == "gpus":
        return failed_row(job, "failed", os.environ.get("CUDA_VISIBLE_DEVICES", "unset"), 0.0)
    if job.request == "hold":
        (folder / f"held-on-{os.getppid()}").touch()
        while not (folder / "go").exists():
            time.sleep(0.05)
    return act(job)


def children(parent: int) -> list[int]:
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
    return [pid for pid, of in pairs if of == parent]


@contextmanager
def nodes(folder: Path, *cpus: int) -> Iterator[Nodes]:
    """A cluster with a node for each of `cpus`, the first the head. `folder` must have a short path (sockets)."""
    tests = str(Path(__file__).parents[1])
    environment = {
        **SETTINGS,
        "RAY_TMPDIR": str(folder),
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "PYTHONPATH": os.pathsep.join([tests, str(Path(tests).parent)]),
    }
    process = subprocess.Popen(
        [sys.executable, __file__, str(folder), *map(str, cpus)],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        yield Nodes(process, environment)
    finally:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def _main(folder: str, cpus: list[int]) -> None:
    from ray.cluster_utils import Cluster

    (Path(folder) / "ray").mkdir(exist_ok=True)
    cluster = Cluster(shutdown_at_exit=True)

    def add(count: int) -> int:
        node = cluster.add_node(
            num_cpus=count,
            num_gpus=1,  # on paper: ray shares them out without looking
            temp_dir=str(Path(folder) / "ray"),
            node_ip_address="127.0.0.1",
            include_dashboard=False,
            no_monitor=True,
            include_log_monitor=False,
            object_store_memory=80 * 1024 * 1024,
        )
        return int(node.all_processes["raylet"][0].process.pid)

    raylets = [add(count) for count in cpus]
    print(json.dumps({"address": cluster.address, "raylets": raylets}), flush=True)
    for line in sys.stdin:
        print(json.dumps({"raylet": add(int(line.split()[1]))}), flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    _main(sys.argv[1], [int(count) for count in sys.argv[2:]])
