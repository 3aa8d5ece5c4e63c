"""One line of a batch's table: what became of one case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import JsonValue

from r2seg_agent.datasets.case import Case
from r2seg_agent.errors import InputError
from r2seg_agent.frozen import Frozen
from r2seg_agent.outcomes import OutcomeKind
from r2seg_agent.runs.options import PROCESS_OPTIONS, RunOptions
from r2seg_agent.segment.auto import models_here
from r2seg_agent.segment.registry import AUTO
from r2seg_agent.store.artifacts import recipe_sha256

CaseStatus = Literal["done", "failed", "timed_out", "crashed"]
"""`done` whatever the outcome; `failed` with an error of ours; `crashed` when the worker's process died."""


class Job(Frozen):
    """One case to run: its place in the list, its key, and everything that `find` takes.

    `key` is a hash of the case and of all options: the same job in another session is the same job.
    """

    number: int
    key: str
    case: Case
    request: str
    options: RunOptions


class CaseRow(Frozen):
    """What became of one job. `p` is the case's family-wise p-value where a calibration judged it.

    `command` runs the case alone, from the folder that the batch was started in, and gives the same bytes. The paths in
    a row are the user's own: a table is theirs, traces and reports hold none.

    `hint` says what to do about `error`, and `error_status` is the exit status of `r2seg find` for it; both are empty
    where the error is none of ours.

    Volumes are in ml; `seconds` is the time that the case took in its worker, `peak_mb` the worker's peak so far,
    `node` the machine of a cluster that it ran on. `further` are the other columns of the user's own table.
    """

    number: int
    key: str
    image: str
    patient: str
    request: str
    status: CaseStatus
    outcome: OutcomeKind | None = None
    error: str = ""
    hint: str = ""
    error_status: int = 0
    run_id: str = ""
    findings: int = 0
    candidates: int = 0
    volume_ml: float = 0.0
    largest_ml: float = 0.0
    p: float | None = None
    dice: float | None = None
    warnings: int = 0
    planner: str = ""
    segmenter: str = ""
    weights_sha256: str = ""
    seed: int = 0
    command: str = ""
    seconds: float = 0.0
    peak_mb: float = 0.0
    attempts: int = 1
    node: str = ""
    further: Mapping[str, str] = {}


def make_jobs(cases: tuple[Case, ...], request: str | None, options: RunOptions) -> tuple[Job, ...]:
    """One job per case; a case's own request, anchors, truth, modality, series and channels come before the general."""
    jobs = []
    # A model that is fetched between two calls makes `auto` mean another one: what was done is then another job.
    here = {"auto": list(models_here())} if options.segmenter == AUTO else {}
    for number, case in enumerate(cases, start=1):
        own = {
            name: value
            for name in ("anchors", "truth", "modality", "series")
            if (value := getattr(case, name)) is not None
        }
        if case.channels:
            own["channels"] = case.channels
        chosen = options.model_copy(update=own)
        asked = case.request or request or ""
        saved: dict[str, JsonValue] = chosen.model_dump(mode="json", exclude=set(PROCESS_OPTIONS))
        key = recipe_sha256(
            {"case": case.model_dump(mode="json", exclude={"further"}), "request": asked, "options": saved, **here}
        )[:16]
        jobs.append(Job(number=number, key=key, case=case, request=asked, options=chosen))
    return tuple(jobs)


def jobs_with_requests(cases: tuple[Case, ...], request: str | None, options: RunOptions) -> tuple[Job, ...]:
    """As `make_jobs`; `InputError` where a case has no request of its own and none is given for all."""
    jobs = make_jobs(cases, request, options)
    silent = [job for job in jobs if not job.request]
    if silent:
        raise InputError(
            f"{len(silent)} cases have no request (first: case {silent[0].number})",
            "Give a request for all of them (--request), or a column `request`.",
        )
    return jobs
