"""A whole search in pictures: colour, a CT slice of 8 bits, and no organ mask at all."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.masks import read_label_map
from r2seg_agent.imaging.read import read_image
from r2seg_agent.runs.api import FindResult, run_find
from r2seg_agent.runs.options import RunOptions

SHAPE = (96, 128)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`skin.png`: a brown spot on skin, in colour, with black corners. `ct.png`: a grey slice with a dark spot."""
    folder = tmp_path_factory.mktemp("pictures")
    y, x = np.indices(SHAPE)
    view = (y - 48) ** 2 / 46**2 + (x - 64) ** 2 / 62**2 <= 1
    noise = ndimage.gaussian_filter(np.random.default_rng(4).standard_normal(SHAPE), 1.0) * 12
    rgb = np.zeros((*SHAPE, 3))
    spot = lesion()
    for n, (skin, brown) in enumerate(((220, 120), (170, 70), (150, 60))):
        rgb[..., n] = np.where(view, np.where(spot, brown, skin) + noise, 0)
    Image.fromarray(rgb.clip(0, 255).astype(np.uint8)).save(folder / "skin.png")
    grey = np.where(view, np.where(spot, 90, 150) + noise, 0)
    Image.fromarray(grey.clip(0, 255).astype(np.uint8)).save(folder / "ct.png")
    Image.fromarray((view * 255).astype(np.uint8)).save(folder / "liver.png")
    return folder


def lesion() -> np.ndarray:
    y, x = np.indices(SHAPE)
    return (y - 52) ** 2 + (x - 74) ** 2 <= 12**2


def found(folder: Path, image: str, request: str, out: Path, **options: object) -> FindResult:
    common = {"segmenter": "contrast", "workspace": out, "overlays": False}
    return run_find(request, str(folder / image), RunOptions.model_validate(common | options))


def cautions(result: FindResult) -> dict[str, str]:
    return {caution.kind: caution.text for caution in result.report.warnings}


def test_a_lesion_is_found_in_a_colour_picture_without_an_organ_mask(folder: Path, tmp_path: Path) -> None:
    result = found(folder, "skin.png", "find the skin lesion", tmp_path, anchors="whole", modality="photo")
    assert result.report.outcome == "lesions_found"
    (path,) = result.folder.glob("lesions.*")
    mask = read_label_map(path, read_image(folder / "skin.png").geometry)[0] == 1
    overlap = np.count_nonzero(mask & lesion()) / np.count_nonzero(mask | lesion())
    assert overlap > 0.7
    said = cautions(result)
    assert "so does segmenter `contrast`" in said["colour_as_grey"]
    assert "whole image" in said["stand_in_anchors"]
    assert "not_hounsfield" not in said


def test_a_ct_slice_of_8_bits_is_searched_without_a_window_and_says_so(folder: Path, tmp_path: Path) -> None:
    result = found(
        folder, "ct.png", "find the liver tumor", tmp_path, anchors=f"{folder / 'liver.png'}=liver", modality="CT"
    )
    assert result.report.outcome == "lesions_found"
    assert result.report.targets[0].plan.window is None
    assert "HU" not in result.report.targets[0].plan.rationale
    assert "not Hounsfield units" in cautions(result)["not_hounsfield"]
    assert "colour_as_grey" not in cautions(result)
    assert "window 0.5–99.5 percentile" in (result.folder / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("anchors", ["hounsfield", "auto"])
@pytest.mark.parametrize("name", ["ct.png", "ct.nii.gz"])
def test_anchors_by_hu_are_refused_where_there_is_no_hu(folder: Path, tmp_path: Path, anchors: str, name: str) -> None:
    """It used to answer `target_not_in_view` with exit status 0, though the lungs were in view."""
    grey = np.asarray(Image.open(folder / "ct.png"))
    nib.save(nib.Nifti1Image(np.stack([grey] * 4).T, np.diag([2.0, 2, 4, 1])), folder / "ct.nii.gz")
    with pytest.raises(InputError, match="Hounsfield units|TotalSegmentator") as caught:
        found(folder, name, "find the lung nodule", tmp_path, anchors=anchors, modality="CT")
    assert caught.value.exit_status == 2
    assert "--anchors" in caught.value.hint


def test_a_plan_with_a_window_in_hu_is_refused_for_a_picture(folder: Path, tmp_path: Path) -> None:
    masks = {"anchors": f"{folder / 'liver.png'}=liver", "modality": "CT"}
    first = found(folder, "ct.png", "find the liver tumor", tmp_path, **masks)
    plan = json.loads((first.folder / "plan.json").read_text(encoding="utf-8"))
    for target in plan.get("plans", [plan]):
        target["window"] = [-40.0, 160.0]
    (tmp_path / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    with pytest.raises(InputError, match="window of -40 to 160 HU"):
        found(folder, "ct.png", "find the liver tumor", tmp_path / "again", plan=tmp_path / "plan.json", **masks)
