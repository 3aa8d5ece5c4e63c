"""What test workers do instead of searching: named by the request of the case."""

from __future__ import annotations

import csv
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from r2seg_agent.batch.journal import read_rows
from r2seg_agent.batch.row import CaseRow, Job, make_jobs
from r2seg_agent.batch.run_case import failed_row, run_job
from r2seg_agent.batch.table import TIMES
from r2seg_agent.datasets.case import Case
from r2seg_agent.runs.options import RunOptions


def act(job: Job) -> CaseRow:
    """Do as the case's request says, then leave a mark beside the image."""
    match job.request:
        case "die":
            os._exit(9)
        case "hang":
            Path(job.case.image + ".begun").touch()
            threading.Event().wait()
        case "raise":
            raise RuntimeError("a bug in the worker")
        case "eat":
            hog = []
            while True:
                hog.append(bytearray(10_000_000))
        case "fail":
            return failed_row(job, "failed", "cannot be read", 0.0)
        case held if held.startswith("wait for "):
            wait_until((Path(job.case.image).parent / held.removeprefix("wait for ")).exists)
        case slow if slow.startswith("sleep"):
            time.sleep(float(slow.split()[1]))
    with open(job.case.image + ".done", "a", encoding="utf-8") as file:
        file.write("x")
    row = failed_row(job, "failed", "", 0.01)
    return row.model_copy(update={"status": "done", "outcome": "no_lesion_survived", "run_id": job.key[:12]})


def tell_surroundings(job: Job) -> CaseRow:
    """What this process has in its environment, as JSON in the error; slow enough for two to work at once."""
    time.sleep(0.2)
    names = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
    told = {"pid": str(os.getpid()), **{name: os.environ.get(name, "") for name in names}}
    return failed_row(job, "done", json.dumps(told), 0.0)


def find_held(job: Job) -> CaseRow:
    """The real search; from the sixth case on it waits while a file `hold` lies beside the cases' folders."""
    if job.number > 5:
        wait_until(lambda: not (Path(job.case.image).parents[1] / "hold").exists())
    return run_job(job)


def find_in_little_memory(job: Job) -> CaseRow:
    """The real search where hardly more memory is to be had, for the cases of the patient "hungry"."""
    if job.case.patient != "hungry":
        return run_job(job)
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 8_000_000, before[1]))
    try:
        return run_job(job)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


class Clock:
    """`time` for an engine's time limit: a day passes at once when `hung` becomes true, and nothing else is late.

    So a time limit ends exactly the case that hangs, however slow the machine is.
    """

    def __init__(self, hung: Callable[[], bool]) -> None:
        self._hung, self._passed = hung, 0.0

    def monotonic(self) -> float:
        """Seconds."""
        if not self._passed and self._hung():
            self._passed = 86_400.0
        return time.monotonic() + self._passed


def hung(images: Path, out: Path, others: int) -> Callable[[], bool]:
    """True once the case that hangs has begun and all `others` stand in the journal of the batch in `out`."""
    return lambda: any(images.glob("*.begun")) and sum(1 for _ in read_rows(out / "journal.jsonl")) == others


def wait_until(true: Callable[[], object]) -> None:
    """Wait for an event; ten minutes without it count as never."""
    deadline = time.monotonic() + 600.0
    while not true():
        assert time.monotonic() < deadline, "waited ten minutes"
        time.sleep(0.02)


def jobs_for(folder: Path, *requests: str) -> tuple[Job, ...]:
    """One job a request, over empty images in `folder`."""
    folder.mkdir(exist_ok=True)
    cases = []
    for number, request in enumerate(requests):
        image = folder / f"{number:02d}.nii"
        image.touch()
        cases.append(Case(image=str(image), patient=str(number), request=request))
    return make_jobs(tuple(cases), None, RunOptions())


def marks(folder: Path) -> list[int]:
    """How often each job of `folder` was done, by number."""
    return [len(path.read_text()) for path in sorted(folder.glob("*.done"))]


def untimed(folder: Path) -> list[dict[str, str]]:
    """The table of the batch in `folder`, without what differs from run to run."""
    with (folder / "results.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]
