"""All files of a finished run: masks, plan, report, picture."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.files import write_text_atomic
from r2seg_agent.imaging.identity import array_sha256
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.imaging.write import label_map_suffix, write_dicom_seg, write_label_map
from r2seg_agent.reason.anchors.protocol import AnchorSet
from r2seg_agent.reason.plan import PlanSet
from r2seg_agent.report.masks import candidate_mask, lesion_labels
from r2seg_agent.report.models import Report
from r2seg_agent.report.overlay import best_rejected, draw_overlay
from r2seg_agent.report.table_rows import FINDINGS_FILE, findings_csv
from r2seg_agent.report.truth import evaluate
from r2seg_agent.report.writers import write_report_json, write_report_md
from r2seg_agent.store.artifacts import ArtifactStore


class Written(NamedTuple):
    """The report with what writing added (mask hash, comparison with the truth) and the names of the files."""

    report: Report
    files: tuple[str, ...]


def write_results(
    folder: Path,
    report: Report,
    volume: Volume,
    store: ArtifactStore,
    *,
    anchors: AnchorSet | None,
    truth: NDArray[np.uint8] | NDArray[np.uint16] | None,
    mask_format: Literal["nifti", "same"],
    image_path: Path,
    series: str | None,
    pictures: bool = True,
) -> Written:
    """Write every file of a run to `folder`, each atomically, and complete the report; an overlay with `pictures`."""
    files: list[str] = []
    labels = None
    for stale in folder.glob("lesions.*"):
        stale.unlink()
    if report.targets:
        plans = PlanSet(request=report.request, plans=tuple(target.plan for target in report.targets))
        write_text_atomic(folder / "plan.json", plans.model_dump_json(indent=2) + "\n")
        labels = lesion_labels(store, report.findings, volume.geometry.shape)
        names = {f.number: f"{f.number} {f.target_name}" for f in report.findings}
        files += ["plan.json", _write_lesions(folder, labels, names, volume, mask_format, image_path, series)]
        report = report.model_copy(
            update={
                "lesions_sha256": array_sha256(labels, volume.geometry),
                "truth": None if truth is None else evaluate(labels, truth, volume.geometry),
            }
        )
        write_text_atomic(folder / FINDINGS_FILE, findings_csv(report.rows()))
        files.append(FINDINGS_FILE)
    write_report_json(report, folder / "report.json")
    write_report_md(report, folder / "report.md", "overlay.png" if pictures else None)
    files += ["report.json", "report.md"]
    if report.targets and pictures:
        rejected = {c.id: candidate_mask(store, c) for target in report.targets for c in best_rejected(target)}
        draw_overlay(
            folder / "overlay.png", volume, report, anchors=anchors, labels=labels, truth=truth, rejected=rejected
        )
        files.append("overlay.png")
    return Written(report=report, files=tuple(files))


def _write_lesions(
    folder: Path,
    labels: NDArray[np.uint8] | NDArray[np.uint16],
    names: dict[int, str],
    volume: Volume,
    mask_format: Literal["nifti", "same"],
    image_path: Path,
    series: str | None,
) -> str:
    """Write the lesion mask and return its file name. DICOM's own format for it is a DICOM SEG object."""
    if mask_format == "same" and volume.source_format == "dicom" and names:
        write_dicom_seg(folder / "lesions.dcm", labels, names, image_path, series=series)
        return "lesions.dcm"
    suffix = (
        ".nii.gz"
        if mask_format == "nifti" or volume.source_format == "dicom"
        else label_map_suffix(volume.source_format)
    )
    write_label_map(folder / f"lesions{suffix}", labels, volume.geometry, names=names)
    return f"lesions{suffix}"
