"""Volumes of the study, and searched cases on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from r2seg_agent.reject.noise import measure_noise
from studies.validity import store
from studies.validity.cells import SHIFTED
from studies.validity.store import SyntheticCell, searched
from studies.validity.volumes import LesionKind, Scanner, case_stream, make_scene, noise

SCANNER = Scanner(name="store", fwhm_vox=2.0, shape=(12, 32, 32))


@pytest.mark.parametrize("fwhm", [2.0, 3.0, 4.0])
def test_noise_has_its_standard_deviation_and_smoothness(fwhm: float) -> None:
    scanner = Scanner(name="noise", fwhm_vox=fwhm, shape=(24, 64, 64))
    scene = make_scene(scanner, None, case_stream("noise", 0))
    measured = measure_noise(scene.volume, scene.organ)
    assert measured.sd == pytest.approx(scanner.sd_hu, rel=0.12)
    assert measured.fwhm_mm[1] == pytest.approx(fwhm, rel=0.12)
    assert measured.fwhm_mm[0] == pytest.approx(2.5 * fwhm, rel=0.12)


@pytest.mark.parametrize("scanner", SHIFTED, ids=lambda scanner: scanner.name)
def test_shifted_scanners_differ_in_what_they_say(scanner: Scanner) -> None:
    scene = make_scene(scanner, None, case_stream("shift", 0))
    assert scene.volume.array.shape == scanner.shape
    assert scene.volume.geometry.spacing_mm == scanner.spacing_mm
    field = noise(scanner, case_stream("shift", 1))
    assert abs(float(field.mean())) < 0.2
    if scanner.made_on_mm is None:
        assert float(field.std()) == pytest.approx(1.0, rel=0.1)
    bright = float(np.mean(scene.volume.array > scanner.mean_hu + 4 * scanner.sd_hu))
    assert (bright > 0.005) == (scanner.vessels_hu > 0)


def test_a_sharp_kernel_has_noise_that_is_anticorrelated_at_some_distance() -> None:
    scanner = next(one for one in SHIFTED if one.spectrum == "ramp").model_copy(update={"shape": (8, 96, 96)})
    field = noise(scanner, case_stream("ramp", 0))
    correlation = [float(np.mean(field * np.roll(field, lag, axis=2))) for lag in range(8)]
    assert min(correlation) < -0.05


@pytest.mark.parametrize("edge", ["sharp", "blurred"])
def test_a_lesion_has_its_volume_and_contrast(edge: str) -> None:
    lesion = LesionKind(volume_ml=1.0, cnr=4.0, edge=edge)
    quiet = Scanner(name="quiet", fwhm_vox=2.0, sd_hu=15.0)
    means, volumes = [], []
    for index in range(12):
        rng = case_stream(f"lesion {edge}", index)
        scene = make_scene(quiet, lesion, rng)
        assert scene.truth is not None
        volumes.append(scene.truth.sum() * 2.5 / 1000.0)
        means.append(abs(scene.volume.array[scene.truth].mean() - 60.0) / 15.0)
    assert np.mean(volumes) == pytest.approx(1.0, rel=0.05)
    assert np.mean(means) == pytest.approx(4.0, abs=0.3) if edge == "sharp" else np.mean(means) < 3.9


def test_a_lesion_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        make_scene(SCANNER, LesionKind(volume_ml=30.0, cnr=3.0, edge="sharp"), case_stream("large", 0))


def test_cases_are_the_same_whenever_they_are_made_and_differ_between_roles() -> None:
    first = SyntheticCell(scanner=SCANNER).make(3).volume.array
    assert np.array_equal(first, SyntheticCell(scanner=SCANNER).make(3).volume.array)
    assert not np.array_equal(first, SyntheticCell(scanner=SCANNER, role="calibration").make(3).volume.array)
    assert not np.array_equal(first, SyntheticCell(scanner=SCANNER).make(4).volume.array)


def test_searched_cases_come_back_from_disk_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "CHUNK", 4)
    free = SyntheticCell(scanner=SCANNER)
    ill = SyntheticCell(scanner=SCANNER, lesion=LesionKind(volume_ml=0.3, cnr=4.0, edge="sharp"))
    made = list(searched([(free, 6), (ill, 4)], tmp_path))
    files = sorted(tmp_path.rglob("*.npz"))
    assert [len(one) for one in made] == [6, 4]
    assert len(files) == 3
    stamps = [file.stat().st_mtime_ns for file in files]
    again = list(searched([(free, 6), (ill, 4)], tmp_path))
    assert again == made
    assert [file.stat().st_mtime_ns for file in files] == stamps
    files[0].unlink()
    assert list(searched([(free, 6), (ill, 4)], tmp_path)) == made
    assert any(any(case.hits) for case in made[1])
    assert made[0][0].profile is not None
    assert made[1][0].profile is None
