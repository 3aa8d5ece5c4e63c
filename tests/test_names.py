"""Names that are not UTF-8, and names in another form of Unicode, wherever a path comes in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from helpers import dicom_files
from helpers.broken_inputs import body, detached_mhd
from helpers.small_case import GEOMETRY, write_case

from r2seg_agent.datasets.read import read_dataset
from r2seg_agent.errors import InputError
from r2seg_agent.imaging.masks import read_reference
from r2seg_agent.imaging.read import read_image
from r2seg_agent.names import utf8_path
from r2seg_agent.reason.anchors.masks import MaskSource
from r2seg_agent.runs.api import run_find
from r2seg_agent.runs.options import RunOptions

BAD = os.fsdecode(b"M\xfcller")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("R2SEG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose name is Latin-1, as in old archives."""
    try:
        (tmp_path / BAD).mkdir()
    except OSError:
        pytest.skip("this file system holds names in UTF-8 only")
    return tmp_path / BAD


def test_the_path_is_in_utf8_and_leads_to_the_same_file(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / os.fsdecode(b"\xe4.txt")).write_text("hello")
    for path in (folder, folder / "deep", folder / "deep" / os.fsdecode(b"\xe4.txt")):
        found = utf8_path(str(path))
        found.encode("utf-8")
        assert Path(found).samefile(path)
        assert Path(found).suffix == path.suffix
        assert utf8_path(found) == found == utf8_path(str(path))


@pytest.mark.parametrize("form", ["nnunet:{}", "{}=liver", "{}::2", "{}=values:1:liver,2:liver", "nnunet:{}#3d"])
def test_options_that_hold_a_path(folder: Path, form: str) -> None:
    assert utf8_path(form.format(folder)) == form.format(utf8_path(str(folder)))


def test_two_names_are_two_links_and_a_moved_file_is_not_mixed_up(tmp_path: Path, folder: Path) -> None:
    (tmp_path / os.fsdecode(b"M\xfdller")).mkdir()
    assert utf8_path(str(folder)) != utf8_path(str(tmp_path / os.fsdecode(b"M\xfdller")))


def test_what_is_not_there_is_refused_readably(folder: Path) -> None:
    assert utf8_path(f"{folder}x") == str(folder.parent / "M\ufffdllerx")
    with pytest.raises(InputError, match="M\ufffdller/no.nii` does not exist"):
        read_image(folder / "no.nii")


def test_a_request_is_left_alone() -> None:
    for text in ("finde die Läsion in der Leber: bitte", "肝臓の病変を探して", "find a/b: ü=1"):
        assert utf8_path(text) == text


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_name_in_the_other_form_of_unicode_finds_its_folder(tmp_path: Path, form: str) -> None:
    stored = tmp_path / unicodedata.normalize(form, "Müller") / unicodedata.normalize(form, "Schädel.nii.gz")
    stored.parent.mkdir()
    write_case(tmp_path / "case")
    shutil.copy(tmp_path / "case" / "image.nii.gz", stored)
    for other in ("NFC", "NFD"):
        given = str(tmp_path / unicodedata.normalize(other, "Müller/Schädel.nii.gz"))
        assert Path(utf8_path(given)).samefile(stored)
        assert utf8_path(f"{given}=skull") == f"{stored}=skull"


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.mha", "a.mhd", "series"])
def test_every_format_is_read(folder: Path, name: str) -> None:
    bad = folder / (BAD + name)
    if name == "series":
        dicom_files.write_series(bad, body())
    elif name == "a.nii.gz":
        nib.save(nib.Nifti1Image(body().T, np.eye(4)), folder / name)
        (folder / name).rename(bad)
    elif name == "a.mhd":
        detached_mhd("scan.raw")(folder).rename(bad)
    else:
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(body()), str(folder.parent / name))
        (folder.parent / name).rename(bad)
    np.testing.assert_array_equal(read_image(utf8_path(str(bad))).array, body())


def test_image_anchors_truth_workspace_and_channels_of_a_run(folder: Path) -> None:
    write_case(folder.parent / "case")
    for path in (folder.parent / "case").iterdir():
        path.rename(folder / path.name)
    options = RunOptions.model_validate(
        {
            "anchors": str(folder / "organs.nii.gz"),
            "truth": f"{folder / 'organs.nii.gz'}::1",
            "channels": {"T1": str(folder / "image.nii.gz")},
            "workspace": folder / "ws",
            "segmenter": "contrast",
            "modality": "CT",
            "overlays": False,
        }
    )
    result = run_find("find a liver lesion", str(folder / "image.nii.gz"), options)
    assert result.report.outcome == "lesions_found"
    assert (folder / "ws" / "runs" / result.folder.name / "report.json").exists()
    assert read_image(json.loads((result.folder / "inputs.json").read_text())["image"]).geometry == GEOMETRY


def test_a_data_set_with_such_names_gives_cases(folder: Path) -> None:
    write_case(folder.parent / "case")
    (folder.parent / "case" / "image.nii.gz").rename(folder / f"{BAD}.nii.gz")
    (case,) = read_dataset(Path(utf8_path(str(folder)))).cases
    case.model_dump_json()
    assert read_image(case.image).geometry == GEOMETRY


def test_masks_and_names_beside_them(folder: Path) -> None:
    write_case(folder.parent / "case")
    (folder.parent / "case" / "organs.nii.gz").rename(folder / f"{BAD}.nii.gz")
    path = utf8_path(str(folder / f"{BAD}.nii.gz"))
    assert (read_reference(f"{path}::1", GEOMETRY) == 1).any()
    volume = read_image(write_case(folder.parent / "again")[0], modality="CT")
    anchors = MaskSource(str(folder)).locate(volume, [])  # a folder of masks, each named after its organ
    json.dumps(list(anchors.names)).encode("utf-8")
    assert list(anchors.names) == ["structure_1"], "no organ: such a name may be a patient's"


def test_the_command_line(folder: Path) -> None:
    """`find` ended with exit status 5, `batch` as a whole."""
    write_case(folder.parent / "case")
    (folder.parent / "case").rename(folder / "case")
    common = ["--anchors", f"{folder}/case/organs.nii.gz", "--segmenter", "contrast", "--modality", "CT"]
    common += ["--no-overlays"]
    (folder / "scans").mkdir()
    (folder / "case" / "image.nii.gz").rename(folder / "scans" / f"{BAD}.nii.gz")
    scan = f"{folder}/scans/{BAD}.nii.gz"
    for words in (
        ["find", scan, "find a liver lesion", *common, "--workspace", f"{folder}/ws", "--out", f"{folder}/out"],
        ["batch", f"{folder}/scans", "--request", "find a liver lesion", *common, "--out", f"{folder}/many"],
    ):
        given = [sys.executable, "-m", "r2seg_agent", *words]
        done = subprocess.run([os.fsencode(word) for word in given], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr[-500:]
    assert (folder / "out" / "report.json").exists()
    assert "lesions_found" in (folder / "many" / "results.csv").read_text(encoding="utf-8")
