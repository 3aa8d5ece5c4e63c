"""The main job on real scans: `make data`, part of `make test`, fetches them; where they are missing this skips."""

from __future__ import annotations

from pathlib import Path

import pytest

from r2seg_agent.data.fetch import LocalDataset, local
from r2seg_agent.imaging.masks import read_label_map
from r2seg_agent.imaging.read import read_image
from r2seg_agent.runs.api import FindOptions, FindResult, run_find
from r2seg_agent.segment.weights import weights_info, weights_path

pytestmark = [pytest.mark.data, pytest.mark.slow]


def _scan(name: str) -> LocalDataset:
    found = local(name)
    if found is None:
        pytest.skip(f"demo scan `{name}` is not in the cache: make data")
    return found


def _find(request: str, scan: LocalDataset, workspace: Path, anchors: str | None = None, **more: object) -> FindResult:
    options = FindOptions(
        anchors=anchors or scan.anchors or "auto",
        truth=str(scan.truth) if scan.truth else None,
        modality=scan.modality,
        synthetic=scan.synthetic,
        workspace=workspace,
    )
    return run_find(request, str(scan.image), options.model_copy(update=more))


def test_the_lung_nodule_is_found_and_comes_first(tmp_path: Path) -> None:
    report = _find("find the lung nodule", _scan("lung1"), tmp_path, anchors="hounsfield").report
    assert report.truth is not None
    (nodule,) = report.truth.lesions
    assert nodule.dice > 0.7
    assert nodule.finding == 1
    assert "right lung" in report.findings[0].measurements.place


@pytest.mark.parametrize(("name", "dice"), [("abdomen-synthetic", 0.8), ("slice-synthetic", 0.7)])
def test_a_synthetic_liver_lesion_is_found_in_3d_and_in_a_picture(tmp_path: Path, name: str, dice: float) -> None:
    result = _find("find a liver lesion", _scan(name), tmp_path, mask_format="same")
    assert result.report.truth is not None
    assert max(lesion.dice for lesion in result.report.truth.lesions) > dice
    assert "SYNTHETIC" in (result.folder / "report.md").read_text(encoding="utf-8")
    assert (result.folder / ("lesions.png" if name.startswith("slice") else "lesions.nii.gz")).exists()


@pytest.mark.skipif(weights_path("lite-medsam") is None, reason="the released weights are not here: make data")
@pytest.mark.parametrize(("name", "dice"), [("abdomen-synthetic", 0.85), ("slice-synthetic", 0.7)])
def test_the_default_model_finds_it_too_and_is_no_stand_in(tmp_path: Path, name: str, dice: float) -> None:
    report = _find("find a liver lesion", _scan(name), tmp_path, segmenter="lite-medsam").report
    assert report.truth is not None
    assert max(lesion.dice for lesion in report.truth.lesions) > dice
    assert len(report.findings) <= 2
    assert report.segmenter is not None
    assert not report.segmenter.stand_in
    assert report.segmenter.weights_sha256 == weights_info("lite-medsam").sha256


def test_a_dicom_series_is_answered_with_a_dicom_seg_on_its_grid(tmp_path: Path) -> None:
    scan = _scan("abdomen-dicom")
    result = _find("find a liver lesion", scan, tmp_path, mask_format="same")
    volume = read_image(scan.image)
    assert result.report.image is not None
    assert volume.geometry == result.report.image.geometry
    if result.report.findings:
        labels = read_label_map(result.folder / "lesions.dcm", volume.geometry)
        assert int(labels.max()) == len(result.report.findings)
