"""A phantom with one bright lesion in the liver, and the whole search over it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from helpers.phantoms import phantom
from r2seg_agent.imaging.itk import write_itk
from r2seg_agent.imaging.write import write_label_map
from r2seg_agent.phantom import LesionSpec
from r2seg_agent.report.models import Report
from r2seg_agent.runs.api import FindOptions, run_find

SPACING = (5.0, 4.0, 4.0)
"""(z, y, x) in mm."""


@dataclass(frozen=True)
class Case:
    """The folder holds ct.nii.gz, organs.nii.gz and truth.nii.gz; the lesion is brighter than `threshold_hu`."""

    folder: Path
    threshold_hu: float

    def find(self, segmenter: str, request: str = "find the liver lesion", **changes: object) -> Report:
        """The report of a search with this segmenter."""
        values = {
            "anchors": str(self.folder / "organs.nii.gz"),
            "truth": str(self.folder / "truth.nii.gz"),
            "segmenter": segmenter,
            "modality": "CT",
            "workspace": self.folder / "ws",
            "synthetic": True,
        } | changes
        return run_find(request, str(self.folder / "ct.nii.gz"), FindOptions.model_validate(values)).report


def make_case(folder: Path) -> Case:
    """Write the files of the case into `folder`."""
    lesion = LesionSpec("liver", volume_ml=20.0, contrast=90.0)
    scan = phantom(
        11, spacing_mm=SPACING, shape=(40, 64, 80), shift_mm=(-95.0, 0.0, -20.0), noise_sd=8.0, lesions=(lesion,)
    )
    write_itk(folder / "ct.nii.gz", scan.volume.array, scan.volume.geometry)
    write_label_map(folder / "organs.nii.gz", scan.labels, scan.volume.geometry, names=scan.class_names)
    write_label_map(folder / "truth.nii.gz", scan.lesions[0].astype(np.uint8), scan.volume.geometry)
    liver = scan.organ("liver") & ~scan.lesions[0]
    return Case(folder, float(np.median(scan.volume.array[liver])) + 45.0)
