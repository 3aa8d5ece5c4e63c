"""Noise and blur are measured as they were made; matched implants have the scan's noise and change nothing outside."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.volume import Mask, Volume
from r2seg_agent.phantom import LOOKS, LesionLook, Match, implant_lesion
from r2seg_agent.phantom.measure import edge_fwhm_mm, measure_covariance
from r2seg_agent.phantom.scanner import FWHM, Scanner, noise

SPACING = (2.5, 1.0, 1.0)
SHAPE = (36, 84, 84)


def _scan(sd: float = 12.0, blur_mm: float = 2.0, seed: int = 0) -> tuple[Volume, Mask]:
    """A water-like cylinder in air with a liver-like ellipsoid, blurred, with a scanner's noise."""
    z, y, x = np.indices(SHAPE)
    body = (y - 42) ** 2 + (x - 42) ** 2 < 38**2
    organ = ((z - 18) * 2.5 / 40) ** 2 + ((y - 42) / 30) ** 2 + ((x - 42) / 30) ** 2 < 1
    clean = np.where(organ, 90.0, np.where(body, 0.0, -1000.0))
    sigma = blur_mm / FWHM
    clean = ndimage.gaussian_filter(clean, [0, sigma, sigma])
    grain = noise(SHAPE, SPACING, Scanner(kernel="soft"), 3.0, np.random.default_rng(seed))
    array = np.rint(clean + sd * grain).astype(np.int16)
    return Volume(array=array, geometry=Geometry(shape=SHAPE, spacing_mm=SPACING), modality="CT", unit="HU"), organ


def test_noise_comes_back_with_its_strength_and_correlation():
    volume, organ = _scan(sd=15.0)
    model = measure_covariance(volume, organ)
    assert model.sd == pytest.approx(15.0, rel=0.06)
    again = model.sample((40, 64, 64), np.random.default_rng(5))
    assert float(again.std()) == pytest.approx(model.sd, rel=0.05)
    truth = noise((40, 64, 64), SPACING, Scanner(kernel="soft"), 3.0, np.random.default_rng(6))
    for axis in range(3):
        a, b = (np.moveaxis(field, axis, 0) for field in (again, truth))
        made, wanted = (float(np.corrcoef(f[:-1].ravel(), f[1:].ravel())[0, 1]) for f in (a, b))
        assert made == pytest.approx(wanted, abs=0.08)


def test_blur_is_read_from_the_skin():
    for blur_mm in (1.6, 3.0):
        volume, _ = _scan(sd=6.0, blur_mm=blur_mm)
        assert edge_fwhm_mm(volume) == pytest.approx(blur_mm, abs=0.6)
    empty = Volume(
        array=np.zeros(SHAPE, dtype=np.int16), geometry=Geometry(shape=SHAPE, spacing_mm=SPACING), modality="CT",
        unit="HU",
    )  # fmt: skip
    assert edge_fwhm_mm(empty) is None


def test_too_little_organ_to_measure_noise():
    volume, organ = _scan()
    tiny = np.zeros_like(organ)
    tiny[18, 40:44, 40:44] = True
    with pytest.raises(InputError, match="noise cannot be measured"):
        measure_covariance(volume, tiny)


@settings(max_examples=3, deadline=None)
@given(
    seed=st.integers(0, 999), look=st.sampled_from(["even", "lobulated", "rim"]), contrast=st.sampled_from([-45, 30])
)
def test_noise_power_inside_is_that_outside_and_nothing_else_changes(seed: int, look: str, contrast: int):
    volume, organ = _scan(seed=3)
    match = Match.measure(volume, organ, resynthesise=True)
    clean = Volume(
        array=np.where(organ, 90, -20).astype(np.float32), geometry=volume.geometry, modality="CT", unit="HU"
    )
    args = {
        "seed": seed,
        "diameter_mm": 26.0,
        "contrast_hu": float(contrast),
        "look": LOOKS[look],
        "centre": (18, 42, 42),
    }
    made = implant_lesion(volume, organ, match=match, **args)
    # the same lesion without noise leaves, when subtracted, the noise under the lesion
    offset = implant_lesion(clean, organ, match=Match(match.blur_mm), **args).volume.float32() - clean.array
    left = made.volume.float32() - 90.0 - offset
    core = ndimage.binary_erosion(made.truth, iterations=2)
    outside = ndimage.binary_erosion(organ & ~ndimage.binary_dilation(made.truth, iterations=3), iterations=4)
    before = volume.float32() - 90.0
    ratio = left[core].var() / before[outside].var()
    assert 0.72 < ratio < 1.38, "about 3 standard errors of a variance over the lesion's independent voxels"
    pairs = core[:, :, :-1] & core[:, :, 1:]
    inside_corr = np.corrcoef(left[:, :, :-1][pairs], left[:, :, 1:][pairs])[0, 1]
    pairs = outside[:, :, :-1] & outside[:, :, 1:]
    outside_corr = np.corrcoef(before[:, :, :-1][pairs], before[:, :, 1:][pairs])[0, 1]
    assert inside_corr == pytest.approx(outside_corr, abs=0.14)
    assert np.array_equal(made.volume.array[~organ], volume.array[~organ])
    wanted_mm3 = np.pi / 6 * 26.0**3
    assert made.truth.sum() * volume.geometry.voxel_volume_mm3 == pytest.approx(wanted_mm3, abs=6)


