"""`r2seg_agent.find` and `r2seg_agent.open_chat`: one scan, from Python, with every option as a typed keyword."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from r2seg_agent.environment import environment_kept
from r2seg_agent.errors import InputError
from r2seg_agent.imaging.in_memory import MemoryScan, ScanInMemory
from r2seg_agent.progress import Progress, silent
from r2seg_agent.report.models import Report
from r2seg_agent.runs import api
from r2seg_agent.runs.api import AskUser
from r2seg_agent.runs.option_types import SearchFields
from r2seg_agent.runs.options import RunOptions
from r2seg_agent.runs.signature import with_option_signature

if TYPE_CHECKING:
    from r2seg_agent.graphs.planner import Planner
    from r2seg_agent.graphs.planners.choose import PlannerChoice
    from r2seg_agent.runs.session import Session

Scan = str | Path | MemoryScan
"""A path, a `SimpleITK.Image`, a nibabel image, or an array (z, y, x) with `spacing_mm`."""


@with_option_signature
@environment_kept()
def find(
    request: str,
    scan: Scan,
    *,
    spacing_mm: Sequence[float] | None = None,
    origin_lps_mm: Sequence[float] | None = None,
    direction: Sequence[float] | None = None,
    planner: PlannerChoice = "offline",
    out: str | Path | None = None,
    ask: AskUser | None = None,
    progress: Progress = silent,
    **options: Unpack[SearchFields],
) -> Report:
    """Find what `request` asks for in `scan` and return the report.

    request: what to find, in words: "find the lung nodule".
    scan: a file or DICOM folder, a `SimpleITK.Image`, a nibabel image, or an array.
    spacing_mm: for an array: the voxel size in mm in the array's own order (z, y, x), or (y, x) for one slice.
    origin_lps_mm, direction: for an array: the LPS position (x, y, z) of its first voxel, and the row-major 3 x 3
        matrix whose columns are the LPS directions of x, y and z. Default: 0, and x to the left, y to the back,
        z to the head.
    planner: "offline" (rules), "openai:MODEL" and the like, a LangChain chat model, or a planner object.
    out: a folder for copies of the results; they are always in WORKSPACE/runs/ID.
    ask: called as `ask(question, choices)` where the search needs an answer; it returns the `text` of a choice, or
        other words. Without it the outcome is `needs_user`.
    progress: called as `progress(stage, done, total, note)`.

    A scan in memory goes through the same checks as a file and gives the same bytes. A run folder holds no scan: to
    resume or replay such a run, the scan has to be given again.

    Raises subclasses of `R2SegError`: `InputError` for bad input, `MissingDependencyError` for missing weights or
    packages, `BudgetError` when it was stopped and can be resumed.
    """
    chosen, used = settings(planner, {**options, "out": out})
    given = scan_of(scan, spacing_mm, origin_lps_mm, direction)
    return api.run_find(request, given, chosen, progress, ask=ask, planner=used).report


@with_option_signature
@environment_kept()
def open_chat(
    scan: Scan,
    *,
    spacing_mm: Sequence[float] | None = None,
    origin_lps_mm: Sequence[float] | None = None,
    direction: Sequence[float] | None = None,
    planner: PlannerChoice = "offline",
    session_id: str | None = None,
    progress: Progress = silent,
    **options: Unpack[SearchFields],
) -> Session:
    """A conversation over one scan, as a context manager.

    with r2seg_agent.open_chat("ct.nii.gz") as chat:
        for event in chat.say("find the lung nodule"):
            print(event)
        report = chat.report()

    `scan`, `spacing_mm`, `origin_lps_mm`, `direction`, `planner` and `progress` are as in `find`. `session_id` names
    the conversation (default: a fresh id). Raises as `find`.
    """
    chosen, used = settings(planner, {**options})
    given = scan_of(scan, spacing_mm, origin_lps_mm, direction)
    return api.open_chat(given, chosen, progress, planner=used, session_id=session_id)


def settings(planner: PlannerChoice, options: dict[str, object]) -> tuple[RunOptions, Planner | None]:
    """The checked options, and the planner where it was given as an object; reports call it by its own name."""
    if isinstance(planner, str):
        return RunOptions.model_validate({**options, "planner": planner}), None
    from r2seg_agent.graphs.planners.choose import planner_from

    chosen = RunOptions.model_validate(options)
    used = planner_from(planner, base_url=chosen.base_url)
    return chosen.model_copy(update={"planner": used.name}), used


def scan_of(
    scan: Scan,
    spacing_mm: Sequence[float] | None = None,
    origin_lps_mm: Sequence[float] | None = None,
    direction: Sequence[float] | None = None,
) -> str | ScanInMemory:
    """What `run_find` takes: a path as text, or a scan in memory. Raises `InputError` for a path with a grid."""
    if not isinstance(scan, str | Path):
        return ScanInMemory(scan, spacing_mm, origin_lps_mm, direction)
    if (spacing_mm, origin_lps_mm, direction) != (None, None, None):
        raise InputError(
            f"the scan `{scan}` is a file, which states its own grid, and another was given with it",
            "Leave out spacing_mm, origin_lps_mm and direction; they are for arrays.",
        )
    return str(scan)
