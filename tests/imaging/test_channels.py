"""Further images of a case on the scan's grid: exact where grids agree, resampled with a remark, refused elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.channels import coverage, parse_channels, with_channels
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.itk import write_itk
from r2seg_agent.imaging.volume import Volume

GRID = Geometry(shape=(10, 20, 24), spacing_mm=(4.0, 2.0, 1.5), origin_lps_mm=(-30.0, 12.0, 100.0))


def _field(grid: Geometry) -> np.ndarray:
    """Linear in the patient's coordinates: linear interpolation must give it back exactly."""
    z, y, x = np.meshgrid(*(np.arange(n, dtype=np.float64) for n in grid.shape), indexing="ij")
    lps = grid.to_lps_mm(np.stack([z, y, x], axis=-1))
    return (1000.0 + lps @ np.array([2.0, -3.0, 1.0])).astype(np.float32)


def _scan() -> Volume:
    return Volume(array=np.zeros(GRID.shape, dtype=np.int16), geometry=GRID, modality="MR", unit="arbitrary")


def _written(path: Path, grid: Geometry) -> str:
    write_itk(path, _field(grid), grid)
    return str(path)


def test_the_same_grid_is_taken_as_it_is(tmp_path: Path) -> None:
    notes: list[str] = []
    scan = _scan()
    case = with_channels(scan, "scan.nrrd", {"T2": _written(tmp_path / "t2.nrrd", GRID)}, notes.append)
    np.testing.assert_array_equal(case.channels["T2"], _field(GRID))
    assert notes == []
    assert case.array is scan.array
    assert with_channels(scan, "scan.nrrd", {}, notes.append) is scan


def test_another_grid_is_resampled_where_it_lies_in_the_patient(tmp_path: Path) -> None:
    turned = Geometry(
        shape=(60, 16, 70),
        spacing_mm=(1.0, 4.0, 1.0),
        origin_lps_mm=(-40.0, 0.0, 150.0),
        direction=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, -1.0),
    )
    notes: list[str] = []
    case = with_channels(_scan(), "scan.nrrd", {"T2": _written(tmp_path / "t2.nrrd", turned)}, notes.append)
    np.testing.assert_allclose(case.channels["T2"], _field(GRID), atol=1e-2)
    (note,) = notes
    assert "resampled" in note
    assert "shape" in note
    assert "%" not in note


def test_a_part_that_is_not_shown_is_told(tmp_path: Path) -> None:
    short = GRID.model_copy(update={"shape": (7, 20, 24)})
    notes: list[str] = []
    case = with_channels(_scan(), "scan.nrrd", {"T2": _written(tmp_path / "t2.nrrd", short)}, notes.append)
    assert "shows 70 % of the scan" in notes[0]
    assert (case.channels["T2"][8:] == _field(short).min()).all()


@pytest.mark.parametrize(("origin", "told"), [((500.0, 12.0, 100.0), "nothing"), ((-30.0, 42.0, 100.0), "only 25 %")])
def test_images_of_somewhere_else_are_refused(tmp_path: Path, origin: tuple[float, float, float], told: str) -> None:
    elsewhere = GRID.model_copy(update={"origin_lps_mm": origin})
    with pytest.raises(InputError, match=f"`T2` shows {told} of the scan"):
        with_channels(_scan(), "scan.nrrd", {"T2": _written(tmp_path / "t2.nrrd", elsewhere)}, lambda text: None)


def test_the_scan_itself_may_be_named(tmp_path: Path) -> None:
    path = _written(tmp_path / "flair.nrrd", GRID)
    scan = _scan()
    case = with_channels(scan, path, {"FLAIR": str(tmp_path / "." / "flair.nrrd")}, lambda text: None)
    assert case.channels["FLAIR"] is scan.array


def test_coverage_counts_voxel_centres() -> None:
    assert coverage(GRID, GRID) == 1.0
    half = GRID.model_copy(update={"shape": (5, 20, 24)})
    assert coverage(half, GRID) == pytest.approx(0.5)
    assert coverage(GRID, half) == 1.0


def test_what_the_user_writes() -> None:
    assert parse_channels(["T1c=a=b.nii.gz", " FLAIR = f.nrrd"]) == {"T1c": "a=b.nii.gz", "FLAIR": "f.nrrd"}
    for wrong in (["T1c"], ["=file"], ["T1c="], ["T1c=a", "T1c=b"]):
        with pytest.raises(InputError):
            parse_channels(wrong)


def test_a_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"t2\.nrrd"):
        with_channels(_scan(), "scan.nrrd", {"T2": str(tmp_path / "t2.nrrd")}, lambda text: None)
