"""`make bench`, part `batch`: data sets on this machine: rate by workers, memory over time, what the driver adds.

    python -m studies.bench.batch --cases 200 --tiny 10000

The scans are SYNTHETIC phantoms (`r2seg phantom`). The rate of two workers is set against two limits of the machine,
measured in the same run: two busy processes that do not know of each other, and the same cases halved between two
batches.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from r2seg_agent.batch.engine import Work
from r2seg_agent.batch.row import CaseRow, Job, make_jobs
from r2seg_agent.batch.run import run_batch
from r2seg_agent.batch.run_case import failed_row, run_job
from r2seg_agent.datasets.case import Case
from r2seg_agent.datasets.read import read_cases
from r2seg_agent.phantom.cohort import Cohort
from r2seg_agent.phantom.files import write_cohort
from r2seg_agent.runs.options import RunOptions
from studies.measure import machine_line

BUSY_ROUNDS = 40
BUSY_SHAPE = (64, 128, 128)


class Memory(NamedTuple):
    """Resident memory in MB after each row: of this process, and of the largest worker."""

    driver: list[float]
    worker: list[float]


class Batch(NamedTuple):
    """A batch that was run: wall seconds, cases, and memory over time."""

    seconds: float
    cases: int
    memory: Memory

    @property
    def rate(self) -> float:
        """Cases a minute."""
        return 60 * self.cases / self.seconds


def measured_batch(jobs: Sequence[Job], out: Path, workers: int, work: Work = run_job, *, every: int = 1) -> Batch:
    """Run `jobs` into the new folder `out`; memory is looked at after every `every`-th row."""
    memory = Memory([], [])

    def look(row: CaseRow, done: int, total: int) -> None:
        if done % every == 0:
            memory.driver.append(resident_mb(os.getpid()))
            memory.worker.append(max((resident_mb(p.pid) for p in multiprocessing.active_children()), default=0.0))

    started = time.perf_counter()
    result = run_batch(jobs, out, workers=workers, on_row=look, work=work)
    seconds = time.perf_counter() - started
    bad = {status: count for status, count in result.summary.statuses.items() if status != "done"}
    if bad:
        raise SystemExit(f"cases failed: {bad}; {result.summary.failures}")
    return Batch(seconds, len(jobs), memory)


def resident_mb(pid: int | None) -> float:
    """Resident memory of a process now, in MB; 0 when it is gone (Linux)."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        return 0.0


def busy(_: int) -> float:
    """A fixed piece of work like a case's: arrays larger than the cache, filters, some Python. Seconds that it took."""
    started = time.perf_counter()
    array = np.random.default_rng(0).standard_normal(BUSY_SHAPE).astype(np.float32)
    for _round in range(BUSY_ROUNDS):
        array = ndimage.gaussian_filter(array, 1.0)
        sum(value * value for value in range(100_000))
    return time.perf_counter() - started


def machine_limit() -> float:
    """How many times the work of one process two busy ones do: 2 on a machine with nothing else to do."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(busy, (0, 1))  # both have started and imported
        alone = statistics.median(pool.map(busy, (0,))[0] for _ in range(3))
        together = statistics.median(max(pool.map(busy, (0, 1), chunksize=1)) for _ in range(3))
    return 2 * alone / together


def two_batches(jobs: Sequence[Job], folder: Path) -> float:
    """Cases a minute of two batches of one worker at once, each with half of the cases: all that two can give."""
    halves = (jobs[::2], jobs[1::2])
    started = time.perf_counter()
    with ThreadPoolExecutor(2) as both:
        list(both.map(lambda n: run_batch(halves[n], folder / f"half-{n}"), (0, 1)))
    return 60 * len(jobs) / (time.perf_counter() - started)


def nothing(job: Job) -> CaseRow:
    """The smallest case there is."""
    return failed_row(job, "done", "", 0.0)


def rates(cases: int) -> None:
    """One worker, two workers, and what the machine allows."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        cohort = Cohort(seed=5, spacing_mm=(4.0, 3.0, 3.0))
        written = write_cohort(cohort, cases, folder / "scans", workers=os.cpu_count() or 1)
        jobs = make_jobs(read_cases(written.cases_csv), None, RunOptions(segmenter="contrast", synthetic=True))
        run_batch(jobs[:2], folder / "warm")  # files in the cache, bytecode compiled
        limit = machine_limit()
        one = measured_batch(jobs, folder / "one", 1)
        two = measured_batch(jobs, folder / "two", 2)
        apart = two_batches(jobs, folder)
    print(f"{cases} phantoms (SYNTHETIC), `contrast`, one thread a worker:\n")
    print("| | cases a minute | against one worker |\n|---|---|---|")
    print(f"| one worker | {one.rate:.1f} | 1 |")
    print(f"| two workers | {two.rate:.1f} | {two.rate / one.rate:.2f} |")
    print(f"| two batches of one worker at once | {apart:.1f} | {apart / one.rate:.2f} |")
    print(f"| two busy processes of this machine, nothing shared | | {limit:.2f} |")
    print("\n| resident memory, MB | first quarter | second | third | last |\n|---|---|---|---|---|")
    for name, values in (("largest worker of two", two.memory.worker), ("the one worker", one.memory.worker)):
        print(f"| {name} | {' | '.join(f'{v:.0f}' for v in quarters(values))} |")
    print(f"| driver | {' | '.join(f'{v:.0f}' for v in quarters(two.memory.driver))} |")


def quarters(values: Sequence[float]) -> list[float]:
    """Medians of the four quarters of a series."""
    return [float(np.median(part)) for part in np.array_split(np.asarray(values, dtype=float), 4)]


def overhead(cases: int) -> None:
    """The driver alone: cases that do nothing, a quarter of them and all, and the resume of a finished batch."""
    print(
        "\n| driver alone | cases | ms a case | driver CPU, ms a case | memory by quarter, MB |\n|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        listed = tuple(Case(image=f"scan-{n:06d}.nii.gz", patient=str(n)) for n in range(cases))
        started = time.perf_counter()
        jobs = make_jobs(listed, "find the lung nodule", RunOptions(segmenter="contrast"))
        listing_ms = 1e3 * (time.perf_counter() - started) / cases
        for some in (jobs[: cases // 4], jobs):
            cpu = time.process_time()
            done = measured_batch(some, folder / str(len(some)), 2, nothing, every=20)
            cpu_ms = 1e3 * (time.process_time() - cpu) / len(some)
            told = " ".join(f"{value:.0f}" for value in quarters(done.memory.driver))
            print(f"| run | {len(some)} | {1e3 * done.seconds / len(some):.2f} | {cpu_ms:.2f} | {told} |", flush=True)
        started = time.perf_counter()
        again = run_batch(jobs, folder / str(cases), work=nothing)
        resume_s = time.perf_counter() - started
    assert again.repeated == cases
    print(f"| resume, nothing left | {cases} | {1e3 * resume_s / cases:.2f} | | |")
    print(f"| list the jobs | {cases} | {listing_ms:.2f} | | |")


def main() -> int:
    """Both parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--tiny", type=int, default=10_000)
    given = parser.parse_args()
    print(f"{machine_line()}\n", flush=True)
    if given.cases:
        rates(given.cases)
    if given.tiny:
        overhead(given.tiny)
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