def test_match_blurs_the_edge_as_the_scan_is_blurred():
    volume, organ = _scan(sd=0.0)
    args = {"seed": 1, "diameter_mm": 24.0, "contrast_hu": -60.0, "centre": (18, 42, 42), "edge_mm": 0.4}
    sharp = implant_lesion(volume, organ, **args).volume.float32() - volume.float32()
    soft = implant_lesion(volume, organ, match=Match(4.0), **args).volume.float32() - volume.float32()
    assert soft.sum() == pytest.approx(sharp.sum(), rel=0.05), "blur moves contrast, it does not lose it"
    assert np.abs(np.diff(soft[18, 42])).max() < 0.6 * np.abs(np.diff(sharp[18, 42])).max()


def test_structure_under_a_resynthesised_lesion_is_gone():
    volume, organ = _scan(sd=8.0)
    array = volume.array.copy()
    array[:, 41:44, :] += (60 * organ[:, 41:44, :]).astype(np.int16)  # a vessel through the lesion's place
    with_vessel = Volume(array=array, geometry=volume.geometry, modality="CT", unit="HU")
    args = {"seed": 2, "diameter_mm": 26.0, "contrast_hu": -40.0, "centre": (18, 42, 42)}
    kept = implant_lesion(with_vessel, organ, match=Match(1.5), **args)
    gone = implant_lesion(with_vessel, organ, match=Match.measure(with_vessel, organ, resynthesise=True), **args)
    core = ndimage.binary_erosion(kept.truth, iterations=2)
    vessel, beside = core.copy(), core.copy()
    vessel[:, :41], vessel[:, 44:] = False, False
    beside[:, 39:46] = False

    def stands_out(volume: Volume) -> float:
        grey = volume.float32()
        return float(grey[vessel].mean() - grey[beside].mean())

    assert stands_out(kept.volume) > 45
    assert abs(stands_out(gone.volume)) < 15


@pytest.mark.parametrize("name", list(LOOKS))
def test_every_look_keeps_volume_and_place(name: str):
    volume, organ = _scan(sd=0.0)
    made = implant_lesion(volume, organ, seed=4, diameter_mm=22.0, contrast_hu=-40.0, look=LOOKS[name])
    plain = implant_lesion(volume, organ, seed=4, diameter_mm=22.0, contrast_hu=-40.0)
    assert made.truth.sum() == plain.truth.sum()
    assert not (made.truth & ~organ).any()
    change = made.volume.float32() - volume.float32()
    if name == "calcified":
        assert change.max() > 100
    if name == "rim":
        depth = ndimage.distance_transform_edt(made.truth, sampling=SPACING)
        assert change[made.truth & (depth < 4)].max() > change[depth > 7].mean() + 40
    if name == "spiculated":

        def farthest(truth: Mask) -> float:
            places = np.argwhere(truth) * SPACING
            return float(np.linalg.norm(places - np.multiply(made.centre_zyx, SPACING), axis=1).max())

        assert farthest(made.truth) > 1.2 * farthest(plain.truth)


def test_a_look_of_nothing_is_the_plain_lesion():
    volume, organ = _scan()
    first = implant_lesion(volume, organ, seed=4, diameter_mm=18.0, contrast_hu=-40.0)
    second = implant_lesion(volume, organ, seed=4, diameter_mm=18.0, contrast_hu=-40.0, look=LesionLook())
    assert np.array_equal(first.volume.array, second.volume.array)
