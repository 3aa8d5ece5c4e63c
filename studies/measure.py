"""Wall time and peak memory of a command, and what machine it ran on: shared by all benchmarks."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple


class Measured(NamedTuple):
    """A finished command: exit status, wall seconds, peak resident memory in GB (10⁹ bytes), output, CPU seconds."""

    status: int
    seconds: float
    peak_gb: float
    output: str
    cpu_seconds: float = 0.0


def run_measured(command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> Measured:
    """Run `command` to its end, measured by the kernel's own accounting of that one process (Linux, macOS)."""
    return _run(command, {**os.environ, **(environment or {})}, quiet=True)


def run_shown(command: Sequence[str]) -> Measured:
    """The same with its output on this terminal, as it comes; `output` is empty."""
    return _run(command, dict(os.environ), quiet=False)


def run_r2seg(arguments: Sequence[str]) -> int:
    """Say, run and time `r2seg` with `arguments`, its output on this terminal; the exit status."""
    print(f"\n$ r2seg {shlex.join(arguments)}", flush=True)
    done = run_shown([sys.executable, "-m", "r2seg_agent", *arguments])
    print(f"   {done.seconds:.0f} s, {done.cpu_seconds:.0f} CPU s, peak {done.peak_gb:.2f} GB", flush=True)
    return done.status


def _run(command: Sequence[str], environment: Mapping[str, str], *, quiet: bool) -> Measured:
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE if quiet else None,
        stderr=subprocess.STDOUT if quiet else None,
        text=True,
        env=environment,
    )
    output = process.stdout.read() if process.stdout is not None else ""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Measured(
        status=process.returncode,
        seconds=time.perf_counter() - started,
        peak_gb=usage.ru_maxrss * (1 if platform.system() == "Darwin" else 1024) / 1e9,
        output=output,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
    )


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
