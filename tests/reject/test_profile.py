"""Scan profiles: seldom a warning for a scan like the calibration's, a plain one for a scan that is not."""

from __future__ import annotations

import numpy as np
import pytest

from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.reason.anchors.protocol import AnchorSourceInfo
from r2seg_agent.reject.calibration import Calibration, CalibrationIdentity, CaseScores, build_calibration
from r2seg_agent.reject.profile import ScanProfile, measure_profile, profile_distance_p, profile_warnings
from r2seg_agent.segment.contrast import ContrastSegmenter

IDENTITY = CalibrationIdentity(
    segmenter=ContrastSegmenter().info,
    anchor_source=AnchorSourceInfo(
        name="masks", version="1", kind="masks", stand_in=False, licence="", modalities=("CT",)
    ),
    anchors=("liver",),
    target="liver_tumor",
    modality="CT",
    score="contrast_log_volume",
)


def drawn(rng: np.random.Generator, **changes: object) -> ScanProfile:
    """A scan of one imaginary scanner."""
    noise = float(rng.lognormal(np.log(12), 0.1))
    fwhm = float(rng.lognormal(np.log(2.2), 0.08))
    profile = ScanProfile(
        noise_sd=noise,
        noise_fwhm_mm=(1.5 * fwhm, fwhm, fwhm * 1.02),
        spacing_mm=(2.5, 0.8, 0.8),
        anchor_median=float(rng.normal(100, 8)),
        anchor_mad=1.1 * noise,
        anchor_ml=float(rng.lognormal(np.log(1500), 0.2)),
        n_voxels=900_000,
    )
    return profile.model_copy(update=changes)


def calibration_of(profiles: list[ScanProfile]) -> Calibration:
    return build_calibration(
        IDENTITY, [CaseScores(case=f"c{i}", patient=f"p{i}", scores=(1.0,), profile=p) for i, p in enumerate(profiles)]
    )


@pytest.mark.parametrize("n", [19, 40, 200])
def test_scans_like_the_calibrations_are_seldom_warned_about(n: int) -> None:
    """The false-alarm rate is at most 0.05 by construction; 400 scans against fresh calibrations."""
    rng = np.random.default_rng(n)
    alarms = 0
    for _ in range(400):
        cases = [drawn(rng) for _ in range(n)]
        alarms += profile_distance_p(cases, drawn(rng)) <= 0.05
    assert alarms / 400 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)
    assert alarms > 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"noise_fwhm_mm": (6.0, 4.4, 4.4)}, "noise correlation in the plane 4.4 mm FWHM, higher than in all 60"),
        ({"noise_fwhm_mm": (6.0, 4.4, 4.4)}, "p-values may be too small"),
        ({"noise_fwhm_mm": (1.0, 0.9, 0.9)}, "lower than in all 60 lesion-free scans"),
        ({"noise_sd": 40.0, "anchor_mad": 44.0}, "noise 40 grey values SD, higher than"),
        ({"spacing_mm": (5.0, 0.8, 0.8)}, "slice spacing 5 mm, higher than in all 60 lesion-free scans (2.5 mm)"),
        ({"anchor_median": 180.0}, "normal grey value 180, higher than"),
        ({"anchor_ml": 200.0}, "a cut-off organ hides lesions"),
    ],
)
def test_what_is_different_is_said(changes: dict[str, object], words: str) -> None:
    rng = np.random.default_rng(7)
    calibration = calibration_of([drawn(rng) for _ in range(60)])
    said = " ".join(profile_warnings(calibration.profiles, drawn(rng, **changes)))
    assert words in said


def test_a_scan_in_the_middle_is_not_warned_about_and_tiny_differences_are_none() -> None:
    rng = np.random.default_rng(8)
    calibration = calibration_of([drawn(rng) for _ in range(60)])
    middle = drawn(rng, noise_sd=12.0, noise_fwhm_mm=(3.3, 2.2, 2.2), anchor_median=100.0, anchor_mad=13.0)
    middle = middle.model_copy(update={"anchor_ml": 1500.0, "spacing_mm": (2.5, 0.81, 0.8)})
    assert profile_warnings(calibration.profiles, middle) == ()


def test_the_test_does_not_depend_on_units() -> None:
    rng = np.random.default_rng(9)
    cases, scan = [drawn(rng) for _ in range(30)], drawn(rng)

    def scaled(profile: ScanProfile) -> ScanProfile:
        update = {name: 1000 * getattr(profile, name) for name in ("noise_sd", "anchor_median", "anchor_mad")}
        return profile.model_copy(update=update)

    assert profile_distance_p([scaled(c) for c in cases], scaled(scan)) == profile_distance_p(cases, scan)


def test_what_could_not_be_checked_is_said() -> None:
    rng = np.random.default_rng(10)
    bare = build_calibration(IDENTITY, [CaseScores(case="c", patient="p", scores=(1.0,))])
    assert "no scan profiles" in profile_warnings(bare.profiles, drawn(rng))[0]
    calibration = calibration_of([drawn(rng) for _ in range(30)])
    assert "only 12 voxels" in profile_warnings(calibration.profiles, drawn(rng, n_voxels=12))[0]


def test_a_profile_is_measured_inside_the_anchor() -> None:
    rng = np.random.default_rng(11)
    array = rng.normal(500, 200, (12, 40, 40))
    anchor = np.zeros(array.shape, dtype=bool)
    anchor[2:10, 8:32, 8:32] = True
    array[anchor] = rng.normal(60, 10, int(anchor.sum()))
    geometry = Geometry(shape=(12, 40, 40), spacing_mm=(3.0, 0.9, 0.9))
    volume = Volume(array=np.rint(array).astype(np.int16), geometry=geometry, modality="CT", unit="HU")
    profile = measure_profile(volume, anchor)
    assert profile.noise_sd == pytest.approx(10, rel=0.05)
    assert profile.anchor_median == pytest.approx(60, abs=1)
    assert profile.anchor_ml == pytest.approx(anchor.sum() * 3 * 0.81 / 1000)
    assert profile.spacing_mm == (3.0, 0.9, 0.9)
    assert measure_profile(volume, np.zeros_like(anchor)).n_voxels == 0
    with pytest.raises(ValueError, match="anchor mask"):
        measure_profile(volume, anchor[1:])
