"""An implanted lesion: its volume, its contrast, nothing changed outside the organ, the scan's own noise kept."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.volume import Mask, Volume
from r2seg_agent.phantom import implant_lesion

SPACING = (2.5, 1.0, 1.2)


def _organ_and_scan(seed: int = 0) -> tuple[Volume, Mask]:
    shape = (28, 60, 56)
    z, y, x = np.indices(shape)
    organ = ((z - 14) * 2.5 / 28) ** 2 + ((y - 30) / 25) ** 2 + ((x - 28) * 1.2 / 30) ** 2 < 1
    noise = np.random.default_rng(seed).normal(0, 12, shape)
    array = np.rint(np.where(organ, 100, -50) + noise).astype(np.int16)
    return Volume(array=array, geometry=Geometry(shape=shape, spacing_mm=SPACING), modality="CT", unit="HU"), organ


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), diameter=st.floats(7.0, 22.0), contrast=st.sampled_from([-60.0, -20.0, 45.0]))
def test_any_lesion_keeps_to_its_organ_and_its_volume(seed: int, diameter: float, contrast: float):
    volume, organ = _organ_and_scan()
    implant = implant_lesion(volume, organ, seed=seed, diameter_mm=diameter, contrast_hu=contrast)
    change = implant.volume.float32() - volume.float32()
    wanted_mm3 = np.pi / 6 * diameter**3
    assert implant.truth.sum() * volume.geometry.voxel_volume_mm3 == pytest.approx(wanted_mm3, abs=2 * 3.0 + 1)
    assert not (implant.truth & ~organ).any()
    assert np.all(change[~organ] == 0)
    assert organ[implant.centre_zyx]
    assert np.abs(change[implant.truth]).min() >= abs(contrast) * 0.5 - 1 or _touches_border(implant.truth, organ)
    assert np.sign(change[implant.truth].mean()) == np.sign(contrast)
    assert ndimage.label(implant.truth)[1] == 1


def _touches_border(truth: Mask, organ: Mask) -> bool:
    return bool((ndimage.binary_dilation(truth, iterations=3) & ~organ).any())


def test_full_contrast_in_the_core_and_noise_kept():
    volume, organ = _organ_and_scan()
    implant = implant_lesion(volume, organ, seed=4, diameter_mm=20, contrast_hu=-50)
    change = implant.volume.float32() - volume.float32()
    core = ndimage.binary_erosion(implant.truth, iterations=2)
    assert change[core].mean() == pytest.approx(-50, abs=1.5)
    assert implant.volume.float32()[core].std() == pytest.approx(volume.float32()[core].std(), rel=0.05)


def test_seed_decides_and_input_stays_as_it_was():
    volume, organ = _organ_and_scan()
    before = volume.array.copy()
    first = implant_lesion(volume, organ, seed=1, diameter_mm=12, contrast_hu=-40)
    again = implant_lesion(volume, organ, seed=1, diameter_mm=12, contrast_hu=-40)
    other = implant_lesion(volume, organ, seed=2, diameter_mm=12, contrast_hu=-40)
    assert np.array_equal(first.truth, again.truth)
    assert np.array_equal(first.volume.array, again.volume.array)
    assert not np.array_equal(first.truth, other.truth)
    assert np.array_equal(volume.array, before)
    assert first.volume.array.dtype == np.int16
    assert "synthetic" in first.volume.name


def test_centre_is_taken_when_given():
    volume, organ = _organ_and_scan()
    implant = implant_lesion(volume, organ, seed=1, diameter_mm=12, contrast_hu=-40, centre=(14, 30, 20))
    assert implant.centre_zyx == (14, 30, 20)
    assert implant.truth[14, 30, 20]
    assert np.abs(np.argwhere(implant.truth).mean(axis=0) - (14, 30, 20)).max() < 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"diameter_mm": 60.0}, "does not fit"),
        ({"diameter_mm": 0.0}, "must be positive"),
        ({"centre": (0, 0, 0)}, "not inside the organ"),
        ({"centre": (99, 0, 0)}, "not inside the organ"),
    ],
)
def test_impossible_lesions_are_refused(change: dict, words: str):
    volume, organ = _organ_and_scan()
    with pytest.raises(InputError, match=words):
        implant_lesion(volume, organ, **({"seed": 0, "diameter_mm": 10.0, "contrast_hu": -30.0} | change))


def test_mask_of_another_grid_is_refused():
    volume, _ = _organ_and_scan()
    with pytest.raises(InputError, match="shape"):
        implant_lesion(volume, np.ones((3, 3, 3), dtype=bool), seed=0, diameter_mm=2, contrast_hu=1)
