"""Every broken input gives an `InputError` that names the fault and the way out, before any long work."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path

import pytest
from helpers.broken_inputs import BROKEN, BrokenInput, good_image

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.masks import read_label_map
from r2seg_agent.imaging.read import read_image


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_broken_input_is_refused_readably(
    broken: BrokenInput, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = broken.make(tmp_path)
    grid = read_image(good_image(tmp_path)).geometry
    warnings.simplefilter("error")  # pytest restores the filters after each test
    with pytest.raises(InputError) as caught:
        read_label_map(path, grid) if broken.as_mask else read_image(path)
    message = caught.value.message
    assert re.search(broken.expect, message, flags=re.DOTALL), message
    assert caught.value.hint, "an error says what to do next"
    assert path.name in message, "an error names the file"
    for noise in ("Traceback", "Exception thrown", "0x", ".cxx", ".hxx", "Errno"):
        assert noise not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert capfd.readouterr().err == "", "libraries print nothing of their own"


def test_there_are_enough_broken_inputs_and_their_names_are_unique() -> None:
    assert len({broken.name for broken in BROKEN}) == len(BROKEN) >= 25


def test_the_good_image_is_good(tmp_path: Path) -> None:
    assert read_image(good_image(tmp_path)).modality == "CT"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_read_permission_is_refused(tmp_path: Path) -> None:
    path = good_image(tmp_path)
    path.chmod(0)
    with pytest.raises(InputError, match="permission denied"):
        read_image(path)


def test_permission_errors_of_the_system_become_input_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = good_image(tmp_path)

    def refuse(self: Path, *args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # what the kernel does for other users; root is never refused
    with pytest.raises(InputError, match="permission denied"):
        read_image(path)


def test_no_error_about_a_dicom_folder_names_the_patient(tmp_path: Path) -> None:
    for broken in BROKEN:
        folder = tmp_path / broken.name
        folder.mkdir()
        path = broken.make(folder)
        if path.is_dir():
            with pytest.raises(InputError) as caught:
                read_image(path)
            for secret in ("Doe", "Jane", "MRN-0815", "19700101"):
                assert secret not in str(caught.value)


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.nii")
    with pytest.raises(InputError, match="not a regular file"):
        read_image(tmp_path / "pipe.nii")
