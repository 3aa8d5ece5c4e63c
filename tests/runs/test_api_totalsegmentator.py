""" "find a liver lesion" through the real TotalSegmentator path, with the tiny weights, on an unseen phantom.

Three phantoms, all that were tried with these weights.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.phantoms import phantom

from r2seg_agent.imaging.itk import write_itk
from r2seg_agent.imaging.write import write_label_map
from r2seg_agent.phantom import LesionSpec
from r2seg_agent.runs.api import FindOptions, run_find

TINY = Path(__file__).parents[1] / "data" / "tiny_totalseg"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [200001, 200002, 200003])
def test_a_liver_lesion_is_found_through_the_real_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(TINY))
    scan = phantom(seed, spacing_mm=(3.0, 3.0, 3.0), lesions=(LesionSpec("liver", 8.0, -70.0),))
    write_itk(tmp_path / "ct.nii.gz", scan.volume.array, scan.volume.geometry)
    write_label_map(tmp_path / "truth.nii.gz", scan.lesions[0].astype(np.uint8), scan.volume.geometry)
    options = FindOptions(
        anchors="auto",
        reject="paper",
        modality="CT",
        truth=str(tmp_path / "truth.nii.gz"),
        workspace=tmp_path / "ws",
        synthetic=True,
    )
    report = run_find("find a liver lesion", str(tmp_path / "ct.nii.gz"), options).report
    assert report.outcome == "lesions_found"
    assert report.anchor_source is not None
    assert report.anchor_source.stand_in, "the tiny weights must never pass for the released ones"
    assert "tiny" in report.anchor_source.name
    assert report.targets[0].anchors_ml["liver"] > 800
    assert report.truth is not None
    assert report.truth.lesions[0].dice > 0.5
