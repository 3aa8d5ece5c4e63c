"""A whole search on inputs as people really have them: what is odd about them is said, or refused before work."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers import dicom_files
from helpers.small_case import GEOMETRY, small_options, write_case

from r2seg_agent.errors import InputError
from r2seg_agent.runs.api import FindResult, run_find


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_case(tmp_path)
    return tmp_path


def found(folder: Path, image: Path | str = "image.nii.gz", **options: object) -> FindResult:
    given = {"modality": "CT", "overlays": False} | options
    return run_find("find a liver lesion", str(folder / image), small_options(folder, **given))


def readings(result: FindResult) -> list[str]:
    return [caution.text for caution in result.report.warnings if caution.kind == "reading"]


def box(z: float, y: tuple[float, float], x: tuple[float, float]) -> np.ndarray:
    """A rectangle in the plane of fractional slice `z`, LPS mm."""
    corners = [(z, y[0], x[0]), (z, y[0], x[1]), (z, y[1], x[1]), (z, y[1], x[0])]
    return GEOMETRY.to_lps_mm(np.asarray(corners, dtype=np.float64))


def test_one_volume_of_a_4d_file_is_searched_and_no_path_leaks(folder: Path) -> None:
    scan = nib.load(folder / "image.nii.gz")
    both = np.stack([np.zeros_like(scan.dataobj), scan.dataobj], axis=-1)
    nib.save(nib.Nifti1Image(both, scan.affine), folder / "Doe.nii.gz")
    result = found(folder, "Doe.nii.gz::2")
    assert result.report.outcome == "lesions_found"
    assert result.report.image == found(folder).report.image
    assert "Doe" not in "".join(path.read_text() for path in result.folder.glob("*.json*") if path.stem != "inputs")
    with pytest.raises(InputError, match="4D"):
        found(folder, "Doe.nii.gz")


def test_contours_with_a_gap_serve_as_anchors_and_as_truth_and_the_gap_is_said(folder: Path) -> None:
    """Contours twice as fine as the slices, and on some slices none."""
    liver = [box(z, (5.5, 41.5), (5.5, 41.5)) for z in np.arange(2, 21.5, 0.5) if abs(z - 18) > 1]
    dicom_files.rtstruct({"liver": liver}).save_as(folder / "liver.dcm")
    dicom_files.rtstruct({"GTV": [box(z, (19, 29), (21, 31)) for z in (9, 9.5, 10, 10.5, 13, 13.5)]}).save_as(
        folder / "truth.dcm"
    )
    result = found(folder, anchors=f"{folder / 'liver.dcm'}=liver", truth=str(folder / "truth.dcm"))
    assert result.report.outcome == "lesions_found"
    said = readings(result)
    assert any(
        "The anchor mask has no contour on 3 slices" in text and "axial slice 18, 19, 20" in text for text in said
    )
    assert any("The reference mask has no contour on 2 slices" in text for text in said)
    assert not any("liver.dcm" in text or "truth.dcm" in text for text in said)
