"""`r2seg_agent.batch` and `r2seg_agent.calibrate`: a data set from Python, with every option as a typed keyword.

Cases run in processes of their own. A script must therefore call these below `if __name__ == "__main__":`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from r2seg_agent.batch.calibrate import Calibrated, run_calibration
from r2seg_agent.batch.engines import EngineName, engine_named
from r2seg_agent.batch.row import jobs_with_requests
from r2seg_agent.batch.run import BatchResult, OnRow, run_batch
from r2seg_agent.datasets.case import Case, Dataset, Wanted
from r2seg_agent.datasets.layouts import LayoutName
from r2seg_agent.datasets.read import read_dataset
from r2seg_agent.environment import environment_kept
from r2seg_agent.errors import InputError
from r2seg_agent.files import check_file
from r2seg_agent.reject.calibration_file import load_calibration, save_calibration
from r2seg_agent.runs.option_types import SearchFields
from r2seg_agent.runs.options import RunOptions
from r2seg_agent.runs.signature import with_option_signature

Cases = str | Path | Sequence[Case]
"""A data set on disk, or cases that are known already."""


@with_option_signature
@environment_kept()
def batch(
    cases: Cases,
    request: str | None = None,
    *,
    out: str | Path = "results",
    workers: int = 1,
    engine: EngineName = "local",
    address: str | None = None,
    gpus_per_worker: float = 0.0,
    timeout_s: float | None = None,
    max_failures: int | None = None,
    shard: str | None = None,
    layout: LayoutName | None = None,
    lesion_labels: Sequence[str] = (),
    only: Sequence[str] = (),
    planner: str = "offline",
    on_case: OnRow | None = None,
    **options: Unpack[SearchFields],
) -> BatchResult:
    """Search every case of a data set; a case that cannot be used never touches the others.

    cases: a table (.csv, .jsonl), a folder of scans, a BIDS, nnU-Net or Decathlon data set, or a list of `Case`.
    request: what to find; a case's own request comes before it.
    out: folder for tables, reports and the journal. Finished cases in it are not repeated.
    workers, engine, address, gpus_per_worker: processes on this machine ("local") or a cluster ("ray").
    timeout_s: seconds for one case. max_failures: stop after more failed cases. shard: a part "i/n" of the cases.
    layout, lesion_labels, only: how to read the data set, where its files leave a choice.
    planner: "offline" (rules), or a language model by name; cases run in other processes, so it is no object.
    on_case: called as `on_case(row, done, total)` after each case.

    Runs lie in `out`, so the option `workspace` has no effect. In a script, call this below
    `if __name__ == "__main__":`. Raises `InputError` for a data set that cannot be read and
    cases without a request, `BudgetError` (resumable) after too many failures.
    """
    chosen = RunOptions.model_validate({**options, "planner": planner})
    data = _dataset(cases, request, layout, lesion_labels, only, chosen)
    return run_batch(
        jobs_with_requests(data.cases, request, chosen),
        Path(out),
        engine=engine_named(engine, address),
        workers=workers,
        gpus_per_worker=gpus_per_worker,
        timeout_s=timeout_s,
        max_failures=max_failures,
        alpha=chosen.alpha,
        part=shard,
        about=(f"Read as {data.layout_words}.", *data.notes) if isinstance(cases, str | Path) else (),
        on_row=on_case,
    )


@with_option_signature
@environment_kept()
def calibrate(
    cases: Cases,
    target: str,
    out: str | Path | None = None,
    *,
    extend: str | Path | None = None,
    workers: int = 1,
    engine: EngineName = "local",
    address: str | None = None,
    gpus_per_worker: float = 0.0,
    timeout_s: float | None = None,
    layout: LayoutName | None = None,
    lesion_labels: Sequence[str] = (),
    only: Sequence[str] = (),
    planner: str = "offline",
    on_case: OnRow | None = None,
    **options: Unpack[SearchFields],
) -> Calibrated:
    """Score lesion-free scans, so that `find(..., calibration=FILE)` gives valid p-values.

    cases: lesion-free scans, as in `batch`. A case whose own truth holds a lesion is left out.
    target: what `find` will look for, in words: "lung nodule".
    out: the calibration file to write; None writes none.
    extend: a calibration of the same set-up to add to.

    The other arguments are as in `batch`; finished cases in the option `workspace` are not repeated. In a script, call
    it below `if __name__ == "__main__":`. Raises `InputError` when no case can be used.
    """
    chosen = RunOptions.model_validate({**options, "planner": planner})
    if out is not None:
        check_file(Path(out), f"`out={str(out)!r}`")
    earlier = None if extend is None else load_calibration(Path(extend))
    data = _dataset(cases, target, layout, lesion_labels, only, chosen)
    made = run_calibration(
        target,
        data.cases,
        chosen,
        earlier=earlier,
        engine=engine_named(engine, address),
        workers=workers,
        gpus_per_worker=gpus_per_worker,
        timeout_s=timeout_s,
        on_row=on_case,
    )
    if out is not None:
        save_calibration(made.calibration, Path(out))
    return made


def _dataset(
    cases: Cases,
    request: str | None,
    layout: LayoutName | None,
    lesion_labels: Sequence[str],
    only: Sequence[str],
    options: RunOptions,
) -> Dataset:
    if not isinstance(cases, str | Path):
        if not cases:
            raise InputError("the list of cases is empty", "Give at least one Case, or a data set.")
        return Dataset(layout="table", cases=tuple(cases))
    wanted = Wanted(
        request=request,
        lesion_labels=tuple(lesion_labels),
        only=tuple(only),
        anchors=options.anchors == "auto",
        modality=options.modality is None,
    )
    return read_dataset(Path(cases), layout=layout, wanted=wanted)
