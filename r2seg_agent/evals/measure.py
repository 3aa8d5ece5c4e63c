"""Wall time and peak memory of a command, and what machine it ran on: shared by all benchmarks."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple


class Measured(NamedTuple):
    """A finished command: exit status, wall seconds, peak resident memory in GB (10⁹ bytes) and its output."""

    status: int
    seconds: float
    peak_gb: float
    output: str


def run_measured(command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> Measured:
    """Run `command` to its end, measured by the kernel's own accounting of that one process (Linux, macOS)."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    unit = 1 if platform.system() == "Darwin" else 1024
    return Measured(process.returncode, time.perf_counter() - started, usage.ru_maxrss * unit / 1e9, output)


def machine_line() -> str:
    """Date, processor, cores and versions: stands above every table of figures."""
    import torch

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{date.today().isoformat()}, {model}, {cores} cores, Python {platform.python_version()}, "
        f"torch {torch.__version__}, {torch.get_num_threads()} threads"
    )
