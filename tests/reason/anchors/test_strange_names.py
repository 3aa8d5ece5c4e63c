"""Names of the user's own mask files: a patient's name in one of them reaches nothing that is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.phantoms import liver_phantom

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.itk import write_itk
from r2seg_agent.imaging.write import write_label_map
from r2seg_agent.reason.anchors.masks import MaskSource
from r2seg_agent.runs.api import FindOptions, run_find

STRANGE = ("doe_jane_1961", "<img src=x onerror=alert(1)>")


def _folder(path: Path) -> Path:
    """The phantom's organs, a file each, and two more with names of another kind."""
    phantom = liver_phantom()
    path.mkdir()
    for value, name in phantom.class_names.items():
        write_label_map(path / f"{name}.nii.gz", (phantom.labels == value).astype("uint8"), phantom.volume.geometry)
    for name in STRANGE:
        write_label_map(path / f"{name}.nii.gz", (phantom.labels == 0).astype("uint8"), phantom.volume.geometry)
    return path


def test_what_a_run_writes_holds_no_name_of_a_mask_file(tmp_path: Path) -> None:
    phantom = liver_phantom()
    write_itk(tmp_path / "ct.nii.gz", phantom.volume.array, phantom.volume.geometry)
    options = FindOptions(
        anchors=str(_folder(tmp_path / "masks")), segmenter="contrast", modality="CT", workspace=tmp_path / "w"
    )
    for request in ("find a liver lesion", "find a pancreatic tumour"):
        run_find(request, str(tmp_path / "ct.nii.gz"), options)
    written = [p for p in (tmp_path / "w").rglob("*") if p.is_file() and p.name != "inputs.json"]
    assert any(path.name == "trace.jsonl" for path in written)
    for path in written:
        data = path.read_bytes().lower()
        assert not any(word in data for word in (b"jane", b"<img", b"onerror")), path.name


def test_a_strange_name_that_the_plan_names_is_the_users_own_word(tmp_path: Path) -> None:
    source, volume = MaskSource(_folder(tmp_path / "masks")), liver_phantom().volume
    found = source.locate(volume, ["doe_jane_1961"]).names
    assert "doe_jane_1961" in found
    with pytest.raises(InputError, match="2 structures that the organ table does not know") as caught:
        source.check("CT", ["uterus"])
    assert "jane" not in str(caught.value)
