"""The runs of a folder: a batch's, a workspace's, or one run; what each answered and where its label maps are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from r2seg_agent.batch.journal import read_rows
from r2seg_agent.batch.row import CaseRow
from r2seg_agent.errors import InputError, R2SegError, RunFailedError
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.outcomes import OutcomeKind
from r2seg_agent.report.masks import lesion_labels
from r2seg_agent.report.models import Report
from r2seg_agent.store.artifacts import ArtifactStore
from r2seg_agent.store.runs import RunInputs

JOURNALS = "journal*.jsonl"
"""A batch has one, or one for each part that was run with `--shard`."""
ANSWERS: tuple[OutcomeKind, ...] = ("lesions_found", "no_lesion_survived", "target_not_in_view")
"""Outcomes that answer the request; the others (a question, a budget, a failure) leave it open."""


@dataclass(frozen=True)
class RunCase:
    """One case of a folder. `image` and `truth` are the user's paths: they stay in memory."""

    number: int
    image: str
    patient: str
    request: str
    status: str
    outcome: OutcomeKind | None
    run_id: str
    folder: Path | None
    """Where its report and label maps are; None where the case has none."""
    truth: str | None
    p: float | None = None

    @property
    def id(self) -> str:
        """A hash of image and request: the same case in another folder has the same."""
        return short_hash(f"{self.image}\0{self.request}")

    @property
    def answered(self) -> bool:
        """It ended with an answer, of whatever kind."""
        return self.status == "done" and self.outcome in ANSWERS


def short_hash(text: str) -> str:
    """12 hexadecimal digits that stand for a text of the user."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def read_runs(folder: Path) -> tuple[RunCase, ...]:
    """The cases of a batch folder, of a workspace with `runs/`, or of one run; a case done again counts once, its last.

    Raises `InputError` where `folder` holds no runs, and says what it looks like instead.
    """
    if not folder.exists():
        raise InputError(f"there is no folder `{folder}`", "Give the --out folder of `r2seg batch`, or one run.")
    if not folder.is_dir():
        raise InputError(
            f"`{folder.name}` is a file, not a folder of runs", "Give the --out folder of `r2seg batch`, or one run."
        )
    if any(folder.glob(JOURNALS)):
        cases = tuple(_of_batch(folder))
        if not cases:
            raise InputError(f"the batch in `{folder}` has no finished case yet", "Run `r2seg batch` to its end.")
        return cases
    if (folder / "report.json").exists():
        return (_of_run(folder, 1),)
    runs = sorted(path.parent for path in folder.glob("runs/*/report.json"))
    if runs:
        return tuple(_of_run(run, number) for number, run in enumerate(runs, start=1))
    looks = "is empty"
    if any(folder.iterdir()):
        looks = "holds neither journal.jsonl (a batch), report.json (one run) nor runs/ (a workspace)"
    raise InputError(
        f"`{folder}` holds no runs: it {looks}",
        "Give the --out folder of `r2seg batch`, a workspace, or the folder of one `r2seg find`.",
    )


def read_report(case: RunCase) -> Report:
    """The report of a case that has a folder.

    Raises `RunFailedError` when it is damaged, or of another version of r2seg.
    """
    assert case.folder is not None
    try:
        return Report.model_validate_json((case.folder / "report.json").read_bytes())
    except (OSError, ValidationError) as error:
        raise RunFailedError(
            f"the report of case {case.number} (run `{case.run_id}`) is damaged or of another version of r2seg",
            "Run that case again: remove its line from journal.jsonl and repeat the `r2seg batch` command.",
        ) from error


def artifact_store(case: RunCase) -> ArtifactStore | None:
    """The workspace's artifacts beside the run, where they are."""
    if case.folder is None:
        return None
    root = case.folder.parent.parent / "artifacts"
    return ArtifactStore(root) if root.is_dir() else None


def read_findings(case: RunCase, report: Report, store: ArtifactStore | None) -> NDArray[Any]:
    """Label map (z, y, x) of the findings on the image's grid, each under its number.

    From the label maps of the candidates, or from `lesions.*` where those are not there. Raises `RunFailedError`
    where neither is.
    """
    assert report.image is not None
    geometry = report.image.geometry
    if not report.findings:
        return np.zeros(geometry.shape, dtype=np.uint8)
    if store is not None:
        try:
            return lesion_labels(store, report.findings, geometry.shape)
        except RunFailedError:
            pass
    return _lesions_file(case, geometry)


def _lesions_file(case: RunCase, geometry: Geometry) -> NDArray[Any]:
    from r2seg_agent.imaging.masks import read_label_map

    assert case.folder is not None
    for path in sorted(case.folder.glob("lesions.*")):
        try:
            return read_label_map(path, geometry, "lesion mask")
        except R2SegError:
            continue
    raise RunFailedError(
        f"the findings of case {case.number} (run `{case.run_id}`) are not there: neither artifacts nor lesions.*",
        "Evaluate the folder where the runs were made, or run that case again.",
    )


def _of_batch(folder: Path) -> Iterator[RunCase]:
    rows: dict[str, CaseRow] = {}
    for journal in sorted(folder.glob(JOURNALS)):
        for row in read_rows(journal):
            if row.status == "done" or rows.get(row.key, row).status != "done":
                rows[row.key] = row
    for row in sorted(rows.values(), key=lambda row: row.number):
        run = folder / "runs" / row.run_id if row.run_id else None
        there = run is not None and (run / "report.json").exists()
        inputs = _inputs(run) if run is not None else None
        yield RunCase(
            number=row.number,
            image=row.image,
            patient=row.patient,
            request=row.request,
            status=row.status if there or row.status != "done" else "report missing",
            outcome=row.outcome,
            run_id=row.run_id,
            folder=run if there else None,
            truth=_truth(inputs),
            p=row.p,
        )


def _of_run(run: Path, number: int) -> RunCase:
    try:
        report = Report.model_validate_json((run / "report.json").read_bytes())
    except ValidationError as error:
        raise InputError(
            f"`{run.name}/report.json` is no report of this version of r2seg", "Make the run again with this version."
        ) from error
    inputs = _inputs(run)
    image = inputs.image if inputs is not None else (report.image.sha256 if report.image else run.name)
    return RunCase(
        number=number,
        image=image,
        patient=image,
        request=report.request,
        status="done",
        outcome=report.outcome,
        run_id=report.run_id,
        folder=run,
        truth=_truth(inputs),
    )


def _inputs(run: Path) -> RunInputs | None:
    try:
        return RunInputs.model_validate_json((run / "inputs.json").read_bytes())
    except (OSError, ValidationError):
        return None


def _truth(inputs: RunInputs | None) -> str | None:
    given = None if inputs is None else inputs.options.get("truth")
    return given if isinstance(given, str) else None
