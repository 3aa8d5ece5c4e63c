"""The phantom is a patient: the same one at any spacing, another one per seed, with organs where they belong."""

import numpy as np
import pytest
from helpers.phantoms import phantom as drawn
from scipy import ndimage

from r2seg_agent.errors import InputError
from r2seg_agent.phantom import LesionSpec, Phantom

COARSE = (6.0, 6.0, 6.0)
LUNGS = (
    "lung_upper_lobe_left",
    "lung_lower_lobe_left",
    "lung_upper_lobe_right",
    "lung_middle_lobe_right",
    "lung_lower_lobe_right",
)


@pytest.fixture(scope="module")
def patient() -> Phantom:
    return drawn(11, spacing_mm=(4.0, 3.0, 3.0), phase="venous")


def _volume_ml(phantom: Phantom, *names: str) -> float:
    return float(phantom.organ(*names).sum()) * phantom.volume.geometry.voxel_volume_mm3 / 1000


def test_same_seed_gives_the_same_bytes():
    first = drawn(5, spacing_mm=COARSE)
    drawn.cache_clear()
    second = drawn(5, spacing_mm=COARSE)
    assert np.array_equal(first.volume.array, second.volume.array)
    assert np.array_equal(first.labels, second.labels)


def test_another_seed_is_another_patient():
    first, second = drawn(5, spacing_mm=COARSE), drawn(6, spacing_mm=COARSE)
    assert np.mean(first.labels != second.labels) > 0.02


def test_the_same_seed_at_another_spacing_is_the_same_patient(patient: Phantom):
    coarse = drawn(11, spacing_mm=COARSE)
    for organ in ("liver", "spleen", "kidney_left", "heart", "stomach"):
        assert _volume_ml(coarse, organ) == pytest.approx(_volume_ml(patient, organ), rel=0.08)


@pytest.mark.parametrize("seed", range(4))
def test_every_organ_has_a_human_volume(seed: int):
    phantom = drawn(seed, spacing_mm=(5.0, 4.0, 4.0))
    for names, low, high in (
        (("liver",), 800, 2600),
        (LUNGS, 1800, 6500),
        (("spleen",), 60, 400),
        (("kidney_left",), 70, 330),
        (("kidney_right",), 70, 330),
        (("pancreas",), 20, 140),
        (("heart",), 250, 900),
        (("vertebrae_L1",), 15, 90),
        (("aorta",), 60, 400),
    ):
        assert low < _volume_ml(phantom, *names) < high, names


def test_grey_values_are_those_of_ct(patient: Phantom):
    image = patient.volume.array
    assert image.dtype == np.int16
    assert patient.volume.unit == "HU"
    assert -920 < np.median(image[patient.organ(*LUNGS)]) < -780
    assert 20 < np.median(image[patient.organ("liver")]) < 170
    assert np.median(image[patient.organ("vertebrae_L1")]) > 120
    assert image[0, 0, 0] < -900


def test_sides_and_heights_are_a_patients(patient: Phantom):
    def centre(name: str) -> np.ndarray:
        return patient.volume.geometry.to_lps_mm(np.argwhere(patient.organ(name)).mean(axis=0))

    assert centre("liver")[0] < 0 < centre("spleen")[0], "liver right, spleen left (LPS: x grows to the left)"
    assert centre("kidney_right")[0] < 0 < centre("kidney_left")[0]
    assert centre("sternum")[1] < centre("vertebrae_T8")[1], "y grows to the back"
    levels = [f"vertebrae_{n}" for n in ("L3", "L2", "L1", "T12", "T9", "T5", "T2")]
    heights = [centre(level)[2] for level in levels]
    assert heights == sorted(heights)


def test_noise_is_as_strong_as_asked_and_correlated():
    quiet, noisy = (drawn(3, spacing_mm=(4.0, 2.0, 3.0), noise_sd=sd) for sd in (0.0, 25.0))
    field = noisy.volume.float32() - quiet.volume.float32()
    body = quiet.volume.float32() > -500
    assert field[body].std() == pytest.approx(25.0, rel=0.2)
    liver = quiet.organ("liver")
    pairs = liver[:-1] & liver[1:]
    correlation = np.corrcoef(field[:-1][pairs], field[1:][pairs])[0, 1]
    assert 0.1 < correlation < 0.9, "neighbouring slices share what the slice profile spans"


def test_mr_is_dark_in_the_lung():
    phantom = drawn(2, spacing_mm=COARSE, modality="MR")
    image = phantom.volume.array
    assert phantom.volume.modality == "MR"
    assert image.min() >= 0
    assert np.median(image[phantom.organ(*LUNGS)]) < np.median(image[phantom.organ("liver")]) / 3


def test_lesion_has_its_volume_and_contrast_inside_its_organ():
    spec = LesionSpec("liver", volume_ml=4.0, contrast=-60.0)
    with_lesion = drawn(11, spacing_mm=(3.0, 3.0, 3.0), lesions=(spec,), noise_sd=0.0)
    plain = drawn(11, spacing_mm=(3.0, 3.0, 3.0), noise_sd=0.0)
    (lesion,) = with_lesion.lesions
    assert not (lesion & ~with_lesion.organ("liver")).any()
    assert lesion.sum() * 27 / 1000 == pytest.approx(4.0, rel=0.06)
    change = with_lesion.volume.float32() - plain.volume.float32()
    assert change[lesion].mean() < -40
    reach = ndimage.binary_dilation(lesion, iterations=3)  # the scanner's blur
    assert np.abs(change[~reach]).max() < 2


def test_two_lesions_of_one_organ_stay_apart():
    spec = LesionSpec("liver", volume_ml=2.0)
    two = drawn(11, spacing_mm=(4.0, 3.0, 3.0), lesions=(spec, spec))
    assert not (two.lesions[0] & two.lesions[1]).any()


def test_organ_out_of_view_cannot_hold_a_lesion():
    with pytest.raises(InputError, match="no voxels in this phantom"):
        drawn(1, spacing_mm=COARSE, shape=(20, 40, 60), lesions=(LesionSpec("kidney_left"),))
