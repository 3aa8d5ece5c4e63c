"""What test workers do instead of searching: named by the request of the case."""

from __future__ import annotations

import os
import time

from r2seg_agent.batch.row import CaseRow, Job
from r2seg_agent.batch.work import failed_row


def act(job: Job) -> CaseRow:
    """Do as the case's request says, then leave a mark beside the image."""
    match job.request:
        case "die":
            os._exit(9)
        case "hang":
            time.sleep(600)
        case "raise":
            raise RuntimeError("a bug in the worker")
        case "eat":
            hog = []
            while True:
                hog.append(bytearray(10_000_000))
        case "fail":
            return failed_row(job, "failed", "cannot be read", 0.0)
        case slow if slow.startswith("sleep"):
            time.sleep(float(slow.split()[1]))
    with open(job.case.image + ".done", "a", encoding="utf-8") as file:
        file.write("x")
    row = failed_row(job, "failed", "", 0.01)
    return row.model_copy(update={"status": "done", "outcome": "no_lesion_survived", "run_id": job.key[:12]})
